# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wolverined.heal.risk import assess
from wolverined.heal.risk.facts import suspicious
from wolverined.model import ErrorLink, FileChange, Frame, Trace

PYTHON = """\
import os
import json
import requests
from .store import find, save

ITEMS = load_items()
TIMEOUT = 5


def check(user):
    if not user.is_admin:
        raise PermissionError("no")
    return True


def price(items, rate):
    total = 0
    for item in items:
        total += item.price * rate
    if rate < 0:
        raise ValueError("negative rate")
    requests.post(HOOK, json=total)
    try:
        save(total)
    except OSError as error:
        log(error)
    assert total >= 0
    return total


def other(data):
    os.path.exists(NAME)
    eval(CODE)
    return data["name"].strip()


class Cart:
    def add(self, item):
        self.items.append(item)
        return len(self.items)
"""

JAVASCRIPT = """\
const fs = require('fs')
const express = require('express')
const { find } = require('./store')
const app = express()

app.get('/health', (req, res) => res.send('ok'))

function price(items, rate) {
  let total = 0
  for (const item of items) {
    total += item.price * rate
  }
  if (rate < 0) {
    throw new Error('negative rate')
  }
  fs.appendFileSync(FILE, total)
  try {
    save(total)
  } catch (error) {
    log(error)
  }
  return total
}

function other(user) {
  if (!user.ok) return null
  process.exit(1)
  handlers[user.kind](user)
  return user.name.trim()
}

app.get('/items', (req, res) => {
  const user = find(req.query.id)
  res.json({ name: user.name })
})
"""


def places(source: str, needle: str) -> int:
    """The line of the first occurrence of a text."""
    return source[: source.index(needle)].count("\n") + 1


def reasons(source: str, path: str, at: str, old: str, new: str) -> tuple[str, ...]:
    """What is said of one replacement in a file whose trace names the line of `at`."""
    assert source.count(old) == 1, old
    after = source.replace(old, new)
    frame = Frame(path=f"/srv/app/{path}", line=places(source, at), own=True)
    trace = Trace(language="x", errors=(ErrorLink("E", "x"),), frames=(frame,))
    change = FileChange(path=path, before=source.encode(), after=after.encode())
    return assess((change,), root="/srv/app", trace=trace)


def python(old: str, new: str, at: str = "total += ") -> tuple[str, ...]:
    """The same for the Python file."""
    return reasons(PYTHON, "app.py", at, old, new)


def javascript(old: str, new: str, at: str = "total += ") -> tuple[str, ...]:
    """The same for the JavaScript file."""
    return reasons(JAVASCRIPT, "server.js", at, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("item.price * rate", "item.price * (rate or 1)"),
        ("item.price * rate", "int(item.price) * rate"),
        ("total = 0\n", "total = 0.0\n"),
        ("    for item in items:\n", "    for item in items or []:\n"),
        ("    total = 0\n", "    total = 0\n    factor = max(rate, 0)\n"),
        ("if rate < 0:", "if rate is None or rate < 0:"),
        ('raise ValueError("negative rate")', 'raise ValueError("negative or missing rate")'),
        (
            "        total += item.price * rate\n",
            "        if item is not None:\n            total += item.price * rate\n",
        ),
        ("return total\n\n\ndef other", "return round(total)\n\n\ndef other"),
    ],
)
def test_small_repairs_of_python_are_low_risk(old: str, new: str) -> None:
    """Guards, conversions, defaults and local names within the function of the trace."""
    assert python(old, new) == ()


