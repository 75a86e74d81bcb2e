# SPDX-License-Identifier: MIT
"""Small parts of the daemon that need no process: differences of configurations, places, status without a disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.places import IS_ROOT

from wolverined.clock import SystemClock
from wolverined.config.schema import AppTable, Config, ProbeTable
from wolverined.daemon.inforce import differences, refuse_what_needs_a_start
from wolverined.daemon.instance import Daemon
from wolverined.daemon.places import RuntimePlace
from wolverined.errors import AccessDenied, ConfigError, Conflict, StoreError, UsageError
from wolverined.linux.peer import Peer
from wolverined.model import IncidentKind, IncidentState, NewIncident
from wolverined.store import Store

CONFIG = Config(app=AppTable(command=("node", "a.js"), directory=Path("/srv/app"), user="nobody"))


def changed(**tables: Any) -> Config:
    """The configuration with other tables."""
    return msgspec.structs.replace(CONFIG, **tables)


def with_app(**fields: Any) -> Config:
    """The configuration with another [app]."""
    return changed(app=msgspec.structs.replace(CONFIG.app, **fields))


def test_equal_configurations_do_not_differ() -> None:
    """Nothing is told where nothing changed."""
    assert differences(CONFIG, changed()) == []


def test_each_key_that_differs_is_told_as_the_file_would_have_it() -> None:
    """Dotted path, old and new value, sorted."""
    found = differences(CONFIG, changed(probe=ProbeTable(http="/health", interval_s=1.0)))
    assert found == [
        {"key": "probe.http", "old": '""', "new": '"/health"'},
        {"key": "probe.interval_s", "old": "3.0", "new": "1.0"},
    ]


def test_values_of_environments_stay_unsaid() -> None:
    """That a variable changed is told, what it holds is not; a new key is told as absent before."""
    found = differences(with_app(environment={"TOKEN": "old"}), with_app(environment={"TOKEN": "new", "X": "1"}))
    assert found == [
        {"key": "app.environment.TOKEN", "old": "…", "new": "…"},
        {"key": "app.environment.X", "old": "…", "new": "…"},
    ]
    assert differences(CONFIG, with_app(port=3000)) == [{"key": "app.port", "old": "absent", "new": "3000"}]


@given(st.lists(st.text(), max_size=40).map(tuple))
def test_a_long_value_is_cut(command: tuple[str, ...]) -> None:
    """Whatever it holds, a value takes one line of a terminal."""
    for found in differences(CONFIG, with_app(command=command)):
        assert len(found["new"]) <= 80
        assert "\n" not in found["new"]


def test_another_user_is_refused_at_a_reload() -> None:
    """And nothing else is."""
    refuse_what_needs_a_start(CONFIG, with_app(port=1234))
    with pytest.raises(ConfigError, match="'daemon'"):
        refuse_what_needs_a_start(CONFIG, with_app(user="daemon"))


# --- places


def place(path: Path, source: Path) -> RuntimePlace:
    """A runtime directory in `path`."""
    return RuntimePlace(path, name="app", hooks_source=source)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Reporters."""
    directory = tmp_path / "source"
    (directory / "node").mkdir(parents=True)
    (directory / "node" / "reporter.cjs").write_text("// the reporter")
    (directory / "node" / "README.md").write_text("not for the app")
    return directory


def test_the_place_is_passable_and_holds_readable_reporters(tmp_path: Path, source: Path) -> None:
    """0711 for both directories, 0644 for the reporters, whatever the umask; a reader of the old keeps the old."""
    before = os.umask(0o077)
    try:
        made = place(tmp_path / "run", source)
        made.make()
        reporter = made.hooks / "node" / "reporter.cjs"
        with reporter.open() as old:
            (source / "node" / "reporter.cjs").write_text("// a new one")
            made.make()
            assert old.read() == "// the reporter"
        assert reporter.read_text() == "// a new one"
        assert [oct(path.stat().st_mode & 0o777) for path in (made.app.parent, made.app, made.hooks, reporter)] == [
            "0o711",
            "0o711",
            "0o755",
            "0o644",
        ]
        assert not (made.hooks / "node" / "README.md").exists()
        assert made.there()
        made.close()
    finally:
        os.umask(before)


