# SPDX-License-Identifier: MIT
"""The walls of adviser and heal, tried from inside by doubles that run what a test sends; and a heal through them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.healing import KEY, MODEL, PYTHON_BILL, mend
from support.lab import Machine
from support.services import Service

from wolverined.config.facts import PREPARED

SUPPORT = Path(__file__).resolve().parents[1] / "support"
PROGRAM = "/usr/lib/wolverine/app/wolverined"
SECRET = "swordfish-4321"

MODEL_SERVER = """
import json, sys
sys.path.insert(0, "/opt")
from model_server import ModelServer, answer
with ModelServer() as server:
    server.script(answer(open("/opt/answer").read(), model="mender"))
    with open("/run/model-url", "w") as file:
        file.write(server.url)
    count = 0
    while True:
        count += 1
        asked = [[one.headers.get("authorization"), one.prompt] for one in server.wait_for(count, timeout_s=1e6)]
        with open("/run/model-asked", "w") as file:
            json.dump(asked, file)
"""

# What somebody would do who had taken a role over: run code, and tell what came of it.
TRY = """
import ctypes, errno, json, os, socket
def tried(code):
    try:
        said = eval(code)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        return type(error).__name__
    return f"done: {said}"
def connected(family, address):
    with socket.socket(family) as sock:
        sock.connect(address)
def written(path):
    with open(path, "w") as file:
        file.write("x")
"""

SERVING_DOUBLE = (
    TRY
    + """
with socket.socket(fileno=3) as listening:
    peer, _ = listening.accept()
with peer, peer.makefile("rw") as stream:
    json.dump({what: tried(code) for what, code in json.loads(stream.readline()).items()}, stream)
"""
)

ASK = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    sock.connect(sys.argv[1])
    sock.sendall(sys.stdin.read().encode() + b"\\n")
    print(sock.makefile().read())
"""

WAIT = """
import socket
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect("/run/wolverine-sockets/adviser-sick.sock")
    sock.settimeout(2)
    try:
        sock.recv(1)
    except TimeoutError:
        pass
"""

HEAL_DOUBLE = (
    TRY
    + """
from wolverined.heal.job import Conclusion, Result
class Conductor:
    def __init__(self, *, job, **_):
        self.place = job.state_dir
    def seen(self, event):
        pass
    async def run(self):
        attempts = json.load(open(self.place + "/attempts"))
        with open(self.place + "/outcomes.new", "w") as file:
            json.dump({what: tried(code) for what, code in attempts.items()}, file)
        os.rename(self.place + "/outcomes.new", self.place + "/outcomes")
        return Result(conclusion=Conclusion.FAILED, said="taken over")
"""
)


def enrol(machine: Machine, name: str, *, port: int, heal: str = "") -> Service:
    """An application with a fault that a model can mend, whose environment file is root's."""
    machine.write(f"/etc/wolverine/{name}.env", f"TOKEN={SECRET}\n", 0o600)
    service = Service(
        machine,
        name,
        port=port,
        app=PYTHON_BILL.files["app.py"],
        lines=f'environment_file = "/etc/wolverine/{name}.env"',
        tables=f'http = "/health"\n[heal]\nprobation_s = 0.5\nmax_attempts = 1\n{heal}',
    )
    machine.write(f"{service.directory}/bill.py", PYTHON_BILL.files["bill.py"], owner=service.user)
    # A source that changed a moment ago is left alone: this one is old.
    machine.run(f"find {service.directory} -exec touch -d '1 hour ago' {{}} +")
    return service


def crash(service: Service, port: int) -> None:
    """Send the request that ends the app."""
    service.machine.run(f"curl -s -o /dev/null http://127.0.0.1:{port}{PYTHON_BILL.trigger}", check=False)


def ctl(machine: Machine, *words: str) -> Any:
    """The JSON answer of one command."""
    return json.loads(machine.run(["wolverinectl", "--json", *words]).stdout)


def endings(service: Service) -> list[dict[str, Any]]:
    """What was said of ends of heals."""
    names = ("incident.closed", "heal.nothing", "heal.failed", "heal.approval", "heal.rolled_back")
    return [one for one in service.machine.journal(service.unit) if one.get("WOLVERINE_EVENT") in names]


# -- a heal through the adviser's unit


