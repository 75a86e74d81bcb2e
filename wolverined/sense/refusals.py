# SPDX-License-Identifier: MIT
"""Reads "the kernel refused this file" (EROFS, EACCES) out of a line of the app, and says what to do (pure).

Under a service manager parts of the file system are read-only that were not so in a terminal, and the app runs
as a user of its own: the first start of many a server ends with such a line. What is said is a hint for a
person and changes nothing, since a line of the app can be of anybody's making.
"""

from __future__ import annotations

import functools
import re
import shlex
import stat
from collections.abc import Iterable, Sequence

import msgspec

from wolverined.linux.protection import below, protected, writable_line

_SIGNS = ("EROFS", "EACCES", "ead-only file system", "ermission denied", "AccessDeniedException")
_EXAMINED = 1024  # characters of a line
_LONGEST = 256  # of a path
_FIRST_UNPRIVILEGED_PORT = 1024

_PHRASE = r"(?P<phrase>[Pp]ermission denied|[Rr]ead-only file system)"
_SINGLE, _DOUBLE = r"'(?P<path>[^']{1,256})'", r"\"(?P<other>[^\"]{1,256})\""
_PATH, _PROGRAM, _PORT = r"(?P<path>/\S{1,256})", r"(?P<program>/[^\s:\"]{1,256})", r"\S{0,64}:(?P<port>\d{1,5})"
_CURLY = "\u2018\u2019"  # quotes of coreutils in a UTF-8 locale
_FORMS = (
    # Node, as in EROFS: read-only file system, rename '/a' -> '/b'
    rf"E(?:ROFS|ACCES): {_PHRASE}, \w+ (?:'[^']{{1,256}}' -> )?{_SINGLE}",
    rf"listen E(?:ROFS|ACCES): {_PHRASE} (?:{_PORT}(?!\S)|{_PATH})",
    rf"spawn {_PROGRAM} (?P<phrase>EACCES)",
    # Python, as in [Errno 13] Permission denied: '/a' -> '/b'; double quotes where the path holds a single one
    rf"\[Errno (?:13|30)\] {_PHRASE}: b?(?:'[^']{{1,256}}' -> b?)?(?:{_SINGLE}|{_DOUBLE})",
    # nginx, as in open() "/a" failed (13: Permission denied)
    rf"\w+\(\) (?:to )?(?:{_PORT}|unix:{_PATH}|(?:\"[^\"]{{1,256}}\" to )?{_DOUBLE}) failed \((?:13|30): {_PHRASE}",
    # Java
    rf"Cannot run program \"{_PROGRAM}\".{{0,256}}: error=13, {_PHRASE}",
    r"(?P<phrase>AccessDeniedException): (?:/.{1,256} -> )?(?P<path>/.{1,256})$",
    rf"Exception: (?P<path>/[^()]{{1,256}}) \({_PHRASE}\)",
    # Go, as in listen tcp :80: bind: permission denied
    rf"listen \w+ (?:{_PORT}|{_PATH}): bind: {_PHRASE}",
    rf"fork/exec {_PROGRAM}: {_PHRASE}",
    # Ruby, PHP
    rf"{_PHRASE} @ \w+ - (?:\(/[^,]{{1,256}}, )?(?P<path>/[^()]{{1,256}}?)\)?(?: \(|$)",
    rf"\((?P<path>/[^()]{{1,256}})\): [Ff]ailed to open stream: {_PHRASE}",
    # Go, shells, coreutils, Perl, and Java's FileSystemException: the path, a colon, the words
    rf"(?<![\w./])(?P<path>/[^:'\"{_CURLY}]{{1,256}})['\"{_CURLY}]?: {_PHRASE}",
)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel refused: a path, or a port."""

    read_only: bool = False  # EROFS; else EACCES
    path: str = ""  # as the app named it, which may be relative
    port: int = 0
    program: bool = False  # it was to be executed


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One directory or file on the way to a path, as it lies there."""

    path: str
    uid: int
    gid: int
    mode: int
    owner: str


class Whom(msgspec.Struct, frozen=True, kw_only=True):
    """Who the app is and where it runs.

    Args:
        name: The instance.
        user: Its user's name, with `uid` and every group of it.
        directory: app.directory.
        unit: The systemd unit that it runs in; empty in a terminal.
    """

    name: str
    user: str
    uid: int
    gids: frozenset[int]
    directory: str
    unit: str = ""


class Hint(msgspec.Struct, frozen=True):
    """What is wrong, and what a person can do about it."""

    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}; {self.mend}"


