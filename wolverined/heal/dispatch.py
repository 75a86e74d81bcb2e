# SPDX-License-Identifier: MIT
"""The supervisor's side of a heal: starts the heal process, hands it its roles, does what it asks.

Runs inside the supervisor and therefore never waits and trusts nothing that comes back: a heal may
ask for five things (hold the app down, release it, say something, spawn a role, end), each checked
here. One heal at a time; whatever way it ends, nothing of it is left, and the app is not left down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from wolverined.errors import StreamError, UsageError, WolverineError
from wolverined.heal.doors import SIDES, Door
from wolverined.heal.job import Conclusion, Job, Result, Task
from wolverined.heal.stream import Channel
from wolverined.linux.leaf import Leaf
from wolverined.linux.limits import Limits
from wolverined.linux.own import module_argv
from wolverined.linux.process import Child, Credentials, spawn

ROLES = ("adviser", "surgeon", "trial")
MAX_ROLES = 64  # one heal: baseline and candidate for each attempt, with much room to spare
_OUTPUT_KEPT = 8192
_END_S = 5.0
_EARLY_KEPT = 50
_APPLY_MARGIN_S = 120.0  # stop, write, start, roll back and start again, on a slow disk
_EVENT_TEXT = 4096
_LONGEST_RELEASE_S = 3600.0
_MIB = 1 << 20
_LIMITS = {
    # Each may hold the whole source (60 MiB) several times over; far more is a fault, and must not cost the app memory.
    "heal": Limits(memory_bytes=1024 * _MIB, processes=64),
    "surgeon": Limits(memory_bytes=512 * _MIB, processes=16),
    "adviser": Limits(memory_bytes=512 * _MIB, processes=64),
    "trial": Limits(memory_bytes=4096 * _MIB, processes=1200),  # as the rlimits of `linux/sandbox`, for all of it
}


class AppControl(Protocol):
    """What a heal may do to the app, through us."""

    async def hold_down(self, why: str) -> None:
        """Stop the app and keep it down until `release`."""
        ...

    async def release(self, *, timeout_s: float) -> bool:
        """Start it again; true when it was ready in time."""
        ...


class Leaves(Protocol):
    """Where children are put: the part of a Hierarchy that is needed here."""

    def leaf(self, name: str) -> Leaf:
        """Make a leaf of that name."""
        ...


Say = Callable[[str, str, dict[str, Any]], None]
"""Takes an event's name, message and fields."""


class RolePlan(msgspec.Struct, frozen=True, kw_only=True):
    """As whom a role runs, and what is handed to it over a socket of its own: the adviser's keys."""

    credentials: Credentials | None
    handed: dict[str, str] | None = None


Opening = RolePlan | Door
"""How a role is had: a child of ours, or whoever PID 1 puts behind a socket."""


class Dispatcher:
    """Runs heal jobs, one at a time.

    Args:
        leaves: Where the children's leaves are made.
        app: What may be done to the app.
        say: Told what the heal says of its steps.
        roles: How each name in ROLES is had, looked up when the role is asked for.
        torn: Whether the journal says that the source may be half of one tree and half of another.
    """

    def __init__(
        self, *, leaves: Leaves, app: AppControl, say: Say, roles: Callable[[str], Opening], torn: Callable[[], bool]
    ) -> None:
        self._leaves = leaves
        self._app = app
        self._say = say
        self._roles = roles
        self._torn = torn
        self._turn = asyncio.Lock()
        self.number = 0
        """How many heal processes there were; a successor in this process of ours counts on."""
        self.equip: Callable[[Job], Job] = _as_it_is
        """Adds to each job what only others know: which requests go well."""
        self._session: _Session | None = None
        self._left_down = False

    def tell(self, what: str, fields: dict[str, Any]) -> None:
        """Let the running heal know what happened to the app (it watches a probation)."""
        if self._session is not None:
            self._session.tell(what, fields)

    async def run(self, job: Job) -> Result:
        """Do `job` in a process of its own and give its result; never raises for what the heal does."""
        async with self._turn:
            held = False
            job = self.equip(job)
            try:
                result, lost, held = await self._conduct(job)
                if lost and job.task is not Task.RECOVER:
                    # The process went away half-way. What it had begun is in the journal: undo it before
                    # the app runs on files that might be half of one tree and half of another.
                    recovered, _, still = await self._conduct(msgspec.structs.replace(job, task=Task.RECOVER))
                    held = held or still
                    result = msgspec.structs.replace(result, hint=recovered.said or result.hint)
                result = msgspec.structs.replace(result, mixed=(lost or result.mixed) and self._is_torn())
                if result.mixed and held:
                    self._left_down, held = True, False  # nobody may run on half a tree
            finally:
                if held:
                    # An operator who stopped the app meanwhile is obeyed: then it stays down.
                    with contextlib.suppress(WolverineError):
                        await self._app.release(timeout_s=1.0)
            return result

    async def let_go(self) -> None:
        """Release an app that was left down on half a tree, once the tree is whole."""
        if self._left_down and not self._is_torn():
            self._left_down = False
            with contextlib.suppress(WolverineError):  # an operator who stopped it meanwhile is obeyed
                await self._app.release(timeout_s=1.0)

    def _is_torn(self) -> bool:
        try:
            return self._torn()
        except WolverineError:
            return True  # a journal that cannot be read is not known to be at its end

    async def _conduct(self, job: Job) -> tuple[Result, bool, bool]:
        """Give the result, whether the process was lost, and whether the app is still held down."""
        self.number += 1
        session = _Session(number=self.number, leaves=self._leaves, app=self._app, say=self._say, roles=self._roles)
        self._session = session
        lost = True
        try:
            result = await session.conduct(job)
            lost = False
        except StreamError as error:
            result = Result(conclusion=Conclusion.FAILED, said=f"the heal broke off: {error.message}")
        except WolverineError as error:
            result = Result(conclusion=Conclusion.FAILED, said=error.message, hint=error.hint)
        except OSError as error:
            # No descriptor, process or leaf to be had: the app goes on without this heal.
            result = Result(conclusion=Conclusion.FAILED, said=f"the heal could not be started: {error}")
        finally:
            self._session = None
            await session.end()
        if lost and not result.hint:
            result = msgspec.structs.replace(result, hint=session.last_words())
        return result, lost, session.held


