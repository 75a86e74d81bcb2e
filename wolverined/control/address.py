# SPDX-License-Identifier: MIT
"""Addresses of Unix sockets whose path is longer than the kernel's 107 bytes.

A directory opened with O_PATH gives `/proc/self/fd/N/NAME`, which always fits. Used by the server to
bind and by the client to connect, so it imports nothing but os.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SUN_PATH_MAX = 107  # sizeof(sockaddr_un.sun_path) less the NUL, unix(7)
SOCKET_NAME = "control.sock"


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A path to `path` that fits into a socket address, for as long as the context lasts."""
    if len(os.fsencode(path)) <= SUN_PATH_MAX:
        yield path
        return
    # Not pathlib: its import costs a tenth of what `wolverinectl status` may take.
    parent, _, name = path.rpartition("/")
    directory = os.open(parent or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)
