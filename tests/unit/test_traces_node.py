# SPDX-License-Identifier: MIT
"""Stacks as Node.js prints them, recorded from 20 and 24."""

from __future__ import annotations

import pytest

from wolverined.model import Trace
from wolverined.traces import parse

ROOT = "/srv/app"


def only(text: str) -> Trace:
    """Return the one trace of a text."""
    (trace,) = parse(text, app_root=ROOT)
    return trace


UNCAUGHT = """\
listening on 3000
/srv/app/server/ref.js:12
  return usrs.length;
         ^

ReferenceError: usrs is not defined
    at a (/srv/app/server/ref.js:12:10)
    at new X (/srv/app/server/x.js:2:26)
    at async go (file:///srv/app/server/my%20dir/go.mjs:3:1)
    at Object.<anonymous> (/srv/app/node_modules/dep/index.js:3:1)
    at Module._compile (node:internal/modules/cjs/loader:1872:14)
    at Server.setup [as _listen2] (node:net:2167:16)
    at async Promise.all (index 0)
    at node:internal/main/run_main_module:33:47

Node.js v24.19.0
"""


def test_an_uncaught_error_gives_type_message_frames_and_the_source_line() -> None:
    """The header's source goes to its frame; frames of dependencies and of Node are not own."""
    trace = only(UNCAUGHT)
    assert trace.language == "node"
    assert not trace.partial
    assert (trace.errors[0].type, trace.errors[0].message) == ("ReferenceError", "usrs is not defined")
    assert [(f.path, f.line, f.column, f.function, f.own) for f in trace.frames] == [
        ("server/ref.js", 12, 10, "a", True),
        ("server/x.js", 2, 26, "new X", True),
        ("server/my dir/go.mjs", 3, 1, "go", True),
        ("/srv/app/node_modules/dep/index.js", 3, 1, "Object.<anonymous>", False),
        ("node:internal/modules/cjs/loader", 1872, 14, "Module._compile", False),
        ("node:net", 2167, 16, "Server.setup", False),
        ("node:internal/main/run_main_module", 33, 47, "", False),
    ]
    assert trace.frames[0].source == "return usrs.length;"
    assert trace.text.startswith("/srv/app/server/ref.js:12\n")


def test_a_syntax_error_knows_its_place() -> None:
    """Its frames are all Node's own; the place is the header's, the column the caret's."""
    trace = only(
        "/srv/app/syn.js:2\n  return 1))\n          ^\n\nSyntaxError: Unexpected token ')'\n"
        "    at wrapSafe (node:internal/modules/cjs/loader:1804:18)\n\nNode.js v24.19.0\n"
    )
    first = trace.frames[0]
    assert (first.path, first.line, first.column, first.source, first.own) == ("syn.js", 2, 11, "return 1))", True)
    assert trace.errors[0].frame == first


def test_a_wrong_export_of_an_es_module_knows_its_place() -> None:
    """ES modules print file URLs and no blank line after the carets."""
    trace = only(
        "file:///srv/app/esm.mjs:1\nimport { readfile } from './lib.mjs';\n         ^^^^^^^^\n"
        "SyntaxError: The requested module './lib.mjs' does not provide an export named 'readfile'\n"
        "    at #asyncInstantiate (node:internal/modules/esm/module_job:327:21)\n"
    )
    assert (trace.frames[0].path, trace.frames[0].line, trace.frames[0].column) == ("esm.mjs", 1, 10)


def test_a_missing_module_has_its_code_and_who_required_it() -> None:
    """The code stands in braces below the frames, "Require stack:" between message and frames."""
    trace = only(
        "node:internal/modules/cjs/loader:1520\n  throw err;\n  ^\n\nError: Cannot find module './libb/db'\n"
        "Require stack:\n- /srv/app/miss.js\n"
        "    at Module._resolveFilename (node:internal/modules/cjs/loader:1517:15)\n"
        "    at Object.<anonymous> (/srv/app/miss.js:1:11) {\n"
        "  code: 'MODULE_NOT_FOUND',\n  requireStack: [ '/srv/app/miss.js' ]\n}\n\nNode.js v24.19.0\n"
    )
    error = trace.errors[0]
    assert (error.message, error.code) == ("Cannot find module './libb/db'", "MODULE_NOT_FOUND")
    assert error.notes == ("Require stack:", "- /srv/app/miss.js")
    assert error.frame is not None
    assert (error.frame.path, error.frame.line) == ("miss.js", 1)


