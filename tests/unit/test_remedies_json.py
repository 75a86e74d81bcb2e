# SPDX-License-Identifier: MIT
"""Misspelt keys of JSON configurations: which text changes, and when the code is to blame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.remedied import changed, proposals

from wolverined.heal.remedies.json_text import key_spans

UNDEFINED = "TypeError: Cannot read properties of undefined (reading 'host')"
NODE = "const config = require('./config.json');\nconsole.log(config.database.host);\n"
PYTHON = "import json\nconfig = json.load(open('config.json'))\nprint(config['database']['host'])\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"databse":{"host":1}}', '{"database":{"host":1}}'),
        (
            '\ufeff{\r\n\t"a" : "databse",\r\n\t"databse"  :  {"host": 1, "databse": 2}\r\n}',
            '\ufeff{\r\n\t"a" : "databse",\r\n\t"database"  :  {"host": 1, "databse": 2}\r\n}',
        ),
        (
            '{"x": {"databse": 1}, "y": ["databse"], "databse": {"host": "\\"databse\\": é"}}\n\n',
            '{"x": {"databse": 1}, "y": ["databse"], "database": {"host": "\\"databse\\": é"}}\n\n',
        ),
        ('{"d\\u0061tabse": {"host": 1}}', '{"database": {"host": 1}}'),
    ],
)
def test_only_the_key_itself_changes(before: str, after: str) -> None:
    """Layout, line endings, BOM, values, and the same word elsewhere stay to the byte."""
    assert changed({"a.js": NODE, "config.json": before}, UNDEFINED, "a.js", 2) == {"config.json": after}


def test_a_key_of_an_inner_object_is_found_by_its_path() -> None:
    """The same wrong key at another place is another key."""
    text = '{"a": {"databse": {}}, "b": {"databse": {"host": 1}}}'
    files = {"a.js": "const c = require('./c.json');\nc.b.database.host;\n", "c.json": text}
    assert changed(files, UNDEFINED, "a.js", 2) == {"c.json": '{"a": {"databse": {}}, "b": {"database": {"host": 1}}}'}


def test_a_key_that_code_uses_keeps_its_name() -> None:
    """When other code reads the key as it stands, it is the failing line that is misspelt."""
    files = {
        "a.py": PYTHON,
        "b.py": "from a import config\nprint(config['databse'])\n",
        "config.json": '{"databse": {"host": 1}}',
    }
    assert changed(files, "KeyError: 'database'", "a.py", 3) == {"a.py": PYTHON.replace("database", "databse")}


@pytest.mark.parametrize(
    ("program", "error", "line"),
    [
        (PYTHON, "KeyError: 'database'", 3),
        (PYTHON.replace("['database']", ".get('database')"), "TypeError: 'NoneType' object is not subscriptable", 3),
        (
            PYTHON.replace("['database']['host']", ".get('database').get('host')"),
            "AttributeError: 'NoneType' object has no attribute 'get'",
            3,
        ),
        (
            (
                "import json\n\n\nclass App:\n    def __init__(self):\n"
                "        self.config = json.load(open('config.json'))\n\n"
                "    def run(self):\n        return self.config['database']['host']\n"
            ),
            "KeyError: 'database'",
            9,
        ),
        (
            (
                "import json\n\n\ndef connect(config):\n    return config['database']\n\n\n"
                "connect(json.load(open('config.json')))\n"
            ),
            "KeyError: 'database'",
            5,
        ),
        (
            (
                "import json\nconfig = json.load(open('config.json'))\n"
                "db = config['x'] if 0 else config\nprint(db['database'])\n"
            ),
            "KeyError: 'database'",
            4,
        ),
    ],
)
def test_a_configuration_is_followed_in_python(program: str, error: str, line: int) -> None:
    """Subscripts, `get`, attributes of an object, parameters."""
    files = {"a.py": program, "config.json": '{"databse": {"host": 1}}'}
    assert changed(files, error, "a.py", line) == {"config.json": '{"database": {"host": 1}}'}


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (NODE, 2),
        ("const { database } = require('./config');\ndatabase.host;\n", 2),
        ("import config from './config.json' with { type: 'json' };\nconfig.database.host;\n", 2),
        ("const c = JSON.parse(fs.readFileSync('config.json'));\nconst db = c['database'];\ndb.host;\n", 3),
        ("function load() {\n  return JSON.parse(read('./config.json'));\n}\nload().database.host;\n", 4),
        (
            (
                "class A {\n  constructor() { this.config = require('./config.json'); }\n"
                "  f() { this.config.database.host; }\n}\n"
            ),
            3,
        ),
        (
            (
                "const config = require('./config.json');\n"
                "const f = (config) => config.database?.x.host || config.database.host;\n"
            ),
            2,
        ),
    ],
)
def test_a_configuration_is_followed_in_javascript(program: str, line: int) -> None:
    """Destructuring, aliases, functions, ES modules, fields, parameters."""
    files = {"a.js": program, "config.json": '{"databse": {"host": 1}}'}
    assert changed(files, UNDEFINED, "a.js", line) == {"config.json": '{"database": {"host": 1}}'}


@pytest.mark.parametrize(
    "text",
    [
        '{"databse": {}, "databsae": {}}',  # two near keys
        '{"database": null}',  # the key is there
        '{"databse": null}',  # and would not help
        '{"databse": {}, "databse": {}}',  # twice
        '{"other": {}}',
        "{broken",
        "[]",
        "",
    ],
)
def test_a_configuration_that_does_not_explain_it_is_left(text: str) -> None:
    """No near key, two of them, or no JSON: no proposal."""
    assert proposals({"a.js": NODE, "config.json": text}, UNDEFINED, "a.js", 2) == []


def test_a_key_of_what_is_no_configuration_is_left() -> None:
    """A request's body that lacks a key has nothing to do with a file that no code names."""
    files = {
        "a.py": "def f(body):\n    return body['name']\n",
        "data.json": '{"nmae": 1}',
        "package.json": '{"nmae": 1}',
    }
    assert proposals(files, "KeyError: 'name'", "a.py", 2) == []


KEYS = st.text(max_size=4)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_every_key_is_found_where_it_stands(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    """For any JSON text, the place of a top-level key holds exactly that key."""
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    for key in value:
        spans = key_spans(data, (key,))
        assert len(spans) == 1
        assert json.loads(data[slice(*spans[0])]) == key
