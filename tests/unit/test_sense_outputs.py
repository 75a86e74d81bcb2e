# SPDX-License-Identifier: MIT
"""Errors out of what an application prints: which traces are none, when they are told, what a flood costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.model import Request
from wolverined.sense import outputs as room
from wolverined.sense.outputs import HOLD_S, MAX_HELD, MAX_LINES, QUIET_S, TURN_S, WATCHED_S, WINDOW_S, Outputs
from wolverined.sense.route_error import Cause, RouteError, fingerprint_of, trace_of
from wolverined.traces import parse

ROOT = "/srv/app"
HOOKS = "/usr/lib/wolverine/hooks"


def python(error: str = "KeyError: 'price'", *, line: int = 7, path: str = f"{ROOT}/shop.py") -> list[str]:
    """A traceback as Python prints it."""
    return [
        "Traceback (most recent call last):",
        '  File "/usr/lib/python3/dist-packages/flask/app.py", line 2190, in wsgi_app',
        "    response = self.full_dispatch_request()",
        f'  File "{path}", line {line}, in total',
        "    return item['price']",
        "           ~~~~^^^^^^^^^",
        error,
    ]


def node(error: str = "TypeError: x.total is not a function", *, line: int = 12, margin: str = "") -> list[str]:
    """A stack as Node prints it."""
    return [
        f"{margin}{error}",
        f"{margin}    at total ({ROOT}/cart.js:{line}:18)",
        f"{margin}    at Layer.handle ({ROOT}/node_modules/express/lib/router/layer.js:95:5)",
        f"{margin}    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)",
    ]


class App:
    """An application that prints, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.outputs = Outputs(app_root=lambda: ROOT, hooks=[HOOKS])
        self.told: list[RouteError] = []

    def prints(self, lines: Iterable[str], *, stream: str = "stderr", every_s: float = 0.0) -> App:
        """Print some lines."""
        for line in lines:
            self.outputs.heard(line, stream=stream, now=self.now)
            self.passes(every_s)
        return self

    def passes(self, seconds: float) -> App:
        """Let time pass; what is to be done is done when it is due."""
        until = self.now + seconds
        while (wake := self.outputs.wake_at) is not None and wake <= until:
            self.now = max(self.now, wake)
            self.told += self.outputs.due(now=self.now)
        self.now = until
        return self

    @property
    def errors(self) -> list[str]:
        """The errors that were told, each as one word."""
        self.passes(QUIET_S + TURN_S + HOLD_S)
        return [f"{each.chain[0].name}: {each.chain[0].message}" for each in self.told]


def printed(*lines: str) -> list[str]:
    """What is told of an application that prints these lines."""
    return App().prints(lines).errors


def test_a_traceback_of_an_application_that_lives_on_is_an_error() -> None:
    """It has type, message, place and stack, status 500, no request, and the fingerprint of its code."""
    app = App().prints(["serving", *python(), "127.0.0.1 GET /boom 500"])
    assert app.errors == ["KeyError: 'price'"]
    (told,) = app.told
    assert (told.status, told.file, told.line, told.route, told.told) == (500, "shop.py", 7, "", False)
    assert (told.request.path, told.request.method) == ("", "")
    trace = trace_of(told, app_root=ROOT)
    assert trace is not None
    assert trace.errors == parse(python(), app_root=ROOT)[0].errors
    assert len(fingerprint_of(told, trace)) == 16


def test_a_stack_of_node_is_an_error() -> None:
    """As `console.error(error)` prints it, as Koa does with a margin, and with properties in braces."""
    assert printed(*node()) == ["TypeError: x.total is not a function"]
    assert printed("", *node(margin="  "), "") == ["TypeError: x.total is not a function"]
    lines = node()
    lines[-1] += " {"
    assert printed(*lines, "  code: 'ERR_TOTAL'", "}") == ["TypeError: x.total is not a function"]


def test_causes_are_told_in_the_stack() -> None:
    """A chain of two is one error, the last that was raised, with both in its stack."""
    lines = [*python("ValueError: 1"), "", "The above exception was the direct cause of the following exception:", ""]
    app = App().prints([*lines, *python("RuntimeError: 2")])
    assert app.errors == ["RuntimeError: 2"]
    trace = trace_of(app.told[0], app_root=ROOT)
    assert trace is not None
    assert [error.type for error in trace.errors] == ["ValueError", "RuntimeError"]


