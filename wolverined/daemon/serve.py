# SPDX-License-Identifier: MIT
"""Builds the rooms, connects them, runs the loop, and takes everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import random
import signal
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from wolverined import __version__
from wolverined.clock import Clock, SystemClock
from wolverined.config.environment import override
from wolverined.config.load import load
from wolverined.config.schema import Config
from wolverined.control.access import Access, machine_groups
from wolverined.control.server import SOCKET_NAME, Server
from wolverined.daemon import standing
from wolverined.daemon.desk import Desk
from wolverined.daemon.instance import Daemon
from wolverined.daemon.listener import Listener
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.places import RuntimePlace
from wolverined.daemon.service import Service
from wolverined.errors import ConfigError, Conflict, SpawnError, StoreError, TimedOut, WolverineError
from wolverined.heal import walls
from wolverined.heal.dispatch import Dispatcher, RolePlan, plans
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.hierarchy import open_hierarchy, parse_own_cgroup
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.memory import hide_memory
from wolverined.linux.notify import open_notifier
from wolverined.linux.runtime import make_private_dir, runtime_dir, state_dir
from wolverined.redact import Redactor, known_secrets
from wolverined.sense.probes import ProberFactory
from wolverined.sense.reports import ReportServer
from wolverined.store import Store
from wolverined.supervise.environment import build_environment
from wolverined.supervise.supervisor import Supervisor

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""What the adviser alone is given of our environment."""

HOUSE_S = 5.0
MEND_S = 10.0
TIDY_EVERY = 12
FAULT_EVERY_S = 60.0
SHARED_UID = (
    "the app runs as the user of wolverined itself: it can signal wolverined and read what that user can, "
    "the store included; the control socket tells them apart by process id only"
)
_FAULTS_KNOWN = 100
_HOOKS = Path(__file__).parent.parent / "hooks"
_AT_START = ("app.", "cluster.", "probe.notify")  # what an app that runs does not hear of


def main(args: SimpleNamespace) -> int:
    """Run the daemon for `wolverined run`; gives the exit code."""
    faulthandler.enable()
    try:
        return asyncio.run(_Composition(args).run())
    except WolverineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  there is no narrator yet
        return error.exit_code


