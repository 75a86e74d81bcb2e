# SPDX-License-Identifier: MIT
"""The vocabulary: the frozen structs and enums that every room shares.

Imports nothing of ours and does nothing. A word here is the word in the code, the CLI, the journal
fields, the API and the database. Times named `*_at` are wall-clock seconds since the epoch (labels);
durations carry their unit; what decides is monotonic time and lives in the rooms.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class AppState(StrEnum):
    """What users see of an application; `supervise/lifecycle.py` draws the transitions."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    HEALING = "healing"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    CRASH_LOOP = "crash-loop"
    FAILED = "failed"


class IncidentKind(StrEnum):
    """What sort of trouble an incident is."""

    CRASH = "crash"  # ended with a code other than 0, or by a signal not ours
    EXIT = "exit"  # the main process of a server ended with 0
    BOOT = "boot"  # a crash before the generation was ever ready
    OOM = "oom"
    HANG = "hang"  # liveness failed
    UNREADY = "unready"  # the startup probe's grace ended
    HTTP5XX = "http5xx"
    LEAK = "leak"
    PORT_TAKEN = "port-taken"  # a stranger listens on the app's port
    REPORT = "report"  # the operator's own words (`heal --report -`)


class IncidentState(StrEnum):
    """Where an incident stands."""

    OPEN = "open"
    HEALING = "healing"
    APPROVAL = "approval"  # a repair waits for `wolverinectl approve`
    CLOSED = "closed"  # see `closed_by`


class RepairState(StrEnum):
    """Where a repair stands (DESIGN 7.8)."""

    PROPOSED = "proposed"
    PROVING = "proving"
    APPROVAL = "approval"
    APPLIED = "applied"
    PROBATION = "probation"
    VERIFIED = "verified"
    STABLE = "stable"
    REFUTED = "refuted"
    UNPROVABLE = "unprovable"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class RepairMode(StrEnum):
    """Who made the proposal."""

    REMEDY = "remedy"
    RECALL = "recall"
    FAST = "fast"
    AGENT = "agent"
    SUB_AGENTS = "sub-agents"


