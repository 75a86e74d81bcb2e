# SPDX-License-Identifier: MIT
"""Names, attributes, imports and calls: which tokens a remedy touches, and which it leaves."""

from __future__ import annotations

import pytest
from support.remedied import changed, evidence_of, proposals, snapshot_of, trace_of

from wolverined.heal.remedies import propose
from wolverined.model import ErrorLink, RepairMode, Trace

NAME = "NameError: name 'userz' is not defined"
REFERENCE = "ReferenceError: userz is not defined"


def test_a_proposal_says_who_what_and_why() -> None:
    """Mode, remedy, reason, cause, whole files and permissions are all there."""
    (proposal,) = proposals({"a.py": "users = 1\nprint(userz)\n"}, NAME, "a.py", 2)
    assert proposal.mode is RepairMode.REMEDY
    assert proposal.remedy == "undefined-name"
    assert "`users`" in proposal.reason
    assert proposal.root_cause == "`userz` in a.py:2 is a misspelling of `users`"
    (change,) = proposal.changes
    assert (change.before, change.after) == (b"users = 1\nprint(userz)\n", b"users = 1\nprint(users)\n")
    assert change.mode == 0o640


def test_every_use_of_the_wrong_name_is_mended_and_nothing_else() -> None:
    """Strings, comments, attributes, keywords and a variable of that name elsewhere keep their text."""
    before = (
        "users = 1\nprint(userz)  # userz\nf = 'userz'; g(userz=userz); h.userz\n"
        "print(f'{userz} userz')\n\n\ndef other(userz):\n    return userz\n"
    )
    after = (
        "users = 1\nprint(users)  # userz\nf = 'userz'; g(userz=users); h.userz\n"
        "print(f'{users} userz')\n\n\ndef other(userz):\n    return userz\n"
    )
    assert changed({"a.py": before}, NAME, "a.py", 2) == {"a.py": after}


def test_every_use_of_the_wrong_name_in_javascript_is_mended_and_nothing_else() -> None:
    """The same in JavaScript, with template literals, properties and shorthand."""
    before = (
        "const users = [];\nf(userz); // userz\nf('userz', `${userz} userz`, { userz: 1 }, x.userz);\n"
        "const g = (userz) => userz;\n"
    )
    after = (
        "const users = [];\nf(users); // userz\nf('userz', `${users} userz`, { userz: 1 }, x.userz);\n"
        "const g = (userz) => userz;\n"
    )
    assert changed({"a.js": before}, REFERENCE, "a.js", 2) == {"a.js": after}


