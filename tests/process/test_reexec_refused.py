# SPDX-License-Identifier: MIT
"""A re-exec that does not come about, comes late, or goes wrong in the middle: nobody is left without a supervisor."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.places import eventually
from support.replacing import Replaced
from support.watching import PROBED, alive

GARBAGE = """
import fcntl
state = os.memfd_create("x", os.MFD_ALLOW_SEALING)
os.write(state, b"this is no state")
fcntl.fcntl(state, fcntl.F_ADD_SEALS, 15)
words = told.split(":")
os.environ["WOLVERINE_HANDOVER"] = ":".join([*words[:2], str(state), words[3]])
"""
"""What the new program finds instead of the state."""

END_THE_APP = """
pid = int(open(place + "/pid").read())
os.kill(pid, signal.SIGTERM)
while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.005)
"""
"""The app dies between the two programs."""

REAP_THE_APP = END_THE_APP + "os.waitpid(pid, 0)\n"
"""And somebody takes its end away."""


def note_pid(daemon: Replaced) -> int:
    """Tell the hook whom to end."""
    pid = int(daemon.status()["pid"])
    (daemon.place / "pid").write_text(str(pid))
    return pid


def goes_on(daemon: Replaced, pid: int) -> None:
    """The old program supervises the same app: it is probed, asked and restarted as ever."""
    assert daemon.status()["pid"] == pid
    assert "reexec.done" not in daemon.names()
    daemon.ask("exit/3")
    daemon.until_state("ready", generation=2)
    assert daemon.client.get("/v1/logs?n=5")


def test_a_configuration_that_is_wrong_refuses_it() -> None:
    """The words are those of the configuration's own check, and nothing has happened; mended, it is done."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        right = daemon.config.read_text()
        daemon.config.write_text(right + "\n[nonsense]\nx = 1\n")
        ended = daemon.reexec(well=False)
        assert "nonsense" in ended["error"]
        assert ended["kind"] == "conflict"
        assert daemon.until_event("reexec.refused")["severity"] == "error"
        goes_on(daemon, pid)
        daemon.config.write_text(right)
        daemon.reexec()
        assert daemon.status()["generation"] == 2


def test_another_user_of_the_app_refuses_it() -> None:
    """Who may speak to whom is laid down for the whole life of an app."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        daemon.rewrite(lambda text: text.replace("[app]", '[app]\nuser = "daemon"'))
        ended = daemon.reexec(well=False)
        assert "daemon" in ended["error"]
        goes_on(daemon, pid)


def test_a_configuration_that_changed_is_in_force_afterwards() -> None:
    """As after a reload, and told as such, also to whoever asked for no more than another program."""
    with Replaced() as daemon:
        daemon.until_state("ready")
        assert "force" not in daemon.reexec()["result"]["said"]
        daemon.rewrite(lambda text: text.replace("failures = 2", "failures = 7"))
        assert "is in force now: probe.failures 2 -> 7" in daemon.reexec()["result"]["said"]
        assert daemon.client.get("/v1/config")["probe"]["failures"] == 7
        assert "probe.failures 2 -> 7" in daemon.until_event("config.reloaded")["message"]
        assert daemon.status()["generation"] == 1


@pytest.mark.parametrize(
    ("at_check", "said"),
    [
        ('sys.stderr.write("error: half of it is installed\\n")\nos._exit(1)', "half of it is installed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9 ended it"),
        ("os._exit(3)", "it ended with 3"),
    ],
)
def test_a_new_program_that_is_broken_refuses_it(at_check: str, said: str) -> None:
    """Whatever way it breaks, the old one goes on and says why."""
    with Replaced(at_check=at_check) as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        assert said in daemon.reexec(well=False)["error"]
        goes_on(daemon, pid)


def test_a_new_program_that_hangs_refuses_it() -> None:
    """Its patience is bounded, the hung one is ended, and the supervisor serves meanwhile."""
    with Replaced(at_check='open(place + "/hangs", "w").close()\ntime.sleep(300)') as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        change = daemon.begin()
        eventually((daemon.place / "hangs").exists, within_s=30)
        assert daemon.ask("") == "ok"
        assert daemon.status()["pid"] == pid
        assert daemon.kill(signal.SIGTERM) == 0, "the end comes first"
        assert change


def test_an_interpreter_that_is_gone_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """It could still be asked, and not be executed the next moment: nothing had been given up."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    hook = f"import atexit\natexit.register(os.unlink, {str(link)!r})"
    with Replaced(at_check=hook, interpreter=str(link)) as daemon:
        daemon.until_state("ready")
        pid, files = note_pid(daemon), daemon.open_files()
        ended = daemon.reexec(well=False)
        assert "cannot be executed" in ended["error"]
        eventually(lambda: daemon.open_files() <= files, within_s=20)
        goes_on(daemon, pid)
        link.symlink_to(sys.executable)


