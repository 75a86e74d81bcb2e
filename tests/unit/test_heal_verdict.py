# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as but

from wolverined.heal.trial.observations import Alive, Boot, Observations, Replay, Syntax
from wolverined.heal.trial.observations import Tests as Ran
from wolverined.heal.trigger import Trigger, TriggerKind, shows, trigger_of, with_request
from wolverined.heal.verdict import judge, settled
from wolverined.model import Evidence, Exit, Incident, IncidentKind, Outcome, Request
from wolverined.traces import fingerprint, parse

PROVEN, REFUTED, UNPROVABLE = Outcome.PROVEN, Outcome.REFUTED, Outcome.UNPROVABLE
ROOT = "/srv/app"
ERROR = (
    "/srv/app/server.js:3",
    "TypeError: Cannot read properties of undefined (reading 'z')",
    "    at total (/srv/app/server.js:3:40)",
    "    at Server.<anonymous> (/srv/app/server.js:9:5)",
)
OTHER_ERROR = (
    "ReferenceError: nothing is not defined",
    "    at elsewhere (/srv/app/other.js:7:1)",
)
CAUGHT = ("caught:", *ERROR[1:3], "    at handler (/srv/app/server.js:20:5)")
REFUSED_OUTSIDE = (
    "Error: connect ECONNREFUSED 127.0.0.1:5432",
    "    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1611:16)",
)
TRACE = parse(ERROR, app_root=ROOT)[-1]
DIED = Exit(generation=0, code=1)
REQUEST = Request(method="GET", path="/boom")


def trigger(kind: TriggerKind = TriggerKind.REQUEST, **given: Any) -> Trigger:
    """A trigger whose error is ERROR."""
    incident = IncidentKind.BOOT if kind is TriggerKind.BOOT else IncidentKind.CRASH
    base = Trigger(
        kind=kind,
        incident=given.get("incident", incident),
        fingerprint=fingerprint(given.get("incident", incident), TRACE, None),
        app_root=ROOT,
        trace=TRACE,
        exit=DIED,
        request=REQUEST if kind is TriggerKind.REQUEST else None,
        watch_s=2.0 if kind is TriggerKind.ALONE else 0.0,
    )
    return but(base, **given)


UP = Boot(ready=True, ready_ms=40)
DOWN = Boot(ready=False, exit=DIED, tail=ERROR)
LATE = Boot(ready=False, detail="/health answered 503")
FINE = Replay(status=200, content_type="application/json", body_shape="{ok:bool}")
CRASHED = Replay(crashed=True, exit=DIED, tail=ERROR, detail="the connection was closed without an answer")
FAILED = Replay(status=500)


def seen(**parts: Any) -> Observations:
    """Observations of a side that boots, unless said otherwise."""
    return Observations(**{"boot": UP, **parts})


BAD = seen(trigger=CRASHED, goods=(FINE,))
GOOD = seen(
    trigger=FINE, repeats=(FINE,) * 3, siblings=(FINE, FINE), goods=(FINE,), after=(FINE,), alive=Alive(alive=True)
)


