# SPDX-License-Identifier: MIT
"""The operator's path in a machine: enrol, enable, look, lose, mend; every command that is told is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.lab import Machine

ENROLLED = """
useradd -m -s /bin/bash ann && chmod 750 /home/ann
version=/home/ann/.nvm/versions/node/v18.99.0
mkdir -p $version/bin /home/ann/shop/node_modules/left
cp -L "$(command -v node)" $version/bin/node
echo 18 >/home/ann/shop/.nvmrc
echo '{"name": "shop", "scripts": {"start": "node server.js"}}' >/home/ann/shop/package.json
cat >/home/ann/shop/server.js <<'END'
const fs = require('fs')
const tries = {'/usr': '/usr/share/shop/x', '/root': '/root/x'}
require('http').createServer((request, answer) => {
  try {
    if (tries[request.url]) fs.writeFileSync(tries[request.url], 'x')
  } catch (error) {
    console.error(String(error))
  }
  answer.end('ok')
}).listen(process.env.PORT || 3000)
END
mkdir -p /usr/share/shop
chown -R ann: /home/ann

useradd -m -s /bin/bash bob && chmod 700 /home/bob
python3 -m venv --without-pip /home/bob/blog/venv
cat >/home/bob/blog/app.py <<'END'
import http.server, os
if __name__ == "__main__":
    PORT = 3001
    address = ("127.0.0.1", int(os.environ.get("PORT", PORT)))
    http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
END
chown -R bob: /home/bob

useradd -m -s /bin/bash eve
mkdir -p /usr/local/eve/node_modules/left
cat >/usr/local/eve/server.js <<'END'
require('fs').writeFileSync(__dirname + '/started', 'x')
require('http').createServer((_, answer) => answer.end('ok')).listen(process.env.PORT || 3002)
END
chown -R eve: /usr/local/eve
chmod 700 /usr/local/eve/node_modules
echo x >/usr/local/eve/of-root.js
cat >/etc/systemd/system/eve-old.service <<'END'
[Service]
User=eve
WorkingDirectory=/usr/local/eve
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
END
systemctl enable --now eve-old

useradd -m carl
useradd -m vera
useradd -m adam
"""
README = Path(__file__).resolve().parents[2] / "README.md"
WHERE = {"shop": "/home/ann/shop", "blog": "/home/bob/blog", "eve": "/usr/local/eve"}


@pytest.fixture(scope="module")
def told(machine: Machine) -> dict[str, dict[str, Any]]:
    """Three applications of three users, enrolled, and started as `init` says: what it said of each."""
    machine.run(ENROLLED)
    said = {}
    for name, directory in WHERE.items():
        said[name] = json.loads(machine.run(f"wolverinectl init {name} --directory {directory} --json").stdout)
        machine.run("\n".join(["set -e", *(command for command in said[name]["next"] if "YOU" not in command)]))
    machine.run("adduser vera wolverine-view; adduser adam wolverine-admin")
    return said


def listed(machine: Machine) -> dict[str, dict[str, Any]]:
    """The rows of `wolverinectl list`, by application."""
    return {row["app"]: row for row in json.loads(machine.run("wolverinectl list --json").stdout)}


def doctor(machine: Machine, *words: str) -> tuple[int, list[dict[str, str]]]:
    """The exit code of `wolverinectl doctor` and its findings."""
    ran = machine.run(["wolverinectl", "doctor", "--json", *words], check=False)
    return ran.returncode, json.loads(ran.stdout)["checks"]


def about(machine: Machine, words: str, *name: str) -> dict[str, str]:
    """The first finding that matches."""
    checks = doctor(machine, *(name or ("shop",)))[1]
    return next((each for each in checks if re.search(words, each["what"])), {"level": "none", "what": "", "mend": ""})


def test_enrolled_applications_run_from_private_homes(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """A node of nvm in a 0750 home, a virtual environment in a 0700 home, an app below /usr: all become ready."""
    assert told["shop"]["command"][0] == "/home/ann/.nvm/versions/node/v18.99.0/bin/node"
    assert told["blog"]["command"][0] == "/home/bob/blog/venv/bin/python"
    assert {name: row["state"] for name, row in listed(machine).items()} == dict.fromkeys(WHERE, "ready")
    for name in WHERE:
        assert machine.run(f"stat -c '%a %U %G' /etc/wolverine/{name}.toml").stdout.split() == [
            "640", "root", "wolverine",
        ]  # fmt: skip
        assert machine.run(f"wolverinectl is-healthy {name}").stdout == "ready\n"
    assert machine.run("cat /usr/local/eve/started").stdout == "x"


def test_what_would_surprise_was_told_and_mended(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """A rival unit, a read-only place, files of root, closed dependencies: the commands that were told took care."""
    notes = "\n".join(told["eve"]["notes"])
    for words in ("eve-old.service is enabled", "read-only in the unit", "belongs to root", "node_modules cannot be"):
        assert words in notes
    assert told["shop"]["notes"] == []
    assert machine.run("systemctl is-enabled eve-old", check=False).stdout == "disabled\n"
    assert machine.run("systemctl is-active eve-old", check=False).stdout == "inactive\n"
    assert machine.run("find /usr/local/eve -user root").stdout == ""


def test_doctor_is_content(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """Nothing is bad on a machine where `init` was obeyed, a trial is really started, and each weakness is known."""
    for name in told:
        code, checks = doctor(machine, name)
        assert (code, [each for each in checks if each["level"] == "bad"]) == (0, [])
        weak = [each["what"] for each in checks if each["level"] == "weak"]
        assert all("no controller" in what or "no key of a model" in what for what in weak), weak
        assert any("a trial starts behind its walls" in each["what"] for each in checks)


def test_applications_come_back_with_the_machine(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """What was enabled is ready again after a reboot; what was disabled is listed as what it is."""
    machine.run("systemctl disable wolverine@blog")
    machine.reboot()
    machine.until(lambda: {listed(machine)[name]["state"] for name in ("shop", "eve")} == {"ready"}, within_s=20)
    row = listed(machine)["blog"]
    assert (row["state"], row["unit"]["active"], row["unit"]["enabled"]) == ("inactive", "inactive", "disabled")
    assert "systemctl enable wolverine@blog" in machine.run("wolverinectl status blog", check=False).stdout
    machine.run("systemctl enable --now wolverine@blog")
    assert listed(machine)["blog"]["unit"]["enabled"] == "enabled"


def test_who_may_do_what(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """Without a group exit 6 and the group's name; with the one only looks, with the other acts."""
    for user, command, code, words in (
        ("carl", "status shop", 6, "wolverine-view"),
        ("carl", "restart shop", 6, "wolverine-admin"),
        ("ann", "status shop", 6, "the application's own user"),
        ("vera", "status shop", 0, ""),
        ("vera", "restart shop", 6, "wolverine-admin"),
        ("adam", "restart shop", 0, ""),
    ):
        ran = machine.run(f"wolverinectl {command}", user=user, check=False)
        assert (ran.returncode, words in ran.stderr) == (code, True), (user, command, ran)
    rows = json.loads(machine.run("wolverinectl list --json", user="carl").stdout)
    assert {row["state"] for row in rows} == {"access-denied"}
    assert "sudo wolverinectl doctor shop" in machine.run("wolverinectl doctor shop", user="carl").stdout


