# SPDX-License-Identifier: MIT
"""What `ProtectSystem=full` of our unit makes read-only, and the drop-in that opens a part of it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable

PROTECTED = ("/usr", "/etc", "/boot", "/efi", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""As systemd.exec(5) has it, with the links into /usr."""

DROPINS = "/etc/systemd/system"


def protected(path: str) -> bool:
    """Whether this absolute path is read-only in the unit."""
    return below(path, PROTECTED)


def writable_line(path: str, directory: str) -> str:
    """The line of a drop-in that lets the app write `path`: its own directory, else the one that the path lies in."""
    place = directory if below(path, (directory,)) else path.rpartition("/")[0] or "/"
    if place in PROTECTED or place == "/":
        place = path  # never all of /etc for the sake of one file
    return f"ReadWritePaths={_value(place)}"


def dropin_command(name: str, path: str, directory: str) -> str:
    """A shell command that makes the drop-in for that path, for a person to paste."""
    import shlex  # noqa: PLC0415 - for init and doctor alone

    place = f"{DROPINS}/wolverine@{name}.service.d"
    # A per cent sign means something to printf, as it does to the unit file.
    line = writable_line(path, directory).replace("\\", "\\\\").replace("%", "%%")
    text = shlex.quote(f"[Service]\\n{line}\\n")
    return f"mkdir -p {place} && printf {text} >{place}/writable.conf && systemctl daemon-reload"


def below(path: str, places: Iterable[str]) -> bool:
    """Whether an absolute path is one of these, or lies in one."""
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)


def _value(path: str) -> str:
    """A path as a unit file takes it: specifiers and quotes mean something there (systemd.syntax(7))."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[A-Za-z0-9._/@+%-]+", escaped) else f'"{escaped}"'
