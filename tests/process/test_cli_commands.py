# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.control_server import STRANGER_UID, VIEW_GID, Served, serving, system_access
from support.fake_instance import DIFF, SHA256

from wolverined.errors import SpawnError

PROGRAM = [sys.executable, "-I", "-m", "wolverined.cli"]
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")


class Ran(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """What the program sees of ours: little."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more}


def run(*words: str, given: str = "", **more: str) -> Ran:
    """Run wolverinectl."""
    done = subprocess.run(
        [*PROGRAM, *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server with a fake instance called shop."""
    with serving() as served:
        yield served


def ctl(served: Served, *words: str, given: str = "", **more: str) -> Ran:
    """Run wolverinectl for the server's directory."""
    return run(*words, given=given, WOLVERINE_RUNTIME_DIR=str(served.directory), **more)


# --- each command, for a person and for a program


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status"], ["shop", "● ready", "pid 4242", "3 min 12 s", "48 MiB", "1 open", "no cgroup", "SIGKILL"]),
        (["status", "shop"], ["● ready"]),
        (["list"], ["APP", "shop", "ready"]),
        (["is-active"], ["ready"]),
        (["is-healthy"], ["ready"]),
        (["incidents"], ["ID", "i1", "open", "NameError: name 'nmae' is not defined", "i2", "closed"]),
        (["incidents", "shop", "show", "i1"], ["crash", "GET /cart", "> app.py:1", "last output", "Traceback (most"]),
        (["repairs"], ["r1", "approval", "proven", "remedy", "app.py"]),
        (["repairs", "show", "r1"], ["nmae is a misspelt name", SHA256, "✓ R3", "bad → ok"]),
        (["repairs", "show", "r1", "--patch"], ["From 0000", "+print(name)"]),
        (["diff", "r1"], [DIFF]),
        (["backups"], ["b1", "verified", "r1", "2.0 KiB"]),
        (["usage"], ["calls", "12,345", "$0.01", "by model", "m1"]),
        (["start"], ["shop  ● ready"]),
        (["stop"], ["shop  ○ stopped"]),
        (["restart"], ["shop"]),
        (["reload"], ["probe.interval_s", "3.0", "→", "5.0", "warning: a note"]),
        (["hold", "--for", "10m"], ["no heal begins for 10 min"]),
        (["hold", "--for", "0"], ["the hold is lifted"]),
        (["heal"], ["proposal by remedy", "✓ R3", "r1  proven  r1 applied and verified"]),
        (["heal", "shop", "i1", "--dry-run"], ["r1"]),
        (["approve", "r1"], ["shop"]),
        (["approve", "shop", "r1", "--sha256", SHA256.upper()], ["shop"]),
        (["reject", "r1"], ["shop"]),
        (["rollback", "shop", "r1"], ["shop"]),
        (["backups", "restore", "b1"], ["shop"]),
        (["start", "--no-wait"], ["c1"]),
    ],
)
def test_what_a_person_sees(served: Served, words: list[str], says: list[str]) -> None:
    """Each command says what it is about, in words, and ends with 0."""
    ran = ctl(served, *words)
    assert (ran.code, ran.err) == (0, "")
    for text in says:
        assert text in ran.out
    assert "\033" not in ran.out


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["status"], {"app", "state", "generation", "pid", "uptime_s", "restarts", "healing", "incidents_open"}),
        (["is-active"], {"app", "state", "active"}),
        (["is-healthy"], {"app", "state", "healthy"}),
        (["incidents", "show", "i1"], {"id", "trace", "exit", "request"}),
        (["repairs", "show", "r1"], {"id", "diff", "verdict", "sha256"}),
        (["repairs", "show", "r1", "--patch"], {"id", "patch"}),
        (["diff", "r1"], {"id", "sha256", "files", "diff"}),
        (["usage"], {"calls", "tokens"}),
        (["start"], {"id", "state", "result"}),
        (["stop", "--no-wait"], {"id", "state", "action"}),
        (["reload"], {"id", "result"}),
        (["approve", "r1"], {"id", "result"}),
        (["backups", "restore", "b1"], {"id", "result"}),
    ],
)
def test_what_a_program_sees(served: Served, words: list[str], keys: set[str]) -> None:
    """With --json each command prints one object on one line, before or after the command."""
    for line in (["--json", *words], [*words, "--json"]):
        ran = ctl(served, *line)
        assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 1)
        assert keys <= json.loads(ran.out).keys()