def test_a_refused_file_is_told_with_what_mends_it(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """EROFS names the drop-in's line, EACCES the owner; once a generation; and the line works."""
    ask = "for path in usr usr root usr; do curl -fsS localhost:3000/$path; done"
    machine.run(ask)
    hints = machine.until(lambda: _two(machine.journal("wolverine@shop", "WOLVERINE_EVENT=app.hint")))
    erofs, eacces = (entry["MESSAGE"] for entry in hints)
    assert "read-only in wolverine@shop.service" in erofs
    assert "ReadWritePaths=/usr/share/shop" in erofs
    assert "/root belongs to root (mode 0700)" in eacces
    (line,) = re.findall(r"ReadWritePaths=\S+(?=,)", erofs)
    machine.write("/etc/systemd/system/wolverine@shop.service.d/data.conf", f"[Service]\n{line}\n")
    machine.run("chown ann /usr/share/shop; systemctl daemon-reload; systemctl restart wolverine@shop")
    machine.run("curl -fsS localhost:3000/usr; test -e /usr/share/shop/x")
    assert len(machine.journal("wolverine@shop", "WOLVERINE_EVENT=app.hint")) == 2


def _two(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return entries if len(entries) == 2 else []


def test_two_things_can_be_stopped(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """`wolverinectl stop` leaves the daemon, `systemctl stop` nothing; each says what the other would do."""
    assert "systemctl stop wolverine@blog ends both" in machine.run("wolverinectl stop blog").stdout
    assert listed(machine)["blog"]["state"] == "stopped"
    assert machine.run("wolverinectl is-active blog", check=False).returncode == 3
    assert "ready" in machine.run("wolverinectl start blog").stdout
    machine.run("systemctl stop wolverine@blog")
    for command, words in (
        ("start", "systemctl start wolverine@blog"),
        ("stop", "nothing of blog runs"),
        ("logs", "is not running"),
    ):
        ran = machine.run(f"wolverinectl {command} blog", check=False)
        assert (ran.returncode, words in ran.stderr) == (5, True), ran
    machine.run("systemctl start wolverine@blog")
    assert machine.run("wolverinectl is-active blog").stdout == "ready\n"


def test_a_unit_that_failed_tells_why(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """A configuration that cannot be used: status has the exit, the last words and the next command."""
    machine.run("cp /etc/wolverine/blog.toml /root; echo 'x = 1' >>/etc/wolverine/blog.toml")
    assert "has changed since" in about(machine, "has changed since", "blog")["what"]
    machine.run("systemctl restart wolverine@blog", check=False)
    ran = machine.run("wolverinectl status blog", check=False)
    assert ran.returncode == 5
    for words in ("failed", "exit 78: the configuration cannot be used", "unknown key 'x'"):
        assert words in ran.stdout
    assert "wolverinectl config check blog" in ran.stderr
    assert listed(machine)["blog"]["state"] == "failed"
    assert about(machine, "wolverine@blog has failed", "blog")["level"] == "bad"
    assert machine.run("wolverinectl config check blog", check=False).returncode == 78
    machine.run("cat /root/blog.toml >/etc/wolverine/blog.toml; systemctl start wolverine@blog")
    assert about(machine, "wolverine@blog is active", "blog")["level"] == "ok"


def test_the_commands_of_the_readme(machine: Machine, told: dict[str, dict[str, Any]]) -> None:
    """What the README tells to type ends well when it is typed, but for what waits or needs a repair."""
    (section,) = re.findall(r"^## As a system service$(.*?)^## ", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    typed = [line for line in lines if not re.search(r"packaging/deb|journalctl -f|diff|approve|adduser", line)]
    assert len(typed) == len(lines) - 5
    for line in typed:
        there = line.replace("sudo ", "").replace("/srv/shop", WHERE["shop"])
        machine.run(there.replace("init shop", "init shop --force"))
    assert machine.run("wolverinectl is-active shop").stdout == "ready\n"


KEY = "sk-a-key-that-nobody-may-see"
BROKEN = (
    # what is broken · what doctor says of it · how bad it is · how it is mended ("": as doctor says)
    ("chmod 755 /etc/wolverine/ai", "/etc/wolverine/ai is not what", "bad", ""),
    ("rm -r /var/spool/wolverine", "there is no /var/spool/wolverine", "bad", ""),
    ("groupdel wolverine-spool", "no user or group wolverine-spool", "bad", ""),
    ("cp /lib/systemd/system/wolverine@.service /etc/systemd/system", "hides the package's unit", "weak",
     "rm /etc/systemd/system/wolverine@.service"),
    ("systemctl disable wolverine@eve", "does not start at boot", "weak", ""),
    ("chown ann /etc/wolverine/eve.toml", "can be changed by others than root", "bad", ""),
    ("echo '#' >>/etc/wolverine/eve.toml", "has changed since eve was started", "weak", ""),
    (f"echo 'key = \"{KEY}\"' >/etc/wolverine/ai/default.toml; chmod 644 /etc/wolverine/ai/default.toml",
     "default.toml can be read by others", "bad", ""),
    ("systemctl stop wolverine-trial@eve:candidate.socket", "no trial can be started", "weak",
     "systemctl restart wolverine@eve"),
    ("rm /run/wolverine-sockets/adviser-eve.sock", "there is no socket .*adviser-eve", "bad", ""),
    ("systemctl enable eve-old", "eve-old.service is enabled", "bad", ""),
    ("rm /etc/systemd/system/wolverine@eve.service.d/writable.conf; systemctl daemon-reload",
     "read-only in the unit", "bad", ""),
    # Last, so that systemd has not read it again.
    ("touch /etc/systemd/system/wolverine@.service", "has changed since systemd read", "weak", ""),
)  # fmt: skip
OTHERWISE = (
    ("rm -r /var/log/journal; systemctl restart systemd-journald", "kept in memory", "weak", ""),
    ("chown root:root /etc/wolverine/eve.toml", "cannot be read by wolverine", "bad", ""),
    (f"echo 'key = {KEY}' >/etc/wolverine/ai/default.toml", "default.toml", "bad",
     f"echo 'key = \"{KEY}\"' >/etc/wolverine/ai/default.toml"),
    ("mount --bind /usr/local/eve /usr/local/eve; mount -o remount,ro,bind /usr/local/eve",
     "is mounted read-only", "weak", "umount -l /usr/local/eve"),
)  # fmt: skip


@pytest.mark.parametrize("table", [BROKEN, OTHERWISE])
def test_doctor_finds_it_and_says_how_to_mend_it(
    machine: Machine, told: dict[str, dict[str, Any]], table: tuple[tuple[str, str, str, str], ...]
) -> None:
    """Each thing is broken for real, found by its words, mended by the command that is told, and gone then."""
    machine.run("\n".join(["set -e", *(broken for broken, *_ in table)]))
    checks = doctor(machine, "eve")[1]
    assert KEY not in json.dumps(checks)
    commands = []
    for broken, words, level, mend in table:
        found = [each for each in checks if re.search(words, each["what"])]
        assert [each["level"] for each in found] == [level], (broken, found)
        commands.append(mend or found[0]["mend"])
    machine.run("\n".join(["set -e", *commands]))
    checks = doctor(machine, "eve")[1]
    for broken, words, *_ in table:
        left = [each for each in checks if re.search(words, each["what"]) and each["level"] != "ok"]
        assert left == [], broken
