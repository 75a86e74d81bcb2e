# SPDX-License-Identifier: MIT
"""The lifecycle: its drawing, its table, and the rules that hold for every order of events."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wolverined.config.schema import RestartTable
from wolverined.model import AppState
from wolverined.supervise import lifecycle
from wolverined.supervise.backoff import CLEAR, Backoff
from wolverined.supervise.lifecycle import (
    Action,
    Arm,
    DegradeMarked,
    Emptied,
    End,
    Exited,
    HealMarked,
    HoldAsked,
    How,
    Hung,
    Life,
    LifeEvent,
    Phase,
    PortTaken,
    Ready,
    Reconfigured,
    Released,
    RestartAsked,
    Spawn,
    Spawned,
    SpawnFailed,
    StartAsked,
    StopAsked,
    TimerFired,
    may_spawn,
    shown,
    step,
)

TABLE = RestartTable(jitter=0.0)
FRESH = Life()
SHORT = RestartTable(max_s=0.2)  # two failures lead to the cap, so that crash loops are explored too


def run(*events: LifeEvent, life: Life = FRESH, table: RestartTable = TABLE) -> tuple[Life, list[Action]]:
    """Feed events in order; the last state and all actions."""
    actions: list[Action] = []
    for event in events:
        life, more = step(life, event, 0.0, table=table)
        actions += more
    return life, actions


def ready(generation: int = 1) -> tuple[LifeEvent, ...]:
    """The events that bring a generation up from its spawn action."""
    return (Spawned(generation), Ready(generation))


UP = run(StartAsked(), *ready())[0]


# --- the drawing


def every_event(life: Life) -> list[LifeEvent]:
    """One of each event that can matter in this state."""
    number = life.generation
    return [
        StartAsked(),
        StopAsked(),
        RestartAsked(),
        HoldAsked(),
        Released(),
        Reconfigured(),
        Spawned(number),
        SpawnFailed(number, "gone"),
        SpawnFailed(number, "busy", passing=True),
        PortTaken(number, "taken"),
        Ready(number),
        Hung(number),
        Exited(number),
        Emptied(number),
        TimerFired(life.timer),
        HealMarked(on=True),
        HealMarked(on=False),
        DegradeMarked("slow"),
        DegradeMarked(""),
    ]


def canonical(life: Life) -> Life:
    """The same state with its counters cut down, so that the reachable ones are finite."""
    return msgspec.structs.replace(
        life,
        generation=min(life.generation, 1) * 5,
        timer=9,
        due=None if life.due is None else 1.0,
        why="",
        record=msgspec.structs.replace(life.record, failures=min(life.record.failures, 3)),
    )


def transitions() -> set[tuple[str, str, str]]:
    """Every change of phase that any order of events can bring about."""
    start = canonical(Life())
    seen, todo, found = {start}, [start], set()
    while todo:
        life = todo.pop()
        for event in every_event(life):
            after, _ = step(life, event, 0.0, table=SHORT)
            if after.phase is not life.phase:
                found.add((life.phase.value, type(event).__name__, after.phase.value))
            if (key := canonical(after)) not in seen:
                seen.add(key)
                todo.append(key)
    return found


def test_the_drawing_shows_exactly_what_the_code_does() -> None:
    """lifecycle.dot has every transition that the code can take, and no other."""
    text = Path(lifecycle.__file__).with_suffix(".dot").read_text()
    edges = re.findall(r'^\s*(\w+) -> (\w+) \[label="([^"]+)"\];', text, re.MULTILINE)
    drawn = {(source, event, target) for source, target, label in edges for event in label.split(r"\n")}
    assert drawn == transitions()


# --- the table


def test_a_start_spawns_generation_one() -> None:
    """The first start asks for generation 1 and shows as starting."""
    life, actions = run(StartAsked())
    assert actions == [Spawn(1)]
    assert shown(life) is AppState.STARTING


def test_ready_arms_the_timer_that_clears_the_record() -> None:
    """Once ready, reset_s of staying so forgets old failures."""
    life, actions = run(StartAsked(), *ready())
    assert shown(life) is AppState.READY
    assert actions[-1] == Arm(life.timer, TABLE.reset_s)
    dirty = msgspec.structs.replace(life, record=Backoff(failures=3, waits=2))
    assert run(TimerFired(life.timer), life=dirty)[0].record == CLEAR


def test_a_crash_sweeps_the_tree_before_the_next_start() -> None:
    """After an exit the rest is killed first; the start comes only when the tree is empty."""
    life, actions = run(Exited(1), life=UP)
    assert actions == [End(1, How.SWEEP)]
    assert shown(life) is AppState.BACKOFF
    life, actions = run(Emptied(1), life=life)
    assert actions == [Spawn(2)]


def test_a_second_crash_within_the_reset_time_waits() -> None:
    """The first restart is immediate, the next one backs off."""
    life, actions = run(Exited(1), Emptied(1), *ready(2), Exited(2), Emptied(2), life=UP)
    assert isinstance(actions[-1], Arm)
    assert actions[-1].delay_s == pytest.approx(0.1)
    assert shown(life) is AppState.BACKOFF
    assert run(TimerFired(life.timer), life=life)[1] == [Spawn(3)]


def test_repeated_boot_failures_show_as_a_crash_loop_and_go_on() -> None:
    """A program that never boots ends in crash-loop and is tried again for ever."""
    life, _ = run(StartAsked())
    for number in range(1, 30):
        life, _ = run(Spawned(number), Exited(number), Emptied(number), life=life)
        assert life.phase is Phase.WAITING
        assert shown(life) is (AppState.CRASH_LOOP if number > 10 else AppState.BACKOFF)
        life, actions = run(TimerFired(life.timer), life=life)
        assert actions == [Spawn(number + 1)]


def test_a_missing_command_is_failed_until_somebody_acts() -> None:
    """A failed app waits for a start, a restart or a reload; no timer leads out of it."""
    life, actions = run(StartAsked(), SpawnFailed(1, "no such file"))
    assert shown(life) is AppState.FAILED
    assert life.why == "no such file"
    assert not any(isinstance(action, Arm) for action in actions)
    for event in (StartAsked(), RestartAsked(), Reconfigured()):
        assert run(event, life=life)[1] == [Spawn(2)]


def test_a_passing_want_is_retried() -> None:
    """A start that failed for want of processes or memory backs off instead of failing for good."""
    life, _ = run(StartAsked(), SpawnFailed(1, "no processes left", passing=True))
    assert shown(life) is AppState.BACKOFF


def test_a_taken_port_backs_off() -> None:
    """Nothing is spawned while a stranger listens; it is tried again."""
    life, actions = run(StartAsked(), PortTaken(1, "port 3000 is taken"))
    assert shown(life) is AppState.BACKOFF
    assert not may_spawn(life, 1)
    assert isinstance(actions[-1], Arm)


def test_a_hang_is_aborted_and_restarted() -> None:
    """A failed liveness ends the generation with a stack dump and starts the next."""
    life, actions = run(Hung(1, "no answer"), life=UP)
    assert actions == [End(1, How.ABORT)]
    assert shown(life) is AppState.STOPPING
    assert run(Emptied(1), life=life)[1] == [Spawn(2)]


def test_a_program_that_is_not_ready_cannot_hang() -> None:
    """Liveness says nothing before the startup probe passed: a slow start is no hang."""
    life, _ = run(StartAsked(), Spawned(1))
    assert run(Hung(1), life=life) == (life, [])


def test_stop_during_backoff_starts_nothing() -> None:
    """A stop in the middle of a wait makes the timer stale."""
    life, _ = run(StartAsked(), Spawned(1), Exited(1), Emptied(1))
    timer = life.timer
    life, _ = run(StopAsked(), life=life)
    assert shown(life) is AppState.STOPPED
    assert run(TimerFired(timer), life=life) == (life, [])


def test_the_timer_of_an_earlier_wait_does_not_cut_a_later_one_short() -> None:
    """Only the newest timer counts, also when another wait is under way when an old one fires."""
    life, _ = run(StartAsked(), Spawned(1), Exited(1), Emptied(1))
    old = life.timer
    life, _ = run(RestartAsked(), Spawned(2), Exited(2), Emptied(2), life=life)
    assert life.phase is Phase.WAITING
    assert run(TimerFired(old), life=life) == (life, [])
    assert run(TimerFired(life.timer), life=life)[1] == [Spawn(3)]


def test_stop_while_a_crash_is_cleaned_up_wins() -> None:
    """A stop that comes between an exit and its restart is obeyed."""
    life, actions = run(Exited(1), StopAsked(), Emptied(1), life=UP)
    assert shown(life) is AppState.STOPPED
    assert Spawn(2) not in actions


def test_stop_before_the_process_exists_takes_the_start_back() -> None:
    """A start that still looks at its port may not spawn after a stop."""
    life, _ = run(StartAsked(), StopAsked())
    assert life.phase is Phase.STOPPED
    assert not may_spawn(life, 1)


def test_start_after_a_stop_under_way_starts_again() -> None:
    """stop, then start before the tree is empty: it starts as soon as it is."""
    life, actions = run(StopAsked(), StartAsked(), life=UP)
    assert Spawn(2) not in actions
    assert run(Emptied(1), life=life)[1] == [Spawn(2)]


def test_start_is_idempotent() -> None:
    """A start of what runs or starts does nothing."""
    assert run(StartAsked(), life=UP) == (UP, [])


def test_restart_is_immediate_and_no_failure() -> None:
    """An operator's restart neither waits nor counts."""
    life, actions = run(RestartAsked(), Emptied(1), life=UP)
    assert actions == [End(1, How.ASK), Spawn(2)]
    assert life.record == CLEAR


