# SPDX-License-Identifier: MIT
"""The life of one application as a pure state machine, drawn in `lifecycle.dot`.

`step` takes a state, an event and the time, and gives the next state and what to do. It knows no
process: `supervisor` performs the actions and feeds the events back. Three rules hold for every
order of events: at most one generation is alive, nothing starts while held down for a repair, and
an event of an older generation or an older timer changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from wolverined.config.schema import RestartTable
from wolverined.model import AppState
from wolverined.supervise.backoff import CLEAR, Backoff, failed

READY_WHY = "ready"
"""`Life.why` of a generation whose startup probe has passed, until something else happens."""


class Phase(StrEnum):
    """Where the machine stands; `shown` turns it into the word that users see."""

    STOPPED = "stopped"  # nothing alive, nobody wants it to be
    STARTING = "starting"  # a generation is being started, or lives and is not ready
    UP = "up"  # a generation is ready
    ENDING = "ending"  # a generation is being ended; nothing starts before its tree is empty
    WAITING = "waiting"  # nothing alive, a timer runs
    FAILED = "failed"  # nothing alive, cannot be started until someone changes something
    HELD = "held"  # nothing alive, held down for a repair


class How(StrEnum):
    """How a generation is ended."""

    ASK = "ask"  # the stop signal, then the kill
    ABORT = "abort"  # it hung: SIGABRT for the stack dump, then the kill
    SWEEP = "sweep"  # its main process has ended: kill what is left of the tree


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state.

    Attributes:
        phase: Where it stands.
        generation: The newest generation that was ever asked for; 0 before the first.
        alive: That generation has been spawned and its tree has not been seen empty since.
        wanted: The operator wants the app to run.
        held: A repair keeps it down.
        trouble: The end under way was not asked for, so it counts as a failure.
        was_ready: The newest generation has been ready.
        how: How the newest end was begun.
        record: What the backoff remembers.
        loop: The wait under way is that of a crash loop.
        timer: The newest timer; an older one that fires is ignored.
        due: When that timer fires (monotonic), None without one.
        healing: A heal runs while the app is served.
        degraded: Why the service is worse than it should be; empty when it is not.
        why: One line: what led here.
    """

    phase: Phase = Phase.STOPPED
    generation: int = 0
    alive: bool = False
    wanted: bool = False
    held: bool = False
    trouble: bool = False
    was_ready: bool = False
    how: How = How.ASK
    record: Backoff = CLEAR
    loop: bool = False
    timer: int = 0
    due: float | None = None
    healing: bool = False
    degraded: str = ""
    why: str = ""


class StartAsked(msgspec.Struct, frozen=True):
    """The operator wants it to run."""


class StopAsked(msgspec.Struct, frozen=True):
    """The operator wants it not to run."""


class RestartAsked(msgspec.Struct, frozen=True):
    """The operator wants a new generation."""


class HoldAsked(msgspec.Struct, frozen=True):
    """A repair needs it down."""

    why: str = "held down for a repair"


class Released(msgspec.Struct, frozen=True):
    """The repair is done with it."""


class Reconfigured(msgspec.Struct, frozen=True):
    """The configuration changed: what could not be started may start now."""


class Spawned(msgspec.Struct, frozen=True):
    """The process of that generation exists."""

    generation: int


class SpawnFailed(msgspec.Struct, frozen=True):
    """That generation cannot be started at all. `passing` means: for want of something that may come back."""

    generation: int
    why: str
    passing: bool = False
    chance: float = 0.5


class PortTaken(msgspec.Struct, frozen=True):
    """That generation was not started: somebody else listens on its port."""

    generation: int
    why: str
    chance: float = 0.5


class Ready(msgspec.Struct, frozen=True):
    """The startup probe of that generation passed."""

    generation: int


class Hung(msgspec.Struct, frozen=True):
    """Liveness of that generation failed."""

    generation: int
    why: str = "liveness failed"


class Exited(msgspec.Struct, frozen=True):
    """The main process of that generation ended."""

    generation: int
    why: str = "exited"


class Emptied(msgspec.Struct, frozen=True):
    """Nothing of that generation lives. `chance` in [0, 1) picks the jitter of a wait."""

    generation: int
    chance: float = 0.5


class TimerFired(msgspec.Struct, frozen=True):
    """The timer of that number fired."""

    timer: int


class HealMarked(msgspec.Struct, frozen=True):
    """A heal of the running app began or ended."""

    on: bool


class DegradeMarked(msgspec.Struct, frozen=True):
    """Somebody found the service worse than it should be, or well again (empty)."""

    why: str


