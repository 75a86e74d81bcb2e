# SPDX-License-Identifier: MIT
"""The package's maintainer scripts, played with stubs: what they ask, wait for, say, stop and start."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DEBIAN, UNITS = TOP / "debian", TOP / "systemd"

SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$STAGE/calls"
case $1 in list-units) cat "$STAGE/units" ;; esac
"""

INVOKE = """#!/bin/sh
echo "deb-systemd-invoke $*" >>"$STAGE/calls"
"""

CTL = """#!/bin/sh
[ "$1" = reexec ] || exit 0
echo "wolverinectl $*" >>"$STAGE/calls"
case "$*" in *--no-wait*) exec sh "$STAGE/again-$2" ;; esac
exec sh "$STAGE/answer-$2"
"""


class Stage:
    """A directory in which the scripts run.

    Args:
        place: Where.
        units: What systemd says that runs.
    """

    def __init__(self, place: Path, *units: str) -> None:
        self.place = place
        (place / "run/systemd/system").mkdir(parents=True)
        (place / "tmp").mkdir()
        self.play("systemctl", SYSTEMCTL)
        self.play("deb-systemd-invoke", INVOKE)
        self.play("wolverinectl", CTL)
        self.play("wolverined", "#!/bin/sh\n")
        self.play("prepare", '#!/bin/sh\necho "prepare $*" >>"$STAGE/calls"\n')
        (place / "units").write_text("".join(f"{unit} loaded active running It\n" for unit in units))

    def play(self, name: str, script: str) -> None:
        """Put a stub in place."""
        path = self.place / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def answers(self, name: str, script: str, *, again: str = "exit 0") -> None:
        """What an instance does when it is asked for a re-exec, and when it is asked again without waiting."""
        (self.place / f"answer-{name}").write_text(f"{script}\n")
        (self.place / f"again-{name}").write_text(f"{again}\n")

    def script(self, kind: str, *words: str) -> str:
        """Run one of the scripts; what it says."""
        text = (DEBIAN / f"wolverined.{kind}").read_text()
        text = text.replace("/usr/lib/wolverine/prepare", f"{self.place}/bin/prepare")
        text = text.replace("/run/", f"{self.place}/run/")
        environment = {
            "PATH": f"{self.place}/bin:/usr/bin:/bin",
            "STAGE": str(self.place),
            "TMPDIR": f"{self.place}/tmp",
        }
        done = subprocess.run(
            ["sh", "-s", "--", *words],
            input=text,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    @property
    def calls(self) -> list[str]:
        """What was called, in order."""
        path = self.place / "calls"
        return path.read_text().splitlines() if path.exists() else []


def test_an_upgrade_tells_of_each_instance_what_came_of_it(tmp_path: Path) -> None:
    """One goes on, one refuses with its words and what to type; no application is restarted for that."""
    stage = Stage(tmp_path, "wolverine@shop.service", "wolverine@orders.service")
    stage.answers("shop", "echo 'wolverined 2 runs in the place of 1'")
    stage.answers("orders", "echo 'error: the new program cannot take over: port is no number' >&2; exit 1")
    said = stage.script("postinst", "configure", "0.1")
    assert "shop goes on: wolverined 2 runs in the place of 1" in said
    assert "orders REMAINS OF THE OLD VERSION" in said
    assert "port is no number" in said
    assert "systemctl reload wolverine@orders; wolverinectl reexec orders" in said
    assert "systemctl restart wolverine@orders" in said
    assert not any("restart" in call for call in stage.calls)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_root_looks_before_the_new_version_does(tmp_path: Path) -> None:
    """For each instance its facts are written first: the new version believes nothing else."""
    stage = Stage(tmp_path, "wolverine@shop.service")
    stage.answers("shop", "true")
    stage.script("postinst", "configure", "0.1")
    (asked,) = [call for call in stage.calls if call.startswith("wolverinectl reexec")]
    assert stage.calls.index("prepare shop") < stage.calls.index(asked)


def test_all_are_asked_before_any_is_waited_for(tmp_path: Path) -> None:
    """Each of these answers only when the other has been asked, too."""
    stage = Stage(tmp_path, "wolverine@a.service", "wolverine@b.service")
    for one, other in ("ab", "ba"):
        stage.answers(
            one, f'touch "$STAGE/{one}-asked"; until [ -e "$STAGE/{other}-asked" ]; do sleep 0.05; done; echo ok'
        )
    said = stage.script("postinst", "configure", "0.1")
    assert "a goes on: ok" in said
    assert "b goes on: ok" in said


def test_a_heal_under_way_is_said_and_not_waited_for(tmp_path: Path) -> None:
    """The installer goes on at once when it hears that; the instance does it by itself when that is over."""
    stage = Stage(tmp_path, "wolverine@shop.service")
    stage.answers("shop", "echo 'waits: a heal of i1 is under way'; exec sleep 20")
    before = time.monotonic()
    said = stage.script("postinst", "configure", "0.1")
    assert time.monotonic() - before < 15
    assert "shop goes on with the new version as soon as it can: a heal of i1 is under way" in said
    assert "journalctl -u wolverine@shop" in said
    assert not any("restart" in call for call in stage.calls)


@pytest.mark.parametrize(("again", "restarted"), [("exit 0", False), ("exit 5", True)])
def test_only_who_cannot_be_asked_is_restarted(tmp_path: Path, again: str, restarted: bool) -> None:
    """An answer that is lost is no reason: he is asked once more."""
    stage = Stage(tmp_path, "wolverine@shop.service")
    stage.answers("shop", "echo 'error: nobody listens' >&2; exit 5", again=again)
    stage.script("postinst", "configure", "0.1")
    assert ("deb-systemd-invoke try-restart wolverine@shop.service" in stage.calls) is restarted


def test_a_first_installation_asks_nobody(tmp_path: Path) -> None:
    """Without a version before, and in a machine without systemd, nothing of the kind is done."""
    stage = Stage(tmp_path, "wolverine@shop.service")
    assert stage.script("postinst", "configure") == ""
    (tmp_path / "run/systemd/system").rmdir()
    assert stage.script("postinst", "configure", "0.1") == ""
    assert stage.calls == []


def test_a_removal_that_comes_to_nothing_starts_again_what_it_stopped(tmp_path: Path) -> None:
    """As `dpkg` tells by `abort-remove`, also what is not enabled; once, and never after another action."""
    stage = Stage(tmp_path, "wolverine@shop.service", "wolverine@a-b.service", "wolverine-notifier.socket")
    stage.script("prerm", "remove")
    assert any(call.startswith("deb-systemd-invoke stop") for call in stage.calls)
    said = stage.script("postinst", "abort-remove")
    started = "systemctl start wolverine@shop.service wolverine@a-b.service wolverine-notifier.socket"
    assert "starting again" in said
    assert stage.calls[-1] == started
    stage.script("postinst", "abort-remove")
    stage.script("prerm", "remove")
    stage.script("postrm", "remove")
    stage.script("postinst", "abort-remove")
    assert stage.calls.count(started) == 1


def test_an_upgrade_stops_nothing(tmp_path: Path) -> None:
    """Nor does one that comes to nothing start anything."""
    stage = Stage(tmp_path, "wolverine@shop.service")
    stage.script("prerm", "upgrade", "0.2")
    stage.script("postinst", "abort-upgrade", "0.2")
    assert stage.calls == []


def test_a_namesake_is_left_alone(tmp_path: Path) -> None:
    """Units and drop-ins of another program whose name begins with ours are not ours to stop or to remove."""
    stage = Stage(tmp_path)
    units = tmp_path / "run/systemd/system"
    ours = ("wolverine@shop.service.d", "wolverine-adviser@shop.service.d", "wolverine-trial@shop:baseline.service.d")
    for name in (*ours, "wolverine-platform.service.d", "wolverine-platform@x.service.d"):
        (units / name).mkdir()
    stage.script("prerm", "remove")
    stage.script("postrm", "remove")
    assert sorted(path.name for path in units.iterdir()) == [
        "wolverine-platform.service.d",
        "wolverine-platform@x.service.d",
    ]
    (stop,) = [call for call in stage.calls if call.startswith("deb-systemd-invoke stop")]
    stopped = [pattern.partition("@")[0].removesuffix(".socket") for pattern in stop.split()[2:]]
    units_of_ours = {path.stem.rstrip("@") for path in UNITS.iterdir() if path.suffix in (".service", ".socket")}
    assert units_of_ours <= set(stopped)
    assert not any("*" in name for name in stopped)
