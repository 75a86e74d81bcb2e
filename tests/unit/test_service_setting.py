# SPDX-License-Identifier: MIT
"""The two places that a daemon can live in: what each takes from its surroundings, and what it ignores."""

from __future__ import annotations

import faulthandler
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from wolverined.config import facts as facts_module
from wolverined.config.facts import Facts, digest_of, write
from wolverined.config.schema import AppTable, Config, HealTable
from wolverined.daemon import serve
from wolverined.daemon import setting as module
from wolverined.daemon.inforce import InForce
from wolverined.daemon.serve import main
from wolverined.daemon.setting import Setting, service, terminal
from wolverined.errors import ConfigError, UsageError
from wolverined.heal.dispatch import RolePlan
from wolverined.heal.doors import SIDES, Door
from wolverined.linux.credentials import Credentials
from wolverined.linux.runtime import RUN, check_name

TEXT = '[app]\ncommand = ["/srv/shop/server"]\ndirectory = "/nowhere/shop"\nenvironment_file = "/nowhere/shop.env"\n'
NOBODY = "nobody"
CONFIG = Config(app=AppTable(command=("x",), directory=Path("/")), heal=HealTable(apply_as=NOBODY))


class Machine:
    """Where a service would find its files, and what root told it."""

    def __init__(self, place: Path) -> None:
        self.file = place / "etc" / "shop.toml"
        self.prepared = place / "prepared"
        self.file.parent.mkdir()
        (self.prepared / "shop").mkdir(parents=True)

    def say(self, text: str, **told: object) -> None:
        """Write the configuration, and what root saw of it."""
        self.file.write_text(text)
        whole = {"user": NOBODY, "apply_as": NOBODY, "config_digest": digest_of(text.encode()), **told}
        write("shop", Facts(**whole), prepared=self.prepared)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with a good configuration."""
    made = Machine(tmp_path)
    monkeypatch.setattr(module, "CONFIGURATIONS", made.file.parent)
    monkeypatch.setattr(module, "read_facts", lambda name: facts_module.read(name, prepared=made.prepared))
    monkeypatch.setattr(os, "geteuid", lambda: 994)
    for name in (*module.KEYS, "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "WOLVERINE_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    made.say(TEXT)
    return made


def shop() -> Setting:
    """The setting of the service `shop`."""
    return service(SimpleNamespace(name="shop"))


def test_a_service_is_never_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it by hand is told how it is done."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError) as caught:
        shop()
    assert caught.value.hint == "systemctl start wolverine@shop"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a:b", "x" * 64, "default"])
def test_a_name_that_is_no_name_of_an_application_is_refused(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes part of paths, ai/default.toml among them. 78 keeps PID 1 from a start, which would mend nothing."""
    with pytest.raises(UsageError):
        service(SimpleNamespace(name=name))
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it wants a real stderr, and would keep it
    assert main(SimpleNamespace(command="service", name=name)) == 78
    assert "name of an application" in capsys.readouterr().err


def test_the_longest_name_fits_into_every_socket_of_its_roles() -> None:
    """The address of a Unix socket has room for 107 bytes (unix(7))."""
    name = check_name("x" * 63)
    paths = [Door(role=role, name=name).path(side) for role in ("adviser", "trial") for side in SIDES]
    paths += [RUN / name / "control.sock", RUN / name / "app" / "report.sock"]
    assert max(len(os.fsencode(path)) for path in paths) <= 107


def test_a_service_takes_its_places_from_the_unit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first directory that each variable names; without a unit the usual ones."""
    assert (shop().runtime_dir, shop().state_dir) == (Path("/run/wolverine/shop"), Path("/var/lib/wolverine/shop"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/a:/run/b")
    monkeypatch.setenv("STATE_DIRECTORY", "/state/a")
    made = shop()
    assert (made.runtime_dir, made.state_dir, made.file) == (Path("/run/a"), Path("/state/a"), machine.file)


def test_a_service_is_operated_by_root_and_groups_alone(machine: Machine) -> None:
    """Its own uid is that of every heal."""
    assert shop().operator_is_us is False
    assert shop().restarted is True


def test_a_service_reads_what_root_saw_and_nothing_of_the_app(machine: Machine) -> None:
    """The users and the copy of the environment file, of an app that is nowhere to be seen."""
    machine.say(TEXT, environment="/copy", ai=True, ai_base_url="https://a/v1", trial="no bed", weaknesses=("weak",))
    made = shop()
    config = made.load().config
    assert (config.app.user, config.app.environment_file) == (NOBODY, Path("/copy"))
    assert made.endpoint(config) == "https://a/v1"
    assert made.weaknesses()[-2:] == ("no trial can run: no bed", "weak")


def test_without_a_key_no_model_is_asked(machine: Machine) -> None:
    """Whatever the file says of an address."""
    machine.say(TEXT + '[ai]\nbase_url = "https://a/v1"\n', ai_base_url="https://a/v1")
    made = shop()
    assert made.endpoint(made.load().config) == ""


def test_keys_and_other_words_of_the_environment_are_ignored_and_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor holds no key; each note says where it belongs. Their values are secrets all the same."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")
    monkeypatch.setenv("WOLVERINE_CLUSTER", "true")
    made = shop()
    loaded = made.load()
    assert loaded.config.cluster.enabled is False
    assert made.endpoint(loaded.config) == ""
    assert [note.split(" in the environment is ignored here: ")[0] for note in loaded.warnings] == [
        "OPENAI_API_KEY",
        "WOLVERINE_CLUSTER",
    ]
    assert "/etc/wolverine/ai/shop.toml" in loaded.warnings[0]
    assert f"cluster.enabled into {machine.file}" in loaded.warnings[1]
    assert "sk-1234567890" not in "".join(loaded.warnings)
    assert made.secrets == {"OPENAI_API_KEY": "sk-1234567890"}


def test_the_roles_of_a_service_are_the_surgeon_s_child_and_doors(machine: Machine) -> None:
    """Only who writes files is a child of ours, as the owner of the files."""
    app = Credentials.own()
    surgeon = shop().roles("surgeon", CONFIG, app)
    assert isinstance(surgeon, RolePlan)
    assert (surgeon.credentials and surgeon.credentials.name, surgeon.handed) == (NOBODY, None)
    for role in ("adviser", "trial"):
        door = shop().roles(role, CONFIG, app)
        assert isinstance(door, Door)
        assert (door.role, door.name) == (role, "shop")


def test_a_file_that_root_has_not_seen_yet_changes_nothing(machine: Machine) -> None:
    """Edited since: the old configuration stays, with the facts that belong to it."""
    machine.say(TEXT, ai=True, ai_base_url="https://a/v1")
    made = shop()
    force = InForce(made.load)
    machine.file.write_text(TEXT + "[heal]\n")
    with pytest.raises(ConfigError) as caught:
        force.renew()
    assert "systemctl reload wolverine@shop" in caught.value.hint
    assert made.endpoint(force.config) == "https://a/v1"


def test_a_file_that_root_refused_ends_with_78_or_changes_nothing(machine: Machine) -> None:
    """At a start it is the last word, in a reload the old configuration stays; in root's own words."""
    made = shop()
    force = InForce(made.load)
    machine.say(TEXT, refused="shop.toml: one problem\n  it is wrong", ai=True, ai_base_url="https://b/v1")
    with pytest.raises(ConfigError, match="it is wrong") as caught:
        force.renew()
    assert caught.value.exit_code == 78
    assert made.endpoint(force.config) == ""
    with pytest.raises(ConfigError, match="it is wrong"):
        InForce(shop().load)


