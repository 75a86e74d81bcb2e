# SPDX-License-Identifier: MIT
"""What `doctor NAME` looks at of an application that runs as a service.

Its unit, its sockets, what root prepared, who else starts it, where it may write, whether a trial can be had.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from wolverined.cli import absent, units
from wolverined.cli.findings import BAD, OK, WEAK, Finding
from wolverined.cli.installation import OWN
from wolverined.cli.units import Unit
from wolverined.config import facts
from wolverined.config.projects.rivals import rivals
from wolverined.config.schema import Config, Policy
from wolverined.errors import ConfigError
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.protection import below, dropin_command, protected

RUN = Path("/run/wolverine")
SOCKETS = Path("/run/wolverine-sockets")
HELLO_S = 15.0
"""How long a trial's unit may take to be started and to greet."""

_HEADER = struct.Struct(">IB")  # frames of DESIGN 7.9: length, kind; JSON is kind 0
_MOST = 1 << 20


def look(name: str, path: Path, config: Config | None) -> Iterator[Finding]:
    """Look at the service of one application.

    Args:
        name: The instance.
        path: Its configuration's file.
        config: What that file says, when it can be used.
    """
    unit = units.ask([name]).get(name)
    yield from state(unit, name)
    yield from file(path)
    yield from prepared(name, path)
    if config is None:
        return
    who = Credentials.of_user(config.app.user)
    if config.app.user == OWN:
        yield Finding(BAD, f"app.user is {OWN}: the app could signal and read its supervisor", "write another app.user")
    for rival in rivals(config.app.directory, home=Path(who.home), user=config.app.user):
        yield Finding(BAD, f"{rival.what}: it fights over the port", rival.command)
    yield writable(name, config)
    if unit is not None and not unit.down:
        yield from sockets(name)
        if config.heal.policy is not Policy.OFF:
            yield trial(name, str(config.app.directory))


def state(unit: Unit | None, name: str) -> Iterator[Finding]:
    """Whether the unit runs, comes back at boot, and is the one on disk."""
    if unit is None:
        yield Finding(WEAK, "systemd does not answer", "systemctl status")
        return
    if unit.active == "failed":
        yield Finding(BAD, f"{unit.id} has failed: {absent.how_it_ended(unit)}", absent.next_step(unit))
    elif unit.down:
        yield Finding(WEAK, f"{unit.id} is not running", absent.next_step(unit))
    else:
        yield Finding(OK, f"{unit.id} is {unit.active}" + (f": {unit.said}" if unit.said else ""))
    if unit.enabled.startswith("enabled"):
        yield Finding(OK, f"{unit.id} starts at boot")
    else:
        yield Finding(WEAK, f"{unit.id} does not start at boot", absent.boot_words(unit).partition(": ")[2])
    if unit.stale:
        yield Finding(
            WEAK, f"the unit or a drop-in of {name} has changed since systemd read it", "systemctl daemon-reload"
        )


def file(path: Path) -> Iterator[Finding]:
    """Whether the supervisor may read the configuration, and only root may change it."""
    try:
        found = path.stat()
        group = pwd.getpwnam(OWN).pw_gid
    except (OSError, KeyError):
        return  # said already: by the configuration's own findings, or by those of the users
    mend = f"chown root:{OWN} {path}; chmod 640 {path}"
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(BAD, f"{path} can be changed by others than root: it decides what runs", mend)
    elif not (found.st_mode & stat.S_IROTH or (found.st_gid == group and found.st_mode & stat.S_IRGRP)):
        yield Finding(BAD, f"{path} cannot be read by {OWN}", mend)
    else:
        yield Finding(OK, f"{path} is root's, and {OWN} may read it")


def prepared(name: str, path: Path) -> Iterator[Finding]:
    """What root found before the last start or reload, and whether that is still so."""
    if os.geteuid() != 0 or not facts.directory_of(name).exists():
        return
    try:
        told = facts.read(name)
        digest = facts.digest_of(path.read_bytes())
    except ConfigError as error:
        yield Finding(BAD, error.message, error.hint)
        return
    except OSError:
        return  # there is no configuration any more, which is told already
    if told.config_digest and told.config_digest != digest:
        what = f"{path} has changed since {name} was started or reloaded"
        yield Finding(WEAK, what, f"systemctl reload wolverine@{name}")
    if told.trial:
        yield Finding(
            WEAK, f"no fix can be tried, and each waits for approval: {told.trial}", "see wolverined(8), TRIALS"
        )
    for weakness in told.weaknesses:
        what, _, mend = weakness.rpartition(": ")
        yield Finding(WEAK, what or weakness, mend if what else "see wolverined(8)")


