# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.projects import Sketch

from wolverined.config.projects import interpreters, listening, ports, python
from wolverined.config.projects.project import Project, Refused, Start


@pytest.fixture
def sketch(tmp_path: Path) -> Sketch:
    """An empty project with a node and a python in PATH."""
    return Sketch(tmp_path)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("node server/index.js", ["NODE", "server/index.js"]),
        ("node .", ["NODE", "."]),
        ("node server", ["NODE", "server"]),
        ("node --max-old-space-size=512 -r dotenv/config server/index.js --x", [
            "NODE", "--max-old-space-size=512", "-r", "dotenv/config", "server/index.js", "--x",
        ]),
        ("nodemon --watch src -e js,json server/index.js", ["NODE", "server/index.js"]),
        ("pm2-runtime start server/index.js -- --flag", ["NODE", "server/index.js", "--flag"]),
        ("wolverine server/index.js", ["NODE", "server/index.js"]),
        ("wolverine", ["NODE", "server/index.js"]),
        ("node node_modules/wolverine-ai/bin/wolverine.js server/index.js", ["NODE", "server/index.js"]),
        ("npm run real", ["NODE", "server/index.js", "--real"]),
        ("yarn real", ["NODE", "server/index.js", "--real"]),
        ("pnpm run real -- --more 'a b'", ["NODE", "server/index.js", "--real", "--more", "a b"]),
        ("npx next start", ["NODE", "node_modules/.bin/next", "start"]),
        ("next start -p 4000", ["NODE", "node_modules/.bin/next", "start", "-p", "4000"]),
        ("./run.sh --now", ["./run.sh", "--now"]),
        ("python3 app.py", ["PYTHON", "app.py"]),
    ],
)  # fmt: skip
def test_scripts_start_is_resolved_to_what_it_runs(sketch: Sketch, line: str, command: list[str]) -> None:
    """Wrappers between supervisor and server are taken out; the interpreter is absolute."""
    sketch.scripts(start=line, real="node server/index.js --real")
    for name in ("server/index.js", "index.js", "run.sh", "app.py"):
        sketch.file(name)
    sketch.program("app/node_modules/.bin/next", "#!/usr/bin/env node\n")
    names = {"NODE": sketch.node, "PYTHON": sketch.python}
    assert sketch.best().command == tuple(names.get(word, word) for word in command)
    assert sketch.best().origin == "scripts.start in package.json"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("node dist/main.js", "dist/main.js, which does not exist (is it built first?)"),
        ("react-scripts start", "a server for development"),
        ("vite", "a server for development"),
        ("webpack serve --open", "a server for development"),
        ("nodemon --exec ts-node src/x.ts", "another interpreter"),
        ("pm2 start ecosystem.config.js", "the script that it runs is not told"),
        ("nodemon", "the script that it runs is not told"),
        ("npm run missing", "the script 'missing', which package.json does not have"),
        ("npm run start", "runs in a circle"),
        ("npm ci", "not told by its words"),
        ("no-such-program-here x", "not installed where the project could use it"),
        ("./missing.sh", "./missing.sh, which does not exist"),
        ("node server.js --api-key=abcdef", "a secret on the command line (--api-key)"),
        ("node a.js | pino-pretty", "needs a shell for '|'"),
    ],
)
def test_starts_that_cannot_be_told_are_explained(sketch: Sketch, line: str, reason: str) -> None:
    """What was passed over comes with its reason, and no secret."""
    sketch.scripts(start=line)
    assert reason in sketch.refusals()
    assert "abcdef" not in sketch.refusals()


def test_what_stands_around_the_program(sketch: Sketch) -> None:
    """Variables, their file, the directory, what runs before: each where it belongs."""
    sketch.scripts(
        prestart="npm run build",
        start="cd server && cross-env NODE_ENV=production PORT=4100 dotenv -e ../p.env -- node .",
    )
    sketch.file("server/index.js")
    best = sketch.best()
    assert best.environment == {"NODE_ENV": "production"}
    assert (best.port, best.directory) == (4100, sketch.directory / "server")
    assert best.environment_file == sketch.directory / "server/../p.env"
    assert any("prestart" in note for note in best.notes)