def test_restart_cuts_a_crash_loop_short() -> None:
    """An operator's restart in a wait starts at once with a clear record."""
    life, _ = run(StartAsked(), Spawned(1), Exited(1), Emptied(1))
    life, actions = run(RestartAsked(), life=life)
    assert actions == [Spawn(2)]
    assert life.record == CLEAR


def test_a_hold_brings_it_down_and_a_release_starts_it() -> None:
    """Held down it shows as healing, and is started again by the release alone."""
    life, actions = run(HoldAsked("repair r1"), Emptied(1), life=UP)
    assert actions == [End(1, How.ASK)]
    assert shown(life) is AppState.HEALING
    assert run(StartAsked(), RestartAsked(), Reconfigured(), TimerFired(life.timer), life=life)[1] == []
    assert run(Released(), life=life)[1] == [Spawn(2)]


def test_a_crash_while_a_hold_is_under_way_starts_nothing() -> None:
    """The hold outlives an exit that comes first."""
    life, actions = run(Exited(1), HoldAsked(), Emptied(1), life=UP)
    assert life.phase is Phase.HELD
    assert Spawn(2) not in actions


def test_a_stop_during_a_hold_outlives_the_release() -> None:
    """The operator's stop wins over the repair."""
    life, actions = run(HoldAsked(), Emptied(1), StopAsked(), Released(), life=UP)
    assert shown(life) is AppState.STOPPED
    assert Spawn(2) not in actions


