# SPDX-License-Identifier: MIT
"""Trials behind PID 1's walls: heals are proven and applied end to end, and a hostile candidate reaches nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.lab import Machine
from support.trials import in_loop

from wolverined.config.schema import ProbeTable
from wolverined.control.client import Client
from wolverined.errors import SandboxUnavailable, StreamError
from wolverined.heal.stream import Channel
from wolverined.heal.trial.client import TrialClient
from wolverined.heal.trial.observations import Boot
from wolverined.heal.trial.plan import Plan, Standing
from wolverined.heal.whole import Entry, Kind, Whole

NODE_HOME = "/home/shop"
NODE_TOP = "/srv/shop"
NODE = f"{NODE_HOME}/.nvm/versions/node/v18/bin"
PYTHON_TOP = "/home/desk/app"
SERVER_JS = """\
const http = require('http');
const os = require('os');
const fs = require('fs');
const money = require('money');
const model = fs.statSync('data/model.bin').size;
if (!process.execPath.startsWith(os.homedir())) throw new Error('not the node of this home: ' + process.execPath);
console.log('up as', os.userInfo().username, os.cpus().length, Object.keys(os.networkInterfaces()), model);
const items = { 1: { price: 10 } };
function total(id) {
  return money.format(itens[id].price);
}
http.createServer((request, response) => {
  if (request.url === '/total/1') return response.end(total(1));
  response.end('ok');
}).listen(process.env.PORT);
"""
APP_PY = """\
import http.server, os, sys, traceback
import money

