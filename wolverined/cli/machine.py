# SPDX-License-Identifier: MIT
"""What `doctor` looks at on any machine: each thing is tried for real where a look cannot tell."""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from wolverined.cli.findings import BAD, OK, WEAK, Finding, run_as
from wolverined.errors import WolverineError
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials, group_id
from wolverined.linux.hierarchy import Unavailable, open_cgroup_hierarchy
from wolverined.linux.journal import Journal
from wolverined.linux.own import module_argv

_OLDEST_PYTHON = (3, 11)
_OLDEST_KERNEL = (5, 14)  # cgroup.kill: Documentation/admin-guide/cgroup-v2.rst
_RELEASED = 1_735_689_600  # 2025-01-01: a clock before it is wrong
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SOCKET_PATH = 107  # unix(7), less the final NUL
_LOW_BYTES, _NO_BYTES = 500 << 20, 50 << 20
_PROGRAMS = {"/bin/sh": "dash", "/usr/bin/env": "coreutils", "/usr/bin/setpriv": "util-linux"}
_SETTINGS = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that allows it userns",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
)


def look(*, who: Credentials | None, directory: Path | None, service: bool = False) -> Iterator[Finding]:
    """Look at the machine.

    Args:
        who: The user that trials would run as; None: ourselves.
        directory: The application's, on whose file system an overlay is tried; None: an empty one.
        service: Whether units of systemd give cgroups, walls and groups, which are then looked at themselves.
    """
    yield python()
    yield kernel()
    yield from programs()
    if not service:
        yield cgroups()
        yield from walls(who, directory)
    yield journal()
    yield clock()
    if not service:
        yield groups()


def python() -> Finding:
    """The interpreter that wolverined runs on."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Finding(BAD, f"Python {version}", "wolverined needs 3.11 or newer")
    return Finding(OK, f"Python {version}")


def kernel() -> Finding:
    """The kernel's age."""
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < _OLDEST_KERNEL:
        return Finding(WEAK, f"Linux {release} has no cgroup.kill: ending a tree takes longer", "5.14 or newer has it")
    return Finding(OK, f"Linux {release}")


def programs() -> Iterator[Finding]:
    """What every start goes through."""
    missing = {path: package for path, package in _PROGRAMS.items() if not os.access(path, os.X_OK)}
    for path, package in missing.items():
        yield Finding(BAD, f"{path} is missing, and every start goes through it", f"apt-get install {package}")
    if "/usr/bin/setpriv" in missing:
        return
    tried = run_as(None, ["/usr/bin/env", "true"], env={"PATH": os.defpath})
    if tried.code != 0:
        yield Finding(BAD, f"setpriv cannot shed power: {tried.err}", "use util-linux 2.33 or newer")
    elif not missing:
        yield Finding(OK, "setpriv, sh and env are there")


def cgroups() -> Finding:
    """Whether a leaf can be made and joined here, as a supervisor would."""
    with tempfile.TemporaryDirectory(prefix="wolverine-doctor-") as place:
        try:
            hierarchy = open_cgroup_hierarchy(f"doctor-{os.getpid()}", state_dir=Path(place))
        except Unavailable as reason:
            return Finding(
                WEAK,
                f"no cgroup of its own here ({reason}): what leaves its session can escape",
                "under systemd Delegate=yes gives one; in a container mount cgroup2 writable",
            )
        except (WolverineError, OSError) as error:
            return Finding(WEAK, f"cgroups cannot be used: {error}", "look at /proc/self/cgroup and mount -t cgroup2")
        weaknesses = hierarchy.weaknesses
        hierarchy.close()
    if weaknesses:
        return Finding(WEAK, f"cgroup v2, but {'; '.join(weaknesses)}", "under systemd Delegate=yes gives controllers")
    return Finding(OK, "cgroup v2: an application and all that it starts can be held and ended together")


