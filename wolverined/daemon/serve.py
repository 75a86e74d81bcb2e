# SPDX-License-Identifier: MIT
"""Builds the rooms, connects them, runs the loop, and takes everything down again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import faulthandler
import grp
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from wolverined import __version__
from wolverined.clock import Clock, SystemClock
from wolverined.config.environment import override
from wolverined.config.load import load
from wolverined.config.schema import Config
from wolverined.control.access import ADMIN_GROUP, VIEW_GROUP, Access, GroupIds
from wolverined.control.server import SOCKET_NAME, Server
from wolverined.daemon.desk import Desk
from wolverined.daemon.instance import Daemon
from wolverined.daemon.listener import Listener
from wolverined.daemon.narrator import Narrator
from wolverined.errors import ConfigError, Conflict, StoreError, WolverineError
from wolverined.heal.dispatch import Dispatcher, plans
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.hierarchy import open_hierarchy, parse_own_cgroup
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.notify import open_notifier
from wolverined.linux.runtime import make_private_dir, runtime_dir, state_dir
from wolverined.model import Request
from wolverined.redact import Redactor, known_secrets
from wolverined.sense.probes import ProberFactory
from wolverined.sense.reports import ReportServer
from wolverined.store import Store
from wolverined.supervise.environment import build_environment
from wolverined.supervise.supervisor import Supervisor

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""What the adviser alone is given of our environment."""

TIDY_S = 60.0
_HOOK_FILES = (".cjs", ".mjs", ".py")
_PR_SET_DUMPABLE = 4


def main(args: argparse.Namespace) -> int:
    """Run the daemon for `wolverined run`; gives the exit code."""
    faulthandler.enable()
    try:
        return asyncio.run(_Composition(args).run())
    except WolverineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  there is no narrator yet
        return error.exit_code