def test_npm_start_without_a_script(sketch: Sketch) -> None:
    """`npm start` runs server.js when package.json has no start script."""
    sketch.file("server.js")
    sketch.file("Procfile", "web: npm start\n")
    assert sketch.best().command == (sketch.node, "server.js")


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"server/index.js": ""}, ["NODE", "server/index.js"]),
        ({"index.js": "", "server/index.js": ""}, ["NODE", "server/index.js"]),
        ({"index.js": ""}, ["NODE", "index.js"]),
        ({"package.json": '{"main": "lib/web.js"}', "lib/web.js": "app.listen(1)"}, ["NODE", "lib/web.js"]),
        ({"package.json": '{"main": "lib/web.js"}', "lib/web.js": "x", "app.js": ""}, ["NODE", "app.js"]),
        ({"app.py": "if __name__ == '__main__':\n  pass"}, ["PYTHON", "app.py"]),
        ({"main.py": "import x\nserver.serve_forever()"}, ["PYTHON", "main.py"]),
        ({"main.py": "with S() as s:\n  s.serve_forever()"}, ["PYTHON", "main.py"]),
        ({"Procfile": "web: python app.py\nworker: x", "app.py": "", "index.js": ""}, ["PYTHON", "app.py"]),
        ({"Procfile": "worker: node w.js", "w.js": "", "index.js": ""}, ["NODE", "w.js"]),
        ({"Procfile": "a: node w.js\nb: node w.js", "w.js": "", "index.js": ""}, ["NODE", "index.js"]),
        ({"pyproject.toml": '[tool.poe.tasks]\nserve = {cmd = "python app.py"}', "app.py": ""}, ["PYTHON", "app.py"]),
        ({"pyproject.toml": '[tool.pdm.scripts]\nstart = "python app.py"', "app.py": ""}, ["PYTHON", "app.py"]),
    ],
)  # fmt: skip
def test_projects_that_are_recognised(sketch: Sketch, files: dict[str, str], command: list[str]) -> None:
    """What a project says itself counts before names of files."""
    for name, text in files.items():
        sketch.file(name, text)
    names = {"NODE": sketch.node, "PYTHON": sketch.python}
    assert sketch.best().command == tuple(names.get(word, word) for word in command)


DJANGO = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')"
SHOP = '[project]\nname = "shop"\n[project.scripts]\nshop = "shop:main"'
POETRY = '[tool.poetry]\nname = "x"\n[tool.poetry.scripts]\nserve = "x:main"\nother = "x:y"'
UVICORN = "--host 127.0.0.1 --port 8000"


@pytest.mark.parametrize(
    ("files", "program", "command", "port"),
    [
        ({"main.py": "app = FastAPI()"}, "uvicorn", f"BIN/uvicorn main:app {UVICORN}", 8000),
        ({"src/main.py": "api = FastAPI()"}, "uvicorn", f"BIN/uvicorn main:api --app-dir src {UVICORN}", 8000),
        ({"app.py": "app = flask.Flask(1)"}, "gunicorn", "BIN/gunicorn app:app --bind 127.0.0.1:8000", 8000),
        ({"app.py": "app = Flask(1)"}, "flask", "BIN/python -m flask --app app.py run --port 5000", 5000),
        (
            {"manage.py": DJANGO, "site1/wsgi.py": ""},
            "gunicorn",
            "BIN/gunicorn site1.wsgi:application --bind 127.0.0.1:8000",
            8000,
        ),
        (
            {"manage.py": DJANGO, "site1/asgi.py": ""},
            "uvicorn",
            f"BIN/uvicorn site1.asgi:application {UVICORN}",
            8000,
        ),
        ({"manage.py": ""}, "pip", "BIN/python manage.py runserver --noreload 127.0.0.1:8000", 8000),
        ({"pyproject.toml": SHOP}, "shop", "BIN/shop", None),
        ({"pyproject.toml": POETRY}, "serve", "BIN/serve", None),
        ({"Procfile": "web: gunicorn a:b -b :$PORT"}, "gunicorn", "BIN/gunicorn a:b -b :8000", 8000),
    ],
)
def test_python_projects_use_their_own_environment(
    sketch: Sketch, files: dict[str, str], program: str, command: str, port: int | None
) -> None:
    """Servers and scripts are those of the project's virtual environment."""
    for name, text in files.items():
        sketch.file(name, text)
    place = str(Path(sketch.venv(".venv", program)).parent)
    best = sketch.best()
    assert best.command == tuple(command.replace("BIN", place).split(" "))
    assert best.port == port


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"main.py": "app = FastAPI()"}, "no server for it is installed (uvicorn, say)"),
        ({"main.py": "x = 1"}, "neither starts a server"),
        ({"main.py": "def ("}, "neither starts a server"),
        ({"pyproject.toml": SHOP}, "is not installed"),
        ({"pyproject.toml": '[project.scripts]\n"../x" = "shop:main"'}, "no name that a program can have"),
        ({"Procfile": "web: gunicorn a:b"}, "gunicorn, which is not installed"),
    ],
)
def test_python_projects_that_lack_something(sketch: Sketch, files: dict[str, str], reason: str) -> None:
    """What has to be installed first is said."""
    sketch.venv()
    for name, text in files.items():
        sketch.file(name, text)
    assert reason in sketch.refusals()


