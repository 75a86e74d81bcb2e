# SPDX-License-Identifier: MIT
"""What a trial sees of a candidate: readiness, answers, crashes, floods, syntax; and that it ends when heal goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.places import IS_ROOT, eventually, node_path, public_python, public_tmp
from support.trials import children_of, in_loop, needs_sandbox, open_trial, still_running, trial_uid

from wolverined.config.schema import ProbeTable
from wolverined.errors import SandboxUnavailable, StreamError
from wolverined.heal.trial.client import TrialClient
from wolverined.heal.trial.plan import Plan
from wolverined.model import FileChange, Request

pytestmark = needs_sandbox

PORT = 3999  # in a network of its own: nobody else can have it
SERVER = r"""
import http.server, os, signal, sys, threading, time
time.sleep(float(os.environ.get("SLOW", "0")))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def reply(self, status, body=b'{"ok": true}'):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body); self.wfile.flush()
    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/crash":
            print("Traceback: about to die", flush=True); os._exit(3)
        elif path == "/abort": os.kill(os.getpid(), signal.SIGABRT)
        elif path == "/500": self.reply(500)
        elif path == "/404": self.reply(404)
        elif path == "/hang": time.sleep(600)
        elif path == "/drop": self.close_connection = True
        elif path == "/late":
            self.reply(200); threading.Timer(0.1, os._exit, (4,)).start()
        elif path == "/noise":
            for _ in range(2000): os.write(1, b"x" * 1000 + b"\n")
            self.reply(200)
        elif path == "/sick": self.reply(503 if time.monotonic() - born < 0.2 else 200)
        else: self.reply(200)
    def do_POST(self):
        self.reply(200, self.rfile.read(int(self.headers["Content-Length"])))
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = __import__("socket").AF_INET6 if os.environ.get("V6") else __import__("socket").AF_INET
born = time.monotonic()
server = Server(("::1" if os.environ.get("V6") else "127.0.0.1", int(os.environ["PORT"])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@pytest.fixture
def app() -> Iterator[Path]:
    """An app's directory with the server in it."""
    with public_tmp() as place:
        (place / "server.py").write_text(SERVER)
        if IS_ROOT:
            os.chown(place, trial_uid(), trial_uid())
        yield place


def plan(app: Path, **given: Any) -> Plan:
    """How to run the server."""
    environment = {"PATH": "/usr/bin:/bin", "PORT": str(PORT), **given.pop("environment", {})}
    base = {"directory": str(app), "command": (public_python(), "server.py"), "port": PORT}
    return Plan(**{**base, "environment": environment, "probe": ProbeTable(http="/health"), **given})


def get(path: str) -> Request:
    """A GET."""
    return Request(method="GET", path=path)


@pytest.mark.parametrize(
    "given",
    [
        {"probe": ProbeTable(http="/health")},
        {"probe": ProbeTable(tcp=True)},
        {"probe": ProbeTable()},
        {"probe": ProbeTable(http="/sick")},
        {"probe": ProbeTable(), "environment": {"V6": "1"}},
        {"probe": ProbeTable(http="/"), "environment": {"V6": "1", "SLOW": "0.2"}},
        {"probe": ProbeTable(exec=("sh", "-c", "pgrep -f server.py >/dev/null || test -d /proc/2"))},
    ],
    ids=["http", "tcp", "default", "503 at first", "IPv6 only", "slow", "exec"],
)
@in_loop
async def test_ready_by_the_apps_own_probe(app: Path, given: dict[str, Any]) -> None:
    """HTTP 2xx or 3xx, a TCP connection, a command: as under supervision, and at once."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, **given), [])
        boot = await client.boot()
        assert boot.ready, boot
        assert boot.exit is None
        assert boot.ready_ms < 5000


NOTIFY = r"""
import os, socket, time
time.sleep(0.1)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.connect(os.environ["NOTIFY_SOCKET"])
    sock.send(b"STATUS=warming up")
    sock.send(b"READY=1\nSTATUS=up")
    print("told", flush=True)
    for _ in range(2000): sock.send(b"WATCHDOG=1")
    print("not blocked", flush=True)
    time.sleep(600)
"""


@in_loop
async def test_ready_by_a_notify_socket_of_the_sandbox(app: Path) -> None:
    """READY=1 to a socket inside; what it sends afterwards is read and dropped; the weaker wall is said."""
    (app / "server.py").write_text(NOTIFY)
    async with open_trial() as channel:
        client = TrialClient(channel)
        probe = ProbeTable(notify=True)
        what = plan(app, port=None, probe=probe, environment={"NOTIFY_SOCKET": "/host"})
        prepared = await client.prepare(what, [])
        assert "datagrams" in prepared.weaknesses[0]
        boot = await client.boot()
        assert boot.ready, boot
        alive = await client.alive(settle_s=0.3)
        assert alive.alive
        assert alive.tail == ("told", "not blocked")


@pytest.mark.parametrize(
    ("source", "code", "signal", "words"),
    [
        ("raise TypeError('no')", 1, None, "TypeError: no"),
        ("def f(:", 1, None, "SyntaxError"),
        ("import os; os._exit(0)", 0, None, ""),
        ("import os; os.abort()", None, 6, ""),
        ("import time; time.sleep(0.2); raise SystemExit(9)", 9, None, ""),
    ],
)
@in_loop
async def test_a_crash_at_boot_is_seen_at_once(
    app: Path, source: str, code: int | None, signal: int | None, words: str
) -> None:
    """It ends the wait for readiness, with the code or the signal and the last words."""
    (app / "server.py").write_text(source)
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app), [])
        boot = await client.boot()
        assert not boot.ready
        assert boot.exit is not None
        assert (boot.exit.code, boot.exit.signal) == (code, signal)
        assert words in "\n".join(boot.tail)
        assert boot.ready_ms < 5000


@in_loop
async def test_not_ready_in_time_is_no_exit(app: Path) -> None:
    """A probe that never succeeds ends at the deadline, and says what it saw."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, probe=ProbeTable(http="/404"), startup_s=0.6), [])
        boot = await client.boot()
        assert not boot.ready
        assert boot.exit is None
        assert "404" in boot.detail


@pytest.mark.parametrize(
    ("path", "status", "crashed", "code"),
    [
        ("/", 200, False, None),
        ("/500", 500, False, None),
        ("/404", 404, False, None),
        ("/crash", None, True, 3),
        ("/abort", None, True, None),
        ("/drop", None, False, None),
        ("/late", 200, True, 4),
        ("/noise", 200, False, None),
    ],
)
@in_loop
async def test_what_comes_of_a_request(
    app: Path, path: str, status: int | None, crashed: bool, code: int | None
) -> None:
    """Status or none, crash or not, with the exit and what was printed meanwhile."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app), [])
        assert (await client.boot()).ready
        seen = await client.replay(get(path), timeout_s=5.0, settle_s=0.5)
        assert (seen.status, seen.crashed, seen.timed_out) == (status, crashed, False)
        assert seen.exit is None or (seen.exit.code == code)
        assert (await client.alive(settle_s=0.0)).alive is not crashed
        assert "listening" not in seen.tail
        if path == "/crash":
            assert seen.tail == ("Traceback: about to die",)
        if status == 200:
            assert (seen.content_type, seen.body_shape) == ("application/json", "{ok:bool}")
        if crashed:
            again = await client.replay(get("/"))
            assert again.status is None
            assert (await client.boot()).ready, "it can be started again"
            assert (await client.replay(get("/"))).status == 200


@in_loop
async def test_a_hang_ends_with_its_time(app: Path) -> None:
    """No answer in time is said so; the app still runs and answers others."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app), [])
        await client.boot()
        seen = await client.replay(get("/hang"), timeout_s=0.3)
        assert seen.timed_out
        assert seen.status is None
        assert not seen.crashed
        assert (await client.replay(get("/"))).status == 200
        echo = await client.replay(Request(method="POST", path="/echo", body='{"a": [1]}'))
        assert echo.body_shape == "{a:[number]}"


@in_loop
async def test_a_candidate_that_prints_without_end_holds_nothing_up(app: Path) -> None:
    """The tail is bounded, the calls still answer in time."""
    (app / "server.py").write_text("import os\nwhile True: os.write(1, b'y' * 65536)")
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, port=None, probe=ProbeTable()), [])
        boot = await client.boot()
        assert boot.ready
        assert sum(map(len, boot.tail)) < 200_000
        assert (await client.alive(settle_s=0.05)).alive


