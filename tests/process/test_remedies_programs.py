# SPDX-License-Identifier: MIT
"""Every remedy on real programs: Python and Node crash, the trace is parsed, the proposal applied, and they run."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.remedied import Files, Program

CONFIG = '{\n  "databse": { "host": "db", "port": 1 },\n  "server": { "port": 3 }\n}\n'

HEALED: dict[str, tuple[str, Files]] = {
    "python: a misspelt variable": (
        "undefined-name",
        {"main.py": "users = ['a']\n\n\ndef first():\n    return userz[0]\n\n\nprint(first())\n"},
    ),
    "python: a misspelt builtin in an f-string": (
        "undefined-name",
        {"main.py": "items = [1]\nprint(f'{lenn(items)} items, not lenn')\n"},
    ),
    "python: a counter that is misspelt where it starts": (
        "undefined-name",
        {
            "main.py": "def f():\n    coutner = 0\n    for _ in range(3):\n        counter += 1\n"
            "    return coutner\n\n\nf()\n"
        },
    ),
    "python: an attribute of a class": (
        "misspelt-attribute",
        {
            "main.py": "class Store:\n    def __init__(self):\n        self.items = [1]\n\n"
            "    def first(self):\n        return self.itmes[0]\n\n\nprint(Store().first())\n"
        },
    ),
    "python: a method that a base class in another file has": (
        "misspelt-attribute",
        {
            "main.py": "from base import Base\n\n\nclass Store(Base):\n    pass\n\n\nprint(Store().fetch_al())\n",
            "base.py": "class Base:\n    def fetch_all(self):\n        return []\n",
        },
    ),
    "python: an attribute of a module of ours": (
        "misspelt-attribute",
        {"main.py": "import lib\n\nlib.fetch_usrs()\n", "lib.py": "def fetch_users():\n    return []\n"},
    ),
    "python: an attribute of a module of the standard library": (
        "misspelt-attribute",
        {"main.py": "import json\n\nprint(json.lods('1'))\n"},
    ),
    "python: a method of a builtin type": ("misspelt-attribute", {"main.py": "print('a'.uper())\n"}),
    "python: an import of a misspelt name": (
        "misspelt-import",
        {
            "main.py": "from lib import fetch_usrs\n\nprint(fetch_usrs(), fetch_usrs)\n",
            "lib.py": "def fetch_users():\n    return []\n",
        },
    ),
    "python: an import by another verb": (
        "misspelt-import",
        {"main.py": "from lib import load_users\n\nload_users()\n", "lib.py": "def fetch_users():\n    return []\n"},
    ),
    "python: a definition that every importer spells otherwise": (
        "misspelt-import",
        {
            "main.py": "from lib import get_users\nimport other\n\nget_users()\n",
            "other.py": "from lib import get_users\n\nget_users()\n",
            "lib.py": "def get_usres():\n    return []\n",
        },
    ),
    "python: an import from the standard library": (
        "misspelt-import",
        {"main.py": "from http.server import BaseHTTPRequestHandlr\n\n\nclass H(BaseHTTPRequestHandlr):\n    pass\n"},
    ),
    "python: a misspelt module": (
        "missing-module",
        {"main.py": "import utlis\n\nutlis.go()\n", "utils.py": "def go():\n    return 1\n"},
    ),
    "python: a misspelt relative module": (
        "missing-module",
        {
            "main.py": "import pkg.a\n",
            "pkg/__init__.py": "",
            "pkg/a.py": "from .rotues import x\n",
            "pkg/routes.py": "x = 1\n",
        },
    ),
    "python: a call that is never closed": (
        "unbalanced-bracket",
        {"main.py": "import json\n\nprint(json.dumps({'a': 1})\nprint('ok')\n"},
    ),
    "python: a bracket too many": ("unbalanced-bracket", {"main.py": "x = [1]\nprint(len(x)))\n"}),
    "python: a dictionary in a list that is never closed": (
        "unbalanced-bracket",
        {"main.py": "ITEMS = [\n    {'id': 1, 'name': 'a'},\n    {'id': 2, 'name': 'b',\n]\nprint(ITEMS[1]['id'])\n"},
    ),
    "python: a key of the configuration": (
        "misspelt-json-key",
        {
            "main.py": "import json\n\nwith open('config.json') as f:\n    config = json.load(f)\n"
            "print(config['database']['host'])\n",
            "config.json": CONFIG,
        },
    ),
    "python: a key of the configuration, asked with get, in another file": (
        "misspelt-json-key",
        {
            "main.py": "from settings import CONFIG\n\nprint(CONFIG.get('database').get('host'))\n",
            "settings.py": "import json\nfrom pathlib import Path\n\nFILE = Path(__file__).parent / 'config.json'\n\n\n"
            "def load():\n    return json.loads(FILE.read_text())\n\n\nCONFIG = load()\n",
            "config.json": CONFIG,
        },
    ),
    "node: a misspelt variable": (
        "undefined-name",
        {"main.js": "const users = ['a'];\nfunction first() {\n  return userz[0];\n}\nconsole.log(first());\n"},
    ),
    "node: a misspelt variable in a template, named by the line of the call": (
        "undefined-name",
        {"main.js": "const name = 'x';\nconsole.log(\n  'nmae',\n  `hi ${nmae}`,\n);\n"},
    ),
    "node: an assignment to a misspelt variable": (
        "undefined-name",
        {"main.mjs": "let counter = 0;\ncoutner += 1;\nconsole.log(counter);\n"},
    ),
    "node: a misspelt name in an export": (
        "undefined-name",
        {
            "main.js": "const a = require('./a');\na.users();\n",
            "a.js": "function users() {}\nmodule.exports = { userz };\n",
        },
    ),
    "node: a call by another verb, across two files": (
        "misspelt-export",
        {
            "main.js": "const api = require('./routes/api');\nconsole.log(api.fetchUsers());\n",
            "routes/api.js": "function getUsers() {\n  return [];\n}\n\nmodule.exports = { getUsers };\n",
        },
    ),
    "node: a destructured name with its uses": (
        "misspelt-export",
        {
            "main.js": "const { getUsres } = require('./api');\nconsole.log(getUsres(), { getUsres });\n",
            "api.js": "exports.getUsers = () => [];\n",
        },
    ),
    "node: an export that is misspelt though its function is not": (
        "misspelt-export",
        {
            "main.js": "const api = require('./api');\napi.getUsers();\n",
            "api.js": "function getUsers() {}\nmodule.exports = { getUsres: getUsers };\n",
        },
    ),
    "node: a function that is not exported": (
        "misspelt-export",
        {
            "main.js": "const api = require('./api');\napi.list();\napi.createItem();\n",
            "api.js": "function list() {}\n\nfunction createItem() {}\n\nmodule.exports = {\n  list,\n};\n",
        },
    ),
    "node: an import that an ES module does not offer": (
        "misspelt-export",
        {
            "main.mjs": "import { getUsres } from './api.mjs';\nconsole.log(getUsres());\n",
            "api.mjs": "export function getUsers() {\n  return [];\n}\n",
        },
    ),
    "node: an import that a CommonJS module does not offer": (
        "misspelt-export",
        {
            "main.mjs": "import { getUsres } from './api.cjs';\nconsole.log(getUsres());\n",
            "api.cjs": "exports.getUsers = () => [];\n",
        },
    ),
    "node: a name of a namespace import": (
        "misspelt-export",
        {
            "main.mjs": "import * as api from './api.mjs';\nconsole.log(api.getUsres());\n",
            "api.mjs": "export const getUsers = () => [];\n",
        },
    ),
    "node: a misspelt class of a module": (
        "misspelt-export",
        {
            "main.js": "const api = require('./api');\nnew api.Databse();\n",
            "api.js": "class Database {}\nmodule.exports = { Database };\n",
        },
    ),
    "node: a method of a class": (
        "misspelt-call",
        {"main.js": "class A {\n  go() {\n    this.lod();\n  }\n  load() {}\n}\nnew A().go();\n"},
    ),
    "node: a method of an instance of an imported class": (
        "misspelt-call",
        {
            "main.js": "const Store = require('./store');\nconst store = new Store();\nstore.serach('x');\n",
            "store.js": "class Store {\n  search() {}\n}\nmodule.exports = Store;\n",
        },
    ),
    "node: a method of a string": ("misspelt-call", {"main.js": "const a = 'x';\nconsole.log(a.toUppercase());\n"}),
    "node: a method of what nothing is known of": (
        "misspelt-call",
        {"main.js": "const f = (req) => req.query.name.trim().toUppercase();\nf({ query: { name: 'x' } });\n"},
    ),
    "node: a function of a module of Node": (
        "misspelt-call",
        {"main.js": "const fs = require('node:fs');\nfs.existSync('/');\nconsole.log(fs.existSync('/'));\n"},
    ),
    "node: a misspelt path": (
        "missing-module",
        {"main.js": "const a = require('./routs/api');\nconsole.log(a);\n", "routes/api.js": "module.exports = 1;\n"},
    ),
    "node: a path from the wrong directory": (
        "missing-module",
        {"main.js": "require('./routes/users');\n", "routes/users.js": "require('./lib/store');\n", "lib/store.js": ""},
    ),
    "node: a misspelt path in an ES module": (
        "missing-module",
        {"main.mjs": "import a from './routs/api.mjs';\nconsole.log(a);\n", "routes/api.mjs": "export default 1;\n"},
    ),
    "node: a path without its suffix in an ES module": (
        "missing-module",
        {"main.mjs": "import a from './api';\nconsole.log(a);\n", "api.mjs": "export default 1;\n"},
    ),
    "node: a bracket too many after a handler": (
        "unbalanced-bracket",
        {"main.js": "const on = (name, f) => f();\non('x', () => {\n  console.log('x');\n}));\n"},
    ),
    "node: a call that is never closed": (
        "unbalanced-bracket",
        {"main.js": "const id = (x) => x;\nconsole.log(id(1);\nconsole.log('ok');\n"},
    ),
    "node: a brace missing in the middle": (
        "unbalanced-bracket",
        {
            "main.js": "function a(x) {\n  if (x) {\n    return 1;\n  return 2;\n}\n\n"
            "function b() {\n  return a(0);\n}\n\nb();\n"
        },
    ),
    "node: a brace missing at the end": (
        "unbalanced-bracket",
        {"main.js": "function a() {\n  return 1;\n}\n\nfunction b() {\n  return a();\n"},
    ),
    "node: a brace too many in an ES module": (
        "unbalanced-bracket",
        {"main.mjs": "import './b.mjs';\n", "b.mjs": "export function f() {\n  return 1;\n}\n}\n"},
    ),
    "node: a key of the configuration": (
        "misspelt-json-key",
        {
            "main.js": "const config = require('./config.json');\nconsole.log(config.database.host);\n",
            "config.json": CONFIG,
        },
    ),
    "node: a key of the configuration, read from a file and taken apart": (
        "misspelt-json-key",
        {
            "main.js": "const fs = require('fs');\nconst path = require('path');\n"
            "const config = JSON.parse(fs.readFileSync(path.join(__dirname, 'config.json'), 'utf8'));\n"
            "const { host } = config.database;\nconsole.log(host);\n",
            "config.json": CONFIG,
        },
    ),
    "node: a key of the configuration, handed to a function of another file": (
        "misspelt-json-key",
        {
            "main.js": "const connect = require('./db');\nconnect(require('./config.json'));\n",
            "db.js": "module.exports = (config) => config.database.host;\n",
            "config.json": CONFIG,
        },
    ),
    "node: a key that the code misspells": (
        "misspelt-json-key",
        {
            "main.js": "const config = require('./config.json');\nconst f = () => config.database.host;\n"
            "console.log(config.databse.port);\nf();\n",
            "config.json": CONFIG,
        },
    ),
}

LEFT_ALONE: dict[str, Files] = {
    "python: two names as near": {"main.py": "userx = 1\nusery = 2\nprint(userz)\n"},
    "python: two attributes as near": {
        "main.py": "class A:\n    itemx = 1\n    itemy = 2\n\n"
        "    def f(self):\n        return self.itemz\n\n\nA().f()\n"
    },
    "python: two exports as near": {"main.py": "from lib import userz\n", "lib.py": "userx = 1\nusery = 2\n"},
    "python: two modules as near": {"main.py": "import utilz\n", "utila.py": "", "utilb.py": ""},
    "python: two keys as near": {
        "main.py": "import json\n\nconfig = json.loads(open('c.json').read())\nprint(config['hostz'])\n",
        "c.json": '{"hosta": 1, "hostb": 2}',
    },
    "python: a bracket that may close in two places": {"main.py": "print(max(1, min(2, 3))\n"},
    "python: an error that no name explains": {"main.py": "print(1 / 0)\n"},
    "python: a value that is None": {"main.py": "config = None\nprint(config.name)\n"},
    "python: a circular import": {
        "main.py": "import a\n",
        "a.py": "from b import y\nx = 1\n",
        "b.py": "from a import x\ny = 1\n",
    },
    "python: a package that is not installed": {"main.py": "import wolverine_no_such_package\n"},
    "node: two names as near": {"main.js": "const userx = 1, usery = 2;\nconsole.log(userz);\n"},
    "node: two exports as near": {
        "main.js": "require('./api').getUserz();\n",
        "api.js": "module.exports = { getUserx() {}, getUsery() {} };\n",
    },
    "node: an export that is near, and a function of that very name": {
        "main.js": "require('./api').getItems();\n",
        "api.js": "function getItems() {}\nmodule.exports = { getItem: () => 1 };\n",
    },
    "node: two methods as near": {"main.js": "class A { loax() {} loay() {} }\nnew A().loaz();\n"},
    "node: two paths as near": {"main.js": "require('./routz/api');\n", "routa/api.js": "", "routb/api.js": ""},
    "node: two keys as near": {
        "main.js": "const c = require('./c.json');\nconsole.log(c.hostz.a);\n",
        "c.json": '{"hosta": {}, "hostb": {}}',
    },
    "node: null": {"main.js": "const config = null;\nconfig.toString();\n"},
    "node: an error that is thrown": {"main.js": "throw new Error('503 Service Unavailable');\n"},
    "node: a module that does not exist": {"main.js": "require('./rate-limiter');\n", "app.js": ""},
    "node: getter and setter": {"main.js": "class A { getItem() {} }\nnew A().setItem();\n"},
    "node: a bracket that may close in two places": {"main.js": "console.log(Math.max(1, Math.min(2, 3));\n"},
}


@pytest.mark.parametrize("name", HEALED)
def test_a_program_runs_after_its_slip_was_mended(name: str, tmp_path: Path) -> None:
    """The proposal for the crash is the right remedy, and the program ends well with it."""
    remedy, files = HEALED[name]
    after, proposed = Program(tmp_path, files).heal()
    assert [proposal.remedy for proposal in proposed[:1]] == [remedy]
    assert after.returncode == 0, after.stderr
    assert proposed[0].reason
    assert proposed[0].root_cause


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_program_is_left_alone_when_nobody_knows(name: str, tmp_path: Path) -> None:
    """Two answers that are as good, or none: no proposal."""
    _, proposed = Program(tmp_path, LEFT_ALONE[name]).heal()
    assert proposed == []