def refusal(line: str) -> Refusal | None:
    """What a line of the app says was refused; None for nearly every line, at the price of a few searches."""
    if not any(sign in line for sign in _SIGNS):
        return None
    text = line[:_EXAMINED]
    found = next((match for form in _forms() if (match := form.search(text))), None)
    if found is None:
        return None
    groups = found.groupdict()
    read_only = groups["phrase"].lower().startswith("read")
    if port := groups.get("port"):
        privileged = 0 < int(port) < _FIRST_UNPRIVILEGED_PORT
        return Refusal(port=int(port)) if privileged and not read_only else None
    program = groups.get("program")
    # "rename /a /b: permission denied" (Go): what could not be made is the second.
    path = (program or groups.get("path") or groups.get("other") or "").rpartition(" /")
    whole = (path[1].strip() + path[2]).rstrip()
    if not whole or not whole.isprintable() or len(whole) > _LONGEST:
        return None
    return Refusal(read_only=read_only, path=whole, program=bool(program))


@functools.cache
def _forms() -> tuple[re.Pattern[str], ...]:
    """Compiled when the first line asks for them: most apps never print one, and a start has no 10 ms to give."""
    return tuple(map(re.compile, _FORMS))


def absolute(path: str, directory: str) -> str:
    """The path from the root, without `.` and `..`; a relative one is the app's, which begins in its directory."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{directory}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def hint(found: Refusal, whom: Whom, parts: Sequence[Part] = (), *, to_the_end: bool = True) -> Hint:
    """What to tell the operator of it.

    Args:
        found: As `refusal` read it.
        whom: The app.
        parts: The way to the path from `/` on, as far as it is there or could be looked at.
        to_the_end: Whether all of the way that is there could be looked at.
    """
    if found.port:
        return Hint(
            f"it may not listen on port {found.port}: ports below {_FIRST_UNPRIVILEGED_PORT} need a capability, "
            "which no app gets",
            "let a reverse proxy (nginx, caddy, haproxy) listen there, and the app on its app.port",
        )
    path = absolute(found.path, whom.directory)
    if found.read_only:
        return _read_only(path, whom)
    return _denied(path, whom, _obstacle(parts, path, whom, found.program, to_the_end), program=found.program)


def _read_only(path: str, whom: Whom) -> Hint:
    if whom.unit and protected(path):
        return Hint(
            f"it may not write {path}, which is read-only in {whom.unit} (ProtectSystem=full)",
            f"if it should: systemctl edit {whom.unit}, add the lines [Service] and "
            f"{writable_line(path, whom.directory)}, then systemctl restart {whom.unit}",
        )
    return Hint(
        f"it may not write {path}: that file system is mounted read-only",
        f"findmnt -T {shlex.quote(path)} shows it; after a disk error dmesg tells why",
    )


def _denied(path: str, whom: Whom, part: Part | None, *, program: bool) -> Hint:
    wants = "run" if program else "open or make"
    if part is None:
        return Hint(
            f"it may not {wants} {path}, as user {whom.user}",
            f"as root, namei -l {shlex.quote(path)} shows whose each part of the way is",
        )
    said = f"{part.path} belongs to {part.owner} (mode {stat.S_IMODE(part.mode):04o})"
    if program and part.path == path:
        return Hint(f"it may not run {path}, as user {whom.user}: {said}", f"chmod +x {shlex.quote(path)}")
    inside = below(part.path, (whom.directory,))
    mend = f"if it should: chown {shlex.quote(whom.user)}: {shlex.quote(part.path)}"
    if not inside:
        mend = f"let it use a place of its own, or open that one to {whom.user}"
    return Hint(f"it may not {wants} {path}, as user {whom.user}: {said}", mend)


def _obstacle(parts: Iterable[Part], path: str, whom: Whom, program: bool, to_the_end: bool) -> Part | None:  # noqa: FBT001
    """The first part on the way that keeps the app's user out; None when none of those that were seen does."""
    last = None
    for last in parts:
        if last.path != path and stat.S_ISDIR(last.mode) and not _may(last, whom, 0o1):
            return last
    if last is None or not to_the_end:
        return None
    # What is missing had to be made in the last directory that is there.
    needs = 0o1 if program else 0o3 if stat.S_ISDIR(last.mode) else 0o6
    return None if _may(last, whom, needs) else last


def _may(part: Part, whom: Whom, bits: int) -> bool:
    """Whether the permission bits give `bits` (of rwx = 421) to the app's user."""
    shift = 6 if part.uid == whom.uid else 3 if part.gid in whom.gids else 0
    return (part.mode >> shift) & bits == bits
