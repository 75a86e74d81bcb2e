# SPDX-License-Identifier: MIT
"""What wolverinectl shows of lost and returned repairs, and of the memory of an application."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from wolverined.cli import repairs, status
from wolverined.cli.terminal import Terminal

REPAIR: dict[str, Any] = {
    "id": "r3", "incident": "i1", "mode": "remedy", "state": "verified", "error": "TypeError", "resolution": "asked",
    "files": ["price.js"], "created_at": 0.0, "note": "r3 is no longer in the source: price.js is gone",
    "lost_at": None, "upstream_at": None,
}  # fmt: skip


def shown(repair: dict[str, Any]) -> str:
    """`repairs` and `repairs show` of one repair."""
    out = io.StringIO()
    terminal = Terminal(out, colour=False, unicode=True, width=None)
    repairs.listing(terminal, [repair])
    repairs.show(terminal, repair, app="shop")
    return out.getvalue()


def test_a_lost_repair_is_shown_as_such_with_the_way_back() -> None:
    """In the list by a word, in its own page by a command."""
    text = shown({**REPAIR, "lost_at": time.time() - 120})
    assert text.count("lost") >= 3
    assert "verified" not in text
    assert "2 min ago; in the source's repository: wolverinectl repairs shop show r3 --patch | git am" in text


def test_a_repair_that_stands_or_came_back_is_not_called_lost() -> None:
    """Its state is what it was."""
    assert "git am" not in shown(REPAIR)
    text = shown({**REPAIR, "upstream_at": time.time() - 120, "note": ""})
    assert "verified" in text
    assert "upstream" in text
    assert "git am" not in text


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ({"memory_bytes": 64 << 20}, "64 MiB"),
        ({"memory_bytes": 64 << 20, "memory_max_bytes": None, "memory_peak_bytes": None}, "64 MiB"),
        (
            {"memory_bytes": 64 << 20, "memory_max_bytes": 512 << 20, "memory_peak_bytes": 100 << 20},
            "64 MiB of 512 MiB, at most 100 MiB so far",
        ),
        ({"memory_bytes": None}, ""),
    ],
)
def test_memory_is_one_line(memory: dict[str, Any], words: str) -> None:
    """What is used, of how much, and the most so far; nothing where nothing is known."""
    out = io.StringIO()
    terminal = Terminal(out, colour=False, unicode=True, width=None)
    status.show(terminal, {"app": "shop", "state": "ready", **memory})
    lines = [line for line in out.getvalue().splitlines() if "memory" in line or "peak" in line]
    assert [" ".join(line.split()[1:]) for line in lines] == ([words] if words else [])
