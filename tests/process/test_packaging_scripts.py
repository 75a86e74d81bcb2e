# SPDX-License-Identifier: MIT
"""The package's maintainer scripts, played with stubs: what they ask, wait for, say, stop and start."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