def test_get_on_what_was_indexed_is_low_risk() -> None:
    """A mapping's get() asks nobody else; the same name on anything else may."""
    assert python('data["name"].strip()', 'data.get("name", "").strip()', at="eval(") == ()
    assert python('data["name"].strip()', 'NAME.get("name").strip()', at="eval(")
    assert python("total = 0\n", 'total = requests.get("x")\n')


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("    total = 0\n", "    import socket\n    total = 0\n", "import"),
        ("    total = 0\n", "    total = __import__(HOOK)\n", "__import__"),
        ("    total = 0\n", "    total = unknown\n", "names"),
        ("    total = 0\n", "    total = os.system(NAME)\n", "calls"),
        ("    total = 0\n", "    total = os.environ\n", "module"),
        ("    total = 0\n", "    total = os\n", "module"),
        ("    total = 0\n", "    total = 0\n    os.path.exists(NAME)\n", "module"),
        ("    total = 0\n", "    total = eval(CODE)\n", "runtime"),
        ("    total = 0\n", "    total = find(items)\n", "calls"),
        ("    total = 0\n", "    total = load_items()\n", "did not call"),
        ("    total = 0\n", "    total = chr(47)\n", "calls"),
        ("negative rate", ".", "string"),
        ("    total = 0\n", "    total = ITEMS[0](rate)\n", "computed"),
        ("    total = 0\n", "    total = (lambda x: x)(rate)\n", "computed"),
        ("    total = 0\n", "    total = getattr(rate, 'x')\n", "names"),
        ("    total = 0\n", "    total = rate.__class__\n", "names"),
        ("    total = 0\n", "    total = 0\n    requests.post = save\n", "changes a module"),
        ("    total = 0\n", "    total = 0\n    os.path = save\n", "changes a module"),
        ("    total = 0\n", "    total = 0\n    global ITEMS\n", "global"),
        ("    total = 0\n", "    total = 0\n    del items\n", "del"),
        ("    total = 0\n", "    total = 0\n    while items:\n        total += 1\n", "loop"),
        ("    total = 0\n", "    total = 0\n    def price(items):\n        return 0\n", "function"),
        ("    total = 0\n", "    total = 0\n    with ITEMS:\n        total = 1\n", "context manager"),
        ("    total = 0\n", "    total = 0\n    return total\n", "never reached"),
        ("    total = 0\n", "    total = 0\n    if items:\n        return 1\n", "before a check"),
        ("    total = 0\n", "    total = 0\n    if True:\n        total = 1\n", "always true"),
        ("if rate < 0:", "if rate < 0 and False:", "always true"),
        ('    if rate < 0:\n        raise ValueError("negative rate")\n', "", "removes"),
        ('raise ValueError("negative rate")', "rate = 0", "removes a raise"),
        ("    assert total >= 0\n", "", "removes an assertion"),
        ("    requests.post(HOOK, json=total)\n", "", "removes a call"),
        ("requests.post(HOOK, json=total)", "requests.post(NAME, json=total)", "calls into a module"),
        ("except OSError as error:", "except Exception as error:", "handler"),
        ("        log(error)\n", "        pass\n", "handler"),
        ("    total = 0\n", "    try:\n        total = 0\n    except TypeError:\n        total = 1\n", "handler"),
        ("        total += item.price * rate\n", "        pass\n", "does without"),
        ("        total += item.price * rate\n", "        total += 0\n", "does without"),
        ("negative rate", "http://example.org", "string"),
        ("negative rate", "/etc/passwd", "string"),
        ("negative rate", "example.org", "string"),
        ("negative rate", "rm -rf x; reboot", "string"),
        ("negative rate", "x" * 100, "string"),
        ("def price(items, rate):", "def price(items, rate=1):", "outside"),
        ("def price(items, rate):", "@app.cached\ndef price(items, rate):", "outside"),
        ("TIMEOUT = 5", "TIMEOUT = 50", "outside"),
        ('data["name"].strip()', 'data["name"]', "outside"),
        ("return total\n\n\ndef other", "return total\n\n\nprint(1)\n\n\ndef other", "outside"),
        ("import json\n", "import json\nimport socket\n", "outside"),
        ("class Cart:", "class Cart(dict):", "outside"),
        ("    return total\n", "    return total  # token\n", "guard"),
        ("    return total\n", "    return (\n", "no valid"),
    ],
)
def test_what_a_human_must_see_in_python(old: str, new: str, word: str) -> None:
    """New powers, removed guards, swallowed errors, and anything outside of the function of the trace."""
    assert any(word in reason for reason in python(old, new)), python(old, new)