LifeEvent = (
    StartAsked
    | StopAsked
    | RestartAsked
    | HoldAsked
    | Released
    | Reconfigured
    | Spawned
    | SpawnFailed
    | PortTaken
    | Ready
    | Hung
    | Exited
    | Emptied
    | TimerFired
    | HealMarked
    | DegradeMarked
)


class Spawn(msgspec.Struct, frozen=True):
    """Start this generation; check `may_spawn` at the last moment, for starting can take a while."""

    generation: int


class End(msgspec.Struct, frozen=True):
    """End this generation, all of its tree, and tell `Emptied` when nothing of it lives."""

    generation: int
    how: How


class Arm(msgspec.Struct, frozen=True):
    """Set the one timer; an earlier one is void."""

    timer: int
    delay_s: float


Action = Spawn | End | Arm


def shown(life: Life) -> AppState:
    """The word that users see for this state."""
    match life.phase:
        case Phase.UP if life.healing:
            return AppState.HEALING
        case Phase.UP:
            return AppState.DEGRADED if life.degraded else AppState.READY
        case Phase.STARTING:
            return AppState.STARTING
        case Phase.ENDING if life.how is How.SWEEP and life.wanted and not life.held:
            return AppState.BACKOFF  # it ended by itself and is on its way to the next start
        case Phase.ENDING:
            return AppState.STOPPING
        case Phase.WAITING:
            return AppState.CRASH_LOOP if life.loop else AppState.BACKOFF
        case Phase.FAILED:
            return AppState.FAILED
        case Phase.HELD if life.wanted:
            return AppState.HEALING
        case _:
            return AppState.STOPPED


def may_spawn(life: Life, generation: int) -> bool:
    """Whether the process of that generation may be made now: asked for, not yet made, not taken back."""
    return life.phase is Phase.STARTING and life.generation == generation and not life.alive


def step(life: Life, event: LifeEvent, now: float, *, table: RestartTable) -> tuple[Life, tuple[Action, ...]]:
    """Take one event.

    Args:
        life: The state so far.
        event: What happened.
        now: Monotonic seconds.
        table: `[restart]` as it is configured now.

    Returns:
        The next state, and what is to be done, in order.
    """
    match event:
        case StartAsked() | StopAsked() | RestartAsked() | HoldAsked() | Released() | Reconfigured():
            return _asked(life, event)
        case TimerFired(timer):
            return _timer(life, timer)
        case HealMarked(on):
            return _set(life, healing=on), ()
        case DegradeMarked(why):
            return _set(life, degraded=why), ()
        case Emptied(generation, chance):
            return _emptied(life, generation, chance, now, table)
        case _:
            return _of_generation(life, event, now, table)


def _set(life: Life, **fields: object) -> Life:
    return msgspec.structs.replace(life, **fields)


def _asked(
    life: Life, event: StartAsked | StopAsked | RestartAsked | HoldAsked | Released | Reconfigured
) -> tuple[Life, tuple[Action, ...]]:
    match event:
        case StopAsked():
            return _stop(life)
        case HoldAsked(why):
            return _hold(life, why)
        case Released():
            return _release(life)
        case StartAsked():
            return _start(life)
        case RestartAsked():
            return _restart(life)
        case Reconfigured():
            if life.phase in {Phase.WAITING, Phase.FAILED}:
                return _begin(_set(life, record=CLEAR), why="the configuration changed")
            return life, ()


def _stop(life: Life) -> tuple[Life, tuple[Action, ...]]:
    life = _set(life, wanted=False)
    match life.phase:
        case Phase.UP | Phase.STARTING if life.alive:
            return _end(life, How.ASK, trouble=False, why="stop was asked for")
        case Phase.STARTING | Phase.WAITING | Phase.FAILED:
            return _rest(life, Phase.STOPPED, why="stop was asked for")
        case _:
            return life, ()


def _hold(life: Life, why: str) -> tuple[Life, tuple[Action, ...]]:
    life = _set(life, held=True)
    match life.phase:
        case Phase.UP | Phase.STARTING if life.alive:
            return _end(life, How.ASK, trouble=False, why=why)
        case Phase.ENDING | Phase.HELD:
            return life, ()
        case _:
            return _rest(life, Phase.HELD, why=why)


def _release(life: Life) -> tuple[Life, tuple[Action, ...]]:
    if not life.held:
        return life, ()
    # What failed before the repair says nothing about what comes after it.
    life = _set(life, held=False, trouble=False, record=CLEAR)
    if life.phase is not Phase.HELD:
        return life, ()
    if life.wanted:
        return _begin(life, why="the repair released it")
    return _rest(life, Phase.STOPPED, why="stop was asked for during the repair")


