# SPDX-License-Identifier: MIT
"""Keys that are checked but do nothing yet: whoever sets one is told, instead of trusting it at 3 a.m.

A key leaves this list with the change that gives it an effect.
"""

from __future__ import annotations

import msgspec

from wolverined.config.schema import Config

PENDING = (
    "ai.models.agent",
    "ai.models.classify",
    "alerts.digest_s",
    "platform.heartbeat_s",
    "platform.url",
    "probe.loop_heartbeat",
    "resources.leak_window_s",
    "resources.sample_s",
    "retention.evidence_days",
    "retention.state_max_mb",
    "routes.interval_s",
    "routes.slow_ms",
)
"""Dotted paths, sorted."""


def warnings(config: Config) -> tuple[str, ...]:
    """One line for each key of PENDING that is set to something else than its default."""
    return tuple(
        f"{path} has no effect in this version of wolverined"
        for path in PENDING
        if _value(config, path) != _default(path)
    )


def _value(config: Config, path: str) -> object:
    value: object = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _default(path: str) -> object:
    kind: object = Config
    for part in path.split("."):
        field = next(field for field in msgspec.structs.fields(kind) if field.name == part)  # type: ignore[arg-type]
        kind = field.type if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct) else field.default
    return kind