def test_a_name_in_a_string_alone_is_no_place() -> None:
    """When the wrong name stands on the line only inside a string or a comment, nothing is proposed."""
    assert proposals({"a.py": "users = 1\nprint('userz')  # userz\n"}, NAME, "a.py", 2) == []
    assert proposals({"a.js": "const users = 1;\nf('userz'); // userz\n"}, REFERENCE, "a.js", 2) == []


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize(("path", "error"), [("a.py", NAME), ("a.js", REFERENCE)])
def test_bom_line_endings_and_the_last_newline_stay(
    path: str, error: str, start: bytes, newline: bytes, end: bytes
) -> None:
    """Only the token changes: bytes before and after it are those of the file."""
    first = b"users = [1]  # \xc3\xa9" if path == "a.py" else b"const users = [1]; // \xc3\xa9"
    before = start + first + newline + b"f = [userz]" + end.replace(b"\n", newline)
    (proposal,) = proposals({path: before}, error, path, 2)
    assert proposal.changes[0].after == before.replace(b"userz", b"users")


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("def f(users):\n    return [userz for _ in users]\n", 2),
        ("import users\n\nuserz.go()\n", 3),
        ("from a import b as users\n\nuserz()\n", 3),
        ("with open('x') as users:\n    userz.read()\n", 2),
        ("for users, y in z:\n    userz\n", 2),
        ("try:\n    pass\nexcept E as users:\n    userz\n", 4),
        ("def f(*users, **kw):\n    g = lambda q: userz\n", 2),
        ("if (users := 1):\n    userz\n", 2),
        ("match x:\n    case [users, *rest]:\n        userz\n", 3),
        ("def outer():\n    users = 1\n\n    def inner():\n        return userz\n", 5),
        ("class users:\n    pass\n\n\nuserz()\n", 5),
        ("def f():\n    global users\n    users = 1\n\n\ndef g():\n    return userz\n", 7),
        ("users: int = 1\nprint(userz)\n", 2),
        ("type users = int\nprint(userz)\n", 2),
    ],
)
def test_every_way_to_declare_a_name_in_python_is_known(program: str, line: int) -> None:
    """Parameters, imports, targets, patterns, nested functions, globals, and syntax newer than ours."""
    assert changed({"a.py": program}, NAME, "a.py", line) == {"a.py": program.replace("userz", "users")}


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("function f(users) {\n  return userz;\n}\n", 2),
        ("function f({ a: users }) {\n  return userz;\n}\n", 2),
        ("function f(...users) {\n  return userz;\n}\n", 2),
        ("const { users = 1 } = x;\nuserz;\n", 2),
        ("const [, users] = x;\nuserz;\n", 2),
        ("import users from 'x';\nuserz();\n", 2),
        ("import { a as users } from 'x';\nuserz();\n", 2),
        ("import * as users from 'x';\nuserz.f();\n", 2),
        ("class users {}\nnew userz();\n", 2),
        ("try { x(); } catch (users) {\n  userz;\n}\n", 2),
        ("for (const users of x) {\n  userz;\n}\n", 2),
        ("const f = users => {\n  userz;\n};\n", 2),
        ("function f() {\n  if (x) { var users = 1; }\n  return userz;\n}\n", 3),
        ("f();\nfunction f() {\n  return userz;\n}\nlet users;\n", 3),
        ("const users = 1;\nf(userz;\nconst broken = ;\n", 2),
    ],
)
def test_every_way_to_declare_a_name_in_javascript_is_known(program: str, line: int) -> None:
    """Parameters, patterns, imports, classes, loops, hoisting, and a file with errors in it."""
    assert changed({"a.js": program}, REFERENCE, "a.js", line) == {"a.js": program.replace("userz", "users")}


@pytest.mark.parametrize(
    "program",
    [
        "def f():\n    users = 1\n\n\nuserz\n",  # declared in a function that the place is not in
        "class A:\n    users = 1\n\n    def f(self):\n        return userz\n",  # a class body is not seen from there
        "x = [users for users in y]\nz = 1\nw = 2\nv = 3\nuserz\n",  # nor a comprehension's own
    ],
)
def test_a_name_that_the_place_cannot_see_is_not_offered(program: str) -> None:
    """Nearness alone is not enough: the name must be visible."""
    assert proposals({"a.py": program}, NAME, "a.py", 5) == []


def test_a_name_that_is_declared_is_not_misspelt() -> None:
    """A name that exists, only not yet or not any more, is another trouble."""
    assert proposals({"a.py": "print(userz)\nuserz = 1\nusers = 2\n"}, NAME, "a.py", 1) == []
    assert proposals({"a.js": "f(userz);\nlet userz = 1, users = 2;\n"}, REFERENCE, "a.js", 1) == []


def test_a_parameter_and_a_global_that_are_both_near_are_two() -> None:
    """`string` may be the parameter `sring` or the global `String`."""
    program = "function f(sring) {\n  return string.split('');\n}\n"
    assert proposals({"a.js": program}, "ReferenceError: string is not defined", "a.js", 2) == []


def test_a_hint_for_a_name_that_does_not_exist_is_no_hint() -> None:
    """What a log says is forged at will: the suggestion must be visible at the place."""
    assert proposals({"a.py": "x = 1\nprint(userz)\n"}, NAME, "a.py", 2, hint="Did you mean: 'exec'?") == []


