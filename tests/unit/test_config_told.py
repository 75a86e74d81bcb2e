# SPDX-License-Identifier: MIT
"""A configuration read with the facts that root left: nothing of the app is looked at."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from wolverined.config.facts import Facts, digest_of
from wolverined.config.load import load, parse
from wolverined.config.problems import Problem
from wolverined.errors import ConfigError

TEXT = """
[app]
command = ["/srv/shop/bin/server", "--quietly"]
directory = "/nowhere/shop"
environment_file = "shop.env"
[heal]
source = "src"
"""
NOBODY = "nobody"


@pytest.fixture(autouse=True)
def _blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at a file of the app in these tests fails."""
    really = Path.stat

    def looked(path: Path, **how: bool) -> os.stat_result:
        assert not str(path).startswith(("/nowhere", "/srv", "/etc/wolverine")), f"{path} was looked at"
        return really(path, **how)

    monkeypatch.setattr(Path, "stat", looked)


def _problems(text: str, facts: Facts) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, origin=Path("/etc/wolverine/shop.toml"), facts=facts)
    return [problem.message for problem in caught.value.problems if isinstance(problem, Problem)]


def test_what_root_saw_is_taken_and_nothing_looked_at() -> None:
    """Users and the copy of the environment come from the facts, paths from the file."""
    facts = Facts(user=NOBODY, apply_as=NOBODY, environment="/run/wolverine-prepared/shop/environment")
    config = parse(TEXT, origin=Path("/etc/wolverine/shop.toml"), facts=facts).config
    assert (config.app.user, config.heal.apply_as) == (NOBODY, NOBODY)
    assert config.app.directory == Path("/nowhere/shop")
    assert config.app.environment_file == Path("/run/wolverine-prepared/shop/environment")


def test_a_relative_path_counts_from_the_file() -> None:
    """An environment file that was not copied keeps its own place."""
    config = parse(TEXT, origin=Path("/etc/wolverine/shop.toml"), facts=Facts(user=NOBODY)).config
    assert config.app.environment_file == Path("/etc/wolverine/shop.env")


def test_without_an_environment_file_there_is_none() -> None:
    """A copy that was left from earlier is not taken when the file no longer asks for it."""
    text = TEXT.replace('environment_file = "shop.env"', "")
    config = parse(text, origin=Path("/x.toml"), facts=Facts(user=NOBODY, environment="/copy")).config
    assert config.app.environment_file is None


def test_root_is_refused_by_name() -> None:
    """An app that would run as root is refused, and the message says where that comes from."""
    assert "belongs to root" in _problems(TEXT, Facts(user="root"))[0]
    asked = TEXT.replace("[heal]", 'user = "root"\n[heal]')
    assert _problems(asked, Facts(user="root")) == ["app.user is root"]


def test_root_that_was_asked_for_is_allowed() -> None:
    """allow_root means it; a root-owned source is told."""
    text = TEXT.replace("[heal]", "allow_root = true\n[heal]")
    loaded = parse(text, origin=Path("/x.toml"), facts=Facts(user="root", apply_as="root"))
    assert loaded.config.app.user == "root"
    assert any("not applied" in warning for warning in loaded.warnings)


def test_users_that_are_gone_are_problems() -> None:
    """Both names are looked up in the user database of now."""
    found = _problems(TEXT, Facts(user="no-such-user-1", apply_as="no-such-user-2"))
    assert found == ["there is no user 'no-such-user-1'", "there is no user 'no-such-user-2'"]


def test_the_other_problems_are_found_all_the_same() -> None:
    """Empty command, wrong port and a source outside need no look."""
    text = TEXT.replace('command = ["/srv/shop/bin/server", "--quietly"]', "command = []\nport = 80")
    found = _problems(text.replace('"src"', '"../other"'), Facts(user=NOBODY))
    assert len(found) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do this for anybody's app anyway")
def test_any_user_may_be_told() -> None:
    """The supervisor is not root and runs apps of others: by a capability that the reader does not ask for."""
    other = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))
    assert parse(TEXT, origin=Path("/x.toml"), facts=Facts(user=other)).config.app.user == other


def test_facts_of_another_text_are_refused(tmp_path: Path) -> None:
    """A file that was edited since root looked is not mixed with what root saw."""
    file = tmp_path / "shop.toml"
    file.write_text(TEXT)
    assert load(file, facts=Facts(user=NOBODY, config_digest=digest_of(TEXT.encode()))).config.app.user == NOBODY
    file.write_text(TEXT + "\n# and more\n")
    with pytest.raises(ConfigError) as caught:
        load(file, facts=Facts(user=NOBODY, config_digest=digest_of(TEXT.encode())))
    assert "systemctl reload wolverine@shop" in caught.value.hint


def test_what_root_refused_is_refused_in_its_words(tmp_path: Path) -> None:
    """The problems that only root could see are printed by the daemon as they are."""
    file = tmp_path / "shop.toml"
    file.write_text(TEXT)
    with pytest.raises(ConfigError) as caught:
        load(file, facts=Facts(refused="one problem\n  it is wrong; hint: mend it"))
    assert str(caught.value) == "one problem\n  it is wrong; hint: mend it"
    assert caught.value.exit_code == 78