class Outcome(StrEnum):
    """A verdict of the ladder."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNPROVABLE = "unprovable"


class BackupState(StrEnum):
    """How far a backup is trusted."""

    UNSTABLE = "unstable"
    VERIFIED = "verified"
    STABLE = "stable"


class ChangeState(StrEnum):
    """Where an asynchronous control operation stands."""

    DOING = "doing"
    DONE = "done"
    FAILED = "failed"


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How one generation of the app ended.

    Exactly one of `code` and `signal` is set. `asked` is true when we ended it (stop, restart, a kill
    after a hang); `ready` tells whether the generation had ever been ready. With `oom` come the limit of its
    leaf and the most that it used, as far as the kernel tells them.
    """

    generation: int
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    asked: bool = False
    ready: bool = False
    uptime_s: float = 0.0
    at: float = 0.0
    tail: tuple[str, ...] = ()
    memory_max_bytes: int | None = None
    memory_peak_bytes: int | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a stack trace. `own` means: a file of the app, not of a dependency or the runtime.

    The path of an own frame is relative to the app's root (POSIX, as the keys of `Snapshot.files`);
    any other path is as the runtime printed it. `line` is 0 where the runtime told none.
    """

    path: str
    line: int
    function: str = ""
    column: int | None = None
    source: str = ""
    own: bool = False


class ErrorLink(msgspec.Struct, frozen=True):
    """One link of an error chain: the type as the runtime prints it, and the first line of the message.

    Attributes:
        type: Such as "TypeError"; empty when the trace was cut off before it.
        message: One line, without the runtime's suggestion (that is `Trace.hint`).
        code: The runtime's own code, such as "MODULE_NOT_FOUND" or "EADDRINUSE".
        notes: The message's further lines and Python's notes, as far as they can be told from other output.
        frame: Where it was raised: the link's innermost own frame, else its innermost frame.
    """

    type: str
    message: str
    code: str = ""
    notes: tuple[str, ...] = ()
    frame: Frame | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One stack trace: `errors` from the root cause to what was raised last, never empty.

    `frames` stand in the order of `errors`, those of one error innermost first: so the first frame is
    where the root cause was raised. `hint` holds the runtime's own suggestion, such as Python's
    "Did you mean: 'name'?".
    """

    language: str  # "python", "node", "generic"
    errors: tuple[ErrorLink, ...]
    frames: tuple[Frame, ...] = ()
    hint: str = ""
    partial: bool = False
    text: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request as evidence and as a thing to replay; headers and body redacted and capped."""

    method: str
    path: str
    headers: dict[str, str] = {}
    body: str = ""
    truncated: bool = False


class NewIncident(msgspec.Struct, frozen=True, kw_only=True):
    """Trouble as it was noticed, before the store knows whether it is new: an `Incident` without history."""

    fingerprint: str
    kind: IncidentKind
    error: str
    message: str = ""
    route: str = ""
    generation: int = 0
    at: float = 0.0
    note: str = ""
    trace: Trace | None = None
    exit: Exit | None = None
    request: Request | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Trouble with a fingerprint. `id` is "i" and a number, unique for the instance."""

    id: str
    fingerprint: str
    kind: IncidentKind
    error: str  # the error's type, or the exit in words: "TypeError", "SIGKILL", "exit 3"
    message: str = ""
    route: str = ""
    count: int = 1
    state: IncidentState = IncidentState.OPEN
    opened_at: float = 0.0
    last_at: float = 0.0
    closed_at: float | None = None
    closed_by: str = ""  # a repair's id, "recovered", "restarted", "operator", "quarantined", "gave-up"
    generation: int = 0
    note: str = ""  # one line for the operator: why it is not healed, whom to ask
    trace: Trace | None = None
    exit: Exit | None = None
    request: Request | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The redacted bundle for one incident: all that the heal and the model may know of it."""

    incident: Incident
    tail: tuple[str, ...] = ()
    traces: tuple[Trace, ...] = ()
    request: Request | None = None
    report: str = ""  # the operator's words


class SourceFile(msgspec.Struct, frozen=True):
    """One file of the app's source as it stood at the snapshot. `mode` is the permission bits."""

    data: bytes
    mode: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The app's source at one moment: relative POSIX path -> file; `tree_hash` is over all of it.

    `files` is what `allow` minus `deny` minus data leaves, the only ones that an edit may touch;
    `skipped` counts what was too big to be source.
    """

    root: str
    files: dict[str, SourceFile]
    tree_hash: str
    skipped: int = 0


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One search/replace. An empty `search` makes a new file and is refused for one that exists."""

    path: str
    search: str
    replace: str


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a patch. `before` is None for a new file; `after` is None for a removed one."""

    path: str
    before: bytes | None
    after: bytes | None
    mode: int = 0o644


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and money of model calls. `cost_usd` None: the price is unknown."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    estimated: bool = False
    model: str = ""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A patch and a reason, by a remedy, by recall, or by a model; data, never an instruction."""

    mode: RepairMode
    reason: str
    changes: tuple[FileChange, ...]
    root_cause: str = ""
    remedy: str = ""  # the remedy's name when mode is REMEDY
    confidence: float = 1.0
    usage: Usage = Usage()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One rung of a verdict. `baseline` and `patched` are words such as "ok", "bad", "skipped"."""

    rung: str  # R0 .. R6
    name: str
    baseline: str
    patched: str
    passed: bool
    detail: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of proving one proposal, with every check."""

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...] = ()
    duration_ms: int = 0


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal and what came of it. `id` is "r" and a number. `sha256` is of the exact diff text.

    `lost_at`: when an applied repair was found to be no longer in the source (a deploy replaced it), while it is
    so. `upstream_at`: when somebody else was found to have brought it into the source. Its state stays what it was.
    """

    id: str
    incident: str
    mode: RepairMode
    state: RepairState
    error: str
    resolution: str
    files: tuple[str, ...] = ()
    diff: str = ""
    sha256: str = ""
    verdict: Verdict | None = None
    success: bool = False
    remedy: str = ""
    model: str = ""
    iteration: int = 1
    tokens: int = 0
    cost_usd: float | None = 0.0
    duration_ms: int = 0
    created_at: float = 0.0
    applied_at: float | None = None
    ended_at: float | None = None
    backup: str = ""
    note: str = ""
    lost_at: float | None = None
    upstream_at: float | None = None


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """The files that a repair replaced, as they stood before. `id` is "b" and a number."""

    id: str
    repair: str
    state: BackupState
    files: tuple[str, ...]
    tree_hash: str
    created_at: float
    size_bytes: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One asynchronous control operation. `id` is "c" and a number."""

    id: str
    action: str
    state: ChangeState
    started_at: float
    ended_at: float | None = None
    result: dict[str, Any] | None = None
    error: str = ""
    kind: str = ""  # the error's stable kind
    hint: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, in the vocabulary of DESIGN 7.4. `cursor` grows for ever."""

    cursor: int
    at: float
    name: str  # "app.exit", "incident.opened", "repair.applied", "audit.denied", …
    message: str
    severity: str = "info"  # info warn error critical
    generation: int | None = None
    incident: str = ""
    repair: str = ""
    fields: dict[str, Any] = {}


class Probing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the probing of one generation stands, for a wolverined that takes over from another.

    Attributes:
        born: When the probing began (monotonic).
        next_at: When the next probe is due (monotonic).
        ready: The startup probe has passed.
        failures: Failures in a row since then.
        told: That the startup grace is over has been told.
        beat: When the app sent its last WATCHDOG=1 (monotonic).
        triggered: The app has asked to be taken as hung.
        notices: The file descriptor of the app's notify socket; -1: it has none.
        inode: What tells that socket's path from another that is put there later.
    """

    born: float
    next_at: float = 0.0
    ready: bool = False
    failures: int = 0
    told: bool = False
    beat: float | None = None
    triggered: bool = False
    notices: int = -1
    inode: tuple[int, int, int] | None = None


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the app's output."""

    cursor: int
    at: float
    stream: str  # "stdout" or "stderr"
    text: str
    generation: int
    pid: int | None = None
    truncated: bool = False
