# SPDX-License-Identifier: MIT
"""Who is at the other end of a Unix socket, as the kernel noted it at connect (unix(7))."""

from __future__ import annotations

import socket
import struct

import msgspec

_SO_PEERGROUPS = 59
_UCRED = struct.Struct("iII")
_GROUPS_BYTES = 1024  # what socket.getsockopt takes at most: 256 groups


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The process that connected. `pid` is 0 when it lives outside of our PID namespace."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


def peer_of(sock: socket.socket) -> Peer:
    """The peer of a connected Unix socket, with its supplementary groups; raises OSError for another socket."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid=pid, uid=uid, gid=gid, groups=_groups(sock))


def _groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        # ERANGE, more than 256 groups. Groups only ever give access: without them the peer is refused
        # what they would have opened, which is the safe side of a rare case.
        data = b""
    return tuple(group for (group,) in struct.iter_unpack("I", data))
