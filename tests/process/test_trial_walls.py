# SPDX-License-Identifier: MIT
"""What a candidate can and cannot do, asked of a candidate that tries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.places import IS_ROOT, eventually, public_python, public_tmp
from support.trials import (
    change,
    channel_to,
    children_of,
    in_loop,
    make_app,
    needs_sandbox,
    open_trial,
    plan,
    start_trial,
    still_running,
    trial_uid,
)

from wolverined.errors import SandboxUnavailable, UsageError
from wolverined.heal.trial.client import TrialClient

pytestmark = needs_sandbox

PROBE = r"""
import ctypes, errno, json, os, signal, socket, subprocess, sys, threading
told = json.loads(os.environ["TOLD"])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, act):
    try:
        seen[name] = act()
    except OSError as error:
        seen[name] = errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        seen[name] = repr(error)
def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)
    return "done"
def read(path):
    with open(path, "rb") as file:
        return file.read(200).decode("utf-8", "replace")
def write(path):
    with open(path, "w") as file:
        file.write("candidate")
    return "written"
def connect(family, kind, where):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(where)
        return "connected"
def own_loopback():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0)); server.listen()
        with socket.create_connection(server.getsockname(), 2):
            return "connected"
def datagram_pair():
    one, _two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.connect(told["unix"])
    return "connected"
def stream_pair():
    one, two = socket.socketpair()
    one.send(b"x")
    return two.recv(1).decode()
def threads():
    found = []
    thread = threading.Thread(target=found.append, args=(1,)); thread.start(); thread.join()
    return len(found)
seen = {}
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines() if ":" in line)
seen["status"] = {}
for line in open("/proc/self/status"):
    key, _, value = line.partition(":")
    seen["status"][key] = value.strip()
attempt("uid", os.getuid)
attempt("pids", lambda: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
attempt("own pid", os.getpid)
attempt("fds", lambda: [os.path.basename(os.path.realpath(f"/proc/self/fd/{fd}")).split(":")[0] for fd in range(1000)
    if os.path.lexists(f"/proc/self/fd/{fd}")])
attempt("host tcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", told["port"])))
attempt("outside", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)))
attempt("unix stream", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, told["unix"]))
attempt("unix datagram", lambda: connect(socket.AF_UNIX, socket.SOCK_DGRAM, told["unix"]))
attempt("datagram pair", datagram_pair)
attempt("abstract", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + told["abstract"]))
attempt("vsock", lambda: connect(40, socket.SOCK_STREAM, (2, 80)))
attempt("stream pair", stream_pair)
attempt("own loopback", own_loopback)
attempt("threads", threads)
attempt("child", lambda: subprocess.run(["/bin/echo", "hi"], capture_output=True, text=True).stdout.strip())
attempt("write code", lambda: write("written.txt"))
attempt("read it back", lambda: read("written.txt"))
attempt("overwrite", lambda: write("data.txt"))
attempt("write outside", lambda: write(told["outside"] + "/new"))
attempt("write /etc", lambda: write("/etc/wolverine-candidate"))
attempt("write /tmp", lambda: write("/tmp/x"))
attempt("see /tmp", lambda: os.path.exists(told["tmp"]))
attempt("hidden", lambda: os.listdir(told["hidden"]))
attempt("read hidden", lambda: read(told["hidden"] + "/secret"))
attempt("run", lambda: os.listdir("/run"))
attempt("dev", lambda: sorted(os.listdir("/dev")))
attempt("null", lambda: write("/dev/null"))
attempt("random", lambda: len(os.urandom(4)))
attempt("shm", lambda: write("/dev/shm/x"))
attempt("sysctl", lambda: write("/proc/sys/kernel/hostname"))
attempt("signal runner", lambda: os.kill(told["runner"], 0))
attempt("signal role", lambda: os.kill(told["role"], 0))
attempt("signal first", lambda: os.kill(1, signal.SIGKILL))
attempt("first memory", lambda: open("/proc/1/mem", "rb").read(1))
attempt("first memory to write", lambda: open("/proc/1/mem", "r+b").read(1))
attempt("first fds", lambda: os.listdir("/proc/1/fd"))
attempt("first root", lambda: os.listdir("/proc/1/root"))
attempt("unshare", lambda: call("unshare", 0x10000000))
attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("umount", lambda: call("umount2", told["hidden"].encode(), 0))
attempt("ptrace", lambda: call("ptrace", 0, 0, 0, 0))
attempt("setuid", lambda: os.setuid(0))
attempt("chown", lambda: os.chown("written.txt", 0, 0))
attempt("cgroup", lambda: [p for p in told["cgroups"] if os.access(p, os.W_OK)])
attempt("source", lambda: read("module.py"))
attempt("absolute", lambda: read(told["directory"] + "/module.py"))
attempt("cpus", os.cpu_count)
with open("/dev/stdout", "w") as out:
    out.write("\n" + json.dumps(seen) + "\n")
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the trial's user may enter, below /tmp, which is hidden in the sandbox."""
    with public_tmp() as path:
        yield path