REQUEST_TABLE = [
    ("good on the patch, bad before", BAD, GOOD, PROVEN),
    ("a redirect is no failure", BAD, but(GOOD, trigger=Replay(status=302)), PROVEN),
    ("still crashes", BAD, but(GOOD, trigger=CRASHED), REFUTED),
    ("answers 500 in place of crashing", BAD, but(GOOD, trigger=FAILED), REFUTED),
    ("hangs in place of crashing", BAD, but(GOOD, trigger=Replay(timed_out=True)), REFUTED),
    ("drops the connection", BAD, but(GOOD, trigger=Replay(detail="lost")), REFUTED),
    ("answers, then dies", BAD, but(GOOD, trigger=Replay(status=200, crashed=True)), REFUTED),
    ("404: nobody knows", BAD, but(GOOD, trigger=Replay(status=404)), UNPROVABLE),
    ("405: nobody knows", BAD, but(GOOD, trigger=Replay(status=405)), UNPROVABLE),
    ("400: nobody knows", BAD, but(GOOD, trigger=Replay(status=400)), UNPROVABLE),
    ("baseline answers well: not seen", but(BAD, trigger=FINE), GOOD, UNPROVABLE),
    ("baseline answers well, patch breaks it", but(BAD, trigger=FINE), but(GOOD, trigger=FAILED), REFUTED),
    ("baseline fails in another way", but(BAD, trigger=but(CRASHED, tail=OTHER_ERROR)), GOOD, UNPROVABLE),
    (
        "both fail in another way: no blame",
        but(BAD, trigger=but(FAILED, tail=OTHER_ERROR)),
        but(GOOD, trigger=FAILED),
        UNPROVABLE,
    ),
    ("baseline dies without a word", but(BAD, trigger=but(CRASHED, tail=())), GOOD, PROVEN),
    ("swallowed: succeeds and prints the error", BAD, but(GOOD, trigger=but(FINE, tail=CAUGHT)), REFUTED),
    ("prints another error: not ours", BAD, but(GOOD, trigger=but(FINE, tail=OTHER_ERROR)), PROVEN),
    (
        "needs a database now",
        BAD,
        but(GOOD, trigger=but(FAILED, tail=REFUSED_OUTSIDE)),
        UNPROVABLE,
    ),
    ("baseline cannot boot: no blame", seen(boot=LATE), GOOD, UNPROVABLE),
    ("neither can boot: no blame", seen(boot=LATE), seen(boot=LATE), UNPROVABLE),
    ("only the patch cannot boot", BAD, seen(boot=DOWN), REFUTED),
    ("only the patch is not ready in time", BAD, seen(boot=LATE), REFUTED),
    ("fails when repeated", BAD, but(GOOD, repeats=(FINE, CRASHED)), REFUTED),
    ("prints the error when repeated", BAD, but(GOOD, repeats=(but(FINE, tail=CAUGHT),)), REFUTED),
    (
        "special-cased: a sibling still fails so, as it did before",
        but(BAD, siblings=(CRASHED,)),
        but(GOOD, siblings=(CRASHED,)),
        REFUTED,
    ),
    ("a sibling is worse", but(BAD, siblings=(FINE,)), but(GOOD, siblings=(FAILED,)), REFUTED),
    ("a sibling is as bad as before", but(BAD, siblings=(FAILED,)), but(GOOD, siblings=(FAILED,)), PROVEN),
    ("a bad sibling that nobody knew before", BAD, but(GOOD, siblings=(FAILED,)), UNPROVABLE),
    ("a good request answers 500 now", BAD, but(GOOD, goods=(FAILED,)), REFUTED),
    ("a good request answers 404 now", BAD, but(GOOD, goods=(but(FINE, status=404),)), REFUTED),
    ("a good request lost a field", BAD, but(GOOD, goods=(but(FINE, body_shape="{}"),)), REFUTED),
    ("a good request is no JSON any more", BAD, but(GOOD, goods=(but(FINE, body_shape=""),)), REFUTED),
    ("broken after the trigger", BAD, but(GOOD, after=(FAILED,)), REFUTED),
    ("a good request was bad before: not compared", but(BAD, goods=(FAILED,)), GOOD, PROVEN),
    ("a good request was unsteady: not compared", but(BAD, goods=(None,)), GOOD, PROVEN),
    ("dies a moment later", BAD, but(GOOD, alive=Alive(alive=False, exit=DIED)), REFUTED),
    ("does not parse", BAD, but(GOOD, syntax={"a.js": Syntax(ok=False, message="no")}), REFUTED),
    (
        "did not parse before either",
        but(BAD, syntax={"a.js": Syntax(ok=False)}),
        but(GOOD, syntax={"a.js": Syntax(ok=False)}),
        PROVEN,
    ),
    ("nothing can parse it", BAD, but(GOOD, syntax={"a.rb": Syntax(ok=None)}), PROVEN),
    ("a new test failure", but(BAD, tests=Ran(code=0)), but(GOOD, tests=Ran(code=1)), REFUTED),
    ("an old test failure", but(BAD, tests=Ran(code=1)), but(GOOD, tests=Ran(code=1)), PROVEN),
    ("tests hang now", but(BAD, tests=Ran(code=0)), but(GOOD, tests=Ran(code=None, timed_out=True)), REFUTED),
    ("does not build", but(BAD, build=Ran(code=0)), but(GOOD, build=Ran(code=2)), REFUTED),
    ("never built here", but(BAD, build=Ran(code=2)), but(GOOD, build=Ran(code=2)), UNPROVABLE),
    ("no sandbox", Observations(missing="no user namespace"), GOOD, UNPROVABLE),
    ("no sandbox for the candidate", BAD, Observations(missing="no user namespace"), UNPROVABLE),
]


@pytest.mark.parametrize(
    ("what", "baseline", "patched", "outcome"), REQUEST_TABLE, ids=[row[0] for row in REQUEST_TABLE]
)
def test_a_crash_at_a_request(what: str, baseline: Observations, patched: Observations, outcome: Outcome) -> None:
    """The failing request must be bad without the patch and well with it, and nothing else may change."""
    verdict = judge(trigger(), baseline, patched)
    assert verdict.outcome is outcome, verdict.reason
    assert verdict.reason
    assert all(check.passed for check in verdict.checks) or outcome is not PROVEN