@pytest.fixture(scope="module")
def model(machine: Machine) -> str:
    """The address of a server in the machine that knows the right mend."""
    machine.push(SUPPORT / "model_server.py", "/opt/model_server.py")
    machine.write("/opt/model.py", MODEL_SERVER)
    machine.write("/opt/answer", mend(PYTHON_BILL, PYTHON_BILL.right))
    machine.run("systemd-run -q --unit=model /usr/bin/python3 /opt/model.py")
    machine.until("test -s /run/model-url")
    return machine.read("/run/model-url")


@pytest.fixture(scope="module")
def bill(machine: Machine, model: str) -> Iterator[Service]:
    """An application whose adviser may ask that server."""
    machine.write(
        "/etc/wolverine/ai/bill.toml",
        f'base_url = "{model}"\nkey = "{KEY}"\nmodels = {{fast = "{MODEL}"}}\n'
        f'prices = {{"{MODEL}" = {{input = 1.0, output = 2.0}}}}\n',
        0o600,
    )
    service = enrol(machine, "bill", port=3010)
    service.systemctl("start")
    yield service
    service.systemctl("stop")


def test_a_model_mends_an_app_through_the_advisers_unit(machine: Machine, bill: Service, model: str) -> None:
    """From the crash to the repair; the key goes to the endpoint and nowhere else, model and prices come from root."""
    assert any(f"source may be sent to {model}" in line for line in bill.said())
    crash(bill, 3010)
    machine.until(lambda: endings(bill), within_s=60)
    assert [one["WOLVERINE_EVENT"] for one in endings(bill)] == ["incident.closed"], bill.said()
    [repair] = ctl(machine, "repairs", "bill")
    assert (repair["mode"], repair["model"], repair["verdict"]["outcome"]) == ("fast", MODEL, "proven")
    assert repair["cost_usd"] > 0
    assert PYTHON_BILL.right in machine.read(f"{bill.directory}/bill.py")
    asked = json.loads(machine.read("/run/model-asked"))
    assert [authorization for authorization, _ in asked] == [f"Bearer {KEY}"]
    assert "len(people)" in asked[0][1]
    assert SECRET not in asked[0][1]
    machine.until(lambda: machine.run("systemctl is-active wolverine-adviser@bill", check=False).returncode == 3)
    everything = machine.run("journalctl --no-pager -o cat; cat /run/wolverine-prepared/bill/facts.json").stdout
    assert KEY not in everything
    assert SECRET not in everything


def test_a_socket_that_is_gone_is_a_failure_that_says_where_to_look(machine: Machine) -> None:
    """The heal ends, the app runs on, and the words name the unit."""
    machine.write("/etc/wolverine/ai/alone.toml", f'key = "{KEY}"\n', 0o600)
    alone = enrol(machine, "alone", port=3011)
    alone.systemctl("start")
    machine.run("systemctl stop wolverine-adviser@alone.socket")
    crash(alone, 3011)
    machine.until(lambda: endings(alone), within_s=60)
    said = " ".join(alone.said())
    assert "systemctl status wolverine-adviser@alone.socket" in said
    assert alone.until_state("ready")["state"] == "ready"
    alone.systemctl("stop")


def test_an_ai_file_with_a_mistake_is_told_and_stops_no_app(machine: Machine) -> None:
    """File and line are in the journal; no source leaves the machine."""
    machine.write("/etc/wolverine/ai/slip.toml", f'key = "{KEY}"\nmodel = "x"\n', 0o600)
    slip = enrol(machine, "slip", port=3012)
    slip.systemctl("start")
    said = slip.said()
    assert any("/etc/wolverine/ai/slip.toml:2: unknown key 'model'" in line for line in said)
    assert any("no source leaves this machine" in line for line in said)
    # What was mended counts after a reload, which looks again as root.
    machine.write("/etc/wolverine/ai/slip.toml", f'key = "{KEY}"\n', 0o600)
    slip.systemctl("reload")
    dropin = machine.read("/run/systemd/system/wolverine-adviser@slip.service.d/50-wolverine.conf")
    assert "LoadCredential=ai:/etc/wolverine/ai/slip.toml" in dropin
    slip.systemctl("stop")
    assert "adviser-slip.sock" not in machine.run("ls /run/wolverine-sockets").stdout  # it goes with the app


@pytest.fixture
def odd(machine: Machine) -> Iterator[Service]:
    """An application that can be moved to a place with any name."""
    service = enrol(machine, "odd", port=3015)
    yield service
    service.systemctl("stop")
    machine.run("rm -rf /srv/odd /srv/a?*")