def test_a_place_is_for_one_daemon(tmp_path: Path, source: Path) -> None:
    """A second one is refused before it touches a socket; after the first has gone it may."""
    first, second = place(tmp_path / "run", source), place(tmp_path / "run", source)
    first.make()
    with pytest.raises(Conflict, match="another supervisor of app is running"):
        second.make()
    first.close()
    second.make()
    second.close()


def test_a_place_that_was_removed_or_replaced_is_noticed(tmp_path: Path, source: Path) -> None:
    """Gone, made by somebody else, or without the app's corner: not there; `make` mends it."""
    made = place(tmp_path / "run", source)
    made.make()
    (tmp_path / "run").rename(tmp_path / "away")
    assert not made.there()
    (tmp_path / "run" / "app").mkdir(parents=True)
    assert not made.there()
    made.make()
    assert made.there()
    assert (made.hooks / "node" / "reporter.cjs").exists()
    made.close()


def test_without_reporters_the_app_has_none_and_it_is_said(tmp_path: Path, source: Path) -> None:
    """Something is in the way of the copies: no half of them is left, and the reason is kept."""
    made = place(tmp_path / "run", source)
    (tmp_path / "run" / "app" / "hooks" / "node" / "reporter.cjs").mkdir(parents=True)
    made.make()
    assert made.without_hooks
    assert not (made.hooks / "node" / "reporter.cjs").is_file()
    made.close()


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path, source: Path) -> None:
    """Nobody leads us elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AccessDenied):
        place(tmp_path / "run", source).make()
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- the instance


class _Supervisor:
    state = "ready"

    def status(self) -> dict[str, object]:
        """A status."""
        return {"state": self.state, "pid": 7, "ready_since": 1.0}


class _Desk:
    current = ""
    held_until = 0.0


def instance(store: Store) -> Daemon:
    """An instance over fakes."""
    parts: dict[str, Any] = {
        "supervisor": _Supervisor(),
        "desk": _Desk(),
        "narrator": None,
        "reload": None,
        "reexec": None,
    }
    return Daemon(
        name="app",
        version="1",
        config=lambda: CONFIG,
        state_dir=Path("/nowhere"),
        store=store,
        clock=SystemClock(),
        reports=lambda: {"caught": 1},
        weaknesses=lambda: ("no disk",),
        **parts,
    )


def test_status_is_told_without_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be read takes one figure away, not the answer."""
    store = Store.volatile(clock=SystemClock(), why="a test")

    def fail() -> int:
        raise StoreError("cannot read")

    monkeypatch.setattr(store.incidents, "count_open", fail)
    monkeypatch.setattr(store.incidents, "list", lambda **_: fail())
    status = instance(store).status()
    assert (status["state"], status["incidents_open"], status["weaknesses"]) == ("ready", None, ["no disk"])
    assert (status["routes_failing"], status["reports"]) == ([], {"caught": 1})
    store.close()


def test_status_names_the_routes_that_fail() -> None:
    """Those of incidents that are open, with how often and which."""
    store = Store.volatile(clock=SystemClock(), why="a test")
    for route, fingerprint in (("GET /a", "aa"), ("GET /a", "aa"), ("", "bb")):
        store.incidents.open_or_count(
            NewIncident(fingerprint=fingerprint, kind=IncidentKind.HTTP5XX, error="E", route=route)
        )
    assert instance(store).status()["routes_failing"] == [{"route": "GET /a", "count": 2, "incident": "i1"}]
    store.incidents.update("i1", state=IncidentState.CLOSED)
    assert instance(store).status()["routes_failing"] == []
    store.close()


def test_an_action_that_does_not_exist_is_refused() -> None:
    """Also when the API let it through."""
    store = Store.volatile(clock=SystemClock(), why="a test")
    with pytest.raises(UsageError):
        instance(store).submit("explode", {}, peer=Peer(pid=1, uid=0, gid=0, groups=()), idempotency_key="")
    store.close()


@pytest.mark.skipif(IS_ROOT, reason="shows what a plain user may do")
def test_a_plain_user_cannot_make_a_place_below_somebody_elses(source: Path) -> None:
    """The error names the directory and what to write."""
    with pytest.raises(AccessDenied, match="cannot make the directory"):
        place(Path("/etc/wolverine-test"), source).make()