def test_a_key_that_is_read_elsewhere_keeps_its_name() -> None:
    """`{ userz }` makes a key too: other files that read it must go on."""
    files = {"a.js": "const users = 1;\nmodule.exports = { userz };\n", "b.js": "console.log(require('./a').userz);\n"}
    assert "{ userz: users }" in changed(files, REFERENCE, "a.js", 2)["a.js"]


def test_an_attribute_is_mended_for_its_own_class_alone() -> None:
    """Another class that has the wrong name keeps it."""
    program = (
        "class A:\n    def __init__(self):\n        self.items = []\n\n"
        "    def f(self):\n        return self.itmes\n\n\n"
        "class B:\n    itmes = 1\n\n    def f(self):\n        return self.itmes\n"
    )
    after = changed({"a.py": program}, "AttributeError: 'A' object has no attribute 'itmes'", "a.py", 6)["a.py"]
    assert after == program.replace("return self.itmes", "return self.items", 1)


def test_an_attribute_that_is_stored_somewhere_is_not_misspelt() -> None:
    """A class that sets the attribute on another path has another bug."""
    program = (
        "class A:\n    items = 1\n\n    def f(self):\n        self.itmes = 1\n\n"
        "    def g(self):\n        return self.itmes\n"
    )
    assert proposals({"a.py": program}, "AttributeError: 'A' object has no attribute 'itmes'", "a.py", 8) == []


def test_an_import_is_changed_with_its_uses_in_that_file() -> None:
    """The alias of an import keeps its name; a bound name that is used changes everywhere."""
    error = "ImportError: cannot import name 'get_usres' from 'lib' (/srv/app/lib.py)"
    lib = "def get_users():\n    pass\n"
    plain = "from lib import (\n    get_usres,\n)\n\nget_usres('get_usres')\n"
    assert changed({"a.py": plain, "lib.py": lib}, error, "a.py", 1)["a.py"] == plain.replace(
        "get_usres,", "get_users,"
    ).replace("get_usres(", "get_users(")
    alias = "from lib import get_usres as g\n\ng()\n"
    assert (
        changed({"a.py": alias, "lib.py": lib}, error, "a.py", 1)["a.py"] == "from lib import get_users as g\n\ng()\n"
    )


def test_an_import_does_not_shadow_a_name_that_is_there() -> None:
    """When the importer already has something of the right name, nobody knows."""
    error = "ImportError: cannot import name 'get_usres' from 'lib' (/srv/app/lib.py)"
    program = "from lib import get_usres\n\nget_users = 1\nget_usres()\n"
    assert proposals({"a.py": program, "lib.py": "def get_users():\n    pass\n"}, error, "a.py", 1) == []


def test_the_exporter_is_changed_when_every_importer_agrees() -> None:
    """Two files ask for `getUsers`, the module offers `getUsres`, and nobody asks for that."""
    files = {
        "a.js": "const api = require('./api');\napi.getUsers();\n",
        "b.js": "const { getUsers } = require('./api');\ngetUsers();\n",
        "api.js": "function getUsres() {}\nmodule.exports = { getUsres };\n",
    }
    after = changed(files, "TypeError: api.getUsers is not a function", "a.js", 2)
    assert after == {"api.js": "function getUsres() {}\nmodule.exports = { getUsers: getUsres };\n"}


def test_an_esm_export_is_renamed_with_its_uses() -> None:
    """The declaration behind an `export` is the export's name."""
    files = {
        "a.mjs": "import { getUsers } from './api.mjs';\n",
        "b.mjs": "import { getUsers } from './api.mjs';\n",
        "api.mjs": "export function getUsres() {}\nexport const all = () => getUsres();\n",
    }
    error = "SyntaxError: The requested module './api.mjs' does not provide an export named 'getUsers'"
    assert changed(files, error, "a.mjs", 1) == {"api.mjs": files["api.mjs"].replace("getUsres", "getUsers")}