def move(service: Service, path: str) -> None:
    """Let the application live at `path`, and start it."""
    service.machine.run(["mv", service.directory, path])
    service.machine.write(service.file, service.text.replace(f'"{service.directory}"', json.dumps(path)))
    service.systemctl("start")
    assert service.status()["state"] == "ready"


def test_a_path_full_of_traps_is_one_path_to_pid_1(machine: Machine, odd: Service) -> None:
    """Spaces, specifiers and variables of a directory end up in the mounts of its trial alone."""
    traps = "/srv/a  b %n %i $HOME ${HOME} # é"
    move(odd, traps)
    shown = machine.run("systemctl show -p TemporaryFileSystem wolverine-trial@odd:candidate.service").stdout
    assert f"{traps}:" in shown
    said = [str(one["MESSAGE"]) for one in machine.journal(None, "_PID=1")]
    assert [line for line in said if "50-wolverine.conf" in line or "ignoring" in line.lower()] == []


def test_a_path_that_pid_1_would_bend_gets_no_trial_and_is_told(machine: Machine, odd: Service) -> None:
    """Quotes, colons and backslashes, which one systemd or another loses: the app runs, the words say what to do."""
    move(odd, '/srv/a"b:c\\d')
    shown = machine.run("systemctl show -p TemporaryFileSystem wolverine-trial@odd:candidate.service").stdout
    assert "/srv/a" not in shown
    assert any("no trial can run" in line and "rename it" in line for line in odd.said())


# -- the adviser

ADVISER: dict[str, tuple[str, str]] = {
    "see an app": ("os.listdir('/srv')", "ENOENT"),
    "read an app's file": ("open('/srv/bill/bill.py').read()", "ENOENT"),
    "see a store": ("os.listdir('/var/lib')", "ENOENT"),
    "see a spool": ("os.listdir('/var/spool')", "ENOENT"),
    "see configurations": ("os.listdir('/etc/wolverine')", "ENOENT"),
    "see what was prepared": (f"os.listdir('{PREPARED}')", "ENOENT"),
    "see the sockets of roles": ("os.listdir('/run/wolverine-sockets')", "ENOENT"),
    "see the control socket": ("os.listdir('/run/wolverine')", "ENOENT"),
    "see homes": ("os.listdir('/home')", "E"),
    "read the users": ("open('/etc/passwd').read()", "ENOENT"),
    "read another's credential": ("os.listdir('/run/credentials/wolverine-adviser@alone.service')", "ENOENT"),
    "see other processes": (
        "[pid for pid in os.listdir('/proc') if pid.isdecimal() and pid != str(os.getpid())]",
        "[]",
    ),
    "signal PID 1": ("os.kill(1, 0)", "EPERM"),
    "become root": ("os.setuid(0)", "EPERM"),
    "mount": ("ctypes.CDLL(None).mount(b'a', b'/tmp', b'tmpfs', 0, None)", "done: -1"),
    "make a namespace": ("ctypes.CDLL(None).unshare(0x10000000)", "done: -1"),
    "trace": ("ctypes.CDLL(None).ptrace(16, 1, 0, 0)", "done: -1"),
    "speak to sockets of this machine": ("socket.socket(socket.AF_UNIX)", "EAFNOSUPPORT"),
    "speak to the kernel": ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EAFNOSUPPORT"),
    "write where it is": ("written('/new')", "EROFS"),
    "write its program": ("written('/usr/lib/wolverine/run-module')", "E"),
    "run another program": ("os.execv('/usr/bin/env', ['env'])", "ENOENT"),
    "make memory code": ("__import__('mmap').mmap(-1, 4096, prot=7)", "E"),
}
"""What -> the code, and how its outcome begins."""


