# SPDX-License-Identifier: MIT
"""The real daemon over real apps: ends of every kind, of the app, of wolverined, and of both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import IS_ROOT, eventually
from support.supervision import listening_stranger
from support.watching import OBEDIENT, PROBED, QUICK, WITHIN_S, Watched, alive, stopped

from wolverined.errors import WolverineError


def test_a_killed_app_is_restarted_and_its_incident_closed() -> None:
    """SIGKILL by a stranger: a new generation, an incident that only a restart answers, no heal."""
    with Watched() as daemon:
        first = daemon.until_state("ready")
        os.kill(first["pid"], signal.SIGKILL)
        daemon.until_state("ready", generation=2)
        incident = daemon.until_closed("crash")
        assert (incident["error"], incident["closed_by"]) == ("SIGKILL", "restarted")
        assert "heal.started" not in daemon.names()
        assert not alive(first["pid"])


def test_a_quick_app_that_is_ready_before_its_end_was_looked_into_leaves_no_open_incident() -> None:
    """However the two meet, the incident of a mere restart is closed; ten times over."""
    with Watched(tables=PROBED + "[heal]\npolicy = 'auto'\n") as daemon:
        for generation in range(1, 6):
            pid = daemon.until_state("ready", generation=generation)["pid"]
            os.kill(pid, signal.SIGKILL)
        daemon.until_state("ready", generation=6)
        eventually(lambda: daemon.status()["incidents_open"] == 0, within_s=WITHIN_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_and_all_of_the_app(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C: exit 0, the app was asked to end, nothing of its tree lives, no socket is left."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.ask("children")
        assert daemon.kill(number) == 0
        assert daemon.survivors() == []
        assert not (daemon.runtime / "control.sock").exists()
        assert re.search(r"daemon\.stopping.*\n.*app\.exit.*SIGTERM", daemon.said())


def test_what_a_killed_daemon_left_is_gone_after_the_next_start_and_its_memory_goes_on() -> None:
    """SIGKILL of wolverined: the old tree, however forked, is ended first; incidents and cursors go on."""
    with Watched() as daemon:
        old = daemon.until_state("ready")
        daemon.ask("abort")
        daemon.until_state("ready", generation=2)
        daemon.until_closed("crash")
        daemon.ask("children")
        left = eventually(lambda: tree if len(tree := daemon.status()["tree"]) >= 4 else [])
        cursor = daemon.cursor()
        daemon.kill(signal.SIGKILL)
        assert all(alive(pid) for pid in left)
        daemon.start()
        assert daemon.until_state("ready")["pid"] not in {old["pid"], *left}
        assert not any(alive(pid) for pid in left)
        assert daemon.incidents()[0]["id"] == "i1"
        assert [event["cursor"] for event in daemon.events() if event["name"] == "daemon.started"][-1] > cursor


def test_both_killed_at_once() -> None:
    """The app and wolverined die together: the next start finds an empty house and goes on."""
    with Watched() as daemon:
        pid = daemon.until_state("ready")["pid"]
        daemon.ask("children")
        with stopped(pid):
            daemon.kill(signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        daemon.start()
        daemon.until_state("ready")
        assert not alive(pid)
        assert daemon.others() == [daemon.status()["pid"]]


def test_a_second_daemon_on_the_same_state_is_refused() -> None:
    """It says so in one line, touches nothing, and the first goes on: same pid, same sockets."""
    with Watched() as daemon:
        pid = daemon.until_state("ready")["pid"]
        for words in (
            ["--runtime-dir", str(daemon.place / "other")],  # the same state
            ["--runtime-dir", str(daemon.runtime), "--state-dir", str(daemon.place / "s")],  # the same sockets
        ):
            argv = [sys.executable, "-P", "-m", "wolverined", "run", "--config", str(daemon.config)]
            second = subprocess.run(
                [*argv, "--state-dir", str(daemon.state), *words],
                capture_output=True,
                text=True,
                timeout=WITHIN_S,
                check=False,
            )
            assert second.returncode == 1
            assert f"error: another supervisor of {daemon.name} is running" in second.stderr
            assert "hint: " in second.stderr
        assert daemon.status()["pid"] == pid
        assert (daemon.runtime / "app" / "report.sock").exists()


def test_closing_the_terminal_is_a_reload_and_not_the_end() -> None:
    """SIGHUP reads the configuration again; the app keeps running."""
    with Watched() as daemon:
        pid = daemon.until_state("ready")["pid"]
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.until_event("config.reloaded")["message"] == "nothing has changed"
        assert daemon.status()["pid"] == pid


def test_a_terminal_that_goes_away_takes_only_the_console_with_it() -> None:
    """A pseudo-terminal is closed under the daemon: it goes on and answers."""
    with Watched() as daemon:
        ours, theirs = os.openpty()
        argv = [sys.executable, "-P", "-m", "wolverined", "run", "--config", str(daemon.config)]
        argv += ["--runtime-dir", str(daemon.runtime), "--state-dir", str(daemon.state)]
        daemon.until_state("ready")
        daemon.kill(signal.SIGTERM)
        daemon.process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        daemon.until_state("ready")
        os.close(ours)
        daemon.ask("say/100")
        daemon.ask("exit/0")
        daemon.until_state("ready", generation=2)


def test_stop_start_restart_hold_through_the_control_socket() -> None:
    """Each does what it says, and says what came of it."""
    with Watched() as daemon:
        first = daemon.until_state("ready")["pid"]
        assert daemon.ctl("stop").out.strip() == f"{daemon.name}  ○ stopped"
        assert not alive(first)
        assert daemon.ctl("is-active").code == 3
        assert daemon.ctl("start").out.strip() == f"{daemon.name}  ● ready"
        second = daemon.status()["pid"]
        assert daemon.ctl("restart").code == 0
        assert daemon.status()["pid"] not in {first, second}
        assert daemon.ctl("hold", "--for", "10m").code == 0
        assert daemon.status()["held_until"] > 0
        assert daemon.ctl("hold", "--for", "0s").code == 0
        assert daemon.status()["held_until"] is None


def test_a_server_that_exits_with_0_is_restarted() -> None:
    """A server has no reason to end: exit 0 is an incident of its own kind, and the app is started again."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.ask("exit/0")
        daemon.until_state("ready", generation=2)
        assert daemon.until_closed("exit")["error"] == "exit 0"


