# SPDX-License-Identifier: MIT
"""The one tree of errors.

Every error that reaches a user has a message (what is wrong) and a hint (what to do). The place that
turns an error into an exit code or an API answer stands in `cli` and in `control`; rooms only raise.
"""

from __future__ import annotations


class WolverineError(Exception):
    """An error with a message for a person and a hint that says what to do.

    Args:
        message: What is wrong, in one line, without a full stop.
        hint: What the reader can do about it; empty when there is nothing to do.

    Attributes:
        kind: A stable word for programs (the API's `kind`).
        exit_code: What a command exits with when this error ends it.
    """

    kind = "failed"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; hint: {self.hint}" if self.hint else self.message


class ConfigError(WolverineError):
    """The configuration cannot be used; `problems` says each reason with its line."""

    kind = "config-invalid"
    exit_code = 78  # EX_CONFIG of sysexits.h: systemd's RestartPreventExitStatus looks for it

    def __init__(self, message: str, *, hint: str = "", problems: tuple[object, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class NotPrepared(ConfigError):
    """What root saw of the configuration is missing or of another time; before the next start it looks anew."""

    exit_code = 1


class UsageError(WolverineError):
    """The command line or the request asks for something that does not exist or does not fit."""

    kind = "bad-request"
    exit_code = 2


class NoSuchInstance(WolverineError):
    """No application of that name is known here."""

    kind = "no-such-instance"
    exit_code = 4


class NotFound(WolverineError):
    """The incident, repair, backup or change of that id does not exist."""

    kind = "not-found"
    exit_code = 1


class Unreachable(WolverineError):
    """The daemon does not answer on its control socket."""

    kind = "unreachable"
    exit_code = 5


class AccessDenied(WolverineError):
    """The peer may not do this."""

    kind = "access-denied"
    exit_code = 6


class TimedOut(WolverineError):
    """What was waited for did not come in time."""

    kind = "timed-out"
    exit_code = 7


class Conflict(WolverineError):
    """The request is right but not now: the state of the thing does not allow it."""

    kind = "conflict"
    exit_code = 1


class SpawnError(WolverineError):
    """A program could not be started at all (missing, not executable, no such directory)."""

    kind = "cannot-start"
    exit_code = 1


class StreamError(WolverineError):
    """The other end of a role stream broke the contract of frames, or went away."""

    kind = "stream"
    exit_code = 1


class EditRejected(WolverineError):
    """An edit does not apply: no match, more than one match, or a form that is refused."""

    kind = "edit-rejected"
    exit_code = 1


class SurgeryAborted(WolverineError):
    """The files are not what the repair was made for; nothing was written, or all was put back."""

    kind = "surgery-aborted"
    exit_code = 1


class AdviserFailed(WolverineError):
    """The model could not be asked, or its answer cannot be used. `retryable` says whether later may help."""

    kind = "adviser-failed"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class AdviserRefused(AdviserFailed):
    """The endpoint refuses the key or the account (401, 402, 403, no quota): an operator has to act first."""

    kind = "adviser-refused"


class StoreError(WolverineError):
    """The instance's store cannot be read or written: disk full, read-only, damaged, or locked."""

    kind = "store"
    exit_code = 1


class StoreBusy(StoreError):
    """Another process keeps the store locked; whoever cannot wait tries again."""


class OverBudget(WolverineError):
    """A model call does not fit into what is left of a budget; nothing was sent."""

    kind = "over-budget"
    exit_code = 1


class SandboxUnavailable(WolverineError):
    """No candidate can be tried here: the walls cannot be built. It is never run without them."""

    kind = "unprovable"
    exit_code = 1
