# SPDX-License-Identifier: MIT
"""Deploys under a real wolverined: what they lose is told once, with the way back; what they bring is told as such."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemons import NODE, Running
from support.places import eventually

SHOP = {
    "server.js": """
const http = require("node:http");
const stock = require("./stock");
http.createServer((request, response) => {
  if (request.url === "/health") return response.end("ok");
  if (request.url === "/stock") return response.end(JSON.stringify(stock.listAl()));
  response.statusCode = 404;
  response.end("no");
}).listen(process.env.PORT, "127.0.0.1");
""",
    "stock.js": """
function listAll() { return [{ name: "cup", left: 3 }]; }
module.exports = { listAll };
""",
}
TABLES = "[heal]\nprobation_s = 0.3\nsettle_s = 0.2\n"
NEWS = ("repair.lost", "repair.upstream")


@pytest.fixture
def healed() -> Iterator[Running]:
    """A shop whose only fault has just been repaired, as r1."""
    with Running(files=SHOP, command=[NODE, "server.js"], tables=TABLES) as running:
        running.until_healthy()
        assert running.get("/stock").crashed
        running.until_event("incident.closed")
        running.until_healthy()
        yield running


def restart(running: Running) -> None:
    """What a deploy ends with."""
    assert running.ctl("restart").code == 0
    running.until_healthy()


def news(running: Running) -> list[tuple[str, str]]:
    """What was told of lost and returned repairs."""
    return [(event["name"], event["repair"]) for event in running.events() if event["name"] in NEWS]


def git(place: Path, *words: str, stdin: str = "") -> str:
    """Run git in a place, as nobody in particular."""
    argv = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", *words]
    return subprocess.run(argv, cwd=place, input=stdin, capture_output=True, text=True, check=True).stdout


def test_a_deploy_of_the_old_text_is_a_lost_repair_until_the_patch_is_taken_upstream(
    healed: Running, tmp_path: Path
) -> None:
    """Told once over restarts, shown by `repairs`; the patch goes into git, its deploy ends the loss."""
    healed.write(SHOP)
    restart(healed)
    lost = healed.until_event("repair.lost")
    assert (lost["repair"], lost["severity"]) == ("r1", "warn")
    assert "wolverinectl repairs app show r1 --patch | git am" in lost["message"]
    restart(healed)
    assert healed.ctl("hold", "--for", "0s").code == 0  # looked at once more
    assert healed.repairs()[0]["lost_at"]
    assert healed.repairs()[0]["state"] == "verified"
    assert "lost" in healed.ctl("repairs").out
    shown = healed.ctl("repairs", "show", "r1").out
    assert "git am" in shown
    assert news(healed) == [("repair.lost", "r1")]

    for name, text in SHOP.items():
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "as deployed")
    git(tmp_path, "am", "-q", stdin=healed.ctl("repairs", "show", "r1", "--patch").out)
    (tmp_path / "server.js").write_text("// by hand\n" + (tmp_path / "server.js").read_text())
    healed.write({name: (tmp_path / name).read_text() for name in SHOP})
    restart(healed)
    healed.until_event("repair.upstream")
    assert healed.repairs()[0]["lost_at"] is None
    assert healed.get("/stock").status == 200


def test_a_deploy_of_the_repaired_text_alarms_nobody(healed: Running) -> None:
    """Equal files, written by others: the repair is part of the source now."""
    healed.write(healed.tree())
    restart(healed)
    told = healed.until_event(*NEWS)
    assert (told["name"], told["severity"]) == ("repair.upstream", "info")
    restart(healed)
    assert healed.ctl("hold", "--for", "0s").code == 0
    assert news(healed) == [("repair.upstream", "r1")]


def test_the_trouble_of_a_lost_repair_is_healed_again_from_memory(healed: Running) -> None:
    """No restart tells of the deploy: the heal notices it, and nothing is proven by a model."""
    healed.write(SHOP)
    healed.ctl("restart")
    healed.until_event("repair.lost")
    healed.until_healthy()
    before = healed.cursor()
    assert healed.get("/stock").crashed
    healed.until_event("incident.closed", after=before)
    healed.until_healthy()
    assert healed.get("/stock").status == 200
    second, first = healed.repairs()[:2]
    assert (second["id"], second["state"], second["tokens"]) == ("r2", "verified", 0)
    restart(healed)
    assert news(healed) == [("repair.lost", "r1")]
    assert first["lost_at"]


def test_a_heal_notices_a_loss_by_itself(healed: Running) -> None:
    """A deploy under a running app, which then dies of something else: the next trouble's heal tells of it."""
    healed.write(SHOP)
    pid = healed.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: healed.status()["pid"] not in (None, pid), within_s=20)
    healed.until_healthy()
    assert news(healed) == []
    assert healed.get("/stock").crashed
    healed.until_event("repair.lost")
    assert news(healed) == [("repair.lost", "r1")]


def test_nothing_is_looked_at_while_heals_are_on_hold(healed: Running) -> None:
    """A hold is for a deploy: half of one says nothing; lifted, it is looked at."""
    assert healed.ctl("hold", "--for", "10m").code == 0
    healed.write(SHOP)
    restart(healed)
    assert news(healed) == []
    assert healed.ctl("hold", "--for", "0s").code == 0
    healed.until_event("repair.lost")