def test_a_debug_server_is_warned_of(sketch: Sketch) -> None:
    """A reloader keeps a crashed server's parent alive, and so hides the crash."""
    sketch.file("app.py", "app = Flask(__name__)\nif __name__ == '__main__':\n    app.run(debug=True)\n")
    assert "debug" in sketch.best().notes[0]


NODES = {
    "nvm": ".nvm/versions/node/v{}/bin/node",
    "volta": ".volta/tools/image/node/{}/bin/node",
    "asdf": ".asdf/installs/nodejs/{}/bin/node",
    "mise": ".local/share/mise/installs/node/{}/bin/node",
    "fnm": ".local/share/fnm/node-versions/v{}/installation/bin/node",
}


@pytest.mark.parametrize("manager", NODES)
@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        (".nvmrc", "20\n", "20.11.1"),
        (".nvmrc", "v18.19.0", "18.19.0"),
        (".nvmrc", "20.9 # pinned", "20.9.0"),
        (".nvmrc", "lts/*", "20.11.1"),
        (".nvmrc", "node", "21.1.0"),
        (".node-version", "20.9.0", "20.9.0"),
        (".tool-versions", "python 3.11\nnodejs 18.19.0\n", "18.19.0"),
        ("package.json", '{"volta": {"node": "20.9.0"}}', "20.9.0"),
    ],
)
def test_the_node_that_a_project_wants(sketch: Sketch, manager: str, file: str, text: str, version: str) -> None:
    """Whatever manager installed it, the version that the project names is found, by its absolute path."""
    for each in ("18.19.0", "20.9.0", "20.11.1", "21.1.0"):
        sketch.program(f"home/{NODES[manager]}".format(each))
    sketch.file(file, text)
    found = interpreters.node(sketch.project())
    assert found.path == str(sketch.home / NODES[manager].format(version))
    assert manager in found.origin
    assert not found.of_system


def test_aliases_of_nvm(sketch: Sketch) -> None:
    """A name is followed through nvm's aliases, also the default one when nothing else is there."""
    for each in ("18.19.0", "20.11.1"):
        sketch.program(f"home/{NODES['nvm']}".format(each))
    for name, text in {"lts/hydrogen": "v18.19.0\n", "lts/*": "lts/hydrogen\n", "default": "lts/*\n"}.items():
        path = sketch.home / ".nvm/alias" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sketch.file(".nvmrc", "lts/*")
    assert "v18.19.0" in interpreters.node(sketch.project()).path
    sketch.file(".nvmrc", "../../etc/passwd")
    assert interpreters.node(sketch.project()).path == sketch.node


def test_a_version_that_is_not_installed_is_said(sketch: Sketch) -> None:
    """Another one is taken, with a note."""
    sketch.file(".nvmrc", "99")
    found = interpreters.node(sketch.project())
    assert found.path == sketch.node
    assert "wants Node 99" in found.note