def test_a_guard_in_the_functions_of_the_trace_is_not_touched_unseen() -> None:
    """Lines that speak of admins, tokens or sessions are looked at, whatever the change."""
    found = python("if not user.is_admin:", "if user.is_admin:", at="user.is_admin")
    assert any("guard (admin)" in reason for reason in found)


def test_methods_and_nested_functions_are_found() -> None:
    """The innermost function around the frame is the one that may change."""
    assert python("self.items.append(item)", "self.items.append(item or None)", at="self.items.append") == ()
    assert python("self.items.append(item)", "self.items.append(item or None)", at="total += ")


def test_a_statement_of_the_module_may_change_when_the_trace_names_it() -> None:
    """A crash while the file loads is repaired where it happens, and nowhere else."""
    source = "import os\n\nlimit = int(VALUE)\nother = 1\n"
    assert reasons(source, "a.py", "int(VALUE)", "int(VALUE)", "int(VALUE or 0)") == ()
    assert reasons(source, "a.py", "int(VALUE)", "other = 1", "other = 2")
    assert reasons(source, "a.py", "int(VALUE)", "limit = int(VALUE)\n", "limit = int(VALUE)\nos = 1\nother = 3\n")
    assert reasons(source, "a.py", "import os", "import os", "import os, sys")


BROKEN = "def f(a):\n    return max(a, 1\n\n\ndef g():\n    return 2\n" + "\n" * 30 + "def h(x):\n    return (x)\n"


def test_punctuation_near_a_syntax_error_is_low_risk() -> None:
    """A bracket where the interpreter stumbles, and nothing more, nor far away."""
    assert reasons(BROKEN, "a.py", "max(", "max(a, 1\n", "max(a, 1)\n") == ()
    assert reasons(BROKEN, "a.py", "max(", "max(a, 1\n", "max(a, 2)\n")
    assert reasons(BROKEN, "a.py", "return (x)", "max(a, 1\n", "max(a, 1)\n")
    assert reasons(BROKEN, "a.py", "max(", "max(a, 1\n\n", "max(a, 1)\n    \n") == ()
    script = "function f(a) {\n  return g(a\n}\n"
    assert reasons(script, "a.js", "g(a", "g(a\n", "g(a)\n") == ()
    assert reasons(script, "a.js", "g(a", "g(a\n", "h(a)\n")
    commented = "x = [1\n// note\ny(2)\n"
    assert reasons(commented, "a.js", "[1", "[1\n// note\ny(2)", "[1]\n// note y(2)")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("item.price * rate", "item.price * (rate || 1)"),
        ("item.price * rate", "Number(item.price) * rate"),
        ("total += item.price * rate", "total += item?.price * rate"),
        ("of items) {", "of items || []) {"),
        ("let total = 0\n", "let total = 0\n  const factor = Math.max(rate, 0)\n"),
        ("if (rate < 0) {", "if (rate === undefined || rate < 0) {"),
        ("'negative rate'", "'negative or missing rate'"),
        ("of items) {", "of items.filter((item) => item.price)) {"),
        ("return total\n}", "return total.toFixed()\n}"),
    ],
)
def test_small_repairs_of_javascript_are_low_risk(old: str, new: str) -> None:
    """Guards, defaults, optional chains and pure calls within the function of the trace."""
    assert javascript(old, new) == ()


