# SPDX-License-Identifier: MIT
"""The adviser's process: started by wolverined with two descriptors, or by PID 1 when a heal connects.

In a terminal the key comes over a socket that serves for nothing else and is closed once it is read: an
environment would show it in /proc to every process of the same user until `hide_memory` has run. Under systemd
it is in the credential `ai`, which no other unit sees, and so are the model and the prices: a heal that was
taken over chooses neither.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from wolverined.config import ai
from wolverined.errors import AdviserRefused, ConfigError, StreamError, WolverineError
from wolverined.heal import walls
from wolverined.heal.activation import accepted, activated
from wolverined.heal.adviser.advise import Adviser
from wolverined.heal.adviser.endpoint import Endpoint, from_credential, from_environment
from wolverined.heal.syncstream import SyncChannel, inherited

LONGEST_S = 3600.0
HANDOVER_S = 5.0
MAX_KEYS = 65536
_MEMORY = 2 * 1024**3
_PORTS = {"https": 443, "http": 80}
_FOR_THE_SDK = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")


def main() -> int:
    """Serve one heal: over the descriptors `FD KEYS_FD`, or as a unit over the socket where PID 1 listens."""
    words, unit = (*sys.argv[1:], "", ""), activated()
    if not unit:  # which has limits of its own
        # What an endpoint sends is bounded elsewhere; this bounds what bounds were forgotten.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        if unit:
            _serve(accepted(), _credential(os.environ), watch=end_with)
        else:
            _serve(inherited(words[0]), _environment(_handed(words[1])))
    except WolverineError as error:
        sys.stderr.write(f"adviser: {error}\n")
        # A client that went away, under systemd, is no failure of the unit: it is what ends it.
        return 0 if unit and isinstance(error, StreamError) else 1
    return 0


def end_with(client: socket.socket) -> None:
    """End this process as soon as the other side of `client` goes, in the middle of a question to a model, say.

    In a terminal the heal's leaf is ended with all in it; under systemd nobody else ends us before RuntimeMaxSec.
    """
    watched = os.dup(client.fileno())

    def watch() -> None:
        poll = select.poll()
        poll.register(watched, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="client", daemon=True).start()


def _serve(
    client: socket.socket, endpoint: Callable[[], Endpoint], *, watch: Callable[[socket.socket], None] | None = None
) -> None:
    walls.around_adviser(_port(endpoint))
    if watch is not None:
        watch(client)  # only now: a system call filter holds for the threads that come after it
    with SyncChannel(client, role="adviser", deadline_s=LONGEST_S) as channel:
        channel.start()
        channel.serve({"advise": Adviser(channel=channel, endpoint=endpoint).advise})


def _credential(environ: Mapping[str, str]) -> Callable[[], Endpoint]:
    """The unit's credential; what is wrong with it is told to whoever asks for advice."""
    path = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), "ai")
    try:
        with path.open("rb") as file:
            data = file.read(ai.MAX_BYTES)
        read = ai.parse(data, origin=path)
    except (OSError, ConfigError) as error:
        words = str(error)

        def refuse() -> Endpoint:
            raise AdviserRefused(f"no model can be asked: {words}", hint=_WHERE)

        return refuse
    return lambda: from_credential(read)


_WHERE = "/etc/wolverine/ai/NAME.toml, or default.toml there; `systemctl reload wolverine@NAME` after a change"


def _environment(keys: Mapping[str, str]) -> Callable[[], Endpoint]:
    # The SDK looks for these two in the environment; in this process alone, /proc does not show them.
    os.environ.update({name: keys[name] for name in _FOR_THE_SDK if name in keys})
    return lambda: from_environment(keys)


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


def _port(endpoint: Callable[[], Endpoint]) -> int:
    try:
        parts = urlsplit(endpoint().base_url)
    except AdviserRefused:
        return _PORTS["https"]  # nothing will be asked; the call says why
    return parts.port or _PORTS[parts.scheme]