class _Composition:
    """One daemon from its command line to its end."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._file = Path(args.config).absolute()
        self._name = self._file.stem
        self._runtime_dir = runtime_dir(self._name, _path(args.runtime_dir))
        self._state_dir = state_dir(self._name, _path(args.state_dir))
        self._json_log = bool(args.json_log)
        self._clock: Clock = SystemClock()
        self._environ = dict(os.environ)
        self._config, self._notes = self._load()

    def _load(self) -> tuple[Config, tuple[str, ...]]:
        loaded = load(self._file)
        config, overrides = override(loaded.config, self._environ)
        return config, (*loaded.warnings, *overrides)

    async def run(self) -> int:
        make_private_dir(self._state_dir, 0o700)
        async with contextlib.AsyncExitStack() as stack:
            _hide_environment()
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
        self._redactor = self._make_redactor(credentials)
        self._narrator = Narrator(
            name=self._name,
            store=self._store,
            redactor=lambda: self._redactor,
            environ=self._environ,
            as_json=self._json_log,
        )
        stack.callback(self._narrator.close)
        self._notifier = open_notifier()
        stack.callback(self._notifier.close)
        self._make_runtime_dir()
        self._say_start(hierarchy.weaknesses)
        app_root = str(config.app.directory)
        self._listener = Listener(app_root=app_root, narrator=self._narrator, redactor=lambda: self._redactor)
        self._supervisor = Supervisor(
            config=config,
            hierarchy=hierarchy,
            clock=self._clock,
            listener=self._listener,
            runtime_dir=self._runtime_dir,
            rng=random.Random(),  # noqa: S311  jitter, no secret
            hooks_dir=self._hooks_dir(),
            prober_factory=ProberFactory(),
        )
        stack.push_async_callback(self._supervisor.close)
        self._listener.backoff_s = self._backoff_s
        reports = ReportServer(
            self._runtime_dir / "app" / "report.sock",
            app_uid=credentials.uid,
            on_crash=self._listener.crash_report,
            generation=lambda: self._supervisor.generation,
            redact=self._redact_request,
            redact_text=self._redact_text,
        )
        await stack.enter_async_context(reports)
        self._listener.reports_settle = reports.settle
        dispatcher = Dispatcher(
            leaves=hierarchy, app=self._supervisor, say=self._heal_says, roles=self._role_plans(credentials)
        )
        desk = Desk(
            name=self._name,
            config=lambda: self._config,
            state_dir=self._state_dir,
            store=self._store,
            narrator=self._narrator,
            dispatcher=dispatcher,
            clock=self._clock,
            environment=lambda: self._app_environment(credentials),
            hide=(str(self._state_dir), str(self._runtime_dir)),
            hooks=str(self._hooks_dir()),
            healing=self._supervisor.healing,
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
        )
        stack.push_async_callback(self._daemon.close)
        own = os.geteuid()
        access = Access(
            app_uid=credentials.uid,
            own_uid=own,
            run_as_user=own != 0,
            in_app_tree=lambda pid: _is_ours(hierarchy, pid),
            groups=GroupIds(admin=_gid(ADMIN_GROUP), view=_gid(VIEW_GROUP)),
        )
        server = Server(self._daemon, self._runtime_dir / SOCKET_NAME, access)
        await server.start()
        stack.push_async_callback(server.close)

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
        ]
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        self._notifier.stopping()
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
        await self._desk.recover()
        with contextlib.suppress(WolverineError):
            # What is wrong with the start is an event and an incident already; we go on supervising.
            await self._supervisor.start()
        self._notifier.ready()
        await self._desk.resume()
        while True:
            await asyncio.sleep(TIDY_S)
            with contextlib.suppress(StoreError, Conflict):
                await self._desk.tidy()

    def _hang_up(self) -> None:
        """SIGHUP means reload, as everywhere."""
        self._reloading = asyncio.get_running_loop().create_task(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        with contextlib.suppress(WolverineError):
            await self._reload()

    async def _reload(self) -> dict[str, Any]:
        """Read the file again; a bad one changes nothing."""
        try:
            config, notes = self._load()
        except ConfigError as error:
            self._narrator.tell("config.rejected", f"the old configuration stays: {error.message}", severity="error")
            raise
        changed = differences(self._config, config)
        self._config, self._notes = config, notes
        self._supervisor.reconfigure(config)
        words = ", ".join(f"{one['key']} {one['old']} -> {one['new']}" for one in changed)
        self._narrator.tell("config.reloaded", words or "nothing has changed")
        return {"changed": changed, "warnings": list(notes)}

    def _open_store(self) -> Store:
        try:
            return Store.open(self._state_dir, clock=self._clock)
        except StoreError as error:
            # Supervision goes on without a memory; the event and `status` say so.
            return Store.volatile(clock=self._clock, why=str(error))

    def _app_environment(self, credentials: Credentials) -> dict[str, str]:
        return build_environment(
            self._config,
            credentials=credentials,
            generation=self._supervisor.generation,
            runtime_dir=self._runtime_dir,
            base=self._environ,
        )

    def _make_redactor(self, credentials: Credentials) -> Redactor:
        environment = build_environment(
            self._config, credentials=credentials, generation=0, runtime_dir=self._runtime_dir, base=self._environ
        )
        ours = {name: self._environ[name] for name in KEYS if self._environ.get(name)}
        return Redactor(known_secrets({**environment, **ours}))

    def _make_runtime_dir(self) -> None:
        """Make our directory and the app's corner in it, with the reporters where the app's user can read them.

        A reporter that Node cannot read ends the app at its start, and the package may lie below a home
        that other users cannot enter: so the app gets copies.
        """
        make_private_dir(self._runtime_dir, 0o711)
        make_private_dir(self._runtime_dir / "app", 0o711)
        source = Path(__file__).parent.parent / "hooks"
        for file in sorted(source.rglob("*")):
            if file.suffix in _HOOK_FILES:
                target = self._hooks_dir() / file.relative_to(source)
                for directory in (self._hooks_dir(), target.parent):
                    make_private_dir(directory, 0o755)
                target.write_bytes(file.read_bytes())
                target.chmod(0o644)

    def _backoff_s(self) -> float:
        until = self._supervisor.status()["backoff_until"]
        return until - self._clock.wall() if isinstance(until, float) else 0.0

    def _redact_request(self, request: Request) -> Request:
        return self._redactor.request(request)  # the redactor of the moment: a reload may change it

    def _redact_text(self, text: str) -> str:
        return self._redactor.text(text)

    def _hooks_dir(self) -> Path:
        return self._runtime_dir / "app" / "hooks"

    def _role_plans(self, credentials: Credentials) -> Any:
        root = os.geteuid() == 0
        return plans(
            surgeon=Credentials.of_user(self._config.heal.apply_as) if root else None,
            trial=credentials if root else None,
            adviser=None,
            keys=self._keys(),
        )

    def _keys(self) -> dict[str, str]:
        """What the adviser is given; `[ai] base_url` travels this way too, never with a heal's words."""
        keys = {name: self._environ[name] for name in KEYS if self._environ.get(name)}
        return keys | ({"OPENAI_BASE_URL": self._config.ai.base_url} if self._config.ai.base_url else {})

    def _heal_says(self, name: str, message: str, fields: dict[str, Any]) -> None:
        incident, repair = str(fields.get("incident", "")), str(fields.get("repair", ""))
        severity = str(fields.get("severity", "info"))
        self._narrator.tell(name, message, severity=severity, fields=fields, incident=incident, repair=repair)

    def _say_start(self, weaknesses: tuple[str, ...]) -> None:
        heal = self._config.heal
        self._narrator.tell("daemon.started", f"wolverined {__version__} supervises {self._name} from {self._file}")
        for weakness in (*weaknesses, *self._notes):
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


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _hide_environment() -> None:
    """Keep /proc/PID/environ and /proc/PID/mem from the app, whose uid may be ours in a terminal.

    prctl(2), PR_SET_DUMPABLE: a process that is not dumpable has its /proc files owned by root.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


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