def test_an_app_that_ends_between_the_programs_is_noticed_with_its_signal() -> None:
    """It is still a child of the same process: how it ended is kept by the kernel until somebody asks."""
    with Replaced(at_exec=END_THE_APP) as daemon:
        daemon.until_state("ready")
        note_pid(daemon)
        daemon.reexec()
        assert daemon.until_event("app.exit")["fields"]["signal"] == signal.SIGTERM
        daemon.until_state("ready", generation=2)
        assert daemon.status()["last_exit"] == "SIGTERM"
        assert "reexec.lost" not in daemon.names()


def test_an_app_that_cannot_be_taken_over_is_ended_and_started_anew() -> None:
    """Its process is not the child that it was: what is left of its tree goes, and that is told."""
    with Replaced(at_exec=REAP_THE_APP) as daemon:
        daemon.until_state("ready")
        daemon.ask("children")
        tree = eventually(lambda: daemon.status()["tree"] if len(daemon.status()["tree"]) >= 4 else None)
        note_pid(daemon)
        ended = daemon.reexec(well=False)
        assert "is not the child that it was" in ended["error"]
        assert daemon.until_event("reexec.lost")["severity"] == "critical"
        daemon.until_state("ready", generation=2)
        assert not any(alive(pid) for pid in tree)


def test_a_state_that_cannot_be_used_leaves_no_app_without_a_supervisor() -> None:
    """The old generation is ended by its leaf, its zombie is reaped, and the app is started as after a crash."""
    with Replaced(at_exec=GARBAGE) as daemon:
        daemon.until_state("ready")
        daemon.ask("children")
        tree = eventually(lambda: daemon.status()["tree"] if len(daemon.status()["tree"]) >= 4 else None)
        daemon.begin()
        assert "nothing that can be used" in daemon.until_event("reexec.lost")["message"]
        status = daemon.until_state("ready")
        assert status["pid"] not in tree
        eventually(lambda: not any(alive(pid) for pid in tree))
        assert daemon.process is not None
        eventually(lambda: not zombies(daemon.process.pid))


def zombies(pid: int) -> list[int]:
    """The dead children of a process that nobody has waited for."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if not alive(int(child))]


def test_a_signal_to_end_between_the_programs_is_obeyed() -> None:
    """The kernel keeps it for the new program, which ends in order: nothing of the app is left."""
    with Replaced(at_exec="os.kill(os.getpid(), signal.SIGTERM)") as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        daemon.begin()
        assert daemon.process is not None
        assert daemon.process.wait(30) == 0
        assert not alive(pid)


def test_a_store_of_a_newer_version_refuses_it() -> None:
    """Going back to an older program must not lose what the newer one knows."""
    import sqlite3

    with Replaced() as daemon:
        daemon.until_state("ready")
        pid = note_pid(daemon)
        with sqlite3.connect(daemon.state / "store.db") as store:
            (version,) = store.execute("PRAGMA user_version").fetchone()
            store.execute("PRAGMA user_version = 999")
        store.close()
        assert "newer wolverined" in daemon.reexec(well=False)["error"]
        with sqlite3.connect(daemon.state / "store.db") as store:
            store.execute(f"PRAGMA user_version = {version}")
        store.close()
        goes_on(daemon, pid)


@pytest.mark.parametrize("word", ["stop", "restart"])
def test_what_is_asked_for_while_the_new_program_is_asked_comes_first(word: str) -> None:
    """An operation that came in between is done by the old program, and then it is replaced."""
    hook = 'open(place + "/asked", "a").write("x")\nwhile not os.path.exists(place + "/go"): time.sleep(0.01)'
    with Replaced(at_check=hook, tables=f"{PROBED}[stop]\ntimeout_s = 0.5\n") as daemon:
        daemon.until_state("ready")
        change = daemon.begin()
        eventually((daemon.place / "asked").exists, within_s=30)
        daemon.ask("deaf")
        other = daemon.client.post(f"/v1/{word}")["id"]
        (daemon.place / "go").write_text("")
        assert daemon.ended(other)["state"] == "done"
        assert daemon.ended(change)["state"] == "done"
        status = daemon.until_state("stopped" if word == "stop" else "ready")
        assert status["generation"] == (1 if word == "stop" else 2)
        assert (daemon.place / "asked").read_text() == "xx", "it was asked again: the state was another"