def seen(tail: Sequence[str]) -> dict[str, Any]:
    """What the probe printed as its last line."""
    assert tail, "the candidate printed nothing"
    try:
        found: dict[str, Any] = json.loads(tail[-1])
    except ValueError:
        pytest.fail("\n".join(tail))
    return found


@contextlib.contextmanager
def everyones_directory() -> Iterator[Path]:
    """A directory that anybody may write to, in a place that no sandbox covers."""
    places = [Path("/var/lib")] if IS_ROOT else [Path.home(), Path.cwd()]
    base = next((base for base in places if os.access(base, os.W_OK)), None)
    if base is None:
        pytest.skip("needs a home directory or another place of its own outside of /tmp")
    path = Path(tempfile.mkdtemp(prefix="wolverine-test-", dir=base))
    path.chmod(0o777)
    try:
        yield path
        assert not (path / "new").exists()
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def host_side(place: Path) -> Iterator[dict[str, Any]]:
    """Things on the host that a candidate must not reach: sockets, files, processes."""
    everyones = place / "everyones"
    everyones.write_text("as it was")
    everyones.chmod(0o666)
    with (
        everyones_directory() as outside,
        everyones_directory() as hidden,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as stream,
    ):
        (hidden / "secret").write_text("secret")
        (hidden / "secret").chmod(0o644)
        unix = str(outside / "x.sock")
        stream.bind(unix)
        stream.listen()
        Path(unix).chmod(0o666)
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0wolverine-test-{os.getpid()}")
            abstract.listen()
            yield {
                "port": tcp.getsockname()[1],
                "unix": unix,
                "abstract": f"wolverine-test-{os.getpid()}",
                "hidden": str(hidden),
                "tmp": str(everyones),
                "outside": str(outside),
                "cgroups": [f"/sys/fs/cgroup/{part}cgroup.procs" for part in ("", "unified/")],
                "directory": str(place / "app"),
            }


async def probe_walls(place: Path) -> dict[str, Any]:
    """Run the probe; what it saw."""
    app = make_app(place, {"probe.py": PROBE, "module.py": "old", "data.txt": "as it was"})
    started: list[subprocess.Popen[bytes]] = []
    with host_side(place) as told:
        async with open_trial(started) as channel:
            client = TrialClient(channel)
            what = plan(app, public_python(), "probe.py", hide=(told["hidden"],))
            role = started[0].pid
            # The runner's pid is not known before it is forked: guess what follows, and ask again below.
            told |= {"role": role, "runner": role + 1}
            environment = {**what.environment, "TOLD": json.dumps(told)}
            prepared = await client.prepare(
                replace(what, environment=environment),
                [change("module.py", "old", "new"), change("added.py", None, "x")],
            )
            assert prepared.sandbox == "full"
            boot = await client.boot()
        found = seen(boot.tail)
    assert (app / "data.txt").read_text() == "as it was"
    assert (app / "module.py").read_text() == "old"
    assert not (app / "written.txt").exists()
    assert not (app / "added.py").exists()
    assert (place / "everyones").read_text() == "as it was"
    return found


