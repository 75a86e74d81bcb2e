# SPDX-License-Identifier: MIT
"""The one connection of a role that PID 1 started because somebody connected to its socket (sd_listen_fds(3)).

The listening socket is closed once the connection is there: the next one waits with PID 1 and starts a
process of its own. Names of variables and the first descriptor are systemd's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from wolverined.errors import StreamError

FIRST = 3
WAIT_S = 10.0
"""Whoever made PID 1 start us waits already; without a limit, a start by hand would wait for ever."""


def activated(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether PID 1 started this very process for a connection."""
    return environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS") == "1"


def accepted(environ: MutableMapping[str, str] = os.environ, *, fd: int = FIRST) -> socket.socket:
    """Give the connection; what told of the listening socket is taken out of the environment.

    Raises:
        StreamError: There is none.
    """
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    hint = "wolverined connects to the unit's socket; nobody starts the service by hand"
    try:
        with socket.socket(fileno=fd) as listening:
            listening.settimeout(WAIT_S)
            stream, _ = listening.accept()
    except OSError as error:
        raise StreamError(f"no connection at fd {fd}: {error}", hint=hint) from error
    stream.settimeout(None)
    stream.set_inheritable(False)
    return stream
