# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from support.places import IS_ROOT, public_tmp, unused_user

from wolverined.config import check, init
from wolverined.config.load import load
from wolverined.config.projects import listening
from wolverined.config.projects.project import Project
from wolverined.config.schema import Policy


class Ran(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


class Place(NamedTuple):
    """A project of the app's user, and where its configuration goes."""

    directory: Path
    output: Path

    def give(self) -> None:
        """Let the app's user own all of it."""
        if IS_ROOT:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, unused_user().pw_uid, unused_user().pw_gid)


@pytest.fixture
def place() -> Iterator[Place]:
    """A Python server that everybody may read."""
    with public_tmp() as tmp:
        found = Place(tmp / "shop", tmp / "shop.toml")
        found.directory.mkdir()
        (found.directory / "app.py").write_text("import os\nif __name__ == '__main__':\n    PORT = 8123\n")
        found.give()
        yield found


def ctl(*words: str, cwd: Path | None = None, **environment: str) -> Ran:
    """Run wolverinectl."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("WOLVERINE", "OPENAI"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wolverined.cli", *words],
        env={**clean, **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def init_of(place: Place, *words: str, **environment: str) -> Ran:
    """Run `wolverinectl init shop` for the project."""
    return ctl(
        "init", "shop", "--directory", str(place.directory), "--output", str(place.output), *words, **environment
    )


def test_the_file_can_be_used_as_it_is(place: Place) -> None:
    """It is written for everyone to read, passes the check, and begins with approval and the reason for it."""
    ran = init_of(place)
    assert (ran.code, ran.err) == (0, "")
    assert f"wolverined run --config {place.output}" in ran.out
    assert stat.S_IMODE(place.output.stat().st_mode) == 0o644
    config = load(place.output).config
    assert config.app.command[1:] == ("app.py",)
    assert (config.app.port, config.heal.policy) == (8123, Policy.APPROVE)
    assert config.app.user == (unused_user().pw_name if IS_ROOT else config.app.user)
    text = place.output.read_text()
    assert "all the power of your application" in text.replace("\n# ", " ")
    assert ctl("config", "check", str(place.output)).code == 0
    assert sorted(path.name for path in place.output.parent.iterdir()) == ["shop", "shop.toml"]


def test_the_current_directory_is_the_default(place: Place) -> None:
    """Run inside a project it needs nothing but a name."""
    ran = ctl("init", "shop", "--output", "../shop.toml", cwd=place.directory)
    assert ran.code == 0
    assert load(place.output).config.app.directory == place.directory


def test_a_file_that_is_there_is_kept(place: Place) -> None:
    """Without --force nothing is replaced, not even a broken link; with it the file is replaced whole."""
    place.output.write_text("mine")
    ran = init_of(place)
    assert (ran.code, place.output.read_text()) == (1, "mine")
    assert "--force" in ran.err
    place.output.unlink()
    place.output.symlink_to("/nonexistent/x")
    assert init_of(place).code == 1
    assert init_of(place, "--force").code == 0
    assert not place.output.is_symlink()
    assert load(place.output)


def test_print_writes_nothing(place: Place) -> None:
    """--print shows what would be written, also when it cannot be written."""
    before = sorted(str(path) for path in place.output.parent.rglob("*"))
    ran = init_of(place, "--print")
    assert ran.code == 0
    assert sorted(str(path) for path in place.output.parent.rglob("*")) == before
    place.output.write_text(ran.out)
    assert load(place.output).config.app.port == 8123
    assert init_of(place, "--print").out == ran.out


def test_programs_get_json(place: Place) -> None:
    """With --json one object says what was found and whether it was written."""
    answer = json.loads(init_of(place, "--json").out)
    assert answer["written"] is True
    assert (answer["port"], answer["directory"]) == (8123, str(place.directory))
    printed = json.loads(init_of(place, "--json", "--print").out)
    assert printed["text"] == place.output.read_text()


def test_nothing_recognised_is_said_with_what_was_looked_for(place: Place) -> None:
    """An error names what was looked for; --print then gives a template that says what to fill in."""
    (place.directory / "app.py").unlink()
    ran = init_of(place)
    assert ran.code == 1
    for word in (
        "Procfile",
        "package.json",
        "pyproject.toml",
        "manage.py",
        "server/index.js",
        "--print",
        "--from-unit",
    ):
        assert word in ran.err
    assert not place.output.exists()
    printed = init_of(place, "--print")
    assert (printed.code, "template" in printed.out, "Procfile" in printed.err) == (0, True, True)


@pytest.mark.parametrize("name", ["default", "../x", "a/b", "", ".x", "x" * 65, "a b", "a\nb"])
def test_names_that_are_no_names(place: Place, name: str) -> None:
    """The name becomes part of paths, so it is checked before anything else."""
    ran = ctl("init", name, "--directory", str(place.directory), "--print")
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.skipif(not IS_ROOT, reason="only root owns what belongs to root")
def test_a_project_of_root_is_refused(place: Place) -> None:
    """An application does not run as root because of who unpacked it; the hint says how to mend that."""
    os.chown(place.directory, 0, 0)
    ran = init_of(place)
    assert ran.code != 0
    assert "adduser --system --group shop; chown -R shop:" in ran.err
    assert not place.output.exists()


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_place_that_cannot_be_written(place: Place) -> None:
    """A plain user is told to write to a file of their own."""
    ran = ctl("init", "shop", "--directory", str(place.directory), "--output", "/etc/wolverine-test/shop.toml")
    assert ran.code == 6
    assert "--output NAME.toml" in ran.err


def test_a_directory_that_is_none(place: Place) -> None:
    """A wrong --directory is a mistake of the command line."""
    for directory in (place.directory / "missing", place.directory / "app.py"):
        assert ctl("init", "shop", "--directory", str(directory), "--print").code == 2


def test_hostile_texts_of_a_project_stay_comments_and_strings(place: Place) -> None:
    """A script or a file name cannot add a key to the file, nor move a terminal's cursor."""
    evil = 'node index.js "\n[heal]\npolicy = \\"auto\\"\n\x1b[2J\x7f"'
    package = {"scripts": {"start": evil, "serve": "node 'x\ny' | \x1b]0;title\x07"}}
    (place.directory / "package.json").write_text(json.dumps(package))
    (place.directory / "index.js").write_text("")
    place.give()
    ran = init_of(place)
    assert ran.code == 0
    assert "\x1b" not in ran.out + place.output.read_text()
    config = load(place.output).config
    assert config.heal.policy is Policy.APPROVE
    assert config.app.command[2].startswith("\n[heal]")


