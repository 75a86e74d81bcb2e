# SPDX-License-Identifier: MIT
"""The adviser's process: `python -I -m wolverined.heal.adviser FD KEYS_FD`, started by wolverined alone.

The key comes over a socket that serves for nothing else and is closed once it is read: an environment
would show it in /proc to every process of the same user until `hide_memory` has run.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from wolverined.errors import AdviserRefused, StreamError, WolverineError
from wolverined.heal import walls
from wolverined.heal.adviser.advise import Adviser
from wolverined.heal.adviser.endpoint import from_environment
from wolverined.heal.syncstream import SyncChannel, inherited

LONGEST_S = 3600.0
HANDOVER_S = 5.0
MAX_KEYS = 65536
_MEMORY = 2 * 1024**3
_PORTS = {"https": 443, "http": 80}
_FOR_THE_SDK = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")


def main() -> int:
    """Serve one heal over the stream whose fd is the first argument, with the keys of the second."""
    words = (*sys.argv[1:], "", "")
    # What an endpoint sends is bounded elsewhere; this bounds what bounds were forgotten.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        keys = _handed(words[1])
        # The SDK looks for these two in the environment; in this process alone, /proc does not show them.
        os.environ.update({name: keys[name] for name in _FOR_THE_SDK if name in keys})
        walls.around_adviser(_port(keys))
        with SyncChannel(inherited(words[0]), role="adviser", deadline_s=LONGEST_S) as channel:
            channel.start()
            adviser = Adviser(channel=channel, endpoint=lambda: from_environment(keys))
            channel.serve({"advise": adviser.advise})
    except WolverineError as error:
        sys.stderr.write(f"adviser: {error}\n")
        return 1
    return 0


def _handed(fd: str) -> dict[str, str]:
    """Read the keys to the end of their socket."""
    with inherited(fd) as sock:
        sock.settimeout(HANDOVER_S)
        data = b""
        try:
            while len(data) <= MAX_KEYS and (part := sock.recv(MAX_KEYS)):
                data += part
            return msgspec.json.decode(data, type=dict[str, str])
        except (OSError, msgspec.DecodeError) as error:
            raise StreamError(f"the keys did not arrive: {error}") from error


def _port(keys: Mapping[str, str]) -> int:
    try:
        parts = urlsplit(from_environment(keys).base_url)
    except AdviserRefused:
        return _PORTS["https"]  # nothing will be asked; the call says why
    return parts.port or _PORTS[parts.scheme]