@pytest.mark.parametrize(
    ("above", "route", "path"),
    [
        ("[2026-01-01 10:00:00,123] ERROR in app: Exception on /items/7 [POST]", "POST /items/:id", "/items/7"),
        ("Internal Server Error: /items/7", "GET /items/:id", "/items/7"),
        (
            "[2026-01-01 10:00:00 +0000] [77] [ERROR] Error handling request /items/7?a=1",
            "GET /items/:id",
            "/items/7?a=1",
        ),
        ("Error handling request", "", ""),
        ("2026-01-01 ERROR something else", "", ""),
    ],
)
def test_what_a_framework_writes_above_tells_the_route(above: str, route: str, path: str) -> None:
    """Flask, Django and gunicorn name what was asked for; others do not."""
    app = App().prints([above, *python()])
    assert app.errors == ["KeyError: 'price'"]
    assert (app.told[0].route, app.told[0].request.path) == (route, path)


@pytest.mark.parametrize(
    "lines",
    [
        ["(node:1) Warning: too many listeners", *node()[1:]],
        node("DeprecationWarning: Buffer() is deprecated"),
        node("Trace: here"),
        python("UserWarning: old"),
        ["WARNING:shop:retrying", *python()],
        ["2026-01-01 10:00:00,000 - shop - DEBUG - a miss", *python()],
        ["info: a miss", *node()],
        [f"[worker 1] INFO {line}" for line in python()],
        ["Exception ignored in: <function Cart.__del__ at 0x7f>", *python()],
    ],
)
def test_warnings_are_none(lines: list[str]) -> None:
    """Neither warnings, nor what was logged below the level of an error, nor what the runtime ignored."""
    assert printed("start", *lines) == []


def test_an_access_log_is_no_level_of_the_traceback_below_it() -> None:
    """A line of another writer that stands above by chance does not hide an error."""
    assert printed('INFO:     127.0.0.1:1 - "GET / HTTP/1.1" 200 OK', *python()) == ["KeyError: 'price'"]


@pytest.mark.parametrize(
    "lines",
    [
        node("NotFoundError: Not Found"),
        node("BadRequestException: no"),
        python("werkzeug.exceptions.NotFound: 404 Not Found"),
        [*node("HttpError: no")[:-1], node()[-1] + " {", "  status: 404", "}"],
        [*node("Error: aborted")[:-1], node()[-1] + " {", "  code: 'ECONNRESET'", "}"],
        python("BrokenPipeError: [Errno 32] Broken pipe"),
        python("KeyboardInterrupt"),
        ["SyntaxError: Unexpected end of JSON input", "    at JSON.parse (<anonymous>)",
         f"    at parse ({ROOT}/node_modules/body-parser/lib/types/json.js:92:19)"],
        python(path="/usr/lib/python3.11/asyncio/base_events.py"),
    ],
)  # fmt: skip
def test_what_a_client_is_to_blame_for_is_none(lines: list[str]) -> None:
    """Answers of 4xx, a client that went away, and errors without a frame of the application's own."""
    assert printed(*lines) == []


def test_what_is_raised_in_a_reporter_is_none() -> None:
    """Our own hooks' trouble is not the application's, though it was the application that called them."""
    lines = python()
    lines[4:4] = [f'  File "{HOOKS}/python/sitecustomize.py", line 3, in see', "    raise"]
    lines[3:5] = lines[3:5]
    own = [*lines[:4], f'  File "{HOOKS}/python/sitecustomize.py", line 3, in see', "    raise", lines[-1]]
    assert printed(*own) == []
    assert printed(node()[0], f"    at see ({HOOKS}/node/reporter.cjs:5:1)", *node()[1:]) == []
    passing = [*node()[:2], f"    at wrapped ({HOOKS}/node/reporter.cjs:5:1)", *node()[2:]]
    assert printed(*passing) == ["TypeError: x.total is not a function"]


# ---------------------------------------------------------------- loggers that write JSON


def pino(**about: object) -> str:
    """A line as Fastify's logger writes it."""
    error = {"type": "TypeError", "message": "x.total is not a function", "stack": "\n".join(node())}
    told = {"level": 50, "reqId": "req-1", "req": {"method": "PUT", "url": "/items/7?x=1"}, "res": {"statusCode": 500},
            "err": error, "msg": "x"}  # fmt: skip
    return json.dumps({**told, **about}, separators=(",", ":"))


def test_a_json_log_tells_error_and_request() -> None:
    """Fastify's own log line of a 500 gives the error with its route and path."""
    app = App().prints(['{"level":30,"msg":"incoming request"}', pino()], stream="stdout")
    assert app.errors == ["TypeError: x.total is not a function"]
    assert (app.told[0].route, app.told[0].request.path) == ("PUT /items/:id", "/items/7?x=1")