@pytest.mark.parametrize(("word", "first"), [("incidents", "i1"), ("repairs", "r1"), ("backups", "b1")])
def test_lists_are_arrays(served: Served, word: str, first: str) -> None:
    """A list is an array, the newest first."""
    assert json.loads(ctl(served, word, "--json").out)[0]["id"] == first


def test_lists_can_be_narrowed(served: Served) -> None:
    """--open and -n ask for less."""
    assert [one["id"] for one in json.loads(ctl(served, "incidents", "--open", "--json").out)] == ["i1"]
    assert len(json.loads(ctl(served, "incidents", "-n", "1", "--json").out)) == 1


def test_heal_tells_its_steps_as_json_lines(served: Served) -> None:
    """A heal for programs is its events and then its change, and nothing of other heals."""
    ran = ctl(served, "heal", "--json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line.get("name", line.get("action")) for line in lines] == ["heal.step", "heal.step", "heal"]
    assert lines[1]["fields"]["rung"] == "R3"
    assert lines[-1]["result"]["verdict"] == "proven"


def test_heal_shows_steps_while_it_runs(served: Served) -> None:
    """Steps appear as they come, not at the end."""
    served.do(served.instance.gate.clear)
    with started("heal", WOLVERINE_RUNTIME_DIR=str(served.directory)) as child:
        assert "proposal" in next_line(child)
        assert "R3" in next_line(child)
        served.do(lambda: served.instance.event("heal.step", "late step"))
        assert "late step" in next_line(child)
        served.do(served.instance.gate.set)
        assert "proven" in next_line(child)
        assert child.wait(timeout=20) == 0


def test_heal_takes_the_operators_words(served: Served) -> None:
    """A report comes as an argument or from standard input; an empty one is a mistake."""
    assert ctl(served, "heal", "--report", "-", given="the cart is empty\n").code == 0
    assert ctl(served, "heal", "--report", "the cart is empty", "i1").code == 0
    assert [args["report"] for _, args in served.do(lambda: list(served.instance.submitted))] == [
        "the cart is empty\n",
        "the cart is empty",
    ]
    assert ctl(served, "heal", "--report", "-", given=" \n").code == 2
    assert ctl(served, "heal", "--report", "-", given="x" * 65537).code == 2


@pytest.mark.parametrize(("verdict", "code"), [("proven", 0), ("refuted", 1), ("unprovable", 1)])
def test_heal_ends_as_its_verdict(served: Served, verdict: str, code: int) -> None:
    """A heal that proved nothing ends with 1."""
    served.do(lambda: setattr(served.instance, "heal_result", {"verdict": verdict, "said": "so"}))
    assert ctl(served, "heal").code == code


@pytest.mark.parametrize(
    ("state", "pid", "active", "healthy"),
    [
        ("ready", 1, 0, 0),
        ("degraded", 1, 0, 3),
        ("healing", 1, 0, 3),
        ("healing", None, 3, 3),
        ("starting", 1, 3, 3),
        ("crash-loop", None, 3, 3),
        ("stopped", None, 3, 3),
    ],
)
def test_predicates(served: Served, state: str, pid: int | None, active: int, healthy: int) -> None:
    """The state decides the exit codes of is-active and is-healthy, and never that of status."""
    served.do(lambda: [setattr(served.instance, "state", state), setattr(served.instance, "pid", pid)])
    assert ctl(served, "is-active").code == active
    assert ctl(served, "is-healthy").code == healthy
    assert ctl(served, "status").code == 0


# --- logs and events


def test_logs_and_events(served: Served) -> None:
    """The last lines in order, stderr marked, control characters gone; --json one object a line."""
    served.do(lambda: [served.instance.line(f"line {number}") for number in range(60)])
    served.do(lambda: served.instance.line("\033[31mred\033[0m \a\033]0;t\007end", stream="stderr"))
    lines = ctl(served, "logs").out.splitlines()
    assert len(lines) == 50
    assert lines[0].endswith("  line 11")
    assert lines[-1].endswith("! red end")
    raw = [json.loads(line) for line in ctl(served, "logs", "-n", "2", "--json").out.splitlines()]
    assert [record["cursor"] for record in raw] == [60, 61]
    assert raw[1]["text"].startswith("\033[31mred")
    assert ctl(served, "logs", "--after", "59", "-n", "1").out.endswith("line 59\n")
    served.do(lambda: served.instance.event("app.exit", "SIGKILL", severity="error"))
    assert "app.exit" in ctl(served, "events", "shop").out
    assert "\033[31mapp.exit" in ctl(served, "events", "--color", "always").out


def test_follow_until_interrupted(served: Served) -> None:
    """-f brings what is there and what comes, with no delay, and Ctrl-C ends it with 130 and not a word."""
    served.do(lambda: served.instance.line("first"))
    with started("logs", "-f", "--json", WOLVERINE_RUNTIME_DIR=str(served.directory)) as child:
        assert json.loads(next_line(child))["type"] == "start"
        assert json.loads(next_line(child))["text"] == "first"
        served.do(lambda: served.instance.line("second"))
        assert json.loads(next_line(child))["text"] == "second"
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 130
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_follow_into_a_pipe_that_closes(served: Served) -> None:
    """`wolverinectl logs -f | head -1` ends quietly."""
    served.do(lambda: served.instance.line("first"))
    with started("logs", "-f", WOLVERINE_RUNTIME_DIR=str(served.directory)) as child:
        assert next_line(child).endswith("first\n")
        assert child.stdout is not None
        child.stdout.close()
        served.do(lambda: served.instance.line("second"))
        assert child.wait(timeout=20) == 141
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_output_into_a_pipe_that_is_closed(served: Served) -> None:
    """Output that nobody reads ends quietly too when it is written at the end."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as sink:
        command = [*PROGRAM, "status", "--runtime-dir", str(served.directory)]
        done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, env=environment(), timeout=60, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_follow_ends_with_the_daemon() -> None:
    """When the daemon ends, a follower says so and ends with 5."""
    with serving() as served:
        child = started("events", "-f", "--json", WOLVERINE_RUNTIME_DIR=str(served.directory))
        next_line(child)
    with child:
        assert child.wait(timeout=20) == 5
        assert child.stderr is not None
        assert child.stderr.read().startswith("error: ")


# --- what goes wrong


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "which command"),
        (["stauts"], 2, "did you mean status?"),
        (["xyzzy"], 2, "--help"),
        (["--frob", "status"], 2, "no option --frob"),
        (["status", "--frob"], 2, "unrecognized arguments"),
        (["status", "a", "b"], 2, "cannot make sense of 'b'"),
        (["status", "other"], 4, "serves shop, not other"),
        (["approve"], 2, "name is missing"),
        (["approve", "shop", "7"], 2, "'7' is no id of a repair"),
        (["approve", "shop", "r1", "--sha256", "00"], 2, "64 hexadecimal digits"),
        (["approve", "shop", "r1", "--sha256", "0" * 64], 1, "not the diff"),
        (["approve", "r7"], 1, "no repair r7"),
        (["rollback", "r7"], 1, "no such thing"),
        (["incidents", "show", "i9"], 1, "no incident i9"),
        (["repairs", "--patch"], 2, "--patch is of one repair"),
        (["hold"], 2, "--for"),
        (["hold", "--for", "soon"], 2, "no duration"),
        (["hold", "--for", "8d"], 2, "does not fit"),
        (["logs", "-n", "many"], 2, "no number"),
        (["logs", "--after", "x"], 2, "no cursor"),
        (["status", "--color", "sometimes"], 2, "invalid choice"),
        (["config"], 2, "config knows one word"),
        (["config", "frob", "x"], 2, "config knows one word"),
        (["init"], 2, "NAME"),
        (["--runtime-dir"], 2, ""),
    ],
)
def test_mistakes(served: Served, words: list[str], code: int, says: str) -> None:
    """Each mistake has its exit code and one line on stderr with what and how; nothing is done."""
    ran = ctl(served, *words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert "submitted" not in ran.err
    if code == 2:
        assert served.do(lambda: served.instance.submitted) == []


def test_an_operation_that_fails(served: Served) -> None:
    """The error of an operation is the command's error."""
    served.do(lambda: setattr(served.instance, "state", "failed"))
    assert ctl(served, "start") == (1, "", "error: the application cannot be started; hint: see its logs\n")


@pytest.mark.parametrize("word", ["stop", "heal"])
def test_an_operation_that_takes_too_long(served: Served, word: str) -> None:
    """A wait that ends too early is 7; the operation goes on."""
    served.do(served.instance.gate.clear)
    ran = ctl(served, word, "--timeout", "0.2s")
    assert ran.code == 7
    assert "still under way as c1" in ran.err
    assert served.do(lambda: served.instance.change("c1")).state == "doing"


def test_no_such_instance_and_unreachable(tmp_path: Path) -> None:
    """A name that is nowhere is 4, a directory without a daemon 5, for every command that needs one."""
    (tmp_path / "wolverine" / "shop").mkdir(parents=True)
    for word in (["status"], ["stop"], ["heal"], ["logs"]):
        assert run(*word, "nowhere-at-all", XDG_RUNTIME_DIR=str(tmp_path)).code == 4
        assert run(*word, "shop", XDG_RUNTIME_DIR=str(tmp_path)).code == 5
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "wolverine" / "shop" / "control.sock"))
    ran = run("status", "shop", XDG_RUNTIME_DIR=str(tmp_path))
    assert ran.code == 5
    assert "nobody listens" in ran.err
    assert "shpo" not in ran.err
    assert "did you mean shop?" in run("status", "shpo", XDG_RUNTIME_DIR=str(tmp_path)).err