def test_a_hold_of_a_stopped_app_leaves_it_stopped() -> None:
    """A repair of what the operator stopped does not start it."""
    life, _ = run(HoldAsked())
    assert shown(life) is AppState.STOPPED
    assert run(Released(), life=life)[1] == []


def test_a_release_before_the_tree_is_empty_still_waits_for_it() -> None:
    """The start comes with the empty tree, not with the release."""
    life, actions = run(HoldAsked(), Released(), life=UP)
    assert Spawn(2) not in actions
    assert run(Emptied(1), life=life)[1] == [Spawn(2)]


def test_the_overlays_show_only_while_it_is_up() -> None:
    """Healing and degraded are how a served app is shown; a heal outranks a degradation."""
    life, _ = run(DegradeMarked("route / is slow"), life=UP)
    assert shown(life) is AppState.DEGRADED
    life, _ = run(HealMarked(on=True), life=life)
    assert shown(life) is AppState.HEALING
    assert shown(run(StopAsked(), life=life)[0]) is AppState.STOPPING
    assert shown(run(HealMarked(on=False), DegradeMarked(""), life=life)[0]) is AppState.READY


def test_a_new_generation_is_not_degraded_by_the_old_one() -> None:
    """What was said of one generation does not stick to the next."""
    life, _ = run(DegradeMarked("slow"), Exited(1), Emptied(1), *ready(2), life=UP)
    assert shown(life) is AppState.READY


# --- the rules

old = st.integers(0, 3)
strangers = st.one_of(
    st.builds(Spawned, old),
    st.builds(Ready, old),
    st.builds(Hung, old),
    st.builds(Exited, old),
    st.builds(Emptied, old),
    st.builds(SpawnFailed, old, st.just("late")),
    st.builds(PortTaken, old, st.just("late")),
)


@given(strangers)
def test_an_event_of_an_older_generation_changes_nothing(event: LifeEvent) -> None:
    """Whatever an older generation still has to say is ignored."""
    life, _ = run(StartAsked(), *ready())
    for number in range(1, 4):
        life, _ = run(RestartAsked(), Emptied(number), *ready(number + 1), life=life)
    assert life.generation == 4
    assert run(event, life=life) == (life, [])


