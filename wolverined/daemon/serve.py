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
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from wolverined import __version__
from wolverined.clock import Clock, SystemClock
from wolverined.control.access import Access, machine_groups
from wolverined.control.listener import adopt
from wolverined.control.server import SOCKET_NAME, Server
from wolverined.daemon import ownsource, standing
from wolverined.daemon.caught import Caught
from wolverined.daemon.desk import Desk
from wolverined.daemon.faults import Faults
from wolverined.daemon.hints import Hints
from wolverined.daemon.inforce import InForce
from wolverined.daemon.instance import Daemon
from wolverined.daemon.knowledge import Secrets
from wolverined.daemon.listener import Listener
from wolverined.daemon.mainline import MainLine
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.overheard import Overheard
from wolverined.daemon.places import RuntimePlace
from wolverined.daemon.reloading import Reloading
from wolverined.daemon.service import Service
from wolverined.daemon.setting import Setting, service, terminal
from wolverined.daemon.signals import Signals
from wolverined.errors import ConfigError, Conflict, StoreError, UsageError, WolverineError
from wolverined.heal.dispatch import Dispatcher, Opening
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.hierarchy import parse_own_cgroup, resume_hierarchy
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.notify import kept_for_us, open_notifier
from wolverined.sense.probes import ProberFactory
from wolverined.sense.reports import ReportServer
from wolverined.store import Store
from wolverined.supervise.environment import build_environment
from wolverined.supervise.supervisor import Supervisor

if TYPE_CHECKING:
    from wolverined.daemon.inheritance import Inherited
    from wolverined.daemon.reexec import Reexec
    from wolverined.daemon.rooms import Rooms

SHARED_UID = (
    "the app runs as the user of wolverined itself: it can signal wolverined and read what that user can, "
    "the store included; the control socket tells them apart by process id only"
)
REST_S = 1.0
"""How long a service that could not even begin rests before it ends: PID 1, which starts an app that was fine
anew at once, would try it many times a second."""
_HOOKS = Path(__file__).parent.parent / "hooks"


def main(args: SimpleNamespace) -> int:
    """Run the daemon; gives the exit code."""
    faulthandler.enable()
    ownsource.keep()
    inherited, began = None, time.monotonic()
    try:
        inherited = _inherited(hide=args.command != "service")
        setting = service(args) if args.command == "service" else terminal(args)
        composition = _Composition(setting, inherited)
        if inherited is not None and inherited.checking:
            return composition.check(inherited)
        return asyncio.run(composition.run())
    except WolverineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  there is no narrator yet
        if args.command == "service" and isinstance(error, UsageError):
            return ConfigError.exit_code  # no other start mends it, and this number keeps PID 1 from one
        if args.command == "service" and inherited is None and error.exit_code != ConfigError.exit_code:
            time.sleep(REST_S)
        return error.exit_code
    except Exception:
        if args.command == "service" and inherited is None:  # at once when it lived: an app that was fine waits for it
            time.sleep(max(0.0, REST_S - (time.monotonic() - began)))
        raise


def _inherited(*, hide: bool) -> Inherited | None:
    """What a predecessor in this very process left us; mostly there was none."""
    if "WOLVERINE_HANDOVER" not in os.environ:
        return None
    from wolverined.daemon.inheritance import inherit  # noqa: PLC0415 - only who takes over needs it

    return inherit(os.environ, hide=hide)


