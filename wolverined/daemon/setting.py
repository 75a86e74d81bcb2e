# SPDX-License-Identifier: MIT
"""What kind of place a daemon lives in: the one value that knows what differs between them.

Everything else in this room asks it and never looks around by itself. `terminal` makes the setting of
`wolverined run`: whoever started it, in whatever cgroup, with keys in its environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec

from wolverined.config.environment import override
from wolverined.config.load import load
from wolverined.config.problems import Loaded
from wolverined.config.schema import Config
from wolverined.heal import walls
from wolverined.heal.dispatch import RolePlan, plans
from wolverined.linux.credentials import Credentials, may_change_user
from wolverined.linux.hierarchy import open_hierarchy
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.memory import hide_memory
from wolverined.linux.runtime import make_private_dir, runtime_dir, state_dir

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""What the adviser alone is given of our environment."""

Roles = Callable[[str, Config, Credentials], RolePlan]
"""A role, the configuration in force and the app's user -> a plan for it."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One place to live in.

    Attributes:
        name: The instance.
        file: Its configuration.
        runtime_dir: Where its sockets lie.
        state_dir: Where it keeps its state.
        environ: Our environment.
        as_json: Log JSON.
        verbose: Tell also what only explains other events.
        operator_is_us: Whether our own uid may operate us (else only root and the groups may).
        secrets: Of our environment, never to be repeated.
        load: Reads the configuration.
        settle: Makes this process ready to live here; called once, before anything else.
        hierarchy: Opens the place for leaves.
        roles: As whom each role of a heal runs.
        ai: Whether a model may be asked.
        weaknesses: What is weaker here than it could be.
    """

    name: str
    file: Path
    runtime_dir: Path
    state_dir: Path
    environ: dict[str, str]
    as_json: bool
    verbose: bool
    operator_is_us: bool
    secrets: dict[str, str]
    load: Callable[[], Loaded]
    settle: Callable[[], None]
    hierarchy: Callable[[], Hierarchy]
    roles: Roles
    ai: Callable[[], bool]
    weaknesses: Callable[[], tuple[str, ...]]


def terminal(args: SimpleNamespace) -> Setting:
    """The setting of `wolverined run`."""
    file = Path(args.config).absolute()
    name = file.stem
    environ = dict(os.environ)
    state = state_dir(name, _path(args.state_dir))
    powerful = may_change_user()
    keys = {key: environ[key] for key in KEYS if environ.get(key)}

    def loaded() -> Loaded:
        found = load(file)
        config, overrides = override(found.config, environ)
        return Loaded(config=config, warnings=(*found.warnings, *overrides))

    def settle() -> None:
        make_private_dir(state, 0o700)
        hide_memory()  # the app, whose uid may be ours here, shall not read our environment

    def role(name: str, config: Config, app: Credentials) -> RolePlan:
        # `[ai] base_url` travels like the keys, too, never with a heal's words.
        handed = keys | ({"OPENAI_BASE_URL": config.ai.base_url} if config.ai.base_url else {})
        if not powerful:
            return plans(surgeon=None, trial=None, adviser=None, keys=handed)(name)
        surgeon = Credentials.of_user(config.heal.apply_as)
        adviser = walls.credentials_of_adviser(taken={app.uid, surgeon.uid})
        return plans(surgeon=surgeon, trial=app, adviser=adviser, keys=handed)(name)

    return Setting(
        name=name,
        file=file,
        runtime_dir=runtime_dir(name, _path(args.runtime_dir)),
        state_dir=state,
        environ=environ,
        as_json=bool(args.json_log),
        verbose=bool(args.verbose),
        operator_is_us=os.geteuid() != 0,  # root may in any case
        secrets=keys,
        load=loaded,
        settle=settle,
        hierarchy=lambda: open_hierarchy(name, state_dir=state),
        roles=role,
        ai=lambda: bool(environ.get("OPENAI_API_KEY")),
        weaknesses=walls.weaknesses,
    )


def _path(argument: str) -> Path | None:
    return Path(argument).absolute() if argument else None