@pytest.fixture(scope="module")
def adviser(machine: Machine) -> dict[str, str]:
    """What came of each attempt by a double in the adviser's unit; its Landlock, which comes on top, is not built."""
    machine.write("/usr/lib/wolverine/double.py", SERVING_DOUBLE)
    machine.write("/opt/ask.py", ASK)
    machine.write("/etc/wolverine/ai/spy.toml", f'key = "{KEY}"\n', 0o600)
    spy = enrol(machine, "spy", port=3013)
    machine.write(
        "/etc/systemd/system/wolverine-adviser@spy.service.d/double.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /usr/lib/wolverine/double.py\n",
    )
    spy.systemctl("start")
    attempts = {what: code for what, (code, _) in ADVISER.items()}
    attempts |= {
        "its credential": "open(os.environ['CREDENTIALS_DIRECTORY'] + '/ai').read()",
        "its environment": "sorted(os.environ)",
        "its uid": "os.getuid()",
        "its power": "[line for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs'))]",
        "its root": "sorted(os.listdir('/'))",
        "its etc": "sorted(os.listdir('/etc'))",
    }
    words = ["python3", "/opt/ask.py", "/run/wolverine-sockets/adviser-spy.sock"]
    told: dict[str, str] = json.loads(machine.run(words, user="wolverine", input_text=json.dumps(attempts)).stdout)
    spy.systemctl("stop")
    return told


@pytest.mark.parametrize("attempt", ADVISER)
def test_an_adviser_cannot(adviser: dict[str, str], attempt: str) -> None:
    """Whatever an endpoint talked it into, PID 1's walls say no."""
    assert adviser[attempt].removeprefix("done: ").startswith(ADVISER[attempt][1].removeprefix("done: ")), adviser[
        attempt
    ]


def test_an_adviser_has_its_credential_and_no_power(adviser: dict[str, str]) -> None:
    """A uid that PID 1 made for this app alone, no capability, and nothing in its environment but where its key is."""
    assert KEY in adviser["its credential"]
    assert 61184 <= int(adviser["its uid"].removeprefix("done: ")) <= 65519  # DynamicUser=, systemd.exec(5)
    assert adviser["its power"].count("0000000000000000") == 5
    assert "NoNewPrivs:\\t1" in adviser["its power"]
    assert "OPENAI" not in adviser["its environment"]
    assert "srv" not in adviser["its root"]
    assert "wolverine" not in adviser["its etc"]


def test_nobody_else_connects_to_an_adviser(machine: Machine, bill: Service) -> None:
    """Neither the app nor an operator's user; the socket is for wolverine alone."""
    machine.write("/opt/ask.py", ASK)
    words = ["python3", "/opt/ask.py", "/run/wolverine-sockets/adviser-bill.sock"]
    for user in (bill.user, "nobody"):
        done = machine.run(words, user=user, check=False, input_text="{}")
        assert "Permission denied" in done.stderr, user
    listed = machine.run("stat -c '%U %a %n' /run/wolverine-sockets/adviser-*.sock").stdout.splitlines()
    assert all(line.startswith("wolverine 600 ") for line in listed)


def test_an_adviser_ends_with_its_client(machine: Machine, bill: Service) -> None:
    """Also one that was never spoken to; the unit has not failed, and the next client gets another process."""
    unit = "wolverine-adviser@bill.service"
    hold = "import socket,sys; s=socket.socket(1); s.connect('/run/wolverine-sockets/adviser-bill.sock'); "
    for _ in range(2):
        done = machine.run(["python3", "-c", f"{hold}print(s.recv(4096))"], user="wolverine")
        assert "adviser" in done.stdout
        machine.until(lambda: machine.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "inactive")
    assert machine.run(["systemctl", "is-failed", unit], check=False).returncode != 0


def test_an_adviser_that_cannot_start_costs_little(machine: Machine) -> None:
    """Its client waits at the socket, and PID 1 starts it again and again: but not without a pause."""
    sick = enrol(machine, "sick", port=3014)
    machine.write(
        "/etc/systemd/system/wolverine-adviser@sick.service.d/broken.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/false\n",
    )
    sick.systemctl("start")
    machine.run(["python3", "-c", WAIT], user="wolverine")
    starts = [one for one in machine.journal("wolverine-adviser@sick.service") if "Starting" in str(one.get("MESSAGE"))]
    assert len(starts) == 1
    assert machine.run("systemctl is-active wolverine-adviser@sick.socket").stdout.strip() == "active"
    machine.run("systemctl stop wolverine-adviser@sick.socket; systemctl kill -s KILL wolverine-adviser@sick.service")
    sick.systemctl("stop")


# -- a heal that was taken over