class _Composition:
    """One daemon from its setting to its end.

    Args:
        setting: What kind of place it lives in.
        inherited: What a predecessor in this very process left.
    """

    def __init__(self, setting: Setting, inherited: Inherited | None = None) -> None:
        self._setting = setting
        self._inherited = inherited
        self._handed = inherited.handover if inherited is not None else None
        self._reexec: Reexec | None = None
        self._clock: Clock = SystemClock()
        self._force = InForce(setting.load)
        self._ended = asyncio.Event()
        self._asking: set[asyncio.Task[dict[str, Any]]] = set()
        self._place = RuntimePlace(setting.runtime_dir, name=setting.name, hooks_source=_HOOKS)

    async def run(self) -> int:
        self._setting.settle()
        async with contextlib.AsyncExitStack() as stack:
            await self._build(stack)
            return await self._serve()

    async def _build(self, stack: contextlib.AsyncExitStack) -> None:
        """Make every room; each is taken down again in the reverse order."""
        self._credentials = Credentials.of_user(self._force.config.app.user)
        # First, because it claims the state directory: two daemons of one state would fight over app and store.
        handed, setting = self._handed, self._setting
        self._hierarchy = (
            setting.hierarchy()
            if handed is None
            else resume_hierarchy(handed.hierarchy, name=setting.name, state_dir=setting.state_dir)
        )
        stack.callback(self._hierarchy.close)
        self._build_voice(stack)
        if handed is not None:
            self._place.adopt(handed.place)
        self._place.make()
        stack.callback(self._place.close)
        self._shared = SHARED_UID if self._credentials.uid == os.geteuid() else ""
        if handed is None:
            self._say_start()
        await self._build_supervision(stack)
        self._build_healing(stack)
        await self._build_control(stack)
        if self._inherited is not None:
            from wolverined.daemon.takeover import take_over  # noqa: PLC0415 - only who takes over needs it

            take_over(self._inherited, self._rooms(), clock=self._clock, stack=stack)

    def _build_voice(self, stack: contextlib.AsyncExitStack) -> None:
        """The store, what is known of secrets, and the mouth, which needs both; who hears of us outside."""
        setting = self._setting
        self._store = self._open_store()
        stack.callback(self._store.close)
        self._secrets = Secrets(ours=setting.secrets, environment=self._app_environment)
        if self._inherited is not None:
            self._secrets.adopt(self._inherited.known)
        self._secrets.learn()
        self._narrator = Narrator(
            name=setting.name,
            store=self._store,
            redactor=lambda: self._secrets.redactor,
            environ=setting.environ,
            as_json=setting.as_json,
            verbose=setting.verbose,
        )
        stack.callback(self._narrator.close)
        if setting.letters is not None:
            self._build_post(setting.letters, stack)
        self._faults = Faults(self._narrator, clock=self._clock, environ=setting.environ)
        asyncio.get_running_loop().set_exception_handler(self._faults.uncaught)
        notifier = open_notifier()
        stack.callback(notifier.close)
        self._service = Service(notifier)
        self._beating = asyncio.create_task(self._service.beat(self._store.settle))
        stack.push_async_callback(_end, self._beating)

    def _build_post(self, notifier: Path, stack: contextlib.AsyncExitStack) -> None:
        """Whom we tell what deserves a human."""
        from wolverined.alerts.post import PostOffice  # noqa: PLC0415 - a terminal does without it

        def failed(why: str) -> None:
            words = f"{why}; /etc/wolverine/credentials/notify-urls says whom to tell"
            self._narrator.tell("alert.failed", words, severity="warn")

        post = PostOffice(
            app=self._setting.name,
            host=os.uname().nodename,
            min_severity=lambda: self._force.config.alerts.min_severity,
            monotonic=self._clock.monotonic,
            failed=failed,
            path=notifier,
        )
        self._narrator.overheard = post.event
        stack.push_async_callback(post.close)

    async def _build_supervision(self, stack: contextlib.AsyncExitStack) -> None:
        self._listener = Listener(
            app_root=lambda: str(self._force.config.app.directory),
            narrator=self._narrator,
            redactor=lambda: self._secrets.redactor,
        )
        self._supervisor = Supervisor(
            config=self._force.config,
            hierarchy=self._hierarchy,
            clock=self._clock,
            listener=self._listener,
            runtime_dir=self._setting.runtime_dir,
            rng=random.Random(),  # noqa: S311  jitter, no secret
            hooks_dir=self._place.hooks,
            prober_factory=ProberFactory(),
        )
        stack.push_async_callback(self._supervisor.close)
        self._listener.on_start = self._secrets.learn
        self._listener.service = self._service
        self._listener.hints = Hints(name=self._setting.name, narrator=self._narrator, app=self._who_and_where)
        self._reports = ReportServer(
            self._place.app / "report.sock",
            app_uid=self._credentials.uid,
            on_crash=self._listener.crash_report,
            on_report=self._listener.report,
            generation=lambda: self._listener.generation,
        )
        if self._handed is not None and self._handed.reports is not None:
            self._reports.adopt(self._handed.reports)
        else:
            await self._reports.start()
        stack.push_async_callback(self._reports.close)
        self._listener.hear_reports = self._reports.hear

    def _build_healing(self, stack: contextlib.AsyncExitStack) -> None:
        setting = self._setting
        self._dispatcher = Dispatcher(
            leaves=self._hierarchy,
            app=self._supervisor,
            say=self._heal_says,
            roles=self._role_plan,
            torn=lambda: standing.torn(self._store),
        )
        self._desk = Desk(
            name=setting.name,
            config=lambda: self._force.config,
            state_dir=setting.state_dir,
            store=self._store,
            narrator=self._narrator,
            dispatcher=self._dispatcher,
            clock=self._clock,
            environment=self._app_environment,
            hide=(str(setting.state_dir), str(setting.runtime_dir)),
            hooks=str(self._place.hooks),
            healing=self._supervisor.healing,
            serving=lambda: self._supervisor.status()["ready_since"] is not None,
            ai=lambda: bool(setting.endpoint(self._force.config)),
        )
        stack.push_async_callback(self._desk.close)
        self._listener.desk, self._listener.dispatcher = self._desk, self._dispatcher
        self._build_monitor(stack)

    def _build_monitor(self, stack: contextlib.AsyncExitStack) -> None:
        """Who hears what the living app tells of itself."""
        listener, ring = self._listener, self._supervisor.ring
        caught = self._caught = listener.caught = Caught(
            rules=lambda: self._force.config.errors,
            incidents=lambda: self._store.incidents,
            take=listener.take,
            tell_heal=listener.tell_heal,
            healing=lambda: bool(self._desk.current),
            app_root=lambda: str(self._force.config.app.directory),
            redactor=lambda: self._secrets.redactor,
            tail=ring.tail,
            generation=lambda: listener.generation,
            wall=self._clock.wall,
        )
        self._dispatcher.equip = caught.equip
        stack.callback(caught.close)
        hooks = () if self._place.hooks is None else (str(self._place.hooks),)
        overheard = listener.overheard = Overheard(
            app_root=lambda: str(self._force.config.app.directory), hooks=hooks, take=caught.take
        )
        stack.callback(overheard.close)

    async def _build_control(self, stack: contextlib.AsyncExitStack) -> None:
        setting = self._setting
        self._reloading = Reloading(
            force=self._force,
            supervisor=self._supervisor,
            secrets=self._secrets,
            service=self._service,
            narrator=self._narrator,
            after_signal=self._mend_place,
        )
        self._daemon = daemon = Daemon(
            name=setting.name,
            version=__version__,
            config=lambda: self._force.config,
            state_dir=setting.state_dir,
            supervisor=self._supervisor,
            desk=self._desk,
            store=self._store,
            narrator=self._narrator,
            clock=self._clock,
            reload=self._reloading.reload,
            reexec=self._reexecute,
            reports=self._caught.told,
            weaknesses=self._weak_points,
        )
        stack.push_async_callback(daemon.close)
        access = Access(
            app_uid=self._credentials.uid,
            own_uid=os.geteuid(),
            run_as_user=setting.operator_is_us,
            in_app_tree=lambda pid: _is_ours(self._hierarchy, pid),
            groups=machine_groups(),
        )
        kept = self._service.keep_control if setting.restarted else None
        path = setting.runtime_dir / SOCKET_NAME
        self._server = server = Server(daemon, path, access, kept=kept)
        fd = self._service.kept_control(kept_for_us())
        if self._handed is not None:
            await server.adopt(self._handed.server)
        else:
            await server.start(adopt(fd, path) if fd is not None else None)
        stack.push_async_callback(server.close)
        self._main_line = MainLine(
            supervisor=self._supervisor,
            desk=self._desk,
            service=self._service,
            narrator=self._narrator,
            faults=self._faults,
            place=self._place,
            server=server,
            reports=self._reports,
        )

    async def _serve(self) -> int:
        ended = self._ended
        self._signals = Signals(
            {
                signal.SIGTERM: ended.set,
                signal.SIGINT: ended.set,
                signal.SIGHUP: self._reloading.hang_up,
                signal.SIGUSR2: self._reexec_asked,
            }
        )
        work = [
            asyncio.create_task(self._supervisor.run()),
            asyncio.create_task(self._main_line.run()),
            asyncio.create_task(ended.wait()),
        ]
        # The beat goes on until all is taken down: the manager is asked for the time that it takes.
        done, _ = await asyncio.wait([*work, self._beating], return_when=asyncio.FIRST_COMPLETED)
        if self._reexec is not None:
            await self._reexec.close()
        self._service.stopping()
        self._narrator.tell("daemon.stopping", "wolverined ends, and the app with it")
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return 0

    def check(self, inherited: Inherited) -> int:
        """Whether this program could take over what another hands it; the configuration has been read.

        Raises:
            ConfigError: Not with this configuration.
            Unusable: Not this state.
            StoreError: Not this store.
        """
        from wolverined.daemon.takeover import check  # noqa: PLC0415 - only who is asked needs it

        check(inherited, self._force.config, self._setting)
        return 0

    async def _reexecute(self, change: str = "") -> dict[str, Any]:
        """Replace this program by the one on disk, for the change of that id."""
        if self._reexec is None:
            try:
                self._reexec = self._make_reexec()
            except Exception as error:
                # Whatever it is, in code that came late: who asked by a signal hears of it by the event alone.
                words = f"wolverined is not replaced, and goes on: {type(error).__name__}: {error}"
                hint = self._setting.renewal
                self._narrator.tell("reexec.refused", f"{words}; hint: {hint}", severity="error")
                raise Conflict(words, hint=hint) from error
        return await self._reexec.ask(change)

    def _make_reexec(self) -> Reexec:
        from wolverined.daemon.reexec import Reexec  # noqa: PLC0415 - few ever need it; see `ownsource`

        return Reexec(
            self._rooms(),
            signals=self._signals,
            ended=self._ended,
            clock=self._clock,
            hint=self._setting.renewal,
        )

    def _reexec_asked(self) -> None:
        """SIGUSR2 asks for it; what comes of it is told as an event."""
        task = asyncio.get_running_loop().create_task(self._reexecute())
        self._asking.add(task)
        task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # told as an event already

    def _rooms(self) -> Rooms:
        from wolverined.daemon.rooms import Rooms  # noqa: PLC0415 - few ever need it; see `ownsource`

        return Rooms(
            force=self._force,
            hierarchy=self._hierarchy,
            place=self._place,
            store=self._store,
            known=self._secrets,
            narrator=self._narrator,
            service=self._service,
            supervisor=self._supervisor,
            listener=self._listener,
            desk=self._desk,
            dispatcher=self._dispatcher,
            reports=self._reports,
            server=self._server,
            changes=self._daemon.changes,
            main_line=self._main_line,
        )

    def _open_store(self) -> Store:
        try:
            return Store.open(self._setting.state_dir, clock=self._clock, hasty=True)
        except StoreError as error:
            # Supervision goes on without a memory; the event and `status` say so.
            return Store.volatile(clock=self._clock, why=str(error))

    def _app_environment(self) -> dict[str, str]:
        """What the app would get if it were started now."""
        return build_environment(
            self._force.config,
            credentials=Credentials.of_user(self._force.config.app.user),
            generation=0,
            runtime_dir=self._setting.runtime_dir,
            base=self._setting.environ,
        )

    def _who_and_where(self) -> tuple[str, str]:
        app = self._force.config.app
        return app.user, str(app.directory)

    def _role_plan(self, role: str) -> Opening:
        """How a role is had, by the configuration in force when it is asked for."""
        return self._setting.roles(role, self._force.config, self._credentials)

    async def _mend_place(self) -> None:
        await self._main_line.mend_place()

    def _heal_says(self, name: str, message: str, fields: dict[str, Any]) -> None:
        incident, repair = str(fields.get("incident", "")), str(fields.get("repair", ""))
        severity = str(fields.get("severity", "info"))
        self._narrator.tell(name, message, severity=severity, fields=fields, incident=incident, repair=repair)

    def _weak_points(self) -> tuple[str, ...]:
        """What is weaker now than it could be."""
        lost = "" if self._store.durable else "nothing is written to disk: incidents and repairs end with wolverined"
        hooks = self._place.without_hooks
        blind = f"crashes are not told with their requests: no reporters ({hooks})" if hooks else ""
        here = (*self._hierarchy.weaknesses, *self._setting.weaknesses())
        return tuple(one for one in (*here, self._shared, lost, blind, *self._force.notes) if one)

    def _say_start(self) -> None:
        config, name = self._force.config, self._setting.name
        for event in self._store.events.last(1):
            if event.name.startswith("store."):  # told by the store before there was a mouth to tell it
                self._narrator.publish(event)
        self._narrator.tell("daemon.started", f"wolverined {__version__} supervises {name} from {self._setting.file}")
        for weakness in self._weak_points():
            self._narrator.tell("daemon.weaker", weakness, severity="warn")
        where = self._setting.endpoint(config)
        sends = f"source may be sent to {where}" if where else "no source leaves this machine"
        self._narrator.tell("daemon.policy", f"heal.policy is {config.heal.policy.value}; {sends}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _is_ours(hierarchy: Hierarchy, pid: int) -> bool:
    """Whether a pid belongs to a process that we started; a pid that is gone counts as ours: it cannot be asked."""
    text = proc.read(f"/proc/{pid}/cgroup")
    cgroup = parse_own_cgroup(text) if text is not None else None
    return text is None or hierarchy.owns(cgroup=cgroup or "", pid=pid)