def test_a_handler_of_a_route_may_be_repaired() -> None:
    """The arrow function that the trace names, and not the route around it."""
    at = "find(req.query.id)"
    assert javascript("name: user.name })", "name: user?.name })", at=at) == ()
    assert javascript("name: user.name })", "name: user ? user.name : null })", at=at) == ()
    assert javascript("app.get('/items'", "app.get('/other'", at=at)
    body = JAVASCRIPT[JAVASCRIPT.index("app.get('/items'") :]
    assert javascript(body, "", at=at)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("let total = 0\n", "let total = require('net')\n", "import"),
        ("let total = 0\n", "let total = require(FILE)\n", "import"),
        ("let total = 0\n", "let total = import('./x')\n", "import"),
        ("let total = 0\n", "let total = unknown\n", "names"),
        ("let total = 0\n", "let total = fs.unlinkSync(FILE)\n", "calls"),
        ("let total = 0\n", "let total = fs\n", "module"),
        ("let total = 0\n", "let { appendFileSync: total } = fs\n", "module"),
        ("let total = 0\n", "let total = process.env\n", "module"),
        ("let total = 0\n", "let total = process['env']\n", "module"),
        ("let total = 0\n", "let total = fs['unlinkSync'](FILE)\n", "computed"),
        ("let total = 0\n", "let total = process.exit(1)\n", "runtime"),
        ("let total = 0\n", "let total = handlers[rate](rate)\n", "computed"),
        ("let total = 0\n", "let total = (() => 1)()\n", "computed"),
        ("let total = 0\n", "let total = (0, eval)('1')\n", "computed"),
        ("let total = 0\n", "let total = eval(FILE)\n", "names"),
        ("let total = 0\n", "let total = new Function(FILE)\n", "names"),
        ("let total = 0\n", "let total = fetch(FILE)\n", "names"),
        ("let total = 0\n", "let total = rate.constructor\n", "names"),
        ("let total = 0\n", "let total = rate.__proto__\n", "names"),
        ("let total = 0\n", "let total = 0\n  fs.appendFileSync = save\n", "changes a module"),
        ("let total = 0\n", "let total = 0\n  process.env.HOME = 1\n", "changes a module"),
        ("let total = 0\n", "let total = 0\n  fs.appendFileSync(FILE, rate)\n", "calls into a module"),
        ("fs.appendFileSync(FILE, total)", "fs.appendFileSync(FILE, rate)", "calls into a module"),
        ("let total = 0\n", "let total = 0\n  while (rate) { total += 1 }\n", "loop"),
        ("let total = 0\n", "let total = 0\n  function log() {}\n", "function"),
        ("let total = 0\n", "let total = 0\n  const log = () => {}\n", "function"),
        ("let total = 0\n", "let total = 0\n  return total\n", "never reached"),
        ("let total = 0\n", "let total = 0\n  if (items) return 1\n", "before a check"),
        ("if (rate < 0) {", "if (false) {", "always true"),
        ("if (rate < 0) {", "if (rate < 0 && false) {", "always true"),
        ("  if (rate < 0) {\n    throw new Error('negative rate')\n  }\n", "", "removes"),
        ("throw new Error('negative rate')", "rate = 0", "removes a throw"),
        ("  fs.appendFileSync(FILE, total)\n", "", "removes a call"),
        ("    log(error)\n", "", "handler"),
        ("let total = 0\n", "let total = 0\n  try { total = 1 } catch {}\n", "handler"),
        ("    save(total)\n", "    save(total).catch(() => {})\n", "handler"),
        ("    save(total)\n", "    save(total).then(log, log)\n", "handler"),
        ("'negative rate'", "'https://example.org'", "string"),
        ("'negative rate'", "'../../etc'", "string"),
        ("'negative rate'", "`${total};reboot`", "string"),
        ("let total = 0\n", "let total = /(a+)+$/\n", "regular expression"),
        ("total += item.price * rate", "total += 0", "does without"),
        ("function price(items, rate) {", "function price(items, rate = 1) {", "outside"),
        ("async", "async", "outside"),
        ("app.get('/health', (req, res) => res.send('ok'))\n", "", "outside"),
        ("user.name.trim()", "user.name", "outside"),
        ("  return total\n", "  return total // session\n", "guard"),
        ("  return total\n", "  return (\n", "no valid"),
    ],
)
def test_what_a_human_must_see_in_javascript(old: str, new: str, word: str) -> None:
    """New powers, removed guards, swallowed errors, and anything outside of the function of the trace."""
    if old == "async":
        old, new = "function other(user) {", "async function other(user) {"
    assert any(word in reason for reason in javascript(old, new)), javascript(old, new)