@pytest.mark.parametrize(
    ("known", "status", "outcome"),
    [
        ((200,), 404, UNPROVABLE),
        ((200, 404), 404, PROVEN),
        ((400,), 422, PROVEN),
        ((), 404, UNPROVABLE),
        ((404,), 503, REFUTED),
        ((200,), 204, PROVEN),
    ],
)
def test_a_client_error_counts_where_the_route_gave_one_before(
    known: tuple[int, ...], status: int, outcome: Outcome
) -> None:
    """A 404 may be the right answer or a route that was deleted: only earlier answers can tell."""
    verdict = judge(trigger(known_statuses=known), BAD, but(GOOD, trigger=Replay(status=status)))
    assert verdict.outcome is outcome


BOOT_TABLE = [
    ("boots now", seen(boot=DOWN), GOOD, PROVEN),
    ("still does not", seen(boot=DOWN), seen(boot=DOWN), REFUTED),
    ("fails differently now", seen(boot=DOWN), seen(boot=but(DOWN, tail=OTHER_ERROR)), REFUTED),
    ("not ready in time now", seen(boot=DOWN), seen(boot=LATE), REFUTED),
    ("gets further, to a database", seen(boot=DOWN), seen(boot=but(DOWN, tail=REFUSED_OUTSIDE)), UNPROVABLE),
    ("boots here anyway", seen(boot=UP), GOOD, UNPROVABLE),
    ("boots here anyway, patch breaks it", seen(boot=UP), seen(boot=DOWN), REFUTED),
    ("fails here for another reason", seen(boot=but(DOWN, tail=OTHER_ERROR)), GOOD, UNPROVABLE),
    (
        "both fail here for another reason",
        seen(boot=but(DOWN, tail=REFUSED_OUTSIDE)),
        seen(boot=but(DOWN, tail=REFUSED_OUTSIDE)),
        UNPROVABLE,
    ),
    ("is only slow here", seen(boot=LATE), GOOD, UNPROVABLE),
    ("dies the same way without a word", seen(boot=but(DOWN, tail=())), GOOD, PROVEN),
    (
        "dies of another code without a word",
        seen(boot=Boot(ready=False, exit=Exit(generation=0, signal=9))),
        GOOD,
        UNPROVABLE,
    ),
    ("swallowed", seen(boot=DOWN), seen(boot=but(UP, tail=CAUGHT)), REFUTED),
    ("dies right after", seen(boot=DOWN), but(GOOD, alive=Alive(alive=False, exit=DIED)), REFUTED),
]


@pytest.mark.parametrize(("what", "baseline", "patched", "outcome"), BOOT_TABLE, ids=[row[0] for row in BOOT_TABLE])
def test_a_crash_at_boot(what: str, baseline: Observations, patched: Observations, outcome: Outcome) -> None:
    """It must fail to boot in the same way without the patch, and be ready with it."""
    verdict = judge(trigger(TriggerKind.BOOT), baseline, patched)
    assert verdict.outcome is outcome, verdict.reason


ENDS = seen(alive=Alive(alive=False, exit=DIED, tail=ERROR))
STAYS = seen(alive=Alive(alive=True))
ALONE_TABLE = [
    ("stays up", ENDS, STAYS, PROVEN),
    ("still ends", ENDS, ENDS, REFUTED),
    ("does not end here", STAYS, STAYS, UNPROVABLE),
    ("does not end here, patch does", STAYS, ENDS, REFUTED),
    ("ends here in another way", seen(alive=but(ENDS.alive, tail=OTHER_ERROR)), STAYS, UNPROVABLE),
    ("swallowed", ENDS, seen(alive=Alive(alive=True, tail=CAUGHT)), REFUTED),
]


@pytest.mark.parametrize(("what", "baseline", "patched", "outcome"), ALONE_TABLE, ids=[row[0] for row in ALONE_TABLE])
def test_a_crash_that_comes_by_itself(
    what: str, baseline: Observations, patched: Observations, outcome: Outcome
) -> None:
    """It must outlive the time after which it ended without the patch."""
    verdict = judge(trigger(TriggerKind.ALONE), baseline, patched)
    assert verdict.outcome is outcome, verdict.reason


def test_an_operators_words_prove_nothing() -> None:
    """Without a trigger a patch that changes nothing visible is unprovable, and one that breaks something refuted."""
    none = trigger(TriggerKind.NONE, incident=IncidentKind.REPORT)
    assert judge(none, STAYS, STAYS).outcome is UNPROVABLE
    assert judge(none, STAYS, seen(boot=DOWN)).outcome is REFUTED
    assert judge(none, but(STAYS, goods=(FINE,)), but(STAYS, goods=(FAILED,))).outcome is REFUTED