def test_all_instances(tmp_path: Path) -> None:
    """Without NAME all instances are shown, also those whose daemon is dead, and the exit code is 0."""
    parent = tmp_path / "wolverine"
    (parent / "dead").mkdir(parents=True)
    with serving() as served:
        (parent / "shop").symlink_to(served.directory)
        for word in ("status", "list"):
            ran = run(word, XDG_RUNTIME_DIR=str(tmp_path))
            assert ran.code == 0
            assert "unreachable" in next(line for line in ran.out.splitlines() if line.startswith("dead"))
            assert "ready" in next(line for line in ran.out.splitlines() if line.startswith("shop"))
            rows = json.loads(run(word, "--json", XDG_RUNTIME_DIR=str(tmp_path)).out)
            assert {row["app"]: row["state"] for row in rows if row["directory"].startswith(str(tmp_path))} == {
                "dead": "unreachable",
                "shop": "ready",
            }


@needs_root
def test_permission() -> None:
    """Who may not is told which group may, and the exit code is 6."""
    with serving(access=system_access()) as served:
        reader = ["setpriv", f"--reuid={STRANGER_UID}", f"--regid={STRANGER_UID}", f"--groups={VIEW_GID}", "--"]
        stranger = ["setpriv", f"--reuid={STRANGER_UID}", f"--regid={STRANGER_UID}", "--clear-groups", "--"]
        if _as(stranger, "--version").code != 0:
            pytest.skip("the interpreter of the tests may not be run by another user")
        directory = ["--runtime-dir", str(served.directory)]
        ran = _as(stranger, *directory, "status")
        assert ran.code == 6
        assert "wolverine-view" in ran.err
        assert "usermod -aG" in ran.err
        assert _as(reader, *directory, "status").code == 0
        for words in (["stop"], ["heal"], ["approve", "r1"]):
            ran = _as(reader, *directory, *words)
            assert ran.code == 6
            assert "wolverine-admin" in ran.err
        assert served.do(lambda: served.instance.submitted) == []