@in_loop
async def test_a_candidate_stays_within_its_walls(place: Path) -> None:
    """No host port, no Unix socket, no write outside, no sight of others, no capability, nothing to forge with."""
    found = await probe_walls(place)
    status = found["status"]
    assert found["uid"] == trial_uid()
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert found["pids"] == [1, found["own pid"]]
    assert found["fds"] == ["null", "pipe", "pipe"]
    refused = {
        "host tcp": "ECONNREFUSED",
        "outside": "ENETUNREACH",
        "unix stream": "EAFNOSUPPORT",
        "unix datagram": "EAFNOSUPPORT",
        "datagram pair": "EPERM",
        "abstract": "EAFNOSUPPORT",
        "vsock": "EAFNOSUPPORT",
        "write /etc": "EROFS",
        "write outside": "EROFS",
        "read hidden": "ENOENT",
        "sysctl": "EROFS",
        "signal role": "ESRCH",
        "signal runner": "ESRCH",
        "first memory": "EACCES",
        "first memory to write": "EROFS",
        "first fds": "EACCES",
        "first root": "EACCES",
        "unshare": "EPERM",
        "mount": "EPERM",
        "umount": "EPERM",
        "ptrace": "EPERM",
        "setuid": "EINVAL" if trial_uid() else None,
    }
    assert {name: found[name] for name in refused} == refused
    assert found["chown"] in {"EPERM", "EINVAL"}
    assert found["see /tmp"] is False
    assert found["cgroup"] == []
    assert found["hidden"] == []
    assert "wolverine" not in found["run"]
    assert found["dev"] == ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]


@in_loop
async def test_a_candidate_can_do_what_an_app_does(place: Path) -> None:
    """Threads, children, loopback, its own files, /tmp and /dev/shm: all work, in memory only."""
    found = await probe_walls(place)
    works = {
        "stream pair": "x",
        "own loopback": "connected",
        "threads": 1,
        "child": "hi",
        "write code": "written",
        "read it back": "candidate",
        "overwrite": "written",
        "write /tmp": "written",
        "null": "written",
        "random": 4,
        "shm": "written",
        "source": "new",
        "absolute": "new",
    }
    assert {name: found[name] for name in works} == works
    assert found["cpus"] >= 1


@in_loop
async def test_a_candidate_cannot_end_the_first_process(place: Path) -> None:
    """SIGKILL to PID 1 from inside is nothing: the probe went on after it and printed what it saw."""
    assert "signal first" in await probe_walls(place)


@in_loop
async def test_no_user_namespace_means_unprovable_never_unsandboxed(place: Path) -> None:
    """With the limit of user namespaces at nothing, `prepare` says so and nothing is started."""
    app = make_app(place, {"main.py": "open('ran', 'w')"})
    (app / "ran").unlink(missing_ok=True)
    nested = ["unshare", "--user", "--map-current-user", "--keep-caps"]
    code = (
        "import os, socket, sys\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "os.execv(sys.executable, [sys.executable, '-I', '-m', 'wolverined.heal.trial', sys.argv[1]])\n"
    )
    ours, theirs = socket.socketpair()
    with theirs:
        process = start_trial(theirs, before=[*nested, sys.executable, "-I", "-c", code])
    async with channel_to(ours, process) as channel:
        with pytest.raises(SandboxUnavailable, match="user namespace"):
            await TrialClient(channel).prepare(plan(app, public_python(), "main.py"), [])
    assert not (app / "ran").exists()


@in_loop
async def test_calls_out_of_order_are_refused(place: Path) -> None:
    """Nothing runs before `prepare`, and one trial prepares once."""
    app = make_app(place, {"main.py": ""})
    async with open_trial() as channel:
        client = TrialClient(channel)
        with pytest.raises(UsageError):
            await client.boot()
        await client.prepare(plan(app, public_python(), "main.py"), [])
        with pytest.raises(UsageError):
            await client.prepare(plan(app, public_python(), "main.py"), [])
        with pytest.raises(UsageError):
            await client.alive(settle_s=-1)
        with pytest.raises(UsageError):
            await channel.call("replay", {"request": "nonsense"})
        assert (await client.alive()).alive is False