def _as_it_is(job: Job) -> Job:
    return job


class _Session:
    """One heal process with everything that belongs to it."""

    def __init__(
        self, *, number: int, leaves: Leaves, app: AppControl, say: Say, roles: Callable[[str], Opening]
    ) -> None:
        self._number = number
        self._leaves = leaves
        self._app = app
        self._say = say
        self._roles = roles
        self.held = False
        self._spawned = 0
        self._members: list[_Member] = []
        self._channel: Channel | None = None
        self._roles_socket: socket.socket | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._early: list[tuple[str, dict[str, Any]]] = []
        self._conducting = False

    async def conduct(self, job: Job) -> Result:
        stream, theirs = socket.socketpair()
        roles, roles_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        roles.setblocking(False)
        self._roles_socket = roles
        heal = job.config.heal
        limit_s = heal.timeout_s + heal.probation_s + 2 * job.config.probe.startup_s + _APPLY_MARGIN_S
        handlers = {"hold_down": self._hold_down, "release": self._release, "say": self._said}
        self._channel = Channel(stream, role="supervisor", deadline_s=limit_s, handlers=handlers)
        with theirs, roles_theirs:
            self._start("heal", [theirs, roles_theirs], RolePlan(credentials=None), job.state_dir)
        asyncio.get_running_loop().add_reader(roles.fileno(), self._role_asked)
        await self._channel.start()
        # What happened while the process started is told right behind the job.
        self._conducting = True
        for what, fields in self._early:
            self.tell(what, fields)
        answer = await self._channel.call("conduct", job.encode(), timeout_s=limit_s)
        try:
            return msgspec.convert(answer.body, Result)
        except msgspec.ValidationError as error:
            raise StreamError(f"the heal's result cannot be read: {error}") from error

    def tell(self, what: str, fields: dict[str, Any]) -> None:
        if not self._conducting:
            self._early = [*self._early[-_EARLY_KEPT:], (what, fields)]
        else:
            # The loop keeps only a weak reference to a task: hold it until it ends.
            task = asyncio.get_running_loop().create_task(self._tell(what, fields))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, what: str, fields: dict[str, Any]) -> None:
        assert self._channel is not None
        # A heal that has just ended no longer listens; its result says all there is to know.
        with contextlib.suppress(StreamError):
            await self._channel.notify("seen", {"what": what, **fields})

    async def _hold_down(
        self, args: dict[str, Any], _blobs: tuple[bytes, ...]
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        self.held = True
        await self._app.hold_down(str(args.get("why", ""))[:_EVENT_TEXT])
        return {}, ()

    async def _release(
        self, args: dict[str, Any], _blobs: tuple[bytes, ...]
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        if not self.held:
            raise UsageError("the app is not held down")
        timeout_s = args.get("timeout_s")
        if not isinstance(timeout_s, int | float) or not 0 < timeout_s <= _LONGEST_RELEASE_S:
            raise UsageError(f"release needs timeout_s between 0 and {_LONGEST_RELEASE_S:.0f}")
        self.held = False
        return {"ready": await self._app.release(timeout_s=float(timeout_s))}, ()

    async def _said(self, args: dict[str, Any], _blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        name, message, fields = args.get("name"), args.get("message"), args.get("fields")
        if not (isinstance(name, str) and isinstance(message, str) and isinstance(fields, dict)):
            raise UsageError("say needs name, message and fields")
        if not name.startswith(("heal.", "repair.", "backup.")):
            raise UsageError(f"a heal does not speak of {name[:40]}")
        self._say(name[:64], message[:_EVENT_TEXT], fields)
        return {}, ()

    def _role_asked(self) -> None:
        """Answer one request on the roles socket; the descriptor travels with the answer."""
        sock = self._roles_socket
        assert sock is not None
        try:
            data = sock.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            return
        try:
            fd = self._open_role(data)
        except (WolverineError, OSError) as error:  # OSError: no descriptor is left
            ours = error if isinstance(error, WolverineError) else WolverineError(f"no role can be opened: {error}")
            answer = msgspec.json.encode({"error": ours.message, "hint": ours.hint, "kind": ours.kind})
            with contextlib.suppress(OSError):  # a heal that does not read its answers has gone or is hostile
                sock.send(answer)
            return
        with fd, contextlib.suppress(OSError):
            socket.send_fds(sock, [b'{"ok":true}'], [fd.fileno()])

    def _open_role(self, data: bytes) -> socket.socket:
        role, side = _asked(data)
        self._spawned += 1
        if self._spawned > MAX_ROLES:
            raise UsageError(f"one heal may open {MAX_ROLES} roles")
        opening = self._roles(role)
        if isinstance(opening, Door):
            return opening.connect(side)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._start(role, [theirs], opening)
            except WolverineError:
                ours.close()
                raise
        return ours

    def _start(self, role: str, sockets: list[socket.socket], plan: RolePlan, *words: str) -> None:
        with contextlib.ExitStack() as stack:
            if plan.handed is not None:
                sockets = [*sockets, stack.enter_context(_handed(plan.handed))]
            self._spawn(role, sockets, plan.credentials, words)

    def _spawn(
        self, role: str, sockets: Sequence[socket.socket], credentials: Credentials | None, words: Sequence[str]
    ) -> None:
        module = "wolverined.heal" if role == "heal" else f"wolverined.heal.{role}"
        name = f"heal-{self._number}" if role == "heal" else f"{role}-{self._number}-{self._spawned}"
        leaf = self._leaves.leaf(name)
        leaf.limit(_LIMITS[role])  # what cannot be held is said once, at the start of wolverined
        numbers = [str(sock.fileno()) for sock in sockets]
        try:
            child = spawn(
                [*module_argv(module), *numbers, *words],
                leaf=leaf,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                credentials=credentials,
                keep_fds=[sock.fileno() for sock in sockets],
                die_with_parent=True,
            )
        except WolverineError:
            leaf.remove()
            raise
        self._members.append(_Member(role, leaf, child))

    def last_words(self) -> str:
        """The last line that any of the processes printed: why it went away, most likely."""
        for member in reversed(self._members):
            if member.out_of_memory:
                return f"{member.role} was killed for want of memory"
            if words := member.last_words():
                return f"{member.role} said: {words}"
        return ""

    async def end(self) -> None:
        """Leave nothing: no process, no leaf, no descriptor."""
        if self._roles_socket is not None:
            asyncio.get_running_loop().remove_reader(self._roles_socket.fileno())
            self._roles_socket.close()
        if self._channel is not None:
            await self._channel.close()
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*(member.end() for member in self._members))


def _asked(data: bytes) -> tuple[str, str]:
    """The role, and the side of a trial, that a request names; older words name no side."""
    try:
        asked = msgspec.json.decode(data)
        role, side = asked["role"], asked.get("side", "candidate")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError('a role request is {"role": NAME, "side": SIDE}') from error
    if role not in ROLES:
        raise UsageError(f"there is no role {role!r:.80}")
    if side not in SIDES:
        raise UsageError(f"there is no side {side!r:.80}")
    return role, side


class _Member:
    """One child of a session: its leaf, its process, and the end of what it printed."""

    def __init__(self, role: str, leaf: Leaf, child: Child) -> None:
        self.role = role
        self.out_of_memory = False
        self._leaf = leaf
        self._child = child
        self._output = b""
        loop = asyncio.get_running_loop()
        for fd in (child.stdout, child.stderr):
            if fd is not None:
                loop.add_reader(fd, self._drain, fd)

    def _drain(self, fd: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(fd)
            return
        self._output = (self._output + data)[-_OUTPUT_KEPT:]

    def last_words(self) -> str:
        lines = [line for line in self._output.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else ""

    async def end(self) -> None:
        self._leaf.kill()
        await self._leaf.wait_empty(timeout_s=_END_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._child.wait(), _END_S)
        loop = asyncio.get_running_loop()
        for fd in (self._child.stdout, self._child.stderr):
            if fd is not None:
                self._drain(fd)
                loop.remove_reader(fd)
        self._child.close()
        self.out_of_memory = self._leaf.oom_kills() > 0
        self._leaf.remove()


def _handed(words: Mapping[str, str]) -> socket.socket:
    """A socket that holds `words` and ends after them; unlike a pipe it cannot be opened again through /proc."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        try:
            whole = ours.send(data := msgspec.json.encode(words)) == len(data)
        except BlockingIOError:
            whole = False
    if not whole:
        theirs.close()
        raise UsageError("the adviser's keys are far too long")
    return theirs


def plans(
    *, surgeon: Credentials | None, trial: Credentials | None, adviser: Credentials | None, keys: Mapping[str, str]
) -> Callable[[str], RolePlan]:
    """Give the lookup that `Dispatcher` wants: `keys` are handed to the adviser alone."""
    table = {
        "surgeon": RolePlan(credentials=surgeon),
        "trial": RolePlan(credentials=trial),
        "adviser": RolePlan(credentials=adviser, handed=dict(keys)),
    }
    return table.__getitem__
