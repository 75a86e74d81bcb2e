# SPDX-License-Identifier: MIT
"""What kind of place a daemon lives in: the one value that knows what differs between them.

Everything else in this room asks it and never looks around by itself. `terminal` makes the setting of
`wolverined run`: whoever started it, in whatever cgroup, with keys in its environment. `service` makes that of
`wolverined service`: a unit of systemd, user `wolverine`, which root has told what it may not see itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import msgspec

from wolverined.config.environment import ignored, override
from wolverined.config.facts import Facts
from wolverined.config.facts import read as read_facts
from wolverined.config.load import load
from wolverined.config.problems import Loaded
from wolverined.config.schema import Config
from wolverined.errors import UsageError
from wolverined.heal import walls
from wolverined.heal.dispatch import Opening, RolePlan, plans
from wolverined.heal.doors import Door
from wolverined.linux.credentials import Credentials, may_change_user
from wolverined.linux.hierarchy import open_hierarchy
from wolverined.linux.leaf import Hierarchy
from wolverined.linux.memory import hide_memory
from wolverined.linux.runtime import RUN, STATE, check_service_name, make_private_dir, runtime_dir, state_dir
from wolverined.linux.unit import open_unit

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""What the adviser alone is given of our environment."""

NOTIFIER = Path("/run/wolverine-sockets/notifier.sock")
"""Where wolverine-notifier.socket listens."""

Roles = Callable[[str, Config, Credentials], Opening]
"""A role, the configuration in force and the app's user -> how it is had."""

CONFIGURATIONS = Path("/etc/wolverine")

_NO_KEYS = "in the environment is ignored here: the supervisor holds no key; write it into /etc/wolverine/ai/NAME.toml"


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
        restarted: Whether a service manager starts a successor, and keeps the control socket for it.
        secrets: Of our environment, never to be repeated.
        load: Reads the configuration.
        settle: Makes this process ready to live here; called once, before anything else.
        hierarchy: Opens the place for leaves.
        roles: How each role of a heal is had.
        endpoint: Where source may be sent to, by that configuration; empty: no model may be asked.
        weaknesses: Gives what is weaker here than it could be.
        renewal: What replaces wolverined for certain, the app with it.
    """

    name: str
    file: Path
    runtime_dir: Path
    state_dir: Path
    environ: dict[str, str]
    as_json: bool
    verbose: bool
    operator_is_us: bool
    restarted: bool
    secrets: dict[str, str]
    load: Callable[[], Loaded]
    settle: Callable[[], None]
    hierarchy: Callable[[], Hierarchy]
    roles: Roles
    endpoint: Callable[[Config], str]
    letters: Path | None
    weaknesses: Callable[[], tuple[str, ...]]
    renewal: str


def terminal(args: SimpleNamespace) -> Setting:
    """The setting of `wolverined run`."""
    file = Path(args.config).absolute()
    name = file.stem
    environ = dict(os.environ)
    state = state_dir(name, _path(args.state_dir))
    powerful = may_change_user()
    walled = walls.weaknesses()
    keys = {key: environ[key] for key in KEYS if environ.get(key)}

    def loaded() -> Loaded:
        found = load(file)
        config, overrides = override(found.config, environ)
        return Loaded(config=config, warnings=(*found.warnings, *overrides))

    def settle() -> None:
        make_private_dir(state, 0o700)
        hide_memory()  # the app, whose uid may be ours here, shall not read our environment

    def role(name: str, config: Config, app: Credentials) -> Opening:
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
        restarted=False,
        secrets=keys,
        load=loaded,
        settle=settle,
        hierarchy=lambda: open_hierarchy(name, state_dir=state),
        roles=role,
        endpoint=lambda config: (config.ai.base_url or "the OpenAI endpoint") if environ.get("OPENAI_API_KEY") else "",
        letters=None,
        weaknesses=lambda: walled,
        renewal="end wolverined and start it again; the app is restarted with it",
    )


def service(args: SimpleNamespace) -> Setting:
    """The setting of `wolverined service`.

    Raises:
        UsageError: The name is not fit for an application, or we are root.
    """
    name = check_service_name(args.name)
    if os.geteuid() == 0:
        raise UsageError("wolverined service is never root", hint=f"systemctl start wolverine@{name}")
    environ = dict(os.environ)
    state = _of_unit(environ, "STATE_DIRECTORY", STATE / name)
    told = _Told(name, environ)
    walled = walls.weaknesses()

    def role(which: str, config: Config, _app: Credentials) -> Opening:
        if which == "surgeon":
            return RolePlan(credentials=Credentials.of_user(config.heal.apply_as))
        return Door(role=which, name=name)

    return Setting(
        name=name,
        file=told.file,
        runtime_dir=_of_unit(environ, "RUNTIME_DIRECTORY", RUN / name),
        state_dir=state,
        environ=environ,
        as_json=False,
        verbose=False,
        operator_is_us=False,
        restarted=True,
        secrets={key: environ[key] for key in KEYS if environ.get(key)},
        load=told.load,
        # Our memory stays our own without `hide_memory`: nobody else of our user has our capabilities, which whoever
        # would read it needs (ptrace(2)). And a child that is not root must write its own /proc/self/oom_score_adj.
        settle=lambda: make_private_dir(state, 0o700),
        hierarchy=lambda: open_unit(name, state_dir=state),
        roles=role,
        endpoint=lambda _: told.facts.ai_base_url if told.facts.ai else "",
        letters=NOTIFIER,
        weaknesses=lambda: (*walled, *told.weaknesses()),
        renewal=f"systemctl restart wolverine@{name} replaces it for certain; the app is restarted with it",
    )


class _Told:
    """The configuration of a service with what root saw of the app, as they were when last loaded.

    Args:
        name: The instance.
        environ: Our environment, which has no say here.
    """

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.file = CONFIGURATIONS / f"{name}.toml"
        self.facts = Facts()
        self._name = name
        keys = tuple(f"{key} {_NO_KEYS.replace('NAME', name)}" for key in KEYS if environ.get(key))
        self._ignored = (*keys, *ignored(environ, file=self.file))

    def load(self) -> Loaded:
        """Read both again; what cannot be used leaves the earlier facts."""
        facts = read_facts(self._name)
        found = load(self.file, facts=facts)
        self.facts = facts
        return Loaded(config=found.config, warnings=(*found.warnings, *self._ignored))

    def weaknesses(self) -> tuple[str, ...]:
        """What root saw that makes heals weaker."""
        no_trial = (f"no trial can run: {self.facts.trial}",) if self.facts.trial else ()
        return (*no_trial, *self.facts.weaknesses)


def _of_unit(environ: Mapping[str, str], variable: str, usual: Path) -> Path:
    """A directory that the service manager made for us: the first that it names."""
    return Path(environ.get(variable, "").partition(":")[0] or usual)


def _path(argument: str) -> Path | None:
    return Path(argument).absolute() if argument else None
