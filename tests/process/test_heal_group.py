# SPDX-License-Identifier: MIT
"""A repair that could not keep a file's group costs the app no stop."""

from __future__ import annotations

import os

import pytest
from support.healing import NODE_SHOP, asked, ending, mend
from support.places import IS_ROOT


@pytest.mark.skipif(not IS_ROOT, reason="another user is needed")
def test_a_file_whose_group_cannot_be_kept_is_refused_while_the_app_runs() -> None:
    """The operator reads which file and what to do; the app is not stopped for it, and nothing is touched."""
    with asked(NODE_SHOP, mend(NODE_SHOP, NODE_SHOP.right)) as (running, _server):
        file = running.app / NODE_SHOP.path
        os.chown(file, -1, 7)
        file.chmod(0o640)
        before = running.tree()
        assert running.get(NODE_SHOP.trigger).crashed
        end = ending(running)
        assert end["name"] == "heal.failed", end
        assert "prices.js belongs to the group lp, which nobody is not in" in end["message"]
        (repair,) = running.repairs()
        assert repair["state"] == "failed"
        running.until_healthy()
        assert running.status()["generation"] == 2  # the one that crashed, and the one that serves since
        assert running.tree() == before
