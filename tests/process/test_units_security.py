# SPDX-License-Identifier: MIT
"""The units that are installed: systemd understands every line, and counts the walls as high as they were built."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
ALL = sorted(path.name for path in UNITS.iterdir() if path.suffix in {".service", ".socket", ".path", ".target"})

MOST = {
    "wolverine@.service": 2.6,  # the app inherits each line: what is stricter breaks applications
    "wolverine-adviser@.service": 1.0,  # it talks to any address of the network
    "wolverine-trial@.service": 1.0,
    "wolverine-notifier@.service": 1.5,
    "wolverine-failure@.service": 0.5,
}
"""The most that `systemd-analyze security` may count (0: walled in, 10: bare) for each service."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )


def test_every_service_has_a_bound() -> None:
    """A new unit says here how exposed it may be."""
    assert set(SERVICES) <= set(MOST)


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_is_more_exposed_than_agreed(name: str) -> None:
    """As systemd itself counts."""
    done = _analyze("security", "--offline=true", str(UNITS / name))
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    open_ = "\n".join(line for line in done.stdout.splitlines() if line.startswith("✗"))
    assert float(found[1]) <= MOST[name], f"{found[1]}:\n{open_}"


@pytest.mark.parametrize("name", ALL)
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    """Nothing is ignored; programs and manual pages that only the installed package has are not looked for."""
    # The other units beside it, since sockets and services name each other.
    for path in UNITS.iterdir():
        if path.suffix in {".service", ".socket"}:
            text = re.sub(r"^Documentation=.*\n", "", path.read_text(), flags=re.MULTILINE)
            text = re.sub(r"/usr/(?:lib/wolverine/[a-z-]+|s?bin/wolverine[a-z]*)", "/bin/true", text)
            (tmp_path / path.name).write_text(text)
    done = _analyze("verify", "--recursive-errors=no", "--man=no", str(tmp_path / name))
    assert (done.stdout + done.stderr).strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize("name", ALL)
def test_every_unit_says_whose_it_is(name: str) -> None:
    """A description, a manual page, and the licence on top."""
    text = (UNITS / name).read_text()
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert re.search(r"^Description=\S", text, re.MULTILINE)
    assert re.search(r"^Documentation=man:", text, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_credential_that_is_missing_fails_no_unit(name: str) -> None:
    """A missing file of LoadCredential= would: each has a default, which systemd takes only if it is not empty."""
    text = (UNITS / name).read_text()
    for credential in re.findall(r"^LoadCredential=([^:\n]+)", text, re.MULTILINE):
        assert re.search(rf"^SetCredential={credential}:\S", text, re.MULTILINE), credential


def test_an_application_is_not_started_before_its_directory_may_be_there() -> None:
    """A file server's is mounted late; a directory that is missing is a configuration that cannot be used: 78."""
    after = re.findall(r"^After=(.*)$", (UNITS / "wolverine@.service").read_text(), flags=re.MULTILINE)
    assert "remote-fs.target" in " ".join(after).split()


def test_the_pause_of_an_adviser_that_cannot_start_is_no_timeout() -> None:
    """PID 1 counts it as a part of the stop; a stop that timed out would be a second, false complaint at night."""
    text = (UNITS / "wolverine-adviser@.service").read_text()
    pause, most = re.search(r"exec sleep (\d+)", text), re.search(r"^TimeoutStopSec=(\d+)$", text, flags=re.MULTILINE)
    assert pause
    assert most
    assert int(pause[1]) + 2 <= int(most[1])
