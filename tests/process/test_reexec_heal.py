# SPDX-License-Identifier: MIT
"""A re-exec waits for a heal and gives way to whoever stops the app or the daemon; a service manager hears of it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.daemons import Running
from support.healing import NODE_SHOP, asked, mend, until_settled
from support.model_server import Recorded, Reply, answer, hang
from support.places import eventually, public_tmp
from support.replacing import Replaced

from wolverined.control.client import Client


@contextmanager
def thinking(*, probation_s: float = 0.5) -> Iterator[tuple[Running, list[bool]]]:
    """A heal whose model answers, with the right patch, once something is put into the list."""
    release: list[bool] = []

    def later(_: Recorded) -> Reply:
        eventually(lambda: release, within_s=60)
        return answer(mend(NODE_SHOP, NODE_SHOP.right))

    with asked(NODE_SHOP, later, probation_s=probation_s) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        server.wait_for(1)
        yield running, release


def post(running: Running, action: str) -> str:
    """Begin an operation; its id."""
    return str(Client(str(running.runtime)).post(f"/v1/{action}")["id"])


def change(running: Running, change_id: str) -> dict[str, Any]:
    """An operation as it stands."""
    found: dict[str, Any] = Client(str(running.runtime)).get(f"/v1/changes/{change_id}")
    return found


def test_it_waits_for_a_heal_and_says_so() -> None:
    """The change tells what it waits for; the heal ends as if nothing had been asked, then the program is another."""
    with thinking() as (running, release):
        begun = running.ctl("reexec", "--no-wait")
        assert begun.code == 0
        eventually(lambda: change(running, begun.out.strip())["result"])
        told = change(running, begun.out.strip())
        assert (told["state"], told["result"]["said"]) == ("doing", "waits: a heal of i1 is under way")
        assert "i1" in running.until_event("reexec.waits")["message"]
        release.append(True)
        running.until_event("repair.verified")
        done = running.until_event("reexec.done")
        verified = running.until_event("repair.verified")
        assert done["cursor"] > verified["cursor"]
        assert "reexec.refused" not in [event["name"] for event in running.events()]
        until_settled(running)
        assert change(running, begun.out.strip())["state"] == "done"
        assert running.repairs()[0]["state"] == "verified"
        assert running.get(NODE_SHOP.trigger).status == 200


def test_wolverinectl_waits_with_it_and_says_what_for() -> None:
    """Who asks again joins the one that waits; both end well, told by the new program."""
    with thinking() as (running, release):
        first = post(running, "reexec")
        eventually(lambda: change(running, first)["result"])
        release.append(True)
        ended = running.ctl("reexec")
        assert ended.code == 0, ended.err
        assert "runs in the place of" in ended.out
        assert change(running, first)["state"] == "done"
        assert [event["name"] for event in running.events()].count("reexec.done") in (1, 2)


def test_a_stop_of_the_daemon_comes_first() -> None:
    """SIGTERM while it waits ends the daemon as ever, at once; nothing is executed any more."""
    with asked(NODE_SHOP, hang()) as (running, server):
        assert running.get(NODE_SHOP.trigger).crashed
        server.wait_for(1)
        waiting = post(running, "reexec")
        eventually(lambda: change(running, waiting)["result"])
        before = time.monotonic()
        assert running.kill(signal.SIGTERM) == 0
        assert time.monotonic() - before < 10
        assert "took over" not in running.log.read_text()


def test_a_stop_of_the_app_is_obeyed_and_what_was_put_off_goes_on_afterwards() -> None:
    """The repair's probation waits for the app, through the re-exec, and is stood when the app is started."""
    with thinking() as (running, release):
        waiting = post(running, "reexec")
        assert running.ctl("stop").code == 0
        release.append(True)
        running.until_event("heal.paused")
        running.until_event("reexec.done")
        assert change(running, waiting)["state"] == "done"
        assert (running.status()["state"], running.repairs()[0]["state"]) == ("stopped", "probation")
        assert running.ctl("start").code == 0
        running.until_event("repair.verified")
        until_settled(running)
        assert running.incidents()[0]["closed_by"] == "r1"


def test_a_service_manager_hears_a_reload_and_no_second_start() -> None:
    """RELOADING=1 before, READY=1 after, by the same process; the watchdog is fed on."""
    with public_tmp() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "1500000"}
        heard: list[str] = []

        def until(*words: str) -> None:
            while not all(any(each.startswith(word) for each in heard) for word in words):
                heard.append(manager.recv(4096).decode())

        with Replaced(environment=environment) as daemon:
            until("READY=1")
            daemon.until_state("ready")
            heard.clear()
            daemon.reexec()
            until("RELOADING=1", "READY=1")
            kinds = [each.partition("\n")[0] for each in heard if not each.startswith(("WATCHDOG", "STATUS"))]
            assert kinds == ["RELOADING=1", "READY=1"]
            # In between the watchdog is patient: a busy machine may take its time to start an interpreter.
            assert [each for each in heard if each.startswith("WATCHDOG_USEC")] == [
                "WATCHDOG_USEC=20000000\nWATCHDOG=1", "WATCHDOG_USEC=1500000\nWATCHDOG=1",
            ]  # fmt: skip
            heard.clear()
            until("WATCHDOG=1")
            assert not any(each.startswith(("STOPPING", "MAINPID")) for each in heard)


def test_a_refusal_leaves_the_manager_with_a_ready_service() -> None:
    """Nothing of it is heard when the new program says no: it is asked before anything is quieted."""
    with public_tmp() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.setblocking(False)
        with Replaced(environment={"NOTIFY_SOCKET": str(place / "notify")}, at_check="os._exit(9)") as daemon:
            daemon.until_state("ready")
            daemon.reexec(well=False)
            heard = []
            while True:
                try:
                    heard.append(manager.recv(4096))
                except BlockingIOError:
                    break
            assert heard.count(b"READY=1") == 1
            assert not any(each.startswith(b"RELOADING") for each in heard)
