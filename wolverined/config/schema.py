# SPDX-License-Identifier: MIT
"""The shape of `/etc/wolverine/NAME.toml` and every default (DESIGN 7.1).

Only structs stand here: what a table may hold, in which unit, with which default. Reading and
checking a file is `load`'s work, so that a wrong file is answered with all of its problems at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec


class Policy(StrEnum):
    """What a heal may do on its own."""

    AUTO = "auto"  # proven repairs are applied; a model's only when they are low-risk
    APPROVE = "approve"  # everything waits for `wolverinectl approve`
    OBSERVE = "observe"  # the proposal is written down, nothing is touched
    OFF = "off"  # incidents are recorded, nothing is proposed


class Unprovable(StrEnum):
    """What becomes of a proposal that could not be tried."""

    APPROVE = "approve"
    APPLY = "apply"


class StopScope(StrEnum):
    """Who gets the stop signal."""

    MAIN = "main"
    TREE = "tree"


class AppTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[app]`: what is run. `command` is argv; `environment` is laid over `environment_file`."""

    command: tuple[str, ...]
    directory: Path
    user: str = ""  # resolved by `load`: the owner of `directory`
    allow_root: bool = False
    port: int | None = None
    environment_file: Path | None = None
    environment: dict[str, str] = {}


class StopTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[stop]`: how the app is asked to end. `abort_s`: after SIGABRT, when it hung."""

    signal: str = "SIGTERM"
    scope: StopScope = StopScope.TREE
    timeout_s: float = 3.0
    abort_s: float = 2.0


class RestartTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[restart]`: backoff between starts. The first restart after a ready generation is immediate."""

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1
    reset_s: float = 60.0
    crash_loop_s: float = 300.0


class ProbeTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[probe]`: at most one of `http` (a path), `tcp`, `exec` (argv), `notify`.

    None of them: a TCP connect when there is a port, else a process that lives is ready.
    """

    http: str = ""
    tcp: bool = False
    exec: tuple[str, ...] = ()
    notify: bool = False
    interval_s: float = 3.0
    timeout_s: float = 2.0
    failures: int = 3
    startup_s: float = 60.0
    loop_heartbeat: bool = True


class RoutesTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[routes]`: paths that are watched."""

    watch: tuple[str, ...] = ()
    interval_s: float = 30.0
    slow_ms: int = 2000


class ResourcesTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[resources]`: sampling and limits; 0 means no limit."""

    sample_s: float = 10.0
    memory_max_mb: int = 0
    leak_window_s: float = 1800.0


class ErrorsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[errors]`: how many caught errors of one route make an incident."""

    threshold: int = 1
    window_s: float = 30.0
    cooldown_s: float = 60.0


class ClusterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[cluster]`: what the app is told of workers; 0 means the recommended count."""

    enabled: bool = False
    workers: int = 0


class TrialTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[heal.trial]`: what a candidate needs before it can boot. `read_only` paths are relative to `app.directory`."""

    setup: tuple[tuple[str, ...], ...] = ()
    environment: dict[str, str] = {}
    read_only: tuple[str, ...] = ()


DENY = (
    ".env*",
    "**/.env*",
    ".git/**",
    "node_modules/**",
    "**/node_modules/**",
    ".venv/**",
    "venv/**",
    "**/__pycache__/**",
    "*.pem",
    "**/*.pem",
    "*.key",
    "**/*.key",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "test/**",
    "tests/**",
    "**/*.test.*",
    "**/*_test.*",
    "**/test_*.py",
    ".github/**",
    ".ci/**",
)
"""What a patch may never touch unless the operator says otherwise."""


class HealTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[heal]`: what may be done about trouble. `source` is relative to `app.directory`."""

    policy: Policy = Policy.AUTO
    auto_risk: str = "low"  # "low" or "any"
    unprovable: Unprovable = Unprovable.APPROVE
    source: str = "."
    allow: tuple[str, ...] = ("**",)
    deny: tuple[str, ...] = DENY
    test_command: tuple[str, ...] = ()
    build_command: tuple[str, ...] = ()
    max_attempts: int = 3
    timeout_s: float = 300.0
    probation_s: float = 60.0
    settle_s: float = 30.0  # a source that changed less than this ago stays a heal: a deploy may be under way
    approval_s: float = 86400.0
    max_files: int = 5
    max_lines: int = 200
    apply_as: str = ""  # resolved by `load`: the owner of the source
    allow_root_owner: bool = False
    trial: TrialTable = TrialTable()


class BudgetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ai.budget]`: hard limits, reserved before each call."""

    usd_per_incident: float = 0.50
    usd_per_day: float = 2.0
    tokens_per_hour: int = 120_000


class ModelsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ai.models]`: which model does what; empty: the adviser's default."""

    fast: str = ""
    agent: str = ""
    classify: str = ""


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ai.prices.MODEL]`: US dollars for a million tokens."""

    input: float
    output: float


class AiTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[ai]`: limits; under `wolverined run` also the endpoint and the models (never the key)."""

    budget: BudgetTable = BudgetTable()
    base_url: str = ""
    models: ModelsTable = ModelsTable()
    prices: dict[str, PriceTable] = {}


class AlertsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[alerts]`: what reaches a human."""

    min_severity: str = "warn"
    digest_s: float = 60.0


class PlatformTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform]`: where heartbeats go; no url, no telemetry."""

    url: str = ""
    instance_name: str = ""
    heartbeat_s: float = 60.0


class RetentionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[retention]`: how long things are kept."""

    backups_days: int = 7
    stable_per_day: int = 1
    evidence_days: int = 30
    state_max_mb: int = 500


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One application's configuration, checked, with every default filled in and paths absolute."""

    app: AppTable
    stop: StopTable = StopTable()
    restart: RestartTable = RestartTable()
    probe: ProbeTable = ProbeTable()
    routes: RoutesTable = RoutesTable()
    resources: ResourcesTable = ResourcesTable()
    errors: ErrorsTable = ErrorsTable()
    cluster: ClusterTable = ClusterTable()
    heal: HealTable = HealTable()
    ai: AiTable = AiTable()
    alerts: AlertsTable = AlertsTable()
    platform: PlatformTable = PlatformTable()
    retention: RetentionTable = RetentionTable()