PYTHONS = {"pyenv": ".pyenv/versions/{}/bin/python", "asdf": ".asdf/installs/python/{}/bin/python"}


@pytest.mark.parametrize("manager", PYTHONS)
def test_the_python_that_a_project_wants(sketch: Sketch, manager: str) -> None:
    """A version file names it; a virtual environment of the project counts before."""
    for each in ("3.11.4", "3.12.1", "3.12.10"):
        sketch.program(f"home/{PYTHONS[manager]}".format(each))
    sketch.file(".python-version", "3.12\n")
    assert interpreters.python(sketch.project()).path == str(sketch.home / PYTHONS[manager].format("3.12.10"))
    own = sketch.venv("venv")
    assert interpreters.python(sketch.project()).path == own


def test_environments_of_poetry_and_pipenv(sketch: Sketch) -> None:
    """They lie in the user's home under the project's name and a hash of its place."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    def digest(text: str) -> str:
        return urlsafe_b64encode(sha256(text.encode()).digest())[:8].decode()

    sketch.file("Pipfile")
    pipenv = sketch.program(f"home/.local/share/virtualenvs/app-{digest(f'{sketch.directory}/Pipfile')}/bin/python")
    assert interpreters.python(sketch.project()).path == pipenv
    sketch.file("pyproject.toml", '[tool.poetry]\nname = "My Shop"\n')
    place = f"home/.cache/pypoetry/virtualenvs/my_shop-{digest(os.path.realpath(sketch.directory))}-py3.11/bin/python"
    poetry = sketch.program(place)
    assert interpreters.python(sketch.project()).path == poetry


def test_shims_and_what_cannot_be_run_are_passed_over(sketch: Sketch) -> None:
    """A shim depends on a login shell; a program without its bit is none."""
    sketch.program("home/.pyenv/shims/python3")
    (sketch.bin / "python3").chmod(0o644)
    real = sketch.program("other/python3")
    path = f"{sketch.home}/.pyenv/shims:{sketch.bin}:relative:{Path(real).parent}"
    assert interpreters.python(sketch.project(PATH=path)).path == real


def test_an_interpreter_behind_a_closed_door(tmp_path: Path) -> None:
    """What the app's user may not reach is not written for it, such as root's own nvm."""
    sketch = Sketch(tmp_path)
    project = sketch.project()
    stranger = Project(
        directory=project.directory,
        user="x",
        uid=54321,
        gids=frozenset({54321}),
        home=project.home,
        environ={"PATH": ""},
    )
    sketch.program(f"home/{NODES['nvm']}".format("20.1.0"))
    sketch.home.chmod(0o700)
    assert not stranger.may_run(sketch.home / NODES["nvm"].format("20.1.0"))
    sketch.venv()
    sketch.directory.chmod(0o700)
    with pytest.raises(Refused, match="may not run"):
        interpreters.python(stranger)


@pytest.mark.parametrize(
    ("name", "text", "port"),
    [
        ("index.js", "app.listen(process.env.PORT || 3210)", 3210),
        ("index.js", "const port = process.env.PORT ?? '3211'", 3211),
        ("index.js", "parseInt(process.env.PORT, 10) || 3212", 3212),
        ("index.js", "Number(process.env.PORT) || 3213", 3213),
        ("index.js", "process.env['PORT'] || 3214", 3214),
        ("index.js", "server.listen(3215, () => {})", 3215),
        ("index.js", "fastify.listen({ port: 3216 })", 3216),
        ("index.js", "const port = 3217", 3217),
        ("index.js", "app.listen(process.env.PORT)", 3000),
        ("index.js", "listen('/tmp/socket')", None),
        ("index.js", "process.env.PORT || 99999", None),
        ("app.py", "os.environ.get('PORT', 8123)", 8123),
        ("app.py", "int(os.getenv('PORT', '8124'))", 8124),
        ("app.py", "app.run(host='x', port=8125)", 8125),
        ("app.py", "HTTPServer(('', 8126), H)", 8126),
        ("app.py", "os.environ['PORT']", 8000),
    ],
)
def test_the_port_of_the_code(sketch: Sketch, name: str, text: str, port: int | None) -> None:
    """The code's own default for PORT, or the number that it listens on."""
    sketch.file(name, text)
    start = Start(command=("x",), entry=name, language="node" if name.endswith("js") else "python")
    found, origin = ports.find(start, sketch.project())
    if "99999" in text:
        assert (found, origin) == (3000, "index.js, which takes whatever PORT says")
    else:
        assert found == port
        assert (name in origin) == (port is not None)