class _Composition:
    """One daemon from its command line to its end."""

    def __init__(self, args: SimpleNamespace) -> None:
        self._file = Path(args.config).absolute()
        self._name = self._file.stem
        self._runtime_dir = runtime_dir(self._name, _path(args.runtime_dir))
        self._state_dir = state_dir(self._name, _path(args.state_dir))
        self._json_log = bool(args.json_log)
        self._verbose = bool(args.verbose)
        self._clock: Clock = SystemClock()
        self._environ = dict(os.environ)
        self._config, self._notes = self._load()
        self._place = RuntimePlace(self._runtime_dir, name=self._name, hooks_source=_HOOKS)
        self._reloading: set[asyncio.Task[None]] = set()
        self._secrets: dict[str, str] = {}
        self._told: set[str] = set()
        self._faults: dict[str, float] = {}
        self._dropped = 0

    def _load(self) -> tuple[Config, tuple[str, ...]]:
        loaded = load(self._file)
        config, overrides = override(loaded.config, self._environ)
        return config, (*loaded.warnings, *overrides)

    async def run(self) -> int:
        make_private_dir(self._state_dir, 0o700)
        async with contextlib.AsyncExitStack() as stack:
            hide_memory()  # the app, whose uid may be ours in a terminal, shall not read our environment
            await self._build(stack)
            return await self._serve()

    async def _build(self, stack: contextlib.AsyncExitStack) -> None:
        """Make every room; each is taken down again in the reverse order."""
        config = self._config
        credentials = Credentials.of_user(config.app.user)
        # First, because it claims the state directory: two daemons of one state would fight over app and store.
        hierarchy = open_hierarchy(self._name, state_dir=self._state_dir)
        stack.callback(hierarchy.close)
        self._store = self._open_store()
        stack.callback(self._store.close)
        self._redactor = Redactor({})
        self._learn_secrets()
        self._narrator = Narrator(
            name=self._name,
            store=self._store,
            redactor=lambda: self._redactor,
            environ=self._environ,
            as_json=self._json_log,
            verbose=self._verbose,
        )
        stack.callback(self._narrator.close)
        asyncio.get_running_loop().set_exception_handler(self._fault)
        notifier = open_notifier()
        stack.callback(notifier.close)
        self._service = Service(notifier)
        self._place.make()
        stack.callback(self._place.close)
        self._shared = SHARED_UID if credentials.uid == os.geteuid() else ""
        self._weaknesses = (*hierarchy.weaknesses, *walls.weaknesses())
        self._say_start()
        self._listener = Listener(
            app_root=lambda: str(self._config.app.directory),
            narrator=self._narrator,
            redactor=lambda: self._redactor,
        )
        self._supervisor = Supervisor(
            config=config,
            hierarchy=hierarchy,
            clock=self._clock,
            listener=self._listener,
            runtime_dir=self._runtime_dir,
            rng=random.Random(),  # noqa: S311  jitter, no secret
            hooks_dir=self._place.hooks,
            prober_factory=ProberFactory(),
        )
        stack.push_async_callback(self._supervisor.close)
        self._listener.on_start = self._learn_secrets
        self._listener.service = self._service
        self._reports = ReportServer(
            self._place.app / "report.sock",
            app_uid=credentials.uid,
            on_crash=self._listener.crash_report,
            generation=lambda: self._listener.generation,
        )
        await stack.enter_async_context(self._reports)
        self._listener.hear_reports = self._reports.hear
        dispatcher = Dispatcher(
            leaves=hierarchy,
            app=self._supervisor,
            say=self._heal_says,
            roles=lambda role: self._role_plan(role, credentials),
            torn=lambda: standing.torn(self._store),
        )
        desk = Desk(
            name=self._name,
            config=lambda: self._config,
            state_dir=self._state_dir,
            store=self._store,
            narrator=self._narrator,
            dispatcher=dispatcher,
            clock=self._clock,
            environment=lambda: self._app_environment(credentials, generation=self._supervisor.generation),
            hide=(str(self._state_dir), str(self._runtime_dir)),
            hooks=str(self._place.hooks),
            healing=self._supervisor.healing,
            serving=lambda: self._supervisor.status()["ready_since"] is not None,
            ai=bool(self._environ.get("OPENAI_API_KEY")),
        )
        stack.push_async_callback(desk.close)
        self._listener.desk, self._listener.dispatcher = desk, dispatcher
        self._desk = desk
        self._daemon = Daemon(
            name=self._name,
            version=__version__,
            config=lambda: self._config,
            state_dir=self._state_dir,
            supervisor=self._supervisor,
            desk=desk,
            store=self._store,
            narrator=self._narrator,
            clock=self._clock,
            reload=self._reload,
            weaknesses=self._weak_points,
        )
        stack.push_async_callback(self._daemon.close)
        own = os.geteuid()
        access = Access(
            app_uid=credentials.uid,
            own_uid=own,
            run_as_user=own != 0,
            in_app_tree=lambda pid: _is_ours(hierarchy, pid),
            groups=machine_groups(),
        )
        self._server = Server(self._daemon, self._runtime_dir / SOCKET_NAME, access)
        await self._server.start()
        stack.push_async_callback(self._server.close)

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        work = [
            asyncio.create_task(self._supervisor.run()),
            asyncio.create_task(self._main_line()),
            asyncio.create_task(ended.wait()),
            asyncio.create_task(self._service.beat(self._store.settle)),
        ]
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        self._service.stopping()
        self._narrator.tell("daemon.stopping", "wolverined ends, and the app with it")
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return 0

    async def _main_line(self) -> None:
        """Recover, start the app, then keep house for ever."""
        await self._until_predecessor_is_gone()
        await self._make_whole()
        async with self._unharmed("earlier incidents are not seen to"):
            self._desk.resume()  # before the start, so that whoever watches a repair misses nothing of it
        async with self._unharmed("the app is not ready"):
            await self._supervisor.start()
        self._service.ready()
        beats = 0
        while True:
            await asyncio.sleep(HOUSE_S)
            beats += 1
            async with self._unharmed("the runtime directory cannot be made anew", once=True):
                await self._mend_place()
            if beats % TIDY_EVERY == 0:
                self._tell_dropped()
                async with self._unharmed("the store is not tidied", once=True):
                    await self._desk.tidy()

    def _tell_dropped(self) -> None:
        """Tell what the app said on its report socket too fast, or not as agreed, since this was told last."""
        counts = self._reports.counts
        dropped = counts.too_fast + counts.too_long + counts.malformed
        if dropped > self._dropped:
            words = f"{dropped - self._dropped} lines on the app's report socket were too many, too long or no JSON"
            self._narrator.tell("reports.dropped", words, severity="warn", fields=msgspec.to_builtins(counts))
        self._dropped = dropped

    async def _make_whole(self) -> None:
        """Finish or undo what an earlier heal left; the app is never started on half a tree, not even by a command."""
        held = False
        while not await self._is_whole():
            if not held:
                held = True
                await self._supervisor.hold_down("its source may be half changed")
                words = "the source may be half changed; the app stays down until it is whole"
                self._say_fault(words, severity="critical")
                self._service.ready()
            await asyncio.sleep(MEND_S)
        if held:
            with contextlib.suppress(WolverineError):  # it is started next in any case
                await self._supervisor.release(timeout_s=1.0)

    async def _is_whole(self) -> bool:
        self._whole = False  # unless it is known to be
        async with self._unharmed("what an earlier heal left could not be finished", once=True):
            await self._desk.recover()
        async with self._unharmed("whether the source is whole cannot be read", once=True):
            self._whole = not self._desk.torn
        return self._whole

    async def _until_predecessor_is_gone(self) -> None:
        """Nothing is recovered or started beside what a killed predecessor left: it may still be writing."""
        while True:
            try:
                return await self._supervisor.until_prepared()
            except TimedOut as error:
                self._say_fault(error.message, severity="critical")

    @contextlib.asynccontextmanager
    async def _unharmed(self, what: str, *, once: bool = False) -> AsyncIterator[None]:
        """Go on after a fault, and tell it (`once`: until it is over); supervision ends for nobody's fault."""
        try:
            yield
        except (Conflict, SpawnError, TimedOut):
            pass  # the app's state says so already, or somebody else is at it
        except Exception as error:
            # Whatever room it came from: the app is supervised all the same.
            if what not in self._told:
                self._say_fault(f"{what}: {error}")
            if once:
                self._told.add(what)
        else:
            self._told.discard(what)

    def _say_fault(self, words: str, *, severity: str = "error") -> None:
        self._narrator.tell("daemon.fault", words, severity=severity)

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught becomes an event, and its trace goes to stderr for whoever asked for traces."""
        error = context.get("exception")
        words = f"{context['message']}: {type(error).__name__}: {error}" if error else str(context["message"])
        now = self._clock.monotonic()
        if now - self._faults.get(words, -FAULT_EVERY_S) < FAULT_EVERY_S:
            return
        if len(self._faults) >= _FAULTS_KNOWN:
            self._faults.clear()
        self._faults[words] = now
        self._say_fault(words)
        if error is not None and self._environ.get("WOLVERINE_TRACEBACK"):
            traceback.print_exception(error)

    async def _mend_place(self) -> None:
        """Make the runtime directory and the sockets in it anew when somebody removed them."""
        if self._place.there() and self._server.there() and self._reports.there():
            return
        await self._reports.close()
        await self._server.close()
        self._place.make()
        await self._reports.start()
        await self._server.start()
        self._narrator.tell("daemon.mended", f"{self._runtime_dir} had been removed and was made anew", severity="warn")

    def _hang_up(self) -> None:
        """SIGHUP means reload, as everywhere."""
        task = asyncio.get_running_loop().create_task(self._reload_and_tell())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload_and_tell(self) -> None:
        with contextlib.suppress(ConfigError):  # told as an event already
            await self._reload()
        async with self._unharmed("the runtime directory cannot be made anew", once=True):
            await self._mend_place()

    async def _reload(self) -> dict[str, Any]:
        """Read the file again; a bad one changes nothing."""
        with self._service.reloading():
            return self._reloaded()

    def _reloaded(self) -> dict[str, Any]:
        try:
            config, notes = self._load()
            _refuse_what_needs_a_start(self._config, config)
        except ConfigError as error:
            self._narrator.tell("config.rejected", f"the old configuration stays: {error}", severity="error")
            raise
        changed = differences(self._config, config)
        self._config, self._notes = config, notes
        self._learn_secrets()
        runs = self._supervisor.status()["pid"] is not None
        self._supervisor.reconfigure(config)
        words = ", ".join(f"{one['key']} {one['old']} -> {one['new']}" for one in changed)
        later = runs and any(one["key"].startswith(_AT_START) for one in changed)
        told = f"{words}; the app gets it at its next start" if later else words or "nothing has changed"
        self._narrator.tell("config.reloaded", told)
        return {"changed": changed, "warnings": list(notes), "restart_needed": later}

    def _open_store(self) -> Store:
        try:
            return Store.open(self._state_dir, clock=self._clock, hasty=True)
        except StoreError as error:
            # Supervision goes on without a memory; the event and `status` say so.
            return Store.volatile(clock=self._clock, why=str(error))

    def _app_environment(self, credentials: Credentials, *, generation: int) -> dict[str, str]:
        return build_environment(
            self._config,
            credentials=credentials,
            generation=generation,
            runtime_dir=self._runtime_dir,
            base=self._environ,
        )

    def _learn_secrets(self) -> None:
        """Know the secrets of the environment as it is now, and those of the one before."""
        ours = {name: self._environ[name] for name in KEYS if self._environ.get(name)}
        try:
            app = self._app_environment(Credentials.of_user(self._config.app.user), generation=0)
        except SpawnError:
            app = {}  # the environment file is wrong: the app cannot start with it either, and that is told then
        found = known_secrets({**app, **ours})
        if found.items() <= self._secrets.items():
            return
        # A key that was changed still stands in what the app said before.
        earlier = {f"{name}_EARLIER": value for name, value in self._secrets.items() if name in found}
        self._secrets = {**self._secrets, **earlier, **found}
        self._redactor = Redactor(self._secrets)

    def _role_plan(self, role: str, credentials: Credentials) -> RolePlan:
        """As whom a role runs, by the configuration in force when it is asked for."""
        if os.geteuid() != 0:
            return plans(surgeon=None, trial=None, adviser=None, keys=self._keys())(role)
        surgeon = Credentials.of_user(self._config.heal.apply_as)
        adviser = walls.credentials_of_adviser(taken={credentials.uid, surgeon.uid})
        return plans(surgeon=surgeon, trial=credentials, adviser=adviser, keys=self._keys())(role)

    def _keys(self) -> dict[str, str]:
        """What the adviser is given; `[ai] base_url` travels this way too, never with a heal's words."""
        keys = {name: self._environ[name] for name in KEYS if self._environ.get(name)}
        return keys | ({"OPENAI_BASE_URL": self._config.ai.base_url} if self._config.ai.base_url else {})

    def _heal_says(self, name: str, message: str, fields: dict[str, Any]) -> None:
        incident, repair = str(fields.get("incident", "")), str(fields.get("repair", ""))
        severity = str(fields.get("severity", "info"))
        self._narrator.tell(name, message, severity=severity, fields=fields, incident=incident, repair=repair)

    def _weak_points(self) -> tuple[str, ...]:
        """What is weaker now than it could be."""
        lost = "" if self._store.durable else "nothing is written to disk: incidents and repairs end with wolverined"
        hooks = self._place.without_hooks
        blind = f"crashes are not told with their requests: no reporters ({hooks})" if hooks else ""
        return tuple(one for one in (*self._weaknesses, self._shared, lost, blind, *self._notes) if one)

    def _say_start(self) -> None:
        heal = self._config.heal
        for event in self._store.events.last(1):
            if event.name.startswith("store."):  # told by the store before there was a mouth to tell it
                self._narrator.publish(event)
        self._narrator.tell("daemon.started", f"wolverined {__version__} supervises {self._name} from {self._file}")
        for weakness in self._weak_points():
            self._narrator.tell("daemon.weaker", weakness, severity="warn")
        where = self._config.ai.base_url or "the OpenAI endpoint"
        sends = (
            f"source may be sent to {where}" if self._environ.get("OPENAI_API_KEY") else "no source leaves this machine"
        )
        self._narrator.tell("daemon.policy", f"heal.policy is {heal.policy.value}; {sends}")