@pytest.mark.parametrize("how", ["missing", "of another time"])
def test_without_what_root_saw_it_rests_and_does_not_end_with_78(
    machine: Machine, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next start root looks anew: that mends it, if PID 1 makes one, and not many a second."""
    rests: list[float] = []
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it wants a real stderr, and would keep it
    monkeypatch.setattr(time, "sleep", rests.append)
    if how == "missing":
        (machine.prepared / "shop" / "facts.json").unlink()
    else:
        machine.file.write_text(TEXT + "# edited since\n")
    assert main(SimpleNamespace(command="service", name="shop")) == 1
    assert rests == [1.0]
    assert "wolverine@shop" in capsys.readouterr().err


@pytest.mark.parametrize(("lived_s", "rests_s"), [(0.0, 1.0), (0.25, 0.75), (3600.0, 0.0)])
def test_whatever_ends_it_at_its_start_it_is_not_started_many_times_a_second(
    machine: Machine, lived_s: float, rests_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by an error that nobody foresaw; one that lived is back at once."""
    now, rests = [100.0], list[float]()

    def broken(_: object) -> None:
        now[0] += lived_s
        raise OSError("no such luck")

    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it wants a real stderr, and would keep it
    monkeypatch.setattr(serve, "InForce", broken)
    monkeypatch.setattr(serve, "time", SimpleNamespace(sleep=rests.append, monotonic=lambda: now[0]))
    with pytest.raises(OSError, match="no such luck"):
        main(SimpleNamespace(command="service", name="shop"))
    assert rests == [rests_s]
    assert machine.file.exists()


def test_what_reload_changes_is_told_and_in_force(machine: Machine) -> None:
    """A good file, seen by root."""
    force = InForce(shop().load)
    machine.say(TEXT + "[restart]\nfactor = 3.0\n")
    assert force.renew() == [{"key": "restart.factor", "old": "2.0", "new": "3.0"}]
    assert force.config.restart.factor == 3.0


def in_terminal(file: Path) -> Setting:
    """The setting of `wolverined run` with that file."""
    places = {"runtime_dir": str(file.parent / "run"), "state_dir": str(file.parent / "state")}
    return terminal(SimpleNamespace(config=str(file), json_log=False, verbose=False, **places))


def test_a_terminal_hands_its_keys_to_the_adviser_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And lets its own user operate it, unless that is root, who may in any case."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    made = in_terminal(tmp_path / "shop.toml")
    plans = [made.roles(role, CONFIG, Credentials.own()) for role in ("adviser", "surgeon", "trial")]
    assert all(isinstance(plan, RolePlan) for plan in plans)
    assert [plan.handed for plan in plans if isinstance(plan, RolePlan)] == [
        {"OPENAI_API_KEY": "sk-1234567890"},
        None,
        None,
    ]
    assert made.endpoint(CONFIG) == "the OpenAI endpoint"
    assert made.operator_is_us == (os.geteuid() != 0)
    assert made.restarted is False


def test_whoever_may_not_change_users_runs_every_role_as_he_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question of capabilities: a root without them (in a container, say) is no more than a plain user."""
    monkeypatch.setattr(module, "may_change_user", lambda: False)
    made = in_terminal(tmp_path / "shop.toml")
    for role in ("adviser", "surgeon", "trial"):
        plan = made.roles(role, CONFIG, Credentials.own())
        assert isinstance(plan, RolePlan)
        assert plan.credentials is None
    monkeypatch.setattr(module, "may_change_user", lambda: True)
    surgeon = in_terminal(tmp_path / "shop.toml").roles("surgeon", CONFIG, Credentials.own())
    assert isinstance(surgeon, RolePlan)
    assert surgeon.credentials is not None
    assert surgeon.credentials.name == NOBODY