assert sys.prefix.endswith("/.venv"), sys.prefix
assert open("settings/.env").read().startswith("TOKEN="), "no settings"

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ok"
        if self.path == "/total":
            amount = 10
            try:
                body = money.text(amonut).encode()
            except Exception:
                traceback.print_exc()
                os._exit(1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
PREPARE = f"""
set -e
printf 'u shop - shop /home/shop /bin/sh\\nu desk - desk /home/desk /bin/sh\\n' | systemd-sysusers -
mkdir -p {NODE} {NODE_TOP}/node_modules/money {NODE_TOP}/data
cp "$(command -v node)" {NODE}/node
echo 'exports.format = (x) => "$" + x;' > {NODE_TOP}/node_modules/money/index.js
truncate -s 40M {NODE_TOP}/data/model.bin
python3 -m venv --without-pip {PYTHON_TOP}/.venv
echo 'text = "{{:.2f}}".format' > "$(echo {PYTHON_TOP}/.venv/lib/python3*/site-packages)/money.py"
mkdir -p {PYTHON_TOP}/settings; echo 'TOKEN=sk-real-4711-Zq8' > {PYTHON_TOP}/settings/.env
"""
CLOSE = f"""
chown -R shop:shop {NODE_HOME} {NODE_TOP}; chown -R desk:desk /home/desk
chmod 0750 {NODE_HOME} {NODE_TOP} {NODE_TOP}/node_modules /home/desk {PYTHON_TOP} {PYTHON_TOP}/.venv
chmod 0600 {PYTHON_TOP}/settings/.env
find {NODE_TOP} /home/desk/app -exec touch -h -d '1 hour ago' {{}} +
"""
SHOP = f"""[app]
command = ["node", "server.js"]
directory = "{NODE_TOP}"
port = 3000
[app.environment]
PATH = "{NODE}:/usr/bin:/bin"
[probe]
http = "/health"
[heal]
probation_s = 1
"""
DESK = f"""[app]
command = ["{PYTHON_TOP}/.venv/bin/python", "app.py"]
directory = "{PYTHON_TOP}"
port = 3100
[probe]
http = "/health"
[heal]
probation_s = 1
"""
ENDS = {"approval", "failed", "refuted", "rolled_back", "stable", "unprovable", "verified"}


@pytest.fixture(scope="module")
def apps(machine: Machine) -> Machine:
    """Two applications with a slip each, in homes and directories that are closed to strangers; both are served."""
    machine.run(PREPARE)
    machine.write(f"{NODE_TOP}/server.js", SERVER_JS)
    machine.write(f"{PYTHON_TOP}/app.py", APP_PY)
    machine.run(CLOSE)
    machine.write("/etc/wolverine/shop.toml", SHOP)
    machine.write("/etc/wolverine/desk.toml", DESK)
    machine.run("systemctl start wolverine@shop wolverine@desk")
    for name in ("shop", "desk"):
        assert get(machine, name, "/v1/status")["state"] == "ready"
    # Both heals go on while the tests look at one after the other.
    assert ask(machine, 3100, "/total") == ask(machine, 3000, "/total/1") == ""
    return machine


def get(machine: Machine, name: str, path: str) -> Any:
    """What the daemon of an application answers."""
    return Client(str(machine.path(f"/run/wolverine/{name}"))).get(path)


def ask(machine: Machine, port: int, path: str) -> str:
    """The body of one answer; "" when there is none."""
    url = f"http://127.0.0.1:{port}{path}"
    code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())"
    done = machine.run(["python3", "-c", code, url], check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def outcome(machine: Machine, name: str, number: str) -> tuple[str, str, str]:
    """Verdict, its reason, and state of a repair, once nothing more becomes of it by itself."""

    def look() -> dict[str, Any] | None:
        found = [repair for repair in get(machine, name, "/v1/repairs") if repair["id"] == number]
        return found[0] if found and found[0]["state"] in ENDS else None

    repair = machine.until(look, within_s=25)
    verdict = repair["verdict"] or {}
    return verdict.get("outcome", ""), verdict.get("reason", ""), repair["state"]


def test_python_in_a_private_home_is_healed(apps: Machine) -> None:
    """A virtual environment below a home of 0750: proven, applied, watched, in the source."""
    verdict, reason, state = outcome(apps, "desk", "r1")
    assert (verdict, state) == ("proven", "verified"), reason
    assert ask(apps, 3100, "/total") == "10.00"
    assert "amonut" not in apps.read(f"{PYTHON_TOP}/app.py")
    assert apps.run("systemctl is-failed 'wolverine-*'", check=False).returncode != 0


def test_what_a_trial_lacks_is_named_and_can_be_given(apps: Machine) -> None:
    """A file that is too big to be copied makes it unprovable in words; one line and a reload, and it is proven."""
    verdict, reason, state = outcome(apps, "shop", "r1")
    assert (verdict, state) == ("unprovable", "approval"), reason
    assert "a trial does not have data/model.bin (bigger than 32 MiB): see heal.trial in wolverine.toml(5)" in reason
    apps.write("/etc/wolverine/shop.toml", f'{SHOP}[heal.trial]\nread_only = ["data/model.bin"]\n')
    apps.run("systemctl reload wolverine@shop")
    apps.run("wolverinectl reject shop r1")


def test_node_of_a_private_home_is_healed(apps: Machine) -> None:
    """Nvm in a home of 0750, node_modules of 0750: the app's own interpreter, name and dependencies in the trial."""
    apps.run(f"sed -i s/itens/itmes/ {NODE_TOP}/server.js; touch -d '1 hour ago' {NODE_TOP}/server.js")
    apps.run("systemctl restart wolverine@shop")
    assert ask(apps, 3000, "/total/1") == ""
    verdict, reason, state = outcome(apps, "shop", "r2")
    assert (verdict, state) == ("proven", "verified"), reason
    assert ask(apps, 3000, "/total/1") == "$10"


@contextlib.asynccontextmanager
async def trial(machine: Machine, *, name: str = "shop", side: str = "candidate") -> AsyncIterator[TrialClient]:
    """A trial, had as heal has it; asked for again while the one before is cleared away."""
    path = str(machine.path(f"/run/wolverine-sockets/trial-{name}:{side}.sock"))
    for wait_s in (0.05, 0.2, 0.5, 1.0, 0.0):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        channel = Channel(sock, role="heal", deadline_s=30.0, peer_role="trial")
        try:
            await channel.start()
            break
        except StreamError:
            await asyncio.sleep(wait_s)
    async with TrialClient(channel) as client:
        yield client


async def tried(client: TrialClient, code: str, *, top: str = NODE_TOP, own: str = "own", **given: Any) -> Boot:
    """Run this program as the candidate, with a directory of its own beside it."""
    await client.stand(top)
    entries = (Entry(path="x.py"), Entry(path=own, kind=Kind.DIRECTORY), Entry(path=f"{own}/file"))
    await client.load(Whole(entries=entries, contents=(code.encode(), b"")))
    environment = {"PATH": "/usr/bin:/bin", "HOME": NODE_HOME}
    plan = Plan(directory=top, command=("python3", "x.py"), environment=environment, **given)
    await client.prepare(plan, ())
    return await client.boot()


HOSTILE = """
import ctypes, glob, json, os, signal, socket, subprocess
def said(what):
    try:
        return what()
    except BaseException as error:
        return type(error).__name__ + " " + str(getattr(error, "errno", ""))
def connect(family, where):
    with socket.socket(family) as sock:
        sock.settimeout(2)
        sock.connect(where)
        return "connected"
def memory():
    found = []
    for pid in range(1, 3000):
        for path in (f"/proc/{pid}/mem", f"/proc/{pid}/environ"):
            try:
                open(path, "rb").close()
                found.append(path)
            except OSError:
                pass
    return sorted(set(found) - {f"/proc/{os.readlink('/proc/self')}/{what}" for what in ("mem", "environ")})
def kills():
    hit = []
    for pid in range(2, 3000):
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
                hit.append(pid)
            except OSError:
                pass
    return hit
libc = ctypes.CDLL(None, use_errno=True)
def written(path):
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return "written"
def empty(path):
    return [name for name in os.listdir(path) if not name.startswith("systemd-private")]
print(json.dumps({
    "network": said(lambda: connect(socket.AF_INET, ("192.0.2.1", 80))),
    "app": said(lambda: connect(socket.AF_INET, ("127.0.0.1", 3000))),
    "control": said(lambda: connect(socket.AF_UNIX, "/run/wolverine/shop/control.sock")),
    "bus": said(lambda: connect(socket.AF_UNIX, "/run/dbus/system_bus_socket")),
    "run": said(lambda: sorted(os.listdir("/run"))),
    "memory": said(memory),
    "kills": said(kills),
    "trace": libc.ptrace(16, 1, 0, 0),
    "namespace": libc.unshare(0x10000000),
    "mount": subprocess.run(["mount", "-t", "tmpfs", "x", "own"], capture_output=True).returncode != 0,
    "root": said(lambda: os.listdir("/root")),
    "homes": said(lambda: sorted(os.listdir("/home"))),
    "state": said(lambda: os.listdir("/var/lib/wolverine")),
    "credentials": said(lambda: os.listdir("/etc/wolverine")),
    "secrets": said(lambda: open("/etc/shadow").read()),
    "source": sorted(os.listdir(".")),
    "dependencies": said(lambda: written("node_modules/x")),
    "own": said(lambda: written("own/x")),
    "temporary": said(lambda: written("/tmp/x")),
    "shared memory": said(lambda: [written("/dev/shm/x"), empty("/dev/shm")][1]),
    "system": said(lambda: written("/usr/x")),
    "cgroup": said(lambda: written("/sys/fs/cgroup/x")),
    "tunable": said(lambda: written("/proc/sys/kernel/hostname")),
    "groups": len(os.getgroups()),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[3:4],
}))
"""


@in_loop
async def test_a_hostile_candidate_reaches_nothing(apps: Machine) -> None:
    """Network, live app, sockets, memory and processes of who watches it, keys, the machine: each tried from inside."""
    apps.write("/dev/shm/of-the-host", "x")
    async with trial(apps) as client:
        boot = await tried(client, HOSTILE)
    seen = json.loads(boot.tail[-1])
    assert seen["network"] == "OSError 101"
    assert seen["app"] == "ConnectionRefusedError 111"
    assert seen["control"] == seen["bus"] == "OSError 97"
    assert set(seen["run"]) <= {"mount", "systemd", "user"}
    assert seen["memory"] == []
    assert seen["kills"] == []
    assert seen["trace"] == seen["namespace"] == -1
    assert seen["mount"] is True
    assert seen["root"] in ([], "PermissionError 13")  # systemd 257 makes it 0700
    assert seen["homes"] == ["shop"]
    assert seen["state"] == seen["credentials"] == seen["secrets"] == "PermissionError 13"
    assert seen["source"] == ["data", "node_modules", "own", "x.py"]
    assert seen["dependencies"] == seen["system"] == seen["cgroup"] == seen["tunable"] == "OSError 30"
    assert seen["own"] == seen["temporary"] == "written"
    assert seen["shared memory"] == []
    assert set(seen["capabilities"]) == {"0000000000000000"}
    assert seen["descriptors"] in ([], [3])  # the directory that is being listed


LINGER = """
import os, signal, sys, time
for number in range(20):
    if os.fork() == 0:
        os.setsid()
        for kind in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(kind, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
print("twenty", flush=True)
time.sleep(3600)
"""


def processes_of(machine: Machine, side: str) -> list[str]:
    """The processes in the cgroup of one side's unit."""
    unit = f"wolverine-trial@shop:{side}.service"
    shown = machine.run(["systemctl", "show", "-P", "ControlGroup", unit]).stdout.strip()
    path = f"/sys/fs/cgroup{shown}/cgroup.procs"
    return machine.enter("cat", path).stdout.decode().split() if shown else []


@pytest.mark.parametrize("way", ["closed", "cut"])
@in_loop
async def test_a_candidate_leaves_no_process_behind(apps: Machine, way: str) -> None:
    """Daemons that ignore every signal are gone with the trial, however heal goes: in order, or in the middle."""
    began = time.monotonic()
    async with trial(apps) as client:
        if way == "closed":
            assert (await tried(client, LINGER)).ready
            assert len(processes_of(apps, "candidate")) > 20
        else:
            watch = asyncio.create_task(tried(client, LINGER.replace("print", "id"), port=3999, startup_s=20.0))
            await asyncio.to_thread(apps.until, lambda: len(processes_of(apps, "candidate")) > 20)
            watch.cancel()
    await asyncio.to_thread(apps.until, lambda: not processes_of(apps, "candidate"), within_s=3)
    assert time.monotonic() - began < 15


@in_loop
async def test_both_sides_have_uids_of_their_own(apps: Machine) -> None:
    """Two trials at once cannot signal each other, nor those of another app."""
    code = "import os; print(os.getuid())"
    async with trial(apps, side="baseline") as one, trial(apps) as two:
        uids = {(await tried(client, code)).tail[-1] for client in (one, two)}
    assert len(uids) == 2
    assert not uids & {apps.run(["id", "-u", name]).stdout.strip() for name in ("shop", "wolverine", "root")}


@in_loop
async def test_a_unit_that_knows_nothing_of_the_app_tries_nothing(apps: Machine) -> None:
    """Another directory than that of the drop-in: said with what to do, never tried in the open."""
    async with trial(apps) as client:
        standing = await client.stand(NODE_TOP)
        assert standing == Standing(whole=True, bound=("data/model.bin", "node_modules"))
        with pytest.raises(SandboxUnavailable, match="does not know /srv/other"):
            await client.stand("/srv/other")


ODD = "/srv/an odd äpp, 100% $HOME"
ODD_CODE = """
import os, socket
print(sorted(os.listdir(".")), sorted(os.listdir("a b/c%d")), os.path.isfile("a b/c%d/node_modules/x"))
print(os.path.isfile("/srv/models of all/m"), os.access("a b/c%d/node_modules", os.W_OK), flush=True)
open("a b/own", "w").close()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
import time; time.sleep(60)
"""


@in_loop
async def test_odd_names_and_nested_dependencies_stand_where_they_stood(apps: Machine) -> None:
    """Whatever a directory is called PID 1 binds that one; sources go beside what is bound; readiness by datagram."""
    deep = f"{ODD}/a b/c%d/node_modules"
    for path in (f"{deep}/x", f"{ODD}/node_modules/y", "/srv/models of all/m"):
        apps.write(path, "")
    apps.run(["chown", "-R", "shop:shop", ODD])
    tables = f"""[app]
command = ["sleep", "1000"]
directory = '{ODD}'
[probe]
notify = true
[heal]
policy = "off"
[heal.trial]
read_only = ["/srv/models of all"]
"""
    apps.write("/etc/wolverine/odd.toml", tables)
    apps.run("systemctl start --no-block wolverine@odd")
    apps.until("systemctl is-active wolverine-trial@odd:candidate.socket && wolverinectl status odd")
    told = json.loads(apps.read("/run/wolverine-prepared/odd/facts.json"))
    assert (told["refused"], told["trial"], told["weaknesses"]) == ("", "", [])
    async with trial(apps, name="odd") as client:
        standing = await client.stand(ODD)
        assert standing.bound == ("a b/c%d/node_modules", "node_modules")
        probe = ProbeTable(notify=True)
        boot = await tried(client, ODD_CODE, top=ODD, own="a b/c%d/own", probe=probe, startup_s=10.0)
    assert boot.ready, boot
    assert boot.tail == (
        "['a b', 'node_modules', 'x.py'] ['node_modules', 'own'] True",
        "True False",
    )
    apps.run("systemctl stop wolverine@odd")
    apps.until("! systemctl is-active wolverine-trial@odd:candidate.socket")


@pytest.mark.parametrize(("above", "name"), [(NODE_TOP, "node_modules"), (NODE_HOME, ".nvm")])
@in_loop
async def test_what_became_a_link_is_not_shown(apps: Machine, above: str, name: str) -> None:
    """PID 1 follows it with root's rights, whatever it is called and wherever it stands; a trial refuses to begin."""
    apps.run(f"mkdir -p /root/private; cd {above}; mv {name} kept; ln -s /root/private {name}")
    try:
        async with trial(apps) as client:
            with pytest.raises(SandboxUnavailable, match=f"{above}/{name} is not what it was"):
                await client.stand(NODE_TOP)
    finally:
        apps.run(f"cd {above}; rm {name}; mv kept {name}")
    async with trial(apps) as client:
        assert "node_modules" in (await client.stand(NODE_TOP)).bound


RELEASES = """[app]
command = ["sleep", "1000"]
directory = "/srv/deploy/current"
[heal]
policy = "off"
"""


@in_loop
async def test_a_deploy_by_link_needs_no_new_preparation(apps: Machine) -> None:
    """The next release is shown as the one before was; where only root can go it is refused."""
    apps.run(
        "mkdir -p /srv/deploy/releases/7/node_modules/x /srv/deploy/releases/8/node_modules/x"
        " /root/private/app/node_modules;"
        " cd /srv/deploy; ln -s releases/7 current; chown -hR shop:shop /srv/deploy"
    )
    apps.write("/etc/wolverine/deploy.toml", RELEASES)
    apps.run("systemctl start --no-block wolverine@deploy")
    apps.until("systemctl is-active wolverine-trial@deploy:candidate.socket && wolverinectl status deploy")
    assert json.loads(apps.read("/run/wolverine-prepared/deploy/facts.json"))["trial"] == ""
    for release in ("7", "8"):
        apps.run(f"ln -sfn releases/{release} /srv/deploy/current")
        async with trial(apps, name="deploy") as client:
            assert await client.stand("/srv/deploy/current") == Standing(whole=True, bound=("node_modules",))
    apps.run("ln -sfn /root/private/app /srv/deploy/current")
    async with trial(apps, name="deploy") as client:
        with pytest.raises(SandboxUnavailable):
            await client.stand("/srv/deploy/current")
    apps.run("systemctl stop wolverine@deploy")


def test_only_the_supervisor_may_connect(apps: Machine) -> None:
    """The app's own user is refused by the kernel."""
    code = "import socket; socket.socket(socket.AF_UNIX).connect('/run/wolverine-sockets/trial-shop:candidate.sock')"
    done = apps.run(["python3", "-c", code], user="shop", check=False)
    assert "PermissionError" in done.stderr


def test_a_unit_that_cannot_start_is_not_started_for_ever(apps: Machine) -> None:
    """Each connection is turned away once; PID 1 does not try by itself."""
    place = "/run/systemd/system/wolverine-trial@shop:baseline.service.d/99-broken.conf"
    apps.write(place, "[Service]\nBindReadOnlyPaths=/does/not/exist\n")
    apps.run("systemctl daemon-reload")
    try:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(apps.path("/run/wolverine-sockets/trial-shop:baseline.sock")))
        channel = Channel(sock, role="heal", deadline_s=10.0)
        with pytest.raises(StreamError):
            asyncio.run(channel.start())
        unit = "wolverine-trial@shop:baseline"
        failed = [entry for entry in apps.journal(f"{unit}.service") if "Failed to start" in str(entry["MESSAGE"])]
        assert len(failed) == 1
        assert apps.run(["systemctl", "is-active", f"{unit}.socket"]).stdout.strip() == "active"
    finally:
        apps.run(f"rm {place}; systemctl daemon-reload")
