# SPDX-License-Identifier: MIT
"""The files of a running daemon are replaced under it, as an upgrade does: it stays of one version, never mute."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.places import IS_ROOT
from support.replacing import WITHOUT_CGROUPS, Replaced

import wolverined

NEWER = {
    "__init__.py": ("__version__ = ", "__version__ = '9.9.9'  # "),
    "daemon/rooms.py": ("    main_line: MainLine\n", "    main_line: MainLine\n    newer: MainLine\n"),
    "daemon/serve.py": (
        "main_line=self._main_line,\n",
        "main_line=self._main_line,\n            newer=self._main_line,\n",
    ),
    "daemon/handover.py": (
        "    reports: HandedReports | None\n",
        "    reports: HandedReports | None\n    newer: str = ''\n",
    ),
    "daemon/reexec.py": (
        "                version=__version__,\n",
        "                version=__version__,\n                newer='x',\n",
    ),
}
"""A version in which the rooms, and the state that is handed over, have got one field more."""


class Installed(Replaced):
    """A daemon whose program is a copy of its own."""

    def __init__(self, *, before: tuple[str, ...] = ()) -> None:
        super().__init__(before=before)
        library = self.place / "library"
        self.program = library / "wolverined"
        shutil.copytree(Path(wolverined.__file__).parent, self.program, ignore=shutil.ignore_patterns("__pycache__"))
        self._environment["PYTHONPATH"] = os.pathsep.join([str(library), self._environment["PYTHONPATH"]])

    def upgrade(self, changes: Mapping[str, tuple[str, str]]) -> None:
        """Put another text into some files; each is a new file, as with dpkg."""
        for name, (old, new) in changes.items():
            path = self.program / name
            text = path.read_text()
            assert old in text
            self.replace(path, text.replace(old, new))

    def spoil(self) -> None:
        """Replace all of them by what cannot be imported."""
        for path in self.program.rglob("*.py"):
            self.replace(path, "raise RuntimeError('half an upgrade')\n")

    @staticmethod
    def replace(path: Path, text: str) -> None:
        """Write it beside and rename it."""
        draft = path.with_suffix(".dpkg-new")
        draft.write_text(text)
        draft.replace(path)


def test_a_version_whose_state_has_one_more_field_takes_over() -> None:
    """The old program takes itself apart by its own code, whatever lies on disk; the app notices nothing."""
    with Installed() as daemon:
        before = daemon.until_state("ready")
        daemon.upgrade(NEWER)
        ended = daemon.reexec()
        assert "wolverined 9.9.9 runs in the place of" in ended["result"]["said"]
        after = daemon.status()
        assert (after["version"], after["pid"], after["generation"]) == ("9.9.9", before["pid"], 1)
        daemon.reexec()
        assert daemon.status()["pid"] == before["pid"]


def test_a_version_that_needs_more_than_it_is_handed_refuses() -> None:
    """It is asked before anything is given up; its words are told, and the old one goes on."""
    more = {
        **NEWER,
        "daemon/handover.py": (NEWER["daemon/handover.py"][0], "    reports: HandedReports | None\n    newer: str\n"),
    }
    with Installed() as daemon:
        before = daemon.until_state("ready")
        daemon.upgrade(more)
        ended = daemon.reexec(well=False)
        assert "newer" in ended["error"]
        assert "newer" in daemon.until_event("reexec.refused")["message"]
        assert daemon.status()["pid"] == before["pid"]
        assert daemon.status()["version"] == before["version"]


@pytest.mark.parametrize(
    "before",
    [
        (),
        pytest.param(
            WITHOUT_CGROUPS, marks=pytest.mark.skipif(not IS_ROOT, reason="needs root, who may else have cgroups")
        ),
    ],
)
def test_a_running_supervisor_needs_none_of_its_files(before: tuple[str, ...]) -> None:
    """With a package that cannot be imported it restarts, stops, starts and reloads its app, and tells of itself."""
    with Installed(before=before) as daemon:
        daemon.until_state("ready")
        daemon.spoil()
        assert "half an upgrade" in daemon.reexec(well=False)["error"]
        assert "half an upgrade" in daemon.until_event("reexec.refused")["message"]
        daemon.ask("exit/3")
        daemon.until_state("ready", generation=2)
        daemon.do("stop")
        daemon.do("start")
        daemon.rewrite(lambda text: text.replace("failures = 2", "failures = 7"))
        assert daemon.do("reload")["result"]["changed"]
        daemon.ask("hang")
        daemon.do("restart")
        daemon.do("hold", {"for_s": 1})
        daemon.ask("children")
        for path in ("status", "logs?n=5", "incidents", "repairs", "backups", "usage", "config", "events?n=9"):
            daemon.client.get(f"/v1/{path}")
        daemon.ask("exit/3")
        daemon.until_state("ready", generation=5)
        assert "daemon.fault" not in daemon.names()
        assert "Traceback" not in daemon.said()


def test_a_fault_before_it_begins_is_told_to_whoever_asked() -> None:
    """By an event for a signal, and as the operation's error, with what to do instead; the daemon goes on."""
    daemon = Installed()
    daemon.upgrade({"daemon/rooms.py": NEWER["daemon/rooms.py"]})
    with daemon:
        before = daemon.until_state("ready")
        ended = daemon.reexec(well=False)
        assert (ended["kind"], "newer" in ended["error"]) == ("conflict", True)
        assert "start it again" in ended["hint"]
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGUSR2)
        told = daemon.until_event("reexec.refused", count=2)
        assert (told["severity"], "newer" in told["message"], "start it again" in told["message"]) == (
            "error",
            True,
            True,
        )
        daemon.ask("exit/3")
        assert daemon.until_state("ready", generation=2)["version"] == before["version"]


def test_a_fault_in_the_middle_of_it_is_told_as_well() -> None:
    """Whatever fails while it is taken apart; it can be asked again afterwards."""
    daemon = Installed()
    daemon.upgrade({"daemon/reexec.py": ("                begun=rooms.main_line.begun,\n", "")})
    with daemon:
        daemon.until_state("ready")
        for count in (1, 2):
            ended = daemon.reexec(well=False)
            assert (ended["kind"], "begun" in ended["error"]) == ("conflict", True)
            assert "start it again" in daemon.until_event("reexec.refused", count=count)["message"]
        daemon.ask("exit/3")
        daemon.until_state("ready", generation=2)
