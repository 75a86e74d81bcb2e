# SPDX-License-Identifier: MIT
"""Takes a supervisor's state apart for a successor in this process, and puts it together again there.

What cannot be taken over is not lost from sight: its leaf is left to the hierarchy as a killed predecessor's,
which is ended before anything starts, and the life begins anew with the next number.
"""

from __future__ import annotations

import msgspec

from wolverined.config.schema import Config
from wolverined.errors import SpawnError
from wolverined.supervise.generation import Generation, Setting
from wolverined.supervise.handover import HandedSupervisor
from wolverined.supervise.interfaces import Prober
from wolverined.supervise.lifecycle import Life, Phase
from wolverined.supervise.output import Ring
from wolverined.supervise.status import Record


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor goes on with; `lost` says why the running generation could not be taken over."""

    life: Life
    record: Record
    generation: Generation | None = None
    prober: Prober | None = None
    lost: str = ""


def busy(life: Life, *, prepared: bool, working: bool) -> str:
    """What is under way that no successor could take over; empty when nothing is.

    Args:
        life: Where the machine stands.
        prepared: Nothing of a killed predecessor lives.
        working: Something else is done than waiting for the running generation's end.
    """
    if not prepared:
        return "what an earlier supervisor left is being ended"
    if life.phase is Phase.ENDING:
        return "the app is being ended"
    if working or (life.phase is Phase.STARTING and not life.alive):
        return "a start or an end of the app is under way"
    return ""


def hand_over(life: Life, record: Record, *, generation: Generation | None, ring: Ring) -> HandedSupervisor:
    """Everything that a successor needs; all of it stays in use as long as there is none."""
    running = generation.hand_over() if generation is not None else None  # first: it may bring forth a last line
    error = record.spawn_error
    return HandedSupervisor(
        life=life,
        generation=running,
        lines=tuple(ring.after(0, ring.newest)),
        cursor=ring.newest,
        spawns=record.spawns,
        cannot_start=(error.message, error.hint) if error is not None else None,
        last_exit=record.last_exit,
        ready_at=record.ready_at,
        says=record.says,
    )


def adopt(handed: HandedSupervisor, *, config: Config, setting: Setting) -> Adopted:
    """Put together again what was handed over; the setting's ring is filled."""
    setting.output.ring.resume(handed.lines, newest=handed.cursor)
    error = SpawnError(handed.cannot_start[0], hint=handed.cannot_start[1]) if handed.cannot_start else None
    record = Record(spawns=handed.spawns, spawn_error=error, last_exit=handed.last_exit)
    life = handed.life
    generation, prober = None, None
    if handed.generation is not None:
        try:
            generation, prober = Generation.adopt(handed.generation, config=config, setting=setting)
        except SpawnError as why:
            phase = Phase.HELD if life.held else Phase.STOPPED
            anew = Life(phase=phase, generation=life.generation, held=life.held, wanted=life.held and life.wanted)
            return Adopted(life=anew, record=record, lost=str(why))
    record.ready_at, record.says = handed.ready_at, handed.says
    return Adopted(life=life, record=record, generation=generation, prober=prober)