HEAL: dict[str, tuple[str, str]] = {
    "read the app's file": ("open('/srv/prey/bill.py').read()", "EACCES"),
    "write the app's file": ("written('/srv/prey/bill.py')", "EACCES"),
    "make a file beside it": ("written('/srv/prey/new')", "EACCES"),
    "list the app": ("os.listdir('/srv/prey')", "EACCES"),
    "move its state into the app": ("os.rename('{state}/attempts', '/srv/prey/attempts')", "E"),
    "link the app's file": ("os.link('/srv/prey/bill.py', '{state}/bill.py')", "E"),
    "read the app's environment": (f"open('{PREPARED}/prey/environment').read()", "EACCES"),
    "read the facts": (f"open('{PREPARED}/prey/facts.json').read()", "EACCES"),
    "read keys": ("os.listdir('/etc/wolverine/ai')", "EACCES"),
    "read the users": ("open('/etc/passwd').read()", "EACCES"),
    "read another app's state": ("os.listdir('/var/lib/wolverine/other')", "EACCES"),
    "look at its supervisor": ("open('/proc/{pid}/status').read()", "EACCES"),
    "write its supervisor's memory": ("open('/proc/{pid}/mem', 'r+b')", "EACCES"),
    "signal its supervisor": ("os.kill({pid}, 0)", "EPERM"),
    "trace its supervisor": ("ctypes.CDLL(None).ptrace(16, {pid}, 0, 0)", "done: -1"),
    "become root": ("os.setuid(0)", "EPERM"),
    "become the app": ("os.setuid({app})", "EPERM"),
    "open a Unix socket": ("connected(socket.AF_UNIX, '/run/wolverine/prey/control.sock')", "EAFNOSUPPORT"),
    "open a network socket": ("connected(socket.AF_INET, ('127.0.0.1', 3020))", "EAFNOSUPPORT"),
    "open a socket of IPv6": ("socket.socket(socket.AF_INET6)", "EAFNOSUPPORT"),
    "run a program": ("os.execv('/bin/sh', ['sh'])", "E"),
    "leave its cgroup": ("written('/sys/fs/cgroup/cgroup.procs')", "E"),
    "change its supervisor's cgroup": ("os.mkdir('/sys/fs/cgroup{unit}/mine')", "E"),
    "make a namespace": ("ctypes.CDLL(None).unshare(0x10000000)", "done: -1"),
    "change a mode": ("os.chmod('{state}/attempts', 0o777)", "EPERM"),
}
"""What -> the code, and how its outcome begins."""


@pytest.fixture(scope="module")
def taken(installed: list[Path]) -> Iterator[dict[str, str]]:
    """What came of each attempt by a heal that the supervisor started as it starts every other."""
    with Machine(installed, name="taken") as machine:
        machine.write(f"{PROGRAM}/heal/conductor.py", HEAL_DOUBLE)
        machine.run("install -d -o wolverine -g wolverine -m 0700 /var/lib/wolverine/other")
        machine.write("/etc/wolverine/ai/prey.toml", f'key = "{KEY}"\n', 0o600)
        prey = enrol(machine, "prey", port=3020)
        prey.systemctl("start")
        state = "/var/lib/wolverine/prey"
        unit = f"/system.slice/system-wolverine.slice/{prey.unit}"
        words = {"pid": prey.pid, "state": state, "app": prey.uid, "unit": unit}
        attempts = {what: code.format(**words) for what, (code, _) in HEAL.items()}
        attempts |= {
            "its state": f"written('{state}/own')",
            "its uid": "os.getresuid()",
            "its groups": "os.getgroups()",
            "its power": "[ctypes.CDLL(None).prctl(23, number) for number in range(1)]",
        }
        machine.write(f"{state}/attempts", json.dumps(attempts), 0o600, owner="wolverine")
        crash(prey, 3020)
        machine.until(f"test -s {state}/outcomes", within_s=30)
        told: dict[str, str] = json.loads(machine.read(f"{state}/outcomes"))
        told["wolverine"] = machine.run("id -u wolverine").stdout.strip()
        yield told


@pytest.mark.parametrize("attempt", HEAL)
def test_a_heal_that_was_taken_over_cannot(taken: dict[str, str], attempt: str) -> None:
    """It reads strangers' text, so it is taken for lost: no file of the app, no network, no power over anybody."""
    assert taken[attempt].startswith(HEAL[attempt][1]), taken[attempt]


def test_a_heal_has_its_state_and_its_user(taken: dict[str, str]) -> None:
    """What it does need, it can do: as wolverine, without the supervisor's capabilities."""
    assert taken["its state"].startswith("done")
    assert taken["its uid"] == f"done: ({', '.join([taken['wolverine']] * 3)})"
