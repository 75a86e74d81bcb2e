# SPDX-License-Identifier: MIT
"""What `doctor` looks at where wolverine is installed as a service: units, users, directories, keys, the journal."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from wolverined.cli import units
from wolverined.cli.findings import BAD, OK, WEAK, Finding
from wolverined.config import ai
from wolverined.errors import ConfigError
from wolverined.linux import proc
from wolverined.linux.credentials import group_id
from wolverined.linux.journald import rate_limit
from wolverined.linux.limits import WANTED

OWN = "wolverine"
GROUPS = ("wolverine-view", "wolverine-admin", "wolverine-spool")
UNITS = (
    "wolverine@.service",
    "wolverine-adviser@.socket",
    "wolverine-adviser@.service",
    "wolverine-trial@.socket",
    "wolverine-trial@.service",
    "wolverine-notifier.socket",
    "wolverine-notifier@.service",
    "wolverine-failure@.service",
)
PACKAGED = ("/usr/lib/systemd/system", "/lib/systemd/system")
HIDING = ("/etc/systemd/system", "/run/systemd/system")
OLDEST_SYSTEMD = 252
DIRECTORIES = (
    ("/etc/wolverine", 0o755),
    ("/etc/wolverine/ai", 0o700),
    ("/etc/wolverine/credentials", 0o700),
    ("/run/wolverine-sockets", 0o755),
    ("/run/wolverine-prepared", 0o755),
    ("/var/spool/wolverine", 0o755),
)
"""As wolverine.tmpfiles makes them: all of root's, none more open than this."""

CONTROLLERS = ("/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers")
_FEW_ENTRIES = 1000
_AGAIN = "apt-get install --reinstall wolverined"


def present() -> bool:
    """Whether this machine is run by systemd and has our unit."""
    return units.booted() and units.installed()


def look() -> Iterator[Finding]:
    """Look at the installation, whatever applications there are."""
    yield systemd(units.output(["systemctl", "--version"]))
    yield from files()
    yield from users()
    yield from directories()
    yield controllers()
    yield from journal()


def systemd(version: str) -> Finding:
    """Its age, by the answer of `systemctl --version`."""
    found = re.match(r"systemd (\d+)", version)
    if found is None:
        return Finding(WEAK, "systemd does not tell its version", "systemctl --version")
    if int(found[1]) < OLDEST_SYSTEMD:
        return Finding(WEAK, f"systemd {found[1]}: wolverine's units are made for {OLDEST_SYSTEMD}", "use Debian 12")
    return Finding(OK, f"systemd {found[1]}")


def files() -> Iterator[Finding]:
    """Whether all units are there, and nothing stands in front of them."""
    missing = [name for name in UNITS if not any(Path(place, name).exists() for place in PACKAGED)]
    if missing:
        yield Finding(BAD, f"not installed: {', '.join(missing)}", _AGAIN)
    hidden = [path for name in UNITS for place in HIDING if (path := Path(place, name)).exists()]
    for path in hidden:
        what = f"{path} hides the package's unit, now and after upgrades"
        yield Finding(WEAK, what, f"systemctl revert {path.name}, then systemctl edit it")
    if not missing and not hidden:
        yield Finding(OK, f"{len(UNITS)} units of wolverine")


def users() -> Iterator[Finding]:
    """The user of the supervisors, and who may look and act."""
    missing = [name for name in GROUPS if group_id(name) is None]
    try:
        pwd.getpwnam(OWN)
    except KeyError:
        missing.insert(0, OWN)
    if missing:
        yield Finding(BAD, f"no user or group {', '.join(missing)}", "systemd-sysusers")
    else:
        yield Finding(OK, f"user {OWN}; groups {', '.join(GROUPS)}")


def directories() -> Iterator[Finding]:
    """Whether they are there, of root, and no more open than they must be."""
    good = True
    for name, mode in DIRECTORIES:
        path = Path(name)
        try:
            found = path.lstat()
        except FileNotFoundError:
            yield Finding(BAD, f"there is no {path}", "systemd-tmpfiles --create")
        except PermissionError:
            continue  # below a directory of root's: for root to see
        else:
            if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not stat.S_IMODE(found.st_mode) & ~mode:
                continue
            mend = f"chown root: {path}; chmod {mode:04o} {path}"
            yield Finding(BAD, f"{path} is not what it should be: root's, {mode:04o}", mend)
        good = False
    if good:
        yield Finding(OK, "directories of configurations, keys, sockets and spools")


def controllers() -> Finding:
    """Which limits can be set on an application."""
    text = next((text for path in CONTROLLERS if (text := proc.read(path)) is not None), "")
    missing = [name for name in WANTED if name not in text.split()]
    if missing:
        what = f"cgroup v2 has no controller for {' and '.join(missing)}: an application cannot be limited"
        mend = "boot with systemd.unified_cgroup_hierarchy=1; in a container ask who runs it"
        return Finding(WEAK, what, mend)
    return Finding(OK, f"controllers {', '.join(WANTED)}: an application can be limited")


def journal(root: Path = Path("/")) -> Iterator[Finding]:
    """Whether events outlive a reboot, and whether an app's output fits through."""
    kept = root / "var/log/journal"
    if any(kept.glob("*/system.journal")):
        yield Finding(OK, "the journal is kept on disk")
    else:
        # Not --flush: it does nothing when a flush was tried since the boot (journalctl(1)).
        mend = f"mkdir -p {kept}; systemd-tmpfiles --create --prefix {kept}; systemctl restart systemd-journald"
        if kept.is_dir():
            mend = "systemctl restart systemd-journald; Storage= in /etc/systemd/journald.conf must not be volatile"
        yield Finding(WEAK, "the journal is kept in memory: events and output end with the next reboot", mend)
    limit = rate_limit("", root=root)
    if not limit.unlimited and limit.burst < _FEW_ENTRIES:
        what = f"journald takes {limit.burst} entries in {limit.interval_s:g} s: an app's output is often left out"
        yield Finding(WEAK, what, "raise RateLimitBurst= in /etc/systemd/journald.conf")


def adviser(name: str, *, directory: Path = ai.DIRECTORY) -> Finding:
    """Whether a model could be asked; the key itself is never shown.

    Args:
        name: The application; "" for the file of all.
        directory: Where the files lie.
    """
    paths = ai.candidates(name, directory=directory) if name else (directory / "default.toml",)
    if os.geteuid() != 0:
        return Finding(OK, f"keys of models lie in {directory}, for root's eyes")
    path = next((path for path in paths if os.path.lexists(path)), None)
    if path is None:
        mend = f"write base_url and key into {paths[-1]} (0600, root)"
        return Finding(WEAK, "no key of a model: what the built-in remedies cannot mend waits for you", mend)
    try:
        found = path.stat()
        if found.st_uid != 0 or found.st_mode & 0o077:
            return Finding(BAD, f"{path} can be read by others than root", f"chown root: {path}; chmod 600 {path}")
        with path.open("rb") as file:
            read = ai.parse(file.read(ai.MAX_BYTES + 1), origin=path)
    except OSError as error:
        return Finding(BAD, f"cannot read {path}: {error.strerror}", "write it again")
    except ConfigError as error:
        return Finding(BAD, " ".join(error.message.split()), "mend the file")
    if not read.key:
        return Finding(WEAK, f"{path} has no key: no model is asked", f'write key = "..." into {path}')
    return Finding(OK, f"{path} has a key for {read.url}")