def walls(who: Credentials | None, directory: Path | None) -> Iterator[Finding]:
    """Whether a fix can be tried behind walls here; it is never run without them."""
    own = Path(tempfile.mkdtemp(prefix="wolverine-doctor-"))
    try:
        own.chmod(0o755)  # the user of trials has to reach it
        argv = [*module_argv("wolverined.cli.walls"), str(directory or own)]
        ran = run_as(who, argv, env={"PATH": os.defpath}, timeout_s=20.0)
    finally:
        own.rmdir()
    try:
        told: dict[str, str] = json.loads(ran.out)
    except ValueError:
        name = who.name if who else "this user"
        why = (ran.err.splitlines() or [f"exit {ran.code}"])[-1]
        yield Finding(WEAK, f"no fix can be tried: {name} cannot run {sys.executable}: {why}", "let every user read it")
        return
    yield from _judge(told)


def _judge(told: dict[str, str]) -> Iterator[Finding]:
    """The walls, one line each, as far as they came."""
    step, error = told["step"], told["error"]
    untried = "so no fix can be tried, and each waits for approval"
    if step == "namespaces":
        yield Finding(WEAK, f"{error}, {untried}", setting() or told["hint"])
        return
    yield Finding(OK, "user, mount, network, PID, IPC and UTS namespaces")
    if step == "tree":
        yield Finding(WEAK, f"{error}, {untried}", told["hint"])
        return
    if told["kind"] == "full":
        yield Finding(OK, "overlay of a plain user (userxattr)")
    else:
        what = "no overlay for a plain user: only directories with a changed file are writable in a trial"
        yield Finding(WEAK, what, "a kernel from 5.11 on, and a source outside of overlay file systems")
    if step in {"proc", "processes"}:
        yield Finding(WEAK, f"{error}, {untried}", told["hint"])
        return
    yield (
        Finding(WEAK, f"{error}, {untried}", told["hint"] or "use a kernel with CONFIG_SECCOMP_FILTER")
        if error
        else Finding(OK, "seccomp filter")
    )


def setting() -> str:
    """The very setting that forbids user namespaces here; "" when none of the known ones does."""
    return next((mend for path, value, mend in _SETTINGS if (proc.read(path) or "").strip() == value), "")


def journal() -> Finding:
    """Where events and output go."""
    if Journal().present:
        return Finding(OK, "the journal listens")
    return Finding(WEAK, "no journal: output and events go to the console and the store only", "run under systemd")


def clock() -> Finding:
    """Wall time, which labels everything and decides nothing."""
    if time.time() < _RELEASED:
        return Finding(BAD, f"the clock says {time.strftime('%Y-%m-%d')}", "timedatectl set-ntp true")
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: ask, change nothing
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) == _TIME_ERROR:
        return Finding(
            WEAK, "the clock is not synchronised: times of several machines do not compare", "timedatectl set-ntp true"
        )
    return Finding(OK, "the clock is synchronised")


def groups() -> Finding:
    """Who beside root may look and act."""
    missing = [name for name in ("wolverine-view", "wolverine-admin") if group_id(name) is None]
    if not missing:
        return Finding(OK, "groups wolverine-view and wolverine-admin")
    if os.geteuid() != 0:
        return Finding(OK, "an instance of your own needs no groups")
    mend = "; ".join(f"addgroup --system {name}" for name in missing)
    return Finding(WEAK, f"no group {' and no group '.join(missing)}: only root may use wolverinectl", mend)


def place(path: Path, what: str) -> Finding:
    """Whether a directory can be made, or used, and has room."""
    there = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(BAD, f"{what} {path}: {there} is not writable", "run as its owner, or name another directory")
    if len(os.fsencode(path / "control.sock")) > _SOCKET_PATH:
        return Finding(BAD, f"{what} {path} is too long for a socket", "name a shorter one with --runtime-dir")
    room = os.statvfs(there)
    free = room.f_bavail * room.f_frsize
    said = f"{what} {path}: {free / (1 << 30):.1f} GiB free"
    if free < _NO_BYTES or (room.f_files and not room.f_favail):
        return Finding(BAD, said if free < _NO_BYTES else f"{what} {path}: no inode is free", "make room")
    if free < _LOW_BYTES:
        return Finding(WEAK, said, "make room: backups and incidents need some")
    return Finding(OK, said)