CAUSE = """\
Error: config is bad
    at load (/srv/app/cause.js:1:64)
    ... 6 lines matching cause stack trace ...
    at node:internal/main/run_main_module:33:47 {
  [cause]: SyntaxError: Expected property name or '}' in JSON at position 1
      at JSON.parse (<anonymous>)
      at load (/srv/app/cause.js:1:29) {
    code: 'INNER',
    [cause]: TypeError [ERR_DEEP]: deepest
        at deep (/srv/app/deep.js:5:6)
  }
}
next line of the log
"""


def test_causes_make_a_chain_from_the_root() -> None:
    """Node prints the outermost first and nests the causes in braces."""
    trace = only(CAUSE)
    assert [(e.type, e.code) for e in trace.errors] == [
        ("TypeError", "ERR_DEEP"),
        ("SyntaxError", "INNER"),
        ("Error", ""),
    ]
    assert [(f.path, f.line, f.column) for f in trace.frames if f.own] == [
        ("deep.js", 5, 6),
        ("cause.js", 1, 29),
        ("cause.js", 1, 64),
    ]
    assert not trace.partial
    assert trace.text.endswith("\n}")


def test_a_trace_that_ends_inside_its_braces_is_partial() -> None:
    """The output was cut: a kill came first."""
    assert only(CAUSE.partition("    code")[0]).partial


def test_the_members_of_an_aggregate_error_are_its_causes() -> None:
    """`Promise.any` and happy eyeballs print a list of errors in braces."""
    trace = only(
        "node:internal/process/promises:394\n    triggerUncaughtException(err, true);\n    ^\n\n"
        "[AggregateError: All promises were rejected] {\n  [errors]: [\n    Error: one\n"
        "        at f (/srv/app/agg.js:1:29)\n        at node:internal/main/run_main_module:33:47,\n"
        "    TypeError: two\n        at g (/srv/app/agg.js:1:63)\n  ]\n}\n\nNode.js v24.19.0\n"
    )
    assert [(e.type, e.message) for e in trace.errors] == [
        ("Error", "one"),
        ("TypeError", "two"),
        ("AggregateError", "All promises were rejected"),
    ]
    assert [(f.path, f.column) for f in trace.frames if f.own] == [("agg.js", 29), ("agg.js", 63)]


@pytest.mark.parametrize(
    ("thrown", "message"), [("{ a: 1 }", "{ a: 1 }"), ("just words", "just words"), ("str", "str")]
)
def test_something_that_is_no_error_may_be_thrown(thrown: str, message: str) -> None:
    """The header alone tells the place."""
    trace = only(
        f"/srv/app/t.js:7\nthrow it;\n^\n{thrown}\n(Use `node --trace-uncaught ...` to show)\n\nNode.js v24.19.0\n"
    )
    assert (trace.errors[0].type, trace.errors[0].message) == ("Uncaught", message)
    assert (trace.frames[0].path, trace.frames[0].line) == ("t.js", 7)


def test_code_of_eval_is_where_it_was_evaluated() -> None:
    """A frame inside `eval` names the file of the call."""
    trace = only(
        "ReferenceError: zed is not defined\n"
        "    at q (eval at <anonymous> (/srv/app/evl.js:3:1), <anonymous>:1:15)\n"
        "    at Object.<anonymous> (/srv/app/evl.js:3:1)\n"
    )
    assert [(f.path, f.line, f.function) for f in trace.frames] == [
        ("evl.js", 3, "q"),
        ("evl.js", 3, "Object.<anonymous>"),
    ]


@pytest.mark.parametrize(
    ("head", "kind", "message", "code"),
    [
        ("2026-01-01 failed: TypeError: x is null", "TypeError", "x is null", ""),
        ("Uncaught TypeError: x is null", "TypeError", "x is null", ""),
        ("MyErr: custom", "MyErr", "custom", ""),
        ("AssertionError [ERR_ASSERTION]: no", "AssertionError", "no", "ERR_ASSERTION"),
        ("TypeError", "TypeError", "", ""),
        ("(node:9) UnhandledPromiseRejectionWarning: Error: old node", "Error", "old node", ""),
    ],
)
def test_a_stack_that_somebody_logged_is_read(head: str, kind: str, message: str, code: str) -> None:
    """`console.error('failed:', e)` and the like put words before the error."""
    trace = only(f"something else\n{head}\n    at f (/srv/app/a.js:1:2)\n    at g (/srv/app/b.js:3:4)\nafter\n")
    error = trace.errors[0]
    assert (error.type, error.message, error.code) == (kind, message, code)
    assert len(trace.frames) == 2


