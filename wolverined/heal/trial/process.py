# SPDX-License-Identifier: MIT
"""The trial role: `python -I -m wolverined.heal.trial FD`, FD being the stream to heal; in a unit, without FD.

It relays each call to the runner, which it forks at `prepare`, and ends the runner when heal goes,
in the middle of a call as well. Started by wolverined as the app's user without capabilities, or by PID 1
as a user of its own, with the socket on which heal's one connection waits.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

import msgspec

from wolverined.errors import StreamError, UsageError, WolverineError
from wolverined.heal import frames
from wolverined.heal.activation import accepted, activated
from wolverined.heal.frames import Decoder, Message
from wolverined.heal.syncstream import SyncChannel, inherited
from wolverined.heal.trial import ground
from wolverined.heal.trial.bed import Bed
from wolverined.heal.trial.ground import Lay
from wolverined.heal.trial.plan import Plan, Standing, read_plan
from wolverined.heal.trial.runner import Runner
from wolverined.heal.whole import Entry
from wolverined.linux.sandboxtree import Change

DEADLINE_S = 1800.0
"""Backstop; heal's own deadline in its hello is far below."""
CALLS = ("boot", "replay", "alive", "check", "test")
CHUNK = 65536


class Trial:
    """The role's side: one runner at most, and the stream.

    Args:
        stream: To heal.
        unit: Whether PID 1 has made the walls, and the tree is to be loaded.
    """

    def __init__(self, stream: socket.socket, *, unit: bool = False) -> None:
        self._stream = stream
        self._unit = unit
        self._root = ""
        self._orders: socket.socket | None = None
        self._decoder = Decoder()
        self._runner = 0

    def handlers(
        self,
    ) -> dict[str, Callable[[dict[str, Any], tuple[bytes, ...]], tuple[Mapping[str, Any], Sequence[bytes]]]]:
        """The calls that heal may make."""
        relays = {name: self._relay_of(name) for name in CALLS}
        return {"stand": self._stand, "load": self._load, "prepare": self._prepare, **relays}

    def close(self) -> None:
        """End the runner, and the sandbox with it."""
        if self._orders is not None:
            self._orders.close()
        if self._runner:
            os.kill(self._runner, 9)
            os.waitpid(self._runner, 0)
            self._runner = 0

    def _stand(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Say what there is of the app's directory without heal's doing."""
        directory = args.get("directory")
        if not isinstance(directory, str) or not directory.startswith("/") or "\0" in directory:
            raise UsageError("stand: no absolute directory")
        if not self._unit:
            return msgspec.to_builtins(Standing()), ()
        told = ground.standing(directory)
        self._root = directory
        return msgspec.to_builtins(told), ()

    def _load(self, args: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        """Take a part of the whole tree."""
        if not self._root or self._orders is not None:
            raise UsageError("load comes after stand and before prepare, in a unit")
        try:
            entries = msgspec.convert(args.get("entries"), tuple[Entry, ...])
        except msgspec.ValidationError as error:
            raise UsageError(f"load: {error}") from None
        with Bed(self._root) as bed:
            bed.load(entries, blobs)
        return {}, ()

    def _prepare(self, args: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        if self._orders is not None:
            raise UsageError("one trial prepares once")
        plan, changes = read_plan(args, blobs)
        if self._unit and plan.directory != self._root:
            raise UsageError("prepare comes after stand, for the same directory")
        self._orders, theirs = socket.socketpair()
        self._runner = os.fork()
        if self._runner == 0:
            # The runner must hold no end of the stream, nor the role's end of the pair.
            self._stream.close()
            self._orders.close()
            _run(plan, changes, theirs, lay=ground.unit if self._unit else ground.overlay)
        theirs.close()
        return self._answer("prepare"), ()

    def _relay_of(
        self, name: str
    ) -> Callable[[dict[str, Any], tuple[bytes, ...]], tuple[Mapping[str, Any], Sequence[bytes]]]:
        def relay(args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
            if self._orders is None:
                raise UsageError(f"{name} before prepare")
            try:
                self._orders.settimeout(None)
                self._orders.sendall(frames.encode(Message({"call": name, "args": args})))
            except OSError as error:
                raise WolverineError(f"the trial's runner is gone: {error}") from error
            return self._answer(name), ()

        return relay

    def _answer(self, name: str) -> Mapping[str, Any]:
        assert self._orders is not None
        poll = select.poll()
        poll.register(self._orders, select.POLLIN)
        poll.register(self._stream, select.POLLRDHUP)
        while True:
            ready = dict(poll.poll())
            if self._stream.fileno() in ready:
                raise StreamError("heal went away")
            data = self._orders.recv(CHUNK)
            if not data:
                raise WolverineError(f"the trial's runner ended during {name}")
            for message in self._decoder.feed(data):
                if (failed := message.body.get("error")) is not None:
                    raise frames.rebuild(msgspec.convert(failed, frames.WireError))
                result: dict[str, Any] = message.body["result"]
                return result


def _run(plan: Plan, changes: Sequence[Change], orders: socket.socket, *, lay: Lay) -> Never:
    """Be the runner; never returns into the role's code."""
    code = 1
    try:
        runner = Runner(plan, changes, orders=orders, lay=lay)
        _tell(orders, {"result": msgspec.to_builtins(runner.prepared)})
        _obey(runner, orders)
        runner.close()
        code = 0
    except WolverineError as error:
        _tell(orders, {"error": _wire(error)})
    except Exception as error:  # a fork must end here; what went wrong is the role's answer to heal
        _tell(orders, {"error": _wire(WolverineError(f"the trial broke: {type(error).__name__}: {error}"))})
    finally:
        os._exit(code)


def _obey(runner: Runner, orders: socket.socket) -> None:
    calls: dict[str, Callable[[Mapping[str, Any]], Any]] = {name: getattr(runner, name) for name in CALLS}
    decoder = Decoder()
    while True:
        runner.serve_until_order()
        data = orders.recv(CHUNK)
        if not data:
            return
        for message in decoder.feed(data):
            try:
                seen = calls[message.body["call"]](message.body["args"])
            except (KeyError, msgspec.ValidationError) as error:
                _tell(orders, {"error": _wire(UsageError(f"{message.body.get('call')}: {error}"))})
            except UsageError as error:
                _tell(orders, {"error": _wire(error)})
            else:
                _tell(orders, {"result": msgspec.to_builtins(seen)})


def _wire(error: WolverineError) -> dict[str, str]:
    return {"kind": error.kind, "message": error.message, "hint": error.hint}


def _tell(orders: socket.socket, body: dict[str, Any]) -> None:
    orders.sendall(frames.encode(Message(body)))


def main() -> int:
    """Serve one heal; 0 when it ended the stream in good order.

    `__main__` has hidden our memory: a candidate of this uid could else write to it, and forge what we say.
    """
    unit = activated()
    try:
        stream = accepted() if unit else inherited(sys.argv[1] if len(sys.argv) > 1 else "")
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  the only place for it: there is no stream
        return 2
    trial = Trial(stream, unit=unit)
    with SyncChannel(stream, role="trial", deadline_s=DEADLINE_S, peer_role="heal") as channel:
        try:
            channel.start()
            channel.serve(trial.handlers())
        except StreamError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201  kept by whoever started this role
            return 1
        finally:
            trial.close()
    return 0
