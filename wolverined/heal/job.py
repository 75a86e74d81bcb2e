# SPDX-License-Identifier: MIT
"""What the supervisor asks of one heal process, and what it gets back.

A heal process does one job and ends. Both structs travel as JSON over the stream between the two.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from wolverined.config.schema import Config
from wolverined.model import Incident, Request


class Task(StrEnum):
    """What a heal process can be asked to do."""

    HEAL = "heal"  # the whole ladder for one incident
    APPLY = "apply"  # put in an approved repair, watch it
    ROLLBACK = "rollback"  # take a repair back
    RESTORE = "restore"  # put a backup's files back
    REJECT = "reject"  # an operator's no
    RECOVER = "recover"  # after a crash: finish or undo what the journal says was under way
    WATCH = "watch"  # go on with a probation that the daemon's own end interrupted
    CHECK = "check"  # look whether a deploy has replaced what repairs wrote
    PROMOTE = "promote"  # a verified repair has stood long enough: call it stable, prune backups


class Conclusion(StrEnum):
    """How a job ended, for the daemon to act on."""

    HEALED = "healed"  # applied, watched, verified
    ROLLED_BACK = "rolled_back"  # applied, worse, taken back (or taken back as asked)
    APPROVAL = "approval"  # a repair waits for the operator
    OBSERVED = "observed"  # written down, nothing touched (policy observe, or --dry-run)
    NOTHING = "nothing"  # no proposal, or none that stood the trial
    WAIT = "wait"  # not now: the source changed a moment ago
    PAUSED = "paused"  # applied, and the operator stopped the app: it is watched once the app runs again
    DONE = "done"  # recover, check, promote, restore: nothing more to say
    FAILED = "failed"  # the job itself failed; `said` and `hint` tell why


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One task with all it needs.

    `environment` is the app's; `hide` are paths that no candidate may see, `hooks` is the directory of
    injected reporters, which a candidate runs without.
    """

    task: Task
    name: str
    state_dir: str
    config: Config
    incident: Incident | None = None
    tail: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    hide: tuple[str, ...] = ()
    hooks: str = ""
    repair: str = ""
    backup: str = ""
    sha256: str = ""
    report: str = ""
    dry_run: bool = False
    asked: bool = False  # an operator asked: a fresh source is no reason to wait
    ready: bool = True  # whether the app is served now (a watch begins once it is)
    ai: bool = False  # an endpoint and a key are configured
    samples: tuple[Request, ...] = ()  # that went well
    known_statuses: tuple[int, ...] = ()  # of the failing route, when it went well

    def encode(self) -> dict[str, Any]:
        """Give the job as plain JSON values."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=_to_text)
        return plain

    @classmethod
    def decode(cls, plain: dict[str, Any]) -> Job:
        """Read a job back; raises `msgspec.ValidationError` on anything else."""
        return msgspec.convert(plain, cls, dec_hook=_from_text)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job. `said` is one line for the operator.

    `mixed` means that the source may be half changed and could not be made whole: the app stays down.
    """

    conclusion: Conclusion
    said: str
    hint: str = ""
    repair: str = ""
    verdict: str = ""
    retry_after_s: float = 0.0
    mixed: bool = False


def _to_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _from_text(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)