@in_loop
async def test_syntax_is_asked_of_the_apps_own_interpreters(app: Path) -> None:
    """Without running the file, writing bytecode, or judging what nobody can."""
    node = node_path()
    if node is None:
        pytest.skip("no Node interpreter")
    texts = {
        "good.py": "import nowhere\nopen('/tmp/ran', 'w')",
        "bad.py": "def f(:",
        "deep.py": "x = " + "(" * 5000,
        "good.js": "import('./x'); process.exit(1)",
        "bad.js": "function f( {",
        "esm.mjs": "export const a = await 1",
        "good.json": "{}",
        "bad.json": "{,}",
        "other.rb": "(",
    }
    changes = [FileChange(path=path, before=None, after=text.encode()) for path, text in texts.items()]
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, environment={"PATH": f"{node.parent}:/usr/bin:/bin"}), changes)
        told = await client.check([*texts, "absent.py"])
        wanted = {name: name.startswith(("good", "esm")) for name in texts} | {"other.rb": None, "absent.py": None}
        assert {path: seen.ok for path, seen in told.items()} == wanted
        assert "SyntaxError" in told["bad.js"].message
        assert "SyntaxError" in told["bad.py"].message
        listed = await client.test(["ls", "-A", ".", "/tmp"])
        assert "__pycache__" not in listed.tail
        assert "ran" not in listed.tail