def test_secrets_are_never_copied(place: Place) -> None:
    """Values of .env, of secret variables and of the start line's environment are in no file and no message."""
    (place.directory / ".env").write_text("DB_PASSWORD=hunter2-hunter2\nSTRIPE_KEY='sk_live_abcdef123456'\nPORT=8200\n")
    start = "API_TOKEN=tok-abcdef123456 NODE_ENV=production node index.js && echo"
    package = {"scripts": {"start": start.removesuffix(" && echo"), "prestart": "PASSWORD=hunter3-hunter3 make"}}
    (place.directory / "package.json").write_text(json.dumps(package))
    (place.directory / "index.js").write_text("")
    place.give()
    ran = init_of(place)
    text = ran.out + ran.err + place.output.read_text()
    for secret in ("hunter2", "sk_live", "tok-abc", "hunter3"):
        assert secret not in text
    assert "DB_PASSWORD" in text
    assert "API_TOKEN" in text
    config = load(place.output).config
    assert config.app.environment["NODE_ENV"] == "production"
    assert "API_TOKEN" not in config.app.environment
    assert config.app.port == 8200


def test_a_unit_is_taken_over(place: Place) -> None:
    """--from-unit takes command, user, directory and environment of a service."""
    unit = place.output.parent / "old.service"
    user = f"User={unused_user().pw_name}\n" if IS_ROOT else ""
    unit.write_text(
        f"[Service]\n{user}WorkingDirectory={place.directory}\n"
        "Environment=NODE_ENV=production DB_PASSWORD=hunter2-hunter2\n"
        "ExecStart=/usr/bin/python3 app.py\nMemoryMax=1G\nTimeoutStopSec=20\n"
    )
    ran = ctl("init", "shop", "--from-unit", str(unit), "--output", str(place.output))
    assert (ran.code, ran.err) == (0, "")
    config = load(place.output).config
    assert config.app.command == ("/usr/bin/python3", "app.py")
    assert (config.app.directory, config.stop.timeout_s) == (place.directory, 20)
    assert config.app.environment == {"NODE_ENV": "production"}
    assert "MemoryMax" in ran.out
    assert "hunter2" not in ran.out + place.output.read_text()


def test_two_at_once_make_one_file(place: Place) -> None:
    """Of many that write the same file, one wins and the others leave it alone."""
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(init_of(place).code)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 1, 1, 1]
    assert load(place.output)
    assert sorted(path.name for path in place.output.parent.iterdir()) == ["shop", "shop.toml"]