def sockets(name: str) -> Iterator[Finding]:
    """Whether each socket is there, of its owner, open to whom it should be."""
    try:
        own = pwd.getpwnam(OWN).pw_uid
    except KeyError:
        return
    trials = [SOCKETS / f"trial-{name}:{side}.sock" for side in ("baseline", "candidate")]
    wanted = [
        (RUN / name / "control.sock", 0o666),
        *((path, 0o600) for path in (SOCKETS / f"adviser-{name}.sock", *trials)),
    ]
    good = True
    for path, mode in wanted:
        try:
            found = path.stat()
        except PermissionError:
            continue
        except OSError:
            yield Finding(BAD, f"there is no socket {path}", f"systemctl restart wolverine@{name}")
        else:
            if stat.S_ISSOCK(found.st_mode) and (found.st_uid, stat.S_IMODE(found.st_mode)) == (own, mode):
                continue
            what = f"{path} should be a socket of {OWN}, {mode:04o}"
            yield Finding(BAD, what, f"systemctl restart wolverine@{name}")
        good = False
    if good:
        yield Finding(OK, f"{len(wanted)} sockets, each for whom it is meant")


def writable(name: str, config: Config) -> Finding:
    """Whether the app, and repairs, may write where the app lies."""
    directory = str(config.app.directory)
    mount, options = mount_of(directory, proc.read("/proc/self/mountinfo") or "")
    if "ro" in options.split(","):
        what = f"{directory} lies on {mount}, which is mounted read-only"
        return Finding(WEAK, what, f"mount -o remount,rw {shlex.quote(mount)}; after a disk error dmesg tells why")
    if not protected(directory):
        return Finding(OK, f"{directory} is no part of the system that the unit protects")
    text = units.output(["systemctl", "show", "-p", "ProtectSystem", "-p", "ReadWritePaths", f"wolverine@{name}"])
    said = dict(line.partition("=")[::2] for line in text.splitlines())
    opened = [word.lstrip("-+") for word in _words(said.get("ReadWritePaths", ""))]
    if said.get("ProtectSystem") == "no" or below(directory, opened):
        return Finding(OK, f"{directory} is writable in the unit")
    what = f"{directory} is read-only in the unit (ProtectSystem=full), for the app and for repairs"
    return Finding(BAD, what, dropin_command(name, directory, directory))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def mount_of(path: str, mountinfo: str) -> tuple[str, str]:
    """Where the mount that holds a path begins, and its options, by the text of /proc/self/mountinfo (proc(5))."""
    best, options = "/", ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) < 6:  # noqa: PLR2004
            continue
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # A later mount hides an earlier one at the same place.
        if below(path, (place,)) and len(place) >= len(best):
            best, options = place, fields[5]
    return best, options


def trial(name: str, directory: str) -> Finding:
    """Have PID 1 start a trial of this application, greet it, and ask what it sees of the application's directory."""
    path = SOCKETS / f"trial-{name}:candidate.sock"
    if os.geteuid() != 0:
        return Finding(OK, "whether a trial can be started is root's to try")
    journal = f"journalctl -u 'wolverine-trial@{name}:candidate' -n 20"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(HELLO_S)
            stream.connect(str(path))
            greeted = _ask(stream, {"v": 1, "hello": {"role": "heal", "deadline_s": HELLO_S}})
            if greeted.get("hello", {}).get("role") != "trial":
                return Finding(WEAK, f"what answers at {path} is no trial", journal)
            answer = _ask(stream, {"id": 1, "call": "stand", "args": {"directory": directory}})
    except TimeoutError:
        what = f"no trial answered within {HELLO_S:.0f} s: one is under way, or its unit cannot start"
        return Finding(WEAK, f"{what}; no fix can be tried meanwhile", journal)
    except (OSError, ValueError) as error:
        return Finding(WEAK, f"no trial can be started, so each fix waits for approval: {error}", journal)
    if isinstance(failed := answer.get("error"), dict):
        return Finding(WEAK, f"a trial starts, but cannot be used: {failed.get('message')}", journal)
    return Finding(OK, "a trial starts behind its walls and finds the application's place")


def _ask(stream: socket.socket, message: dict[str, object]) -> dict[str, dict[str, object]]:
    """Send one JSON frame and read the answer's.

    Raises:
        ValueError: It is none.
        OSError: The other side is gone, or silent.
    """
    data = json.dumps(message).encode()
    stream.sendall(_HEADER.pack(len(data), 0) + data)
    while True:
        length, kind = _HEADER.unpack(_exactly(stream, _HEADER.size))
        if length > _MOST:
            raise ValueError("its answer is too long")
        body = _exactly(stream, length)
        if kind == 0:
            answer = json.loads(body)
            if not isinstance(answer, dict):
                raise ValueError("its answer cannot be read")
            return answer


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise ConnectionError("it ended before it answered")
        data += part
    return data