class World(RuleBasedStateMachine):
    """A world of processes and timers that answers the actions in any order, also too late."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.asked: list[int] = []  # spawns that were asked for and not yet done
        self.alive: set[int] = set()  # generations with a process in their tree
        self.main: set[int] = set()  # generations whose main process lives
        self.ending: set[int] = set()
        self.timers: list[int] = []
        self.now = 0.0
        self.started = 0
        self.stopped = True  # the operator's last word

    def feed(self, event: LifeEvent) -> None:
        """Give the event to the machine and do what it says."""
        self.now += 0.01
        before = self.life
        self.life, actions = step(before, event, self.now, table=SHORT)
        for action in actions:
            match action:
                case Spawn(number):
                    assert number > self.started, "a generation number is used once"
                    self.started = number
                    self.asked.append(number)
                case End(number):
                    assert number in self.alive
                    assert number not in self.ending, "ended twice"
                    self.ending.add(number)
                case Arm(timer):
                    self.timers.append(timer)

    @rule(event=st.sampled_from([StartAsked(), RestartAsked()]))
    def operator_starts(self, event: LifeEvent) -> None:
        """The operator wants it up."""
        self.stopped = False
        self.feed(event)

    @rule()
    def operator_stops(self) -> None:
        """The operator wants it down."""
        self.stopped = True
        self.feed(StopAsked())

    @rule(
        event=st.sampled_from(
            [HoldAsked(), Released(), Reconfigured(), HealMarked(on=True), HealMarked(on=False), DegradeMarked("x")]
        )
    )
    def others_ask(self, event: LifeEvent) -> None:
        """Repairs, reloads and overlays come at any time."""
        self.feed(event)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), how=st.sampled_from(["done", "failed", "passing", "taken"]))
    def a_spawn_is_carried_out(self, data: st.DataObject, how: str) -> None:
        """A spawn that was asked for is done or fails, perhaps long after it became stale."""
        number = data.draw(st.sampled_from(self.asked))
        self.asked.remove(number)
        if how == "taken":
            self.feed(PortTaken(number, "taken"))
        elif how != "done":
            self.feed(SpawnFailed(number, "no", passing=how == "passing"))
        elif may_spawn(self.life, number):
            assert not self.alive, "two generations alive"
            assert not self.life.held, "started while held down"
            assert not self.stopped, "started after a stop"
            self.alive.add(number)
            self.main.add(number)
            self.feed(Spawned(number))

    @precondition(lambda self: self.main)
    @rule(data=st.data(), kind=st.sampled_from([Ready, Hung, Exited]))
    def a_generation_speaks(self, data: st.DataObject, kind: type[Ready | Hung | Exited]) -> None:
        """A living main process gets ready, hangs or ends."""
        number = data.draw(st.sampled_from(sorted(self.main)))
        if kind is Exited:
            self.main.discard(number)
        self.feed(kind(number))

    @rule(number=st.integers(0, 6), kind=st.sampled_from([Ready, Hung, Exited, Emptied, Spawned]))
    def the_dead_speak(self, number: int, kind: type[Ready]) -> None:
        """Events of generations that are gone, or never were, change nothing."""
        if number not in self.alive and number not in self.asked:
            before = self.life
            self.feed(kind(number))
            assert self.life == before

    @precondition(lambda self: self.ending)
    @rule(chance=st.floats(0, 0.99))
    def a_tree_is_empty(self, chance: float) -> None:
        """A tree that is being ended has become empty."""
        number = self.ending.pop()
        self.alive.discard(number)
        self.main.discard(number)
        self.feed(Emptied(number, chance))

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def a_timer_fires(self, data: st.DataObject) -> None:
        """Any timer that was ever armed fires; a stale one changes nothing."""
        timer = data.draw(st.sampled_from(self.timers))
        self.timers.remove(timer)
        before = self.life
        self.feed(TimerFired(timer))
        if timer != before.timer or before.due is None:
            assert self.life == before, "a stale timer did something"

    @invariant()
    def never_two_alive(self) -> None:
        """At most one generation lives."""
        assert len(self.alive) <= 1

    @invariant()
    def it_knows_what_lives(self) -> None:
        """The state knows whether something lives."""
        assert self.life.alive == bool(self.alive)

    @invariant()
    def stop_always_wins(self) -> None:
        """After a stop nothing runs on and nothing is about to start."""
        if self.stopped:
            assert not self.life.wanted
            assert self.alive <= self.ending, "alive after a stop without being ended"
            assert self.life.phase not in {Phase.STARTING, Phase.WAITING, Phase.UP}

    @invariant()
    def a_hold_keeps_it_down(self) -> None:
        """Held means: down, or on the way down."""
        if self.life.held:
            assert self.life.phase in {Phase.ENDING, Phase.HELD}

    @invariant()
    def it_is_never_stranded(self) -> None:
        """Wanted, not held and nothing under way: only `failed` may look like that."""
        waits = self.life.phase is Phase.WAITING and self.life.due is not None and self.life.timer in self.timers
        busy = bool(self.alive) or any(may_spawn(self.life, number) for number in self.asked)
        if self.life.wanted and not self.life.held:
            assert waits or busy or self.life.phase is Phase.FAILED


World.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
