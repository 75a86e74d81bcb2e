# SPDX-License-Identifier: MIT
"""Who connected to a Unix socket, as the kernel tells it: nobody can claim to be another."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
from support.leaves import group_hierarchy, python, start
from support.places import IS_ROOT, public_tmp, unused_user

from wolverined.linux.peer import peer_of

CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1] + '/socket'); s.recv(1)"


def test_our_own_end_is_us() -> None:
    """A socket pair's peer is this process with its groups."""
    one, other = socket.socketpair()
    with one, other:
        peer = peer_of(one)
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
        assert set(peer.groups) == set(os.getgroups())


@pytest.mark.skipif(not IS_ROOT, reason="needs root to change the user")
def test_another_user_is_named_with_its_groups(tmp_path: Path) -> None:
    """uid, gid, pid and supplementary groups are those of the process that connected."""
    user = unused_user()
    with public_tmp() as place, socket.socket(socket.AF_UNIX) as listener, group_hierarchy(tmp_path) as hierarchy:
        listener.bind(str(place / "socket"))
        (place / "socket").chmod(0o666)
        listener.listen()
        listener.settimeout(10)
        with start(python(CONNECT, place), hierarchy.leaf("app-1"), user="nobody") as child:
            connection, _ = listener.accept()
            with connection:
                peer = peer_of(connection)
        assert (peer.pid, peer.uid, peer.gid) == (child.pid, user.pw_uid, user.pw_gid)
        assert set(peer.groups) == set(os.getgrouplist("nobody", user.pw_gid))


def test_too_many_groups_give_none() -> None:
    """A peer with more groups than can be asked for is known without them, never with wrong ones."""

    class Crowded:
        def getsockopt(self, *asked: int) -> bytes:
            _, option, _ = asked
            if option == socket.SO_PEERCRED:
                return struct.pack("iII", 5, 1000, 1000)
            raise OSError(34, "Numerical result out of range")

    peer = peer_of(Crowded())  # type: ignore[arg-type]
    assert (peer.uid, peer.groups) == (1000, ())


def test_a_socket_of_another_kind_has_no_peer_like_that() -> None:
    """TCP knows no credentials: the uid is the kernel's "nobody knows", never 0."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        try:
            peer = peer_of(one)
        except OSError:
            return
        assert peer.uid == 2**32 - 1