def test_keys_are_imported_as_root_only(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """--import-env writes settings into the file and keys into 0600 files of root's; a plain user is told."""
    etc = place.output.parent / "etc"
    monkeypatch.setattr(check, "DIRECTORY", etc)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdef-123456")
    monkeypatch.setenv("WOLVERINE_PLATFORM_KEY", "wlvk_abcdef")
    monkeypatch.setenv("WOLVERINE_ERROR_WINDOW_MS", "45000")
    args = init_args(place, import_env=True)
    assert init.main(args) == 0
    out = capsys.readouterr().out
    assert load(place.output).config.errors.window_s == 45
    keys = [etc / "ai/shop.toml", etc / "credentials/platform-key"]
    if IS_ROOT:
        assert [stat.S_IMODE(path.stat().st_mode) for path in keys] == [0o600, 0o600]
    else:
        assert not etc.exists()
        assert "OPENAI_API_KEY is not written down" in out
    assert "abcdef" not in out + place.output.read_text()


def init_args(place: Place, **more: Any) -> Any:
    """The parsed command line of `init shop`."""
    import argparse

    given = {"import_env": False, "from_unit": "", "force": False, "print": False, "json": False, **more}
    return argparse.Namespace(name="shop", directory=str(place.directory), output=str(place.output), **given)


class Answers(BaseHTTPRequestHandler):
    """A server with one path that is well."""

    good: ClassVar[str] = "/ready"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """200 for the good path, 302 for the front page, 404 for all else."""
        self.asked.append(self.path)
        self.send_response({self.good: 204, "/": 302}.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Be quiet."""


@contextmanager
def serving(good: str) -> Iterator[int]:
    """A server in this very process, on a port of its own."""
    handler = type("Handler", (Answers,), {"good": good, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ours(directory: Path) -> Project:
    """The project of a server that runs in this process."""
    return Project(directory=directory, user="x", uid=os.geteuid(), gids=frozenset(), home=directory)


@pytest.mark.parametrize(
    ("good", "path", "status"), [("/ready", "/ready", 204), ("/none", "", 0), ("/health", "/health", 204)]
)
def test_a_probe_is_written_after_a_2xx_only(good: str, path: str, status: int) -> None:
    """A path that answered 2xx is found; redirects and errors are none."""
    with serving(good) as port:
        seen = listening.look(port, ours(Path.cwd()))
    assert (seen.listens, seen.path, seen.status) == (True, path, status)
    assert bool(seen.why) == (not path)


def test_another_application_on_the_port_is_not_asked(tmp_path: Path) -> None:
    """A server of another user, or of another directory, is not this application: it gets no request."""
    with serving("/health") as port:
        stranger = Project(directory=Path.cwd(), user="x", uid=54321, gids=frozenset(), home=tmp_path)
        for project in (ours(tmp_path), stranger):
            seen = listening.look(port, project)
            assert (seen.listens, seen.path) == (False, "")
            assert "not this application" in seen.why


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    """Silence, nonsense and a flood end within the time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert listening.look(port, ours(Path.cwd()), timeout_s=0.05).path == ""


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 2000 OK\r\n", b"SSH-2.0-x\r\n", b"x" * 100_000, b"HTTP/1.1 \xff\r\n", b""]
)
def test_answers_that_are_no_http(answer: bytes) -> None:
    """Whatever listens there may say anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in listening.PATHS:
                connection, _address = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        seen = listening.look(server.getsockname()[1], ours(Path.cwd()), timeout_s=2.0)
        thread.join()
    assert seen.path == ""


def test_a_running_application_gets_its_probe(place: Place) -> None:
    """While the application runs, init finds the path that is well and writes it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = place.directory / "app.py"
    server.write_text(SERVER.replace("8123", str(port)))
    place.give()
    user = {"user": unused_user().pw_uid, "group": unused_user().pw_gid, "extra_groups": []} if IS_ROOT else {}
    command = ["/usr/bin/python3", "-u", "app.py"]
    with subprocess.Popen(command, cwd=place.directory, stdout=subprocess.PIPE, **user) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            assert init_of(place).code == 0
        finally:
            child.kill()
    config = load(place.output).config
    assert (config.app.port, config.probe.http) == (port, "/healthz")
    assert "answered 200 when this file was written" in place.output.read_text()
    assert init_of(place, "--force").code == 0
    assert load(place.output).config.probe.http == ""


SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
import os

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 500)
        self.end_headers()

    def log_message(self, *args):
        pass

if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8123))), Handler)
    print("up", flush=True)
    server.serve_forever()
"""