@in_loop
async def test_commands_run_to_their_end_or_their_time(app: Path) -> None:
    """Exit codes, last words, a missing program, and one that must be ended."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app), [])
        assert (await client.test(["true"])).code == 0
        failed = await client.test(["sh", "-c", "echo no; echo why >&2; exit 7"])
        assert (failed.code, failed.tail) == (7, ("no", "why"))
        slow = await client.test(["sh", "-c", "sleep 600 & sleep 600"], timeout_s=0.2)
        assert slow.timed_out
        assert slow.code is None
        missing = await client.test(["no-such-program"])
        assert missing.code is None
        assert "no-such-program" in missing.tail[0]
        assert not (await client.boot()).exit


@in_loop
async def test_setup_commands_prepare_the_sandbox(app: Path) -> None:
    """They run in it before the candidate; one that fails makes the trial unprovable."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, setup=(("sh", "-c", "echo made > scratch.db"),)), [])
        assert (await client.test(["cat", "scratch.db"])).tail == ("made",)
    assert not (app / "scratch.db").exists()
    async with open_trial() as channel:
        with pytest.raises(SandboxUnavailable, match="no database"):
            await TrialClient(channel).prepare(plan(app, setup=(("sh", "-c", "echo no database; exit 1"),)), [])


@in_loop
async def test_a_missing_program_is_told_as_such(app: Path) -> None:
    """The command cannot be run: not ready, with the reason."""
    async with open_trial() as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, command=("./absent",)), [])
        boot = await client.boot()
        assert not boot.ready
        assert "./absent" in boot.detail


@pytest.mark.parametrize("during", ["idle", "boot", "replay", "setup"])
@in_loop
async def test_all_ends_when_heal_goes(app: Path, during: str) -> None:
    """In the middle of a call as well: the role sees the hang-up and the kernel ends everything below."""
    started: list[subprocess.Popen[bytes]] = []
    pids: list[int] = []
    async with open_trial(started) as channel:
        under_way = asyncio.ensure_future(_be(during, TrialClient(channel), app))
        while len(pids) < 3:
            await asyncio.sleep(0.005)
            pids = children_of(started[0].pid)
        if during == "idle":
            await under_way
        await channel.close()
        with contextlib.nullcontext() if during == "idle" else pytest.raises(StreamError):
            await under_way
    assert started[0].returncode is not None
    eventually(lambda: not still_running(pids))


async def _be(during: str, client: TrialClient, app: Path) -> None:
    """Bring a trial to where it is busy for long."""
    setup = (("sleep", "600"),) if during == "setup" else ()
    await client.prepare(plan(app, probe=ProbeTable(http="/404" if during == "boot" else "/health"), setup=setup), [])
    await client.boot()
    if during == "replay":
        await client.replay(get("/hang"), timeout_s=600.0)


@in_loop
async def test_a_role_started_by_hand_says_what_is_wrong(app: Path) -> None:
    """Without a stream there is nothing to do, and it is said in one line."""
    for argument in ([], ["99"], ["nonsense"]):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "wolverined.heal.trial", *argument, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode == 2
        assert said.startswith(b"error: ")
        assert said.count(b"\n") == 1


@in_loop
async def test_a_host_port_of_the_same_number_is_another_one(app: Path) -> None:
    """The live app keeps its port while the candidate listens on the same number in its own network."""
    with socket.create_server(("127.0.0.1", 0)) as live:
        port = live.getsockname()[1]
        async with open_trial() as channel:
            client = TrialClient(channel)
            await client.prepare(plan(app, port=port, environment={"PORT": str(port)}), [])
            assert (await client.boot()).ready
        live.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            live.accept()