def _as(who: Sequence[str], *words: str) -> Ran:
    done = subprocess.run(
        [*who, *PROGRAM, *words], capture_output=True, text=True, env=environment(), cwd="/", check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


# --- the program itself


def test_help_and_version() -> None:
    """Help and version go to standard output and end with 0."""
    assert run("--version").out.startswith("wolverinectl 0.")
    assert "exit codes:" in run("--help").out
    assert run("-h").code == 0
    assert run("heal", "--help").out.startswith("usage: wolverinectl heal NAME [ID]")


def test_a_question_only_on_a_terminal(served: Served) -> None:
    """`approve` shows the diff and asks where a person sits; a no, or nothing, applies nothing."""
    for answer, code in (("n", 1), ("", 1), ("y", 0)):
        text, ended = on_terminal(["approve", "r1"], answer + "\n", WOLVERINE_RUNTIME_DIR=str(served.directory))
        assert "+print(name)" in text
        assert "Apply this to shop? [y/N]" in text
        assert ended == code
    approved = served.do(lambda: list(served.instance.submitted))
    assert approved == [("approve", {"repair": "r1", "sha256": SHA256})]
    text, ended = on_terminal(["approve", "r1", "-y"], "", WOLVERINE_RUNTIME_DIR=str(served.directory))
    assert "Apply this" not in text
    assert ended == 0


def test_colours_on_a_terminal(served: Served) -> None:
    """A terminal has colours, unless NO_COLOR; a locale without UTF-8 gets ASCII."""
    where = {"WOLVERINE_RUNTIME_DIR": str(served.directory), "TERM": "xterm"}
    assert "\033[32m● ready" in on_terminal(["status"], "", **where)[0]
    assert "\033" not in on_terminal(["status"], "", NO_COLOR="1", **where)[0]
    assert ctl(served, "status", LANG="C").out.isascii()
    assert "* ready" in ctl(served, "status", LANG="C").out


def test_tables_fit_a_narrow_terminal(served: Served) -> None:
    """A table is cut to the terminal's width; into a pipe nothing is cut."""
    text, _ = on_terminal(["incidents"], "", WOLVERINE_RUNTIME_DIR=str(served.directory), COLUMNS="40", NO_COLOR="1")
    assert max(len(line) for line in text.splitlines()) <= 40
    assert "nmae' is not defined" in ctl(served, "incidents").out


def test_a_bug_is_one_line(served: Served) -> None:
    """Even an exception that nobody expected is one line, unless the trace is asked for."""
    served.do(lambda: setattr(served.instance, "heal_result", {"verdict": "proven", "said": "x", "hint": ["odd"]}))
    served.do(lambda: setattr(served.instance, "usage", lambda: ["not", "a", "table"]))
    ran = ctl(served, "usage")
    assert ran.code == 1
    assert ran.err.startswith("error: AttributeError")
    assert ran.err.count("\n") == 1


def test_daemon_program(tmp_path: Path) -> None:
    """`wolverined` tells its version, its mistakes and its options without loading the daemon."""

    def wolverined(*words: str) -> Ran:
        command = [sys.executable, "-I", "-m", "wolverined", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    assert wolverined("--version").out.startswith("wolverined 0.")
    assert "--state-dir" in wolverined("run", "--help").out
    for words in ([], ["frob"], ["run"], ["run", "--config"], ["run", "--config", "x", "--frob"]):
        ran = wolverined(*words)
        assert ran.code == 2
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1


def test_daemon_errors_are_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the daemon raises becomes one line and its exit code."""
    import types

    from wolverined import __main__ as program

    def daemon(args: Any) -> int:
        assert (args.config, args.runtime_dir, args.json_log, args.verbose) == ("x.toml", "", False, False)
        raise SpawnError("no", hint="never")

    monkeypatch.setitem(sys.modules, "wolverined.daemon", types.SimpleNamespace(main=daemon))
    monkeypatch.setattr(program, "be_lean", lambda: None)
    assert program.main(["run", "--config", "x.toml"]) == 1
    assert capsys.readouterr().err == "error: no; hint: never\n"


def test_daemon_does_without_openssl() -> None:
    """The daemon's process maps no OpenSSL, and still hashes and runs a loop."""
    script = (
        "from wolverined.lean import be_lean; be_lean(); "
        "import asyncio, hashlib, hmac, random; "
        "asyncio.run(asyncio.sleep(0)); print(hashlib.sha256(b'').hexdigest()[:8], hashlib.new('sha1').digest_size); "
        "maps = open('/proc/self/maps').read(); print('libssl' in maps, 'libcrypto' in maps)"
    )
    command = [sys.executable, "-I", "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert (done.stdout, done.stderr) == ("e3b0c442 20\nFalse False\n", "")


# --- helpers that wait for output


def started(*words: str, **more: str) -> subprocess.Popen[str]:
    """A command that goes on; use it in `with`."""
    return subprocess.Popen(
        [*PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=environment(**more),
    )


def next_line(child: subprocess.Popen[str]) -> str:
    """The next line of a command, which must come soon."""
    assert child.stdout is not None
    watchdog = select.poll()
    watchdog.register(child.stdout, select.POLLIN)
    line = ""
    deadline = time.monotonic() + 20
    while not line.endswith("\n"):
        assert watchdog.poll(max(0, deadline - time.monotonic()) * 1000), f"no line came after {line!r}"
        character = os.read(child.stdout.fileno(), 1).decode("latin-1")
        assert character, f"the output ended after {line!r}"
        line += character
    return line


def on_terminal(words: Sequence[str], typed: str, **more: str) -> tuple[str, int]:
    """Run a command on a terminal of its own; what it shows, and its exit code."""
    master, slave = pty.openpty()
    child = subprocess.Popen([*PROGRAM, *words], stdin=slave, stdout=slave, stderr=slave, env=environment(**more))
    os.close(slave)
    os.write(master, typed.encode())
    shown = b""
    try:
        while piece := os.read(master, 65536):
            shown += piece
    except OSError:
        pass  # EIO: the last process has left the terminal
    os.close(master)
    return shown.decode(), child.wait(timeout=30)