def test_the_order_of_ports(sketch: Sketch) -> None:
    """Command line, file of variables, entry, other files."""
    start = Start(command=("x",), entry="index.js", language="node")
    sketch.file("lib/config.js", "exports.port = process.env.PORT || 3003")
    sketch.file("node_modules/a/index.js", "process.env.PORT || 1")
    assert ports.find(start, sketch.project()) == (3003, "the default of PORT in lib/config.js")
    sketch.file("index.js", "process.env.PORT || 3002")
    assert ports.find(start, sketch.project())[0] == 3002
    sketch.file(".env", "SECRET=x\nexport PORT='3001' # mine\n")
    assert ports.find(start, sketch.project()) == (3001, "PORT in .env")
    told = Start(command=("x",), port=3000, port_origin="the command line")
    assert ports.find(told, sketch.project()) == (3000, "the command line")


def test_names_without_values() -> None:
    """An environment file is read for its names alone."""
    assert ports.names_in("# X=1\nA=secret\nexport B = 2\n\n C=\nnothing\n") == ["A", "B", "C"]


def test_nothing_listens_here(sketch: Sketch) -> None:
    """A port that nobody listens on is asked nothing."""
    assert listening.look(1, sketch.project()).listens is False


def test_pipes_devices_and_giants_are_not_read(sketch: Sketch) -> None:
    """A project may hold anything under a known name; nothing is waited for, nothing is executed."""
    os.mkfifo(sketch.directory / "package.json")
    os.mkfifo(sketch.directory / "Procfile")
    (sketch.directory / ".env").symlink_to("/dev/zero")
    (sketch.directory / "pyproject.toml").mkdir()
    (sketch.directory / ".nvmrc").symlink_to(".nvmrc")
    sketch.file("app.py", "#" * (1 << 21))
    assert sketch.detected().starts == ()
    assert ports.find(Start(command=("x",), entry="package.json"), sketch.project()) == (None, "")


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"scripts": []}', '{"scripts": {"start": 5}}', '{"main": {}, "volta": []}', "[" * 100_000, "\0"],
)
def test_a_package_json_that_is_none(sketch: Sketch, text: str) -> None:
    """Wrong shapes are passed over."""
    sketch.file("package.json", text)
    assert sketch.detected().starts == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            ["package.json", "pyproject.toml", "Procfile", ".nvmrc", "manage.py", "app.py", ".env", "index.js"]
        ),
        st.one_of(
            st.text(max_size=80),
            st.sampled_from(
                ['{"scripts":{"start":"node index.js"}}', "web: node index.js", "[project]\nname=1", "lts/*"]
            ),
        ),
    )
)
def test_no_project_breaks_the_detector(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> None:
    """Whatever the files hold, the answer is starts and reasons."""
    sketch = Sketch(tmp_path_factory.mktemp("project"))
    for name, text in files.items():
        (sketch.directory / name).write_text(text, "utf-8", errors="replace")
    before = sketch.tree()
    found = sketch.detected()
    for start in found.starts:
        ports.find(start, sketch.project())
    assert sketch.tree() == before


def test_modules_are_parsed_not_imported(sketch: Sketch) -> None:
    """Looking at a module runs nothing of it."""
    marker = sketch.directory / "ran"
    sketch.file("app.py", f"open({str(marker)!r}, 'w')\napp = Flask(__name__)\n")
    sketch.detected()
    assert not marker.exists()
    deep: Any = python.parse("(" * 10_000)
    assert deep == python.Module()