@pytest.mark.parametrize(
    "about",
    [{"level": 40}, {"level": "warn"}, {"level": None}, {"level": True}, {"res": {"statusCode": 404}}, {"err": 7},
     {"err": {"stack": 5}}, {"err": {"stack": "no stack"}}, {"err": {"stack": "at " * 9000}}],
)  # fmt: skip
def test_a_json_log_of_something_else_is_none(about: dict[str, object]) -> None:
    """Lower levels, 4xx and wrong types."""
    assert App().prints([pino(**about), "{", '{"stack":', '{"stack": ' + "[" * 5000, '{"Traceback": 1}']).errors == []


def test_a_json_log_of_python_is_read_too() -> None:
    """Python's structlog and others put the traceback into `exception`."""
    line = json.dumps({"level": "error", "event": "failed", "exception": "\n".join(python())})
    assert printed(line) == ["KeyError: 'price'"]


# ---------------------------------------------------------------- when


def test_nothing_is_told_before_it_is_known_to_be_nobody_elses() -> None:
    """An error is held back after the last line of it."""
    app = App().prints(python()).passes(HOLD_S)
    assert app.told == []
    app.passes(QUIET_S + 0.01)
    assert len(app.told) == 1
    assert app.outputs.wake_at is None


def test_the_last_words_of_a_process_are_part_of_its_end() -> None:
    """What was printed and not told when the generation ends is forgotten; the next one begins anew."""
    app = App().prints(python()).passes(QUIET_S + 0.5)
    app.prints(node())
    app.outputs.ended()
    assert app.errors == []
    assert app.outputs.counts.ended == 1
    assert app.prints(python()).errors == ["KeyError: 'price'"]


def test_lines_may_come_slowly_and_between_others() -> None:
    """A traceback that is printed line by line, with a busy log on the other stream, is one error."""
    app = App()
    for line in python():
        app.prints([line], every_s=0.1).prints(["GET /ok 200"] * 3, stream="stdout")
    assert app.errors == ["KeyError: 'price'"]


def test_a_traceback_that_is_never_done_is_read_in_turns() -> None:
    """A log that never pauses keeps nothing from being read, and tears no traceback in two."""
    app = App()
    for number in range(60):
        app.prints([f"line {number}"], every_s=0.05)
        if number % 10 == 9:
            app.prints(python(f"ValueError: {number}", line=number), every_s=0.05)
    assert app.errors == [f"ValueError: {number}" for number in (9, 19, 29, 39, 49, 59)]


def test_an_error_that_each_layer_prints_is_one() -> None:
    """The framework's logger and the application's own print the same trace; one of them tells the route."""
    app = App().prints([*python(), "Internal Server Error: /items/7", *python()])
    assert app.errors == ["KeyError: 'price'"]
    assert app.told[0].route == "GET /items/:id"


# ---------------------------------------------------------------- beside a reporter


def reported(stack: list[str]) -> RouteError:
    """What a reporter tells of that error."""
    request = Request(method="GET", path="/items/7")
    return RouteError(route="GET /items/:id", status=500, request=request, chain=(Cause("", "", "\n".join(stack)),))


@pytest.mark.parametrize("before", [True, False])
def test_what_a_reporter_tells_is_not_told_again(*, before: bool) -> None:
    """Whether its report comes before the trace is printed or after; other errors are told all the same."""
    app = App()
    told = reported(python())
    if before:
        app.outputs.reported(told, now=app.now)
    app.prints(python()).passes(QUIET_S + 0.1)
    if not before:
        app.outputs.reported(told, now=app.now)
    app.prints(["", *python(line=99)])
    assert app.errors == ["KeyError: 'price'"]
    assert app.told[0].line == 99
    assert app.outputs.counts.reported == 1


def test_a_report_does_not_hide_for_ever() -> None:
    """After the window the same trace in the output is an error that no reporter told."""
    app = App()
    app.outputs.reported(reported(python()), now=app.now)
    app.passes(WINDOW_S + 1)
    assert app.prints(python()).errors == ["KeyError: 'price'"]


def test_a_reporter_that_sees_every_request_is_trusted() -> None:
    """Where one tells of its requests, a trace in the output is what it was answered with: not a word is said of it."""
    app = App().prints(python()).passes(QUIET_S + 0.1)
    app.outputs.watched(now=app.now)
    app.prints(["", *node()])
    assert app.errors == []
    assert app.outputs.counts.reported == 2
    app.passes(WATCHED_S)
    assert app.prints(["", *node()]).errors == ["TypeError: x.total is not a function"]


