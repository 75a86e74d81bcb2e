# SPDX-License-Identifier: MIT
"""The real daemon and its configuration: refused at the start, refused and taken at a reload, hostile files."""

from __future__ import annotations

import re
import signal

import pytest
from support.places import IS_ROOT, eventually
from support.watching import OBEDIENT, PROBED, WITHIN_S, Watched


def test_every_problem_of_a_configuration_is_told_at_once_and_the_exit_code_is_78() -> None:
    """Three mistakes, three lines, each with its place and what to write."""
    daemon = Watched(tables="[prob]\nhttp = '/'\n[stop]\ntimeout_s = 'long'\n")
    daemon.rewrite(lambda text: text.replace("port = ", "prot = "))
    assert daemon.first_exit() == 78
    said = daemon.said()
    assert re.search(r"error: .*: 3 problems", said)
    assert re.search(r":4: .*prot.*hint: did you mean 'port'", said)
    assert re.search(r":5: unknown table \[prob\]", said)
    assert re.search(r":8: stop.timeout_s: expected a number", said)
    with daemon._stack:
        assert not daemon.state.exists()


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"[app", b"a" * 3_000_000, b"app = 3\n"])
def test_a_hostile_file_is_a_clear_refusal(content: bytes) -> None:
    """Empty, binary, half-written, huge, of another shape: exit 78 and an error, never a trace."""
    daemon = Watched()
    with daemon._stack:
        daemon.config.write_bytes(content)
        assert daemon.first_exit() == 78
        assert daemon.said().startswith("error: ")
        assert "Traceback" not in daemon.said()
        assert "this is a bug" not in daemon.said()


def test_a_missing_file_and_a_bad_name_are_clear_refusals() -> None:
    """The name of the instance is the file's stem, which must be fit for paths."""
    daemon = Watched()
    with daemon._stack:
        daemon.config.unlink()
        assert daemon.first_exit() == 78
        daemon.config = daemon.place / ".hidden name.toml"
        daemon.config.write_text("")
        assert daemon.first_exit() in {2, 78}


def test_a_reload_of_a_bad_file_keeps_the_old_configuration() -> None:
    """Every problem is told to who asked and on the console; the app is not touched."""
    with Watched() as daemon:
        before = daemon.until_state("ready")
        good = daemon.config.read_text()
        daemon.rewrite(lambda text: text.replace("jitter = 0.0", "jiter = 0.0\nfactor = 'x'"))
        done = daemon.ctl("reload")
        assert done.code == 78
        assert "unknown key" in done.err or "jiter" in done.err
        assert "restart.factor" in done.err
        assert len(done.err.splitlines()) == 3
        assert "the old configuration stays" in daemon.until_event("config.rejected")["message"]
        daemon.config.unlink()
        assert daemon.ctl("reload").code == 78
        daemon.config.write_text(good)
        assert daemon.ctl("reload").out.strip() == "nothing has changed"
        assert daemon.status()["pid"] == before["pid"]


def test_a_reload_of_a_good_file_tells_the_difference_and_when_it_counts() -> None:
    """Probes hold at once; what an app is started with holds from its next start, and that is said."""
    with Watched() as daemon:
        pid = daemon.until_state("ready")["pid"]
        daemon.rewrite(lambda text: text.replace("interval_s = 0.2", "interval_s = 0.3"))
        done = daemon.ctl("reload")
        assert re.search(r"probe.interval_s +0\.2 +→ +0\.3", done.out)
        assert "next start" not in done.out
        daemon.rewrite(lambda text: text + "[app.environment]\nFLAVOUR = 'sweet and secret'\n")
        done = daemon.ctl("reload")
        assert "app.environment" in done.out
        assert "at its next start" in done.out
        assert "sweet" not in done.out + daemon.said()
        assert daemon.status()["pid"] == pid
        daemon.do("restart")
        assert "FLAVOUR=sweet and secret" in daemon.ask("environ")


def test_a_reload_mends_an_app_that_could_not_start() -> None:
    """The command points nowhere at the next start: failed; the reload of a right one starts it."""
    with Watched(command=("./run", "app.py")) as daemon:
        program = daemon.app / "run"
        program.symlink_to("/usr/bin/python3")
        daemon.until_state("ready")
        program.unlink()
        daemon.do("restart", well=False)
        daemon.until_state("failed")
        daemon.rewrite(lambda text: text.replace('"./run"', '"/usr/bin/python3"'))
        daemon.do("reload")
        daemon.until_state("ready")


def test_a_change_of_the_apps_user_needs_a_start_of_the_daemon() -> None:
    """Who may speak to whom was laid down at the start; a reload says so and changes nothing."""
    if not IS_ROOT:
        pytest.skip("needs root for another user")
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.rewrite(lambda text: text.replace("[app]\n", '[app]\nuser = "daemon"\n'))
        done = daemon.ctl("reload")
        assert done.code == 78
        assert "stop wolverined and start it again" in done.err


HOSTILE = [b"A=1\0\n", b"\xff\xfe", b"no equals sign\n", b"A='never closed\n", b"x" * 2_000_000, b"=value\n"]


@pytest.mark.parametrize("content", HOSTILE)
def test_a_hostile_environment_file_fails_the_app_not_the_daemon(content: bytes) -> None:
    """The app is not started with half an environment; the daemon answers, and a right file mends it."""
    with Watched() as daemon:
        file = daemon.place / "environment"
        file.write_bytes(b"A=1\n")
        file.chmod(0o600)
        daemon.until_state("ready")
        daemon.rewrite(lambda text: text.replace("[app]\n", f'[app]\nenvironment_file = "{file}"\n'))
        daemon.do("reload")
        file.write_bytes(content)
        daemon.do("restart", well=False)
        assert "environment file" in daemon.until_state("failed")["why"]
        daemon.kill(signal.SIGTERM)
        file.write_bytes(b"A=1\nexport B='two words'\n")
        daemon.start()
        daemon.until_state("ready")
        assert "B=two words" in daemon.ask("environ")


def test_what_the_environment_holds_is_no_event_and_no_incident() -> None:
    """A secret of the environment file that the app prints as it dies stays out of everything that is kept."""
    secret = "correct-horse-battery-staple-9"
    source = "import os\nif not os.path.exists('calm'):\n    raise ValueError(os.environ['API_TOKEN'])\n" + OBEDIENT
    with Watched(
        source, tables=PROBED + f"[heal]\npolicy='off'\n[app.environment]\nAPI_TOKEN = '{secret}'\n"
    ) as daemon:
        daemon.until_event("incident.opened")
        daemon.write({"calm": ""})
        daemon.until_state("ready")
        kept = str(daemon.events()) + str(
            [daemon.client.get(f"/v1/incidents/{one['id']}") for one in daemon.incidents()]
        )
        assert "ValueError" in kept
        assert secret not in kept
        eventually(lambda: "ValueError" in daemon.said(), within_s=WITHIN_S)
        events = [line for line in daemon.said().splitlines() if "│" not in line]
        assert not [line for line in events if secret in line]