def _is_ours(hierarchy: Hierarchy, pid: int) -> bool:
    """Whether a pid belongs to a process that we started; a pid that is gone counts as ours: it cannot be asked."""
    text = proc.read(f"/proc/{pid}/cgroup")
    cgroup = parse_own_cgroup(text) if text is not None else None
    return text is None or hierarchy.owns(cgroup=cgroup or "", pid=pid)


def _path(argument: str) -> Path | None:
    return Path(argument).absolute() if argument else None


def _refuse_what_needs_a_start(old: Config, new: Config) -> None:
    """The app's user decides who may speak to whom; that is laid down when wolverined starts."""
    if new.app.user != old.app.user:
        raise ConfigError(
            f"app.user is now {new.app.user!r}, and {old.app.user!r} is in force",
            hint="stop wolverined and start it again: the user of the app does not change while it runs",
        )


def differences(old: Config, new: Config) -> list[dict[str, str]]:
    """Which keys differ, each with its old and new value as text; values of environments stay unsaid."""
    before: dict[str, Any] = msgspec.to_builtins(old, enc_hook=str)
    after: dict[str, Any] = msgspec.to_builtins(new, enc_hook=str)
    found: list[dict[str, str]] = []
    _compare("", before, after, found)
    return found


def _compare(path: str, old: Any, new: Any, found: list[dict[str, str]]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(f"{path}.{key}" if path else key, old.get(key), new.get(key), found)
    elif old != new:
        secret = ".environment." in f".{path}."
        found.append({"key": path, "old": "…" if secret else _short(old), "new": "…" if secret else _short(new)})


def _short(value: Any) -> str:
    text = "absent" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  a terminal's width