def test_a_hang_is_refuted_while_it_lasts_and_proven_once_it_is_gone() -> None:
    """No answer in time is what the baseline shows; there need be no error in its output."""
    hang = trigger(incident=IncidentKind.HANG, trace=None, fingerprint="f" * 16)
    stuck = Replay(timed_out=True)
    assert judge(hang, seen(trigger=stuck), GOOD).outcome is PROVEN
    assert judge(hang, seen(trigger=stuck), seen(trigger=stuck)).outcome is REFUTED
    assert judge(hang, seen(trigger=FINE), GOOD).outcome is UNPROVABLE


def _replays() -> st.SearchStrategy[Replay]:
    return st.builds(
        Replay,
        status=st.sampled_from([None, 200, 302, 404, 500]),
        crashed=st.booleans(),
        timed_out=st.booleans(),
        tail=st.sampled_from([(), ERROR, CAUGHT, OTHER_ERROR]),
    )


def _sides() -> st.SearchStrategy[Observations]:
    many = st.lists(st.none() | _replays(), max_size=3).map(tuple)
    return st.builds(
        Observations,
        missing=st.sampled_from(["", "", "", "no sandbox"]),
        boot=st.none() | st.sampled_from([UP, UP, DOWN, LATE]),
        trigger=st.none() | _replays(),
        repeats=st.lists(_replays(), max_size=2).map(tuple),
        siblings=many,
        goods=many,
        after=many,
        alive=st.none() | st.builds(Alive, alive=st.booleans()),
        tests=st.none() | st.builds(Ran, code=st.sampled_from([None, 0, 1])),
    )


@given(st.sampled_from(TriggerKind), _sides(), _sides())
def test_proven_means_seen_before_and_not_seen_after(
    kind: TriggerKind, baseline: Observations, patched: Observations
) -> None:
    """Whatever was observed: nothing is proven whose failure was not seen on the baseline, or is seen on the patch."""
    verdict = judge(trigger(kind), baseline, patched)
    assert settled(trigger(kind), baseline, patched) == verdict.checks
    if verdict.outcome is not PROVEN:
        return
    assert kind is not TriggerKind.NONE
    assert not baseline.missing
    assert not patched.missing
    assert patched.boot is not None
    assert patched.boot.ready
    assert patched.alive is None or patched.alive.alive
    if kind is TriggerKind.BOOT:
        assert baseline.boot is not None
        assert not baseline.boot.ready
    if kind is TriggerKind.REQUEST:
        assert baseline.trigger is not None
        assert patched.trigger is not None
        assert baseline.trigger.bad
        assert not patched.trigger.bad
        assert shows(trigger(kind), patched.trigger.tail) is not True
    if kind is TriggerKind.ALONE:
        assert baseline.alive is not None
        assert not baseline.alive.alive


def evidence(kind: IncidentKind, *, uptime_s: float = 100.0, request: Request | None = None) -> Evidence:
    """Evidence of an incident that ended the app after `uptime_s`."""
    incident = Incident(
        id="i1",
        fingerprint="0" * 16,
        kind=kind,
        error="TypeError",
        trace=TRACE,
        exit=Exit(generation=1, code=1, uptime_s=uptime_s),
    )
    return Evidence(incident=incident, request=request)


@pytest.mark.parametrize(
    ("given_", "port", "kind"),
    [
        (evidence(IncidentKind.BOOT), True, TriggerKind.BOOT),
        (evidence(IncidentKind.BOOT, request=REQUEST), True, TriggerKind.BOOT),
        (evidence(IncidentKind.UNREADY), True, TriggerKind.BOOT),
        (evidence(IncidentKind.CRASH, request=REQUEST), True, TriggerKind.REQUEST),
        (evidence(IncidentKind.CRASH, request=REQUEST), False, TriggerKind.NONE),
        (evidence(IncidentKind.CRASH, uptime_s=2.0), True, TriggerKind.ALONE),
        (evidence(IncidentKind.CRASH, uptime_s=200.0), True, TriggerKind.NONE),
        (evidence(IncidentKind.HTTP5XX, request=REQUEST), True, TriggerKind.REQUEST),
        (evidence(IncidentKind.HANG, request=REQUEST), True, TriggerKind.REQUEST),
        (evidence(IncidentKind.REPORT), True, TriggerKind.NONE),
    ],
)
def test_what_sets_the_trouble_off(given_: Evidence, port: bool, kind: TriggerKind) -> None:
    """The incident's kind and what is known of it decide how a trial brings it about."""
    assert trigger_of(given_, app_root=ROOT, has_port=port).kind is kind


def test_a_caught_error_is_known_again_and_another_is_not() -> None:
    """A swallowed error has other outer frames; type, message without values and innermost own frame stay."""
    wanted = trigger()
    assert shows(wanted, ERROR) is True
    assert shows(wanted, CAUGHT) is True
    assert shows(wanted, OTHER_ERROR) is False
    assert shows(wanted, ("listening on 3000",)) is None
    assert with_request(wanted, REQUEST).guessed
