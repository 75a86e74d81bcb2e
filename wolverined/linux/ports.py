# SPDX-License-Identifier: MIT
"""Who listens on a TCP port: user, cgroup, and, where the kernel lets us see it, process.

The question goes to the kernel over sock_diag (pyroute2) in a short-lived child process: the library is
bigger than the supervisor may become. The child answers with rows; what only the supervisor may read
(which process holds the socket) is added here. Only listening sockets count: a client whose own port
happens to be the number is no reason why a server cannot start.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from wolverined.linux import proc
from wolverined.linux.hierarchy import Unavailable, locate, parse_mounts
from wolverined.linux.leaf import Hierarchy, Leaf
from wolverined.linux.own import module_argv
from wolverined.linux.process import spawn

_TCP_LISTEN = 10
_PIDS_BETWEEN_YIELDS = 32
_OUTPUT_BYTES = 65536


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One listening socket as the kernel tells it. `cgroup` is "" where the kernel does not."""

    address: str
    uid: int
    inode: int
    cgroup: str = ""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who listens on `port`. `pid` is None, and `command` "", where we may not see the process.

    `ours` is true for a process in one of our own leaves: an old generation, to be killed by its leaf.
    """

    port: int
    uid: int
    user: str
    cgroup: str
    pid: int | None
    command: str
    ours: bool
    address: str = ""


async def who_listens(port: int, *, hierarchy: Hierarchy, timeout_s: float = 5.0) -> Holder | None:
    """Who listens on a port, on any address of IPv4 and IPv6; a stranger before one of ours.

    Args:
        port: The TCP port.
        hierarchy: Ours; the child lives in a leaf of it, and it decides `Holder.ours`.
        timeout_s: How long the child may take; after it the answer is None.

    Returns:
        The holder; None when nobody listens or it could not be found out.
    """
    rows = await _ask_child(port, hierarchy=hierarchy, timeout_s=timeout_s)
    holders = [await _holder(port, row, hierarchy) for row in rows]
    return min(holders, key=lambda holder: holder.ours, default=None)


async def _ask_child(port: int, *, hierarchy: Hierarchy, timeout_s: float) -> list[Row]:
    leaf = hierarchy.leaf(f"ports-{secrets.token_hex(4)}")
    try:
        return await _rows_from_child(port, leaf=leaf, timeout_s=timeout_s)
    finally:
        leaf.kill()
        await leaf.wait_empty(timeout_s=1.0)
        leaf.remove()


async def _rows_from_child(port: int, *, leaf: Leaf, timeout_s: float) -> list[Row]:
    argv = [*module_argv("wolverined.linux.ports"), str(port)]
    with spawn(argv, leaf=leaf, cwd="/", env={"PATH": os.defpath}, credentials=None) as child:
        try:
            await asyncio.wait_for(child.wait(), timeout_s)
        except TimeoutError:
            return []
        assert child.stdout is not None
        with suppress(BlockingIOError, msgspec.MsgspecError):  # it died, or said nothing that we understand
            return msgspec.json.decode(os.read(child.stdout, _OUTPUT_BYTES), type=list[Row])
    return []


async def _holder(port: int, row: Row, hierarchy: Hierarchy) -> Holder:
    pid = await _find_pid(row)
    return Holder(
        port=port,
        uid=row.uid,
        user=_user(row.uid),
        cgroup=row.cgroup,
        pid=pid,
        command=proc.command_line(pid) if pid else "",
        ours=hierarchy.owns(cgroup=row.cgroup, pid=pid),
        address=row.address,
    )


async def _find_pid(row: Row) -> int | None:
    """The process that holds the socket, among those of its user; looked for without holding up the loop."""
    wanted = f"socket:[{row.inode}]"
    for count, pid in enumerate(_pids_of_user(row.uid)):
        if count % _PIDS_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)
        if wanted in _open_files(pid):
            return pid
    return None


def _pids_of_user(uid: int) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are what is wanted
        with suppress(OSError):  # it ended
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == uid:  # noqa: PTH116 - hundreds of them
                yield int(name)


def _open_files(pid: int) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names are what is wanted
    except OSError:
        return  # ended, or not for us to see
    for name in names:
        with suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115 - hundreds of them


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# What follows runs in the child.


def listening_rows(port: int) -> list[Row]:
    """Ask the kernel for every socket that listens on `port`."""
    from pyroute2 import DiagSocket  # noqa: PLC0415 - only the child may carry it

    rows = []
    with DiagSocket() as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in diag.get_sock_stats(family=family, states=1 << _TCP_LISTEN):
                if message["idiag_sport"] == port:
                    cgroup = _cgroup_path(message.get_attr("INET_DIAG_CGROUP_ID"))
                    rows.append(_row(str(message["idiag_src"]), message["idiag_uid"], message["idiag_inode"], cgroup))
    return rows


def _row(address: str, uid: int, inode: int, cgroup: str) -> Row:
    return Row(address=address, uid=uid, inode=inode, cgroup=cgroup)


def parse_net_tcp(text: str, port: int) -> list[Row]:
    """The sockets that listen on `port` in the text of /proc/net/tcp or tcp6, which know no cgroup."""
    rows = []
    for fields in (line.split() for line in text.splitlines()[1:]):
        address, _, number = fields[1].rpartition(":")
        if int(number, 16) == port and int(fields[3], 16) == _TCP_LISTEN:
            rows.append(_row(address, int(fields[7]), int(fields[9]), ""))
    return rows


def _cgroup_path(identity: int | None) -> str:
    """The path of a cgroup, whose id is the inode of its directory; "" when it has gone or is not shown."""
    if not identity:
        return ""
    try:
        _, root = locate(parse_mounts(proc.read("/proc/self/mountinfo") or ""), "/")
    except Unavailable:
        return ""
    for directory, _, _ in os.walk(root):
        with suppress(OSError):
            if os.stat(directory).st_ino == identity:  # noqa: PTH116 - walked by os
                return "/" + os.path.relpath(directory, root).removeprefix(".")
    return ""


def main(argv: Sequence[str]) -> int:
    """Print the rows for the port in `argv[1]` as JSON."""
    port = int(argv[1])
    try:
        rows = listening_rows(port)
    except Exception:
        # A kernel without sock_diag, or a library that stumbles over a new one: the old table says who,
        # though not from which cgroup. This process has no other work that an error could spoil.
        tables = (proc.read(Path("/proc/net") / name) or "" for name in ("tcp", "tcp6"))
        rows = [row for table in tables for row in parse_net_tcp(table, port)]
    sys.stdout.write(msgspec.json.encode(rows).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
