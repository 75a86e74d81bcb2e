# SPDX-License-Identifier: MIT
"""What two runs, one without and one with the patch, say of the patch (pure; DESIGN 6, rungs R0 to R6).

Refuted: the patch is to blame for something seen. Unprovable: nothing can be blamed on it and nothing
speaks for it, such as a failure that does not come about here either without the patch. Proven: the
failure was seen without it, is not seen with it, and nothing else changed that was looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from wolverined.heal.lacking import lacking
from wolverined.heal.trial.observations import Boot, Observations, Replay, Tests
from wolverined.heal.trigger import Trigger, TriggerKind, exactly, shows
from wolverined.model import Check, Exit, Outcome, Verdict

_OUTSIDE = re.compile(
    r"ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|Network is unreachable|No route to host"
    r"|Name or service not known|Temporary failure in name resolution|ConnectionRefusedError|Connection refused"
    r"|Address family not supported by protocol|EAFNOSUPPORT"
)
_LINE = 200


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one rung found; an `outcome` ends the climb."""

    checks: tuple[Check, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""


Rung = Callable[[Trigger, Observations, Observations], Finding | None]
"""None: what the rung looks at was not observed."""


def judge(trigger: Trigger, baseline: Observations, patched: Observations) -> Verdict:
    """Give the verdict; rungs that were not observed count for nothing."""
    checks: list[Check] = []
    for rung in _RUNGS:
        finding = rung(trigger, baseline, patched)
        if finding is None:
            continue
        checks += finding.checks
        if finding.outcome is not None:
            return Verdict(outcome=finding.outcome, reason=finding.reason, checks=tuple(checks))
    if trigger.kind is TriggerKind.NONE:
        reason = "it boots and behaves as before, but nothing here brings the trouble about"
        return Verdict(outcome=Outcome.UNPROVABLE, reason=reason, checks=tuple(checks))
    if not_seen := _not_seen(trigger, baseline, patched):
        return Verdict(outcome=Outcome.UNPROVABLE, reason=not_seen, checks=tuple(checks))
    return Verdict(outcome=Outcome.PROVEN, reason=_proof(trigger, patched), checks=tuple(checks))


def _not_seen(trigger: Trigger, baseline: Observations, patched: Observations) -> str:
    """Why a climb without a complaint proves nothing: what it rests on was never looked at."""
    if baseline.boot is None or patched.boot is None or patched.alive is None:
        return "the trial broke off before it was over"
    if trigger.kind is TriggerKind.REQUEST and (baseline.trigger is None or patched.trigger is None):
        return "the failing request could not be sent"
    if trigger.kind is TriggerKind.ALONE and baseline.alive is None:
        return "nobody watched it without the patch"
    return ""


def settled(trigger: Trigger, baseline: Observations, patched: Observations) -> tuple[Check, ...]:
    """The checks that no later observation changes, for showing them while the trial goes on."""
    checks: list[Check] = []
    for rung in _RUNGS:
        finding = rung(trigger, baseline, patched)
        if finding is not None:
            checks += finding.checks
            if finding.outcome is not None:
                break
    return tuple(checks)


def _missing(_trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    if patched.refused:
        check = Check(rung="R0", name="paths", baseline="ok", patched="bad", passed=False, detail=patched.refused)
        return _refuted([check], patched.refused)
    if why := patched.missing or baseline.missing:
        return Finding(outcome=Outcome.UNPROVABLE, reason=why)
    return None


def _syntax(_trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R0: a file that parsed must parse; one that never did is not this patch's fault."""
    if not patched.syntax:
        return None
    checks: list[Check] = []
    for path, seen in patched.syntax.items():
        before = baseline.syntax.get(path)
        was_bad = before is not None and before.ok is False
        words = {None: "skipped", True: "ok", False: "bad"}
        check = Check(
            rung="R0",
            name=f"syntax of {path}",
            baseline=words[before.ok if before else None],
            patched=words[seen.ok],
            passed=seen.ok is not False or was_bad,
            detail=seen.message[:_LINE],
        )
        checks.append(check)
        if not check.passed:
            return _refuted(checks, f"{path} does not parse: {seen.message[:_LINE]}")
    return Finding(checks=tuple(checks))


def _build(_trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    if patched.build is None:
        return None
    checks = [_command("R1", "build", baseline.build, patched.build)]
    if patched.build.code == 0:
        return Finding(checks=tuple(checks))
    if baseline.build is not None and baseline.build.code == 0:
        return _refuted(checks, f"it does not build: {_last(patched.build.tail)}")
    return _unprovable(checks, "the build command fails here, also without the patch")


def _tests(_trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R2: no new failure; tests that failed before say nothing."""
    if patched.tests is None or baseline.tests is None:
        return None
    checks = [_command("R2", "the app's tests", baseline.tests, patched.tests)]
    if patched.tests.code != 0 and baseline.tests.code == 0:
        return _refuted(checks, f"a test of the app fails with it: {_last(patched.tests.tail)}")
    return Finding(checks=tuple(checks))


def _boot(trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R3: the entry point boots; when booting is the trouble, it must have failed the same way without the patch."""
    if patched.boot is None or baseline.boot is None:
        return None
    before, after = baseline.boot, patched.boot
    why = _why_not_ready(before) + lacking(before.tail, baseline.absent)
    at_start = trigger.kind is TriggerKind.BOOT
    check = Check(
        rung="R3",
        name="boot until ready",
        baseline="ok" if before.ready else "bad",
        patched="ok" if after.ready else "bad",
        passed=after.ready,
        detail=f"ready in {after.ready_ms} ms" if after.ready else _why_not_ready(after),
    )
    if not after.ready:
        elsewhere = not at_start or not _same_boot_failure(trigger, before) or _needs_outside(after.tail)
        if not before.ready and elsewhere:
            return _unprovable([check], f"it cannot boot here, also without the patch: {why}")
        return _refuted([check], f"it does not boot with it: {_why_not_ready(after)}")
    if not at_start:
        if before.ready:
            return Finding(checks=(check,))
        return _unprovable([check], f"it cannot boot here without the patch: {why}")
    if before.ready:
        return _unprovable([check], "it boots here without the patch as well, so the failure is not seen")
    if not _same_boot_failure(trigger, before):
        return _unprovable([check], f"without the patch it fails here in another way: {why}")
    if shows(trigger, after.tail):
        return _refuted([check], "it boots, but the same error is still printed: swallowed, not mended")
    return Finding(checks=(check,))


def _trigger(trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R4: the request that it failed at: bad without the patch, well with it."""
    if trigger.kind is not TriggerKind.REQUEST or patched.trigger is None or baseline.trigger is None:
        return None
    before, after = baseline.trigger, patched.trigger
    assert trigger.request is not None
    name = f"{trigger.request.method} {trigger.request.path}"[:120] + (
        " (found in the source)" if trigger.guessed else ""
    )
    seen = before.bad and shows(trigger, before.tail) is not False
    check = Check(
        rung="R4",
        name=name,
        baseline=_word(before),
        patched=_word(after),
        passed=seen and not after.bad,
        detail=after.detail[:_LINE],
    )
    if after.bad:
        if _needs_outside(after.tail) and shows(trigger, after.tail) is not True:
            return _unprovable([check], f"the request needs what the sandbox does not have: {_last(after.tail)}")
        if before.bad and not seen:
            why = _last(before.tail) + lacking(before.tail, baseline.absent)
            return _unprovable([check], f"the request fails here in another way: {why}")
        return _refuted([check], f"the request still fails with it: {_word(after)}{_said(after.tail)}")
    if not before.bad:
        return _unprovable([check], "the request does not fail here without the patch either")
    if not seen:
        return _unprovable([check], f"without the patch the request fails here in another way: {_last(before.tail)}")
    if shows(trigger, after.tail):
        return _refuted([check], "the request succeeds, but the same error is still printed: swallowed, not mended")
    return _status(trigger, check, after)


def _status(trigger: Trigger, check: Check, after: Replay) -> Finding:
    assert after.status is not None
    classes = {status // 100 for status in trigger.known_statuses}
    if after.status < 400 or after.status // 100 in classes:  # noqa: PLR2004  HTTP: no client error
        return Finding(checks=(check,))
    unsure = msgspec.structs.replace(check, passed=False)
    return _unprovable([unsure], f"it answers {after.status} now, and nobody knows whether that is right")


def _repeats(trigger: Trigger, _baseline: Observations, patched: Observations) -> Finding | None:
    """R6: once may be luck."""
    if not patched.repeats:
        return None
    bad = [seen for seen in patched.repeats if seen.bad or shows(trigger, seen.tail)]
    check = Check(
        rung="R6",
        name=f"the trigger {len(patched.repeats)} times more",
        baseline="bad",
        patched=f"{len(bad)} bad" if bad else "ok",
        passed=not bad,
    )
    if bad:
        return _refuted([check], f"the request fails again when it is repeated: {_word(bad[0])}{_said(bad[0].tail)}")
    return Finding(checks=(check,))


def _siblings(trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R4: requests like the trigger must not fail as it did, nor worse than before: no special-casing."""
    checks: list[Check] = []
    for number, after in enumerate(patched.siblings):
        if after is None:
            continue
        before = baseline.siblings[number] if number < len(baseline.siblings) else None
        same = exactly(trigger, after.tail)
        worse = after.bad and (before is None or not before.bad)
        check = Check(
            rung="R4",
            name=f"a request like it ({number + 1})",
            baseline=_word(before),
            patched=_word(after),
            passed=not (same or worse),
        )
        checks.append(check)
        if same:
            return _refuted(checks, "a request that is a little different still fails with the same error")
        if worse and before is None:
            return _unprovable(checks, "a request like it fails, and nobody knows whether it did before")
        if worse:
            return _refuted(
                checks, f"a request like it fails now and did not before: {_word(after)}{_said(after.tail)}"
            )
    return Finding(checks=tuple(checks)) if checks else None


def _goods(_trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R5: what was well stays as it was: same status, same shape."""
    checks: list[Check] = []
    rounds = (("", patched.goods, baseline.goods), (" afterwards", patched.after, baseline.goods))
    for when, seen, known in rounds:
        for number, (after, before) in enumerate(zip(seen, known, strict=False)):
            if after is None or before is None or before.bad:
                continue
            difference = _difference(before, after)
            checks.append(
                Check(
                    rung="R5",
                    name=f"good request {number + 1}{when}",
                    baseline=_word(before),
                    patched=_word(after),
                    passed=not difference,
                    detail=difference,
                )
            )
            if difference:
                return _refuted(checks, f"a request that was well is not any more: {difference}")
    return Finding(checks=tuple(checks)) if checks else None


def _alive(trigger: Trigger, baseline: Observations, patched: Observations) -> Finding | None:
    """R3, R6: it stays up; when it ended by itself without the patch, it outlives that time."""
    if patched.alive is None:
        return None
    alone = trigger.kind is TriggerKind.ALONE
    if alone and baseline.alive is None:
        return None
    before = baseline.alive
    check = Check(
        rung="R6" if alone else "R3",
        name=f"alive after {trigger.watch_s:.0f} s" if alone else "alive at the end",
        baseline="" if before is None else "ok" if before.alive else "bad",
        patched="ok" if patched.alive.alive else "bad",
        passed=patched.alive.alive,
    )
    if not patched.alive.alive:
        if alone and before is not None and not before.alive and shows(trigger, before.tail) is False:
            return _unprovable([check], f"it ends here in another way, also without the patch: {_last(before.tail)}")
        return _refuted([check], f"it does not stay up: {_ended(patched.alive.exit)}{_said(patched.alive.tail)}")
    if not alone or before is None:
        return Finding(checks=(check,))
    if before.alive:
        return _unprovable([check], "it does not end by itself here without the patch either")
    if shows(trigger, before.tail) is False:
        return _unprovable([check], f"without the patch it ends here in another way: {_last(before.tail)}")
    if shows(trigger, patched.alive.tail):
        return _refuted([check], "it stays up, but the same error is still printed: swallowed, not mended")
    return Finding(checks=(check,))


_RUNGS: tuple[Rung, ...] = (
    _missing, _syntax, _build, _tests, _boot, _trigger, _repeats, _siblings, _goods, _alive,
)  # fmt: skip


def _same_boot_failure(trigger: Trigger, boot: Boot) -> bool:
    seen = shows(trigger, boot.tail)
    if seen is not None:
        return seen
    if trigger.trace is not None and boot.exit is None:
        return False  # it once died of an error, and here only takes too long
    known, here = trigger.exit, boot.exit
    if known is None or here is None:
        return True
    return (known.code, known.signal) == (here.code, here.signal)


def _difference(before: Replay, after: Replay) -> str:
    if after.status != before.status:
        return f"{_word(before)} before, {_word(after)} now"
    if before.body_shape and after.body_shape != before.body_shape:
        return f"the answer's fields changed: {before.body_shape[:80]} before, {after.body_shape[:80] or 'no JSON'} now"
    return ""


def _command(rung: str, name: str, before: Tests | None, after: Tests) -> Check:
    def word(seen: Tests | None) -> str:
        if seen is None:
            return "skipped"
        return "ok" if seen.code == 0 else "timed out" if seen.timed_out else "bad"

    failed = after.code != 0 and (before is None or before.code == 0)
    detail = _last(after.tail) if after.code != 0 else f"{after.ms} ms"
    return Check(rung=rung, name=name, baseline=word(before), patched=word(after), passed=not failed, detail=detail)


def _word(seen: Replay | None) -> str:
    if seen is None:
        return "not asked"
    if seen.crashed:
        return f"{seen.status}, then it ended" if seen.status is not None else "it ended"
    if seen.status is None:
        return "no answer in time" if seen.timed_out else "no answer"
    return str(seen.status)


def _why_not_ready(boot: Boot) -> str:
    if boot.exit is not None:
        return f"{_ended(boot.exit)}{_said(boot.tail)}"
    return boot.detail or "not ready in time"


def _ended(ended: Exit | None) -> str:
    if ended is None:
        return "it ended"
    return f"ended by signal {ended.signal}" if ended.signal is not None else f"ended with code {ended.code}"


def _said(tail: Sequence[str]) -> str:
    words = _last(tail)
    return f" ({words})" if words else ""


def _last(tail: Sequence[str]) -> str:
    """The line that tells most: the last one that names an error, else the last one."""
    lines = [line.strip() for line in tail if line.strip()]
    naming = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return ([*lines[-1:], *naming[-1:]] or [""])[-1][:_LINE]


def _needs_outside(tail: Sequence[str]) -> bool:
    return any(_OUTSIDE.search(line) for line in tail)


def _proof(trigger: Trigger, patched: Observations) -> str:
    if trigger.kind is TriggerKind.BOOT:
        assert patched.boot is not None
        return f"it fails to boot without the patch and is ready in {patched.boot.ready_ms} ms with it"
    if trigger.kind is TriggerKind.ALONE:
        return "it ends by itself without the patch and stays up with it"
    return "the request fails without the patch and succeeds with it; all else is as before"


def _refuted(checks: Sequence[Check], reason: str) -> Finding:
    failed = msgspec.structs.replace(checks[-1], passed=False)
    return Finding(checks=(*checks[:-1], failed), outcome=Outcome.REFUTED, reason=reason)


def _unprovable(checks: Sequence[Check], reason: str) -> Finding:
    return Finding(checks=tuple(checks), outcome=Outcome.UNPROVABLE, reason=reason)