def _start(life: Life) -> tuple[Life, tuple[Action, ...]]:
    again = not life.wanted
    life = _set(life, wanted=True)
    match life.phase:
        case Phase.STOPPED | Phase.WAITING | Phase.FAILED:
            return _begin(_set(life, record=CLEAR), why="start was asked for")
        case Phase.ENDING if again:
            # The end under way was a stop; whatever led to it, the operator now asks for a fresh start.
            return _set(life, trouble=False, record=CLEAR), ()
        case _:
            return life, ()


def _restart(life: Life) -> tuple[Life, tuple[Action, ...]]:
    life = _set(life, wanted=True, record=CLEAR)
    match life.phase:
        case Phase.UP | Phase.STARTING if life.alive:
            return _end(life, How.ASK, trouble=False, why="restart was asked for")
        case Phase.STOPPED | Phase.WAITING | Phase.FAILED:
            return _begin(life, why="restart was asked for")
        case Phase.ENDING:
            return _set(life, trouble=False), ()
        case _:
            return life, ()


def _timer(life: Life, timer: int) -> tuple[Life, tuple[Action, ...]]:
    if timer != life.timer or life.due is None:
        return life, ()
    life = _set(life, due=None)
    match life.phase:
        case Phase.WAITING:
            return _begin(life, why="the wait is over")
        case Phase.UP:
            return _set(life, record=CLEAR), ()
        case _:
            return life, ()


def _emptied(
    life: Life, generation: int, chance: float, now: float, table: RestartTable
) -> tuple[Life, tuple[Action, ...]]:
    if generation != life.generation or life.phase is not Phase.ENDING:
        return life, ()
    life = _set(life, alive=False)
    if life.held:
        return _rest(life, Phase.HELD, why=life.why)
    if not life.wanted:
        return _rest(life, Phase.STOPPED, why=life.why)
    if not life.trouble:
        return _begin(life, why=life.why)
    return _again(life, chance=chance, now=now, table=table, why=life.why)


def _of_generation(
    life: Life, event: Spawned | SpawnFailed | PortTaken | Ready | Hung | Exited, now: float, table: RestartTable
) -> tuple[Life, tuple[Action, ...]]:
    if event.generation != life.generation:
        return life, ()
    match event:
        case Spawned() if may_spawn(life, event.generation):
            return _set(life, alive=True), ()
        case SpawnFailed(_, why, passing, chance) if may_spawn(life, event.generation):
            if passing:
                return _again(life, chance=chance, now=now, table=table, why=why)
            return _rest(life, Phase.FAILED, why=why)
        case PortTaken(_, why, chance) if may_spawn(life, event.generation):
            return _again(life, chance=chance, now=now, table=table, why=why)
        case Ready() if life.phase is Phase.STARTING and life.alive:
            life = _set(life, phase=Phase.UP, was_ready=True, why=READY_WHY)
            return _arm(life, table.reset_s, now)
        case Hung(_, why) if life.phase is Phase.UP:
            return _end(life, How.ABORT, trouble=True, why=why)
        case Exited(_, why) if life.phase in {Phase.UP, Phase.STARTING} and life.alive:
            return _end(life, How.SWEEP, trouble=True, why=why)
        case _:
            return life, ()


def _begin(life: Life, *, why: str) -> tuple[Life, tuple[Action, ...]]:
    generation = life.generation + 1
    life = _set(_disarmed(life), phase=Phase.STARTING, generation=generation, was_ready=False, why=why)
    return _set(life, trouble=False, degraded="", loop=False), (Spawn(generation),)


def _end(life: Life, how: How, *, trouble: bool, why: str) -> tuple[Life, tuple[Action, ...]]:
    life = _set(_disarmed(life), phase=Phase.ENDING, how=how, trouble=trouble, why=why)
    return life, (End(life.generation, how),)


def _rest(life: Life, phase: Phase, *, why: str) -> tuple[Life, tuple[Action, ...]]:
    return _set(_disarmed(life), phase=phase, alive=False, trouble=False, degraded="", loop=False, why=why), ()


def _again(life: Life, *, chance: float, now: float, table: RestartTable, why: str) -> tuple[Life, tuple[Action, ...]]:
    record, wait = failed(life.record, ready=life.was_ready, chance=chance, table=table)
    life = _set(life, record=record, loop=wait.loop, why=why)
    if wait.delay_s <= 0:
        return _begin(life, why=why)
    return _arm(_set(life, phase=Phase.WAITING, trouble=False, degraded=""), wait.delay_s, now)


def _arm(life: Life, delay_s: float, now: float) -> tuple[Life, tuple[Action, ...]]:
    timer = life.timer + 1
    return _set(life, timer=timer, due=now + delay_s), (Arm(timer, delay_s),)


def _disarmed(life: Life) -> Life:
    # A number that no timer carries: whatever is under way has become stale.
    return _set(life, timer=life.timer + 1, due=None)