def test_a_misspelt_call_may_be_put_right() -> None:
    """A name that the file has, near the one that it replaces, is no new call."""
    source = (
        "def helper(x):\n    return x\n\n\ndef f(x):\n    return helpr(x)\n\n\ndef drop(x):\n    return helper(x)\n"
    )
    assert reasons(source, "a.py", "helpr", "helpr(x)", "helper(x)") == ()
    assert reasons(source + "\ndrop(1)\n", "a.py", "helpr", "helpr(x)", "drop(x)")
    script = "function helper(x) { return x }\nfunction f(x) {\n  return helpr(x)\n}\nhelper(1)\n"
    assert reasons(script, "a.js", "helpr", "helpr(x)", "helper(x)") == ()


def test_pure_modules_are_open_and_others_are_not() -> None:
    """path.join gives a value; what fs does is another matter."""
    source = "const path = require('path')\nconst fs = require('fs')\n\n"
    source += "function f(a) {\n  return path.join(a, fs.readFileSync(a))\n}\n"
    assert reasons(source, "a.js", "path.join", "path.join(a, ", "path.join(a || 'x', ") == ()
    assert reasons(source, "a.js", "path.join", "fs.readFileSync(a)", "fs.readFileSync(a || 'x')")


def test_other_languages_files_and_traces_are_never_low_risk() -> None:
    """What cannot be judged is looked at."""
    assert "language" in reasons("let a: number = 1\n", "a.ts", "let", "1", "2")[0]
    assert "language" in reasons("a = 1\n", "a.rb", "a", "1", "2")[0]
    frame = Frame(path="other.py", line=1, own=True)
    change = FileChange(path="a.py", before=b"a = 1\n", after=b"a = 2\n")
    for trace in (None, Trace(language="python", errors=()), Trace(language="python", errors=(), frames=(frame,))):
        assert assess((change,), root="/srv/app", trace=trace)
    new = FileChange(path="a.py", before=None, after=b"a = 2\n")
    own = Trace(language="python", errors=(), frames=(Frame(path="a.py", line=1, own=True),))
    assert "makes or removes" in assess((new,), root="/srv/app", trace=own)[0]


def test_many_lines_are_never_low_risk() -> None:
    """Forty at most, over all files."""
    source = "def f(a):\n" + "".join(f"    a = a + {n}\n" for n in range(60)) + "    return a\n"
    after = re.sub(r"\+ (\d+)", r"+ 1\1", source)
    assert any("lines" in reason for reason in reasons(source, "a.py", "a + 3\n", source, after))


@pytest.mark.parametrize("text", ["", "hello", "not found", "utf-8", "Content-Type", "50%", "a, b!", "It's #1", "k: v"])
def test_plain_words_are_no_threat(text: str) -> None:
    """Messages and field names pass."""
    assert not suspicious(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://a",
        "//a",
        "a.b",
        "10.0.0.1",
        "localhost",
        "db:5432",
        "/etc",
        "..\\x",
        "a;b",
        "$(x)",
        "`x`",
        "a|b",
        "f()",
        "<b>",
        "a=b",
        "a\nb",
        "\x1b[0m",
        ".env",
        "x" * 81,
        "\u202e",
    ],
)
def test_addresses_paths_and_code_are_threats(text: str) -> None:
    """Whatever may leave the machine, name a file or be run."""
    assert suspicious(text)


TOKENS = ["a", "b", "=", "(", ")", "\n", "  ", "if", "def f():", "return", "{", "}", "=>", "'x'", ".", "for", "1", ":"]
code = st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join)


@settings(max_examples=150)
@given(code, code, st.sampled_from(["a.py", "a.js"]), st.integers(-2, 9))
def test_any_code_is_judged(old: str, new: str, path: str, line: int) -> None:
    """No source raises, and a file that stays the same is never the worse for it."""
    trace = Trace(language="x", errors=(), frames=(Frame(path=path, line=line, own=True),))
    assess((FileChange(path=path, before=old.encode(), after=new.encode()),), root="/srv/app", trace=trace)


def test_deep_nesting_is_looked_at() -> None:
    """Code made to exhaust the judge is not low-risk."""
    deep = "f(" * 3000 + ")" * 3000
    for path, source in (
        ("a.py", f"def g():\n    return 1\nx = {deep}\n"),
        ("a.js", f"function g() {{ return 1 }}\nx = {deep}\n"),
    ):
        assert reasons(source, path, "return 1", "return 1", "return 2")