def test_an_app_that_never_gets_ready_is_told_and_left_alone() -> None:
    """After the grace an incident says unready; it is not killed, and stop still works."""
    source = "import time; print('thinking', flush=True); time.sleep(120)"
    with Watched(source, tables=QUICK + "[probe]\ntcp = true\nstartup_s = 0.3\n[heal]\npolicy='off'\n") as daemon:
        daemon.until_event("incident.opened")
        status = daemon.status()
        assert (status["state"], status["generation"]) == ("starting", 1)
        assert daemon.incidents()[0]["kind"] == "unready"
        daemon.do("stop")
        assert daemon.status()["state"] == "stopped"


def test_a_crash_loop_is_shown_and_goes_on_for_ever() -> None:
    """The waits are told, then crash-loop; it is tried again and again, and a fixed app comes up by itself."""
    source = "import os, sys\nif not os.path.exists('fixed'):\n    sys.exit(7)\n" + OBEDIENT
    with Watched(source, tables=PROBED + "[heal]\npolicy='off'\n") as daemon:
        told = daemon.until_event("app.crash_loop")
        assert re.fullmatch(r"exit 7 again and again; it is tried every 0 s, for ever", told["message"])
        assert "app.backoff" in daemon.names() or daemon.status()["failures"] > 0
        generation = daemon.status()["generation"]
        eventually(lambda: daemon.status()["generation"] > generation + 1, within_s=WITHIN_S)
        daemon.write({"fixed": ""})
        daemon.until_state("ready")


def test_a_wait_is_told_with_its_length() -> None:
    """An operator who looks at the console knows how long the app stays away."""
    tables = PROBED.replace("initial_s = 0.05\nmax_s = 0.1", "initial_s = 0.7\nmax_s = 30")
    with Watched("import sys; sys.exit(3)", tables=tables + "[heal]\npolicy='off'\n") as daemon:
        told = daemon.until_event("app.backoff")
        assert told["message"] == "the next start is in 0.7 s"
        assert daemon.status()["state"] == "backoff"


def test_a_missing_program_is_failed_until_someone_acts() -> None:
    """The app's program vanishes after the check: failed, said, no retries; a start after it is back mends it."""
    with Watched(command=("./app", "app.py")) as daemon:
        program = daemon.app / "app"
        program.symlink_to(sys.executable if not IS_ROOT else "/usr/bin/python3")
        daemon.until_state("ready")
        program.unlink()
        daemon.do("restart", well=False)
        status = daemon.until_state("failed")
        assert "app" in status["why"]
        assert daemon.incidents()[0]["error"] == "cannot start"
        program.symlink_to("/usr/bin/python3")
        daemon.do("start")
        assert daemon.status()["state"] == "ready"
        daemon.until_closed("boot")