STUBBORN = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(30):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if number % 3:
            os.setsid()
        if number % 3 == 2 and os.fork():
            os._exit(0)
        time.sleep(600)
print("forked", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", ["close", "kill the role", "boot again"])
@in_loop
async def test_daemons_of_a_candidate_do_not_outlive_it(place: Path, end: str) -> None:
    """Double forks, sessions of their own and ignored signals: all gone with the trial, or at the next boot."""
    app = make_app(place, {"main.py": STUBBORN, "quiet.py": ""})
    started: list[subprocess.Popen[bytes]] = []
    async with open_trial(started) as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, public_python(), "main.py"), [])
        boot = await client.boot()
        assert boot.ready
        assert boot.tail == ("forked",)
        pids = children_of(started[0].pid)
        assert len(pids) >= 30
        if end == "kill the role":
            started[0].kill()
        elif end == "boot again":
            await client.boot()
            assert len(still_running(pids)) == 2, "the runner and the first process stay"
    eventually(lambda: not still_running(pids))
    await asyncio.sleep(0)


FORKER = r"""
import os, time
count = 0
try:
    while count < 3000:
        if os.fork() == 0:
            time.sleep(600)
        count += 1
except BlockingIOError:
    print("refused after", count, flush=True)
time.sleep(600)
"""


@in_loop
async def test_a_fork_bomb_meets_its_limit_and_ends_with_the_trial(place: Path) -> None:
    """Processes are counted inside the sandbox, so the live app of the same user does not feel it."""
    app = make_app(place, {"main.py": FORKER})
    started: list[subprocess.Popen[bytes]] = []
    async with open_trial(started) as channel:
        client = TrialClient(channel)
        await client.prepare(plan(app, public_python(), "main.py"), [])
        boot = await client.boot()
        tail = boot.tail or (await client.alive(settle_s=10.0)).tail
        assert tail
        assert tail[0].startswith("refused after")
        assert int(tail[0].split()[2]) <= 1024
        pids = children_of(started[0].pid)
    eventually(lambda: not still_running(pids))


AS_ROOT = r"""
import json, os
def attempt(act):
    try: return act()
    except OSError as error: return type(error).__name__
status = dict(line.split() for line in open("/proc/self/status") if line.startswith("Cap"))
def opens(path): os.close(os.open(path, os.O_WRONLY))
print(json.dumps({
    "uid": os.getuid(), "caps": status["CapEff:"],
    "sysctl": attempt(lambda: opens("/proc/sys/kernel/core_pattern")),
    "shadow": attempt(lambda: opens("/etc/shadow")),
    "device": attempt(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))),
    "disks": [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "mem"))],
    "mount": attempt(lambda: os.chroot("/tmp")),
    "kill": attempt(lambda: os.kill(int(os.environ["ROLE"]), 9)),
}))
"""


@in_loop
async def test_an_app_that_runs_as_root_is_held_by_the_same_walls(place: Path) -> None:
    """Root's own files ask for no capability: read-only mounts and a /dev without disks stop it."""
    if not IS_ROOT:
        pytest.skip("needs root to be root in the sandbox")
    app = make_app(place, {"main.py": AS_ROOT})
    ours, theirs = socket.socketpair()
    with theirs:
        process = start_trial(theirs, as_user=False)
    async with channel_to(ours, process) as channel:
        client = TrialClient(channel)
        environment = {"PATH": "/usr/bin:/bin", "ROLE": str(process.pid)}
        await client.prepare(plan(app, public_python(), "main.py", environment=environment), [])
        found = seen((await client.boot()).tail)
    assert found == {
        "uid": 0,
        "caps": "0" * 16,
        "sysctl": "OSError",
        "shadow": "OSError",
        "device": "PermissionError",
        "disks": [],
        "mount": "PermissionError",
        "kill": "ProcessLookupError",
    }