def test_a_report_without_own_frames_hides_nothing() -> None:
    """It could be of anything."""
    app = App()
    app.outputs.reported(reported([]), now=app.now)
    app.outputs.reported(reported(["Error: x", "    at f (/lib/a.js:1:1)"]), now=app.now)
    assert app.prints(python()).errors == ["KeyError: 'price'"]


# ---------------------------------------------------------------- workers


def test_workers_that_name_themselves_are_told_apart() -> None:
    """Lines of two workers in any order, each with its prefix, are two errors with their own frames."""
    one, two = python("ValueError: 1", line=1), python("TypeError: 2", line=2)
    mixed = [
        line
        for pair in zip((f"web.1  | {x}" for x in one), (f"web.2  | {x}" for x in two), strict=True)
        for line in pair
    ]
    app = App().prints(mixed)
    assert sorted(app.errors) == ["TypeError: 2", "ValueError: 1"]
    assert sorted(each.line for each in app.told) == [1, 2]


@given(st.randoms(use_true_random=False))
def test_the_same_error_of_nameless_workers_is_told_once(random: object) -> None:
    """Two workers print the same traceback into each other, frame by frame: it is that traceback."""
    units = [["Traceback (most recent call last):"], python()[1:3], python()[3:6], [python()[6]]]
    left = [list(units), list(units)]
    lines: list[str] = []
    while any(left):
        chosen = random.choice([each for each in left if each])  # type: ignore[attr-defined]
        lines += chosen.pop(0)
    app = App().prints(lines)
    assert app.errors == ["KeyError: 'price'"]
    trace = trace_of(app.told[0], app_root=ROOT)
    assert trace is not None
    assert trace.frames == parse(python(), app_root=ROOT)[0].frames


def test_different_errors_of_nameless_workers_make_no_third() -> None:
    """Which frame belongs to which error cannot be told, so no error is made up."""
    one, two = python("ValueError: 1", line=1), python("TypeError: 2", line=2)
    one[3] = one[3].replace("total", "one")
    lines = [one[0], two[0], *one[1:3], *two[1:3], *one[3:6], *two[3:6], one[6], two[6]]
    assert printed(*lines, "", *node()) == ["TypeError: x.total is not a function"]


# ---------------------------------------------------------------- hostile


def test_a_flood_of_traces_is_bounded() -> None:
    """Lines beyond what is read in a turn are counted and dropped; what is held has an end."""
    app = App()
    for number in range(MAX_LINES):
        app.prints(python(f"ValueError: {number}", line=number + 1))
    assert app.outputs.counts.dropped >= 6 * MAX_LINES
    assert len(app.errors) <= MAX_HELD
    assert app.outputs.wake_at is None


def test_huge_lines_are_cut() -> None:
    """Lines of any length take a bounded place, on any number of turns."""
    app = App()
    for _ in range(200):
        app.prints([*python("ValueError: " + "x" * 60_000), "y" * 60_000])
    assert sum(each.chars for each in app.outputs._streams.values()) <= room.MAX_CHARS
    assert app.errors != []


@pytest.mark.parametrize(
    "line",
    ["    at x (/a:1:1)", "Traceback (most recent call last):", '  File "/srv/app/a.py", line 1, in x', " at " * 2000,
     '{"level":50,"err":{"stack":"x"}}', "{" * 60_000, "Error: x",
     "    " + "x" * 60_000, "[a] " * 999, "\x1b[31m" * 999],
)  # fmt: skip
def test_no_line_is_dear(line: str) -> None:
    """Twenty thousand of any line cost well under a second of the loop, reading included; nothing is raised."""
    app = App()
    begun = time.process_time()
    app.prints([line] * 20_000)
    app.passes(TURN_S + QUIET_S)
    assert time.process_time() - begun < 2


@given(st.lists(st.sampled_from([*python(), *node(), "", "x", "{", pino(), "WARNING:x", " ", "[w] Traceback ("])))
def test_any_order_of_lines_is_read(lines: list[str]) -> None:
    """Nothing is raised, and everything ends."""
    app = App().prints(lines)
    assert len(app.errors) <= len(lines)
    assert app.outputs.wake_at is None


@given(st.lists(st.text()))
def test_any_text_is_read(lines: list[str]) -> None:
    """An application prints what its users send."""
    assert App().prints(lines).errors == []