def test_a_strangers_port_is_named_and_the_stranger_lives() -> None:
    """The incident names pid and command of who listens; once the port is free the app starts by itself."""
    with listening_stranger() as (stranger, port), Watched() as daemon:
        daemon.kill(signal.SIGTERM)
        daemon.rewrite(lambda text: re.sub(r"port = \d+", f"port = {port}", text))
        daemon.port = port
        daemon.start()
        daemon.until_event("incident.opened")
        incident = daemon.incidents()[0]
        assert incident["kind"] == "port-taken"
        assert f"port {port} is held by pid {os.getpid()}" in incident["message"]
        assert stranger.fileno() > 0
        stranger.close()
        daemon.until_state("ready")
        daemon.until_closed("port-taken")


def test_a_port_held_by_an_old_generation_is_taken_back() -> None:
    """A detached child keeps the listening socket: it is ended with its generation."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.ask("children")  # they inherit the listening socket
        daemon.ask("exit/1")
        daemon.until_state("ready", generation=2)
        assert "port-taken" not in {each["kind"] for each in daemon.incidents()}


def test_a_hang_is_dumped_killed_and_restarted() -> None:
    """Liveness fails: SIGABRT for the stack dump, then the kill, one incident, a new generation."""
    tables = PROBED.replace("tcp = true", 'http = "/health"')
    source = "import faulthandler; faulthandler.enable()\n" + OBEDIENT
    with Watched(source, tables=tables) as daemon:
        daemon.until_state("ready")
        daemon.ask("hang")
        daemon.until_state("ready", generation=2)
        assert daemon.until_closed("hang")["message"].startswith("GET /health: no answer within 0.5 s")
        assert "in obey" in daemon.ctl("logs", "-n", "200").out


def test_an_app_that_ignores_sigterm_is_killed_with_its_tree() -> None:
    """`stop` waits its timeout and no longer; nothing of it lives."""
    with Watched(tables=PROBED + "[stop]\ntimeout_s = 0.3\n") as daemon:
        daemon.until_state("ready")
        daemon.ask("deaf")
        daemon.ask("children")
        tree = daemon.status()["tree"]
        daemon.do("stop")
        assert not any(alive(pid) for pid in tree)


@pytest.mark.skipif(not IS_ROOT, reason="needs root for a cgroup: without one, who forks without end outruns the kill")
def test_a_fork_bomb_in_the_app_ends_with_a_stop() -> None:
    """Forty families that fork and vanish without end; the daemon answers meanwhile, and stop ends them all."""
    bomb = """
import os, time
end = time.monotonic() + 20
for _ in range(40):
    if os.fork() == 0:
        break
else:
    print("lit", flush=True)
    time.sleep(20)
while time.monotonic() < end:
    if os.fork() == 0:
        os.setsid()
    else:
        os._exit(0)
    time.sleep(0.002)
"""
    with Watched(bomb, tables="[stop]\ntimeout_s = 0.2\n") as daemon:
        eventually(lambda: "lit" in daemon.said(), within_s=WITHIN_S)
        assert daemon.status()["state"] in {"starting", "ready"}
        daemon.do("stop")
        eventually(lambda: daemon.others() == [], within_s=WITHIN_S)


def test_a_request_that_makes_no_sense_now_is_a_clear_no() -> None:
    """An unknown incident, repair or backup, and a heal of a stopped app, each answer with an error and a hint."""
    with Watched() as daemon:
        daemon.until_state("ready")
        for words in (["heal", "i99"], ["rollback", "r99"], ["backups", "restore", "b99"], ["approve", "r99"]):
            done = daemon.ctl(*words)
            assert done.code == 1, words
            assert done.err.startswith("error: there is no ")
        with pytest.raises(WolverineError):
            daemon.client.post("/v1/hold", {"for_s": -1})
        assert daemon.ctl("heal").out.strip() == "no open incident; the app is ready"


def test_the_clock_may_jump() -> None:
    """Wall time is only a label: an incident dated by a daemon of the future does not disturb the present."""
    with Watched() as daemon:
        daemon.until_state("ready")
        daemon.ask("abort")
        daemon.until_closed("crash")
        daemon.kill(signal.SIGTERM)
        faked = Path(daemon.state / "store.db")
        os.utime(faked, (2**31, 2**31))
        daemon.start()
        daemon.until_state("ready")
        daemon.ask("abort")
        daemon.until_state("ready", generation=2)