@pytest.mark.parametrize(
    ("module", "after"),
    [
        ("function make() {}\nmodule.exports = {};\n", "function make() {}\nmodule.exports = { make };\n"),
        ("function make() {}\nconst a = 1;\nmodule.exports = { a };\n", None),
        ("function make() {}\nexports.list = 1;\n", "function make() {}\nexports.list = 1;\nexports.make = make;\n"),
        (
            "const make = () => 1;\r\nmodule.exports.list = 1;\r\n",
            "const make = () => 1;\r\nmodule.exports.list = 1;\r\nmodule.exports.make = make;\r\n",
        ),
        ("function make() {}\nexport const list = 1;\n", "export function make() {}\nexport const list = 1;\n"),
    ],
)
def test_a_function_is_exported_as_its_module_exports(module: str, after: str | None) -> None:
    """An object, assignments to `exports`, or `export`: each grows in its own way."""
    files = {"a.js": "const m = require('./m');\nm.make();\n", "m.js": module}
    expected = module.replace("{ a }", "{ a, make }") if after is None else after
    assert changed(files, "TypeError: m.make is not a function", "a.js", 2) == {"m.js": expected}


def test_calls_on_other_objects_keep_their_name() -> None:
    """The same wrong name on another object of the file is another name."""
    program = (
        "class A {\n  load() {}\n}\nconst a = new A();\na.lod();\nother.lod();\nfunction f(a) {\n  a.lod();\n}\n"
        "const g = a.lod;\n"
    )
    after = changed({"a.js": program}, "TypeError: a.lod is not a function", "a.js", 5)["a.js"]
    assert after == program.replace("\na.lod();", "\na.load();").replace("= a.lod;", "= a.load;")


def test_a_method_that_exists_is_not_misspelt() -> None:
    """A method that the object has, and that is no function at that moment, is another bug."""
    program = "const o = { load: null, loaf() {} };\no.load();\n"
    assert proposals({"a.js": program}, "TypeError: o.load is not a function", "a.js", 2) == []


def test_a_trace_of_a_dependency_finds_no_file_of_ours() -> None:
    """A path in node_modules never means the app's file of the same name."""
    trace = trace_of(REFERENCE, "a.js", 2)
    frame = trace.frames[0]
    foreign = Trace(
        language="node",
        errors=(ErrorLink("ReferenceError", "userz is not defined"),),
        frames=(type(frame)(path="/srv/app/node_modules/x/a.js", line=2, own=True),),
    )
    assert propose(evidence_of(foreign), snapshot_of({"a.js": "const users = 1;\nuserz;\n"})) == []


def test_a_source_below_the_apps_root_is_found_by_its_tail() -> None:
    """The trace speaks of the app's root, the snapshot of a directory below it, or of a link to it."""
    files = {"server/index.js": "const users = 1;\nf(userz);\n"}
    for path in ("app/server/index.js", "index.js", "/releases/7/server/index.js", "file:///srv/app/server/index.js"):
        assert len(proposals(files, REFERENCE, path, 2)) == 1, path
    two = files | {"client/index.js": "const users = 1;\nf(userz);\n"}
    assert proposals(two, REFERENCE, "index.js", 2) == []


def test_the_cause_is_mended_before_what_followed_from_it() -> None:
    """Of a chain of errors the root cause is read too, though it was wrapped."""
    trace = trace_of(NAME, "a.py", 2)
    chain = Trace(
        language="python",
        errors=(*trace.errors, ErrorLink("RuntimeError", "cannot start")),
        frames=trace.frames,
    )
    assert len(propose(evidence_of(chain), snapshot_of({"a.py": "users = 1\nprint(userz)\n"}))) == 1


def test_a_package_is_looked_for_among_the_declared_ones() -> None:
    """A misspelt package is one that package.json declares, and no other."""
    error = "Error: Cannot find module 'expres'"
    package = '{"dependencies": {"express": "^4", "exceljs": "1"}}'
    program = "const a = require('expres');\n"
    assert changed({"a.js": program, "package.json": package}, error, "a.js", 1) == {
        "a.js": "const a = require('express');\n"
    }
    assert proposals({"a.js": program}, error, "a.js", 1) == []
    assert proposals({"a.js": program, "package.json": "{"}, error, "a.js", 1) == []