def test_a_message_of_several_lines_and_a_second_trace_keep_apart() -> None:
    """Lines between the head and the first frame are notes; the next head starts a new trace, newest last."""
    first, second = parse(
        "AssertionError [ERR_ASSERTION]: Expected values to be equal:\n\n1 !== 2\n\n    at f (/srv/app/a.js:1:2)\n"
        "RangeError: second\n    at g (/srv/app/b.js:1:2)\n",
        app_root=ROOT,
    )
    assert first.errors[0].notes == ("1 !== 2",)
    assert second.errors[0].type == "RangeError"


def test_frames_without_a_head_are_partial() -> None:
    """The head was older than what is kept."""
    trace = only("    at f (/srv/app/a.js:1:2)\n    at g (/srv/app/b.js:1:2)\n")
    assert trace.partial
    assert trace.errors[0].type == ""
    assert len(trace.frames) == 2


def test_an_unhandled_error_event_keeps_its_code() -> None:
    """The line "Emitted 'error' event" stands between frames and properties."""
    trace = only(
        "node:events:487\n      throw er; // Unhandled 'error' event\n      ^\n\n"
        "Error: listen EADDRINUSE: address already in use :::3000\n"
        "    at Server.setupListenHandle [as _listen2] (node:net:2167:16)\n"
        "    at Server.<anonymous> (/srv/app/listen.js:1:92)\n"
        "Emitted 'error' event on Server instance at:\n    at emitErrorNT (node:net:2203:8) {\n"
        "  code: 'EADDRINUSE',\n  errno: -98,\n  port: 3000\n}\n\nNode.js v24.19.0\n"
    )
    assert trace.errors[0].code == "EADDRINUSE"
    assert [f.path for f in trace.frames if f.own] == ["listen.js"]


def test_a_suggestion_on_a_line_of_its_own_is_the_hint() -> None:
    """Node suggests a file for a directory import."""
    trace = only(
        "Error [ERR_MODULE_NOT_FOUND]: Cannot find module '/srv/app/foo'\nDid you mean to import \"./foo.js\"?\n"
        "    at finalizeResolution (node:internal/modules/esm/resolve:271:11)\n"
    )
    assert trace.hint == 'Did you mean to import "./foo.js"?'


def test_each_line_may_carry_a_prefix() -> None:
    """Containers and process managers name the printer before each line."""
    text = "".join(
        f"2026-01-01 00:00:0{number % 10} web-1  | {line}\n" for number, line in enumerate(CAUSE.splitlines())
    )
    assert [e.type for e in only(text).errors] == ["TypeError", "SyntaxError", "Error"]


@pytest.mark.parametrize(
    ("text", "kind", "message", "path", "line"),
    [
        (
            'Exception in thread "main" java.lang.IllegalStateException: bad\n\tat com.x.Main.go(Main.java:12)\n',
            "java.lang.IllegalStateException",
            "bad",
            "Main.java",
            12,
        ),
        (
            "panic: runtime error: index is out [3]\n\ngoroutine 1 [running]:\nf()\n\t/srv/app/main.go:12 +0x1\n",
            "panic",
            "runtime error: index is out [3]",
            "main.go",
            12,
        ),
        (
            "app.rb:3:in `foo': undefined local variable (NameError)\n\tfrom app.rb:9:in `<main>'\n",
            "NameError",
            "undefined local variable",
            "app.rb",
            3,
        ),
        ("thread 'main' panicked at src/main.rs:2:5:\nboom\n", "panicked", "src/main.rs:2:5:", "src/main.rs", 2),
    ],
)
def test_a_runtime_without_a_parser_gives_a_generic_partial_trace(
    text: str, kind: str, message: str, path: str, line: int
) -> None:
    """The last resort finds the error's type, its message and places of the form file:line."""
    trace = only("starting\n" + text)
    assert trace.language == "generic"
    assert trace.partial
    assert (trace.errors[0].type, trace.errors[0].message) == (kind, message)
    assert (trace.frames[0].path, trace.frames[0].line) == (path, line)


def test_ordinary_output_holds_no_trace() -> None:
    """Words that look a little like frames or headers are none."""
    text = "    at night (we sleep)\nmeet at 10:30\n/srv/app/log:12\nGET /a 200\nFile written, line 3\n"
    assert parse(text, app_root=ROOT) == []
    assert parse([], app_root=ROOT) == []
    assert parse("", app_root="") == []
