# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from wolverined.clock import SystemClock
from wolverined.control.changes import Changes
from wolverined.errors import Conflict, NotFound
from wolverined.model import Change, ChangeState


async def nothing(_change: str) -> None:
    """Succeeds at once."""


def run(body: Callable[[Changes], Awaitable[None]], **options: Any) -> None:
    """Run a test in a loop with a fresh book of changes, closed at the end."""

    async def main() -> None:
        changes = Changes(clock=SystemClock(), **options)
        try:
            await body(changes)
        finally:
            await changes.close()

    asyncio.run(main())


def test_ids_count_from_one() -> None:
    """Changes are c1, c2, ..., and each can be read again."""

    async def body(changes: Changes) -> None:
        first = changes.submit("start", nothing, uid=0)
        second = changes.submit("stop", nothing, uid=0)
        assert (first.id, second.id) == ("c1", "c2")
        assert first.state is ChangeState.DOING
        ended = await changes.wait("c1", 5)
        assert ended.state is ChangeState.DONE
        assert ended.ended_at is not None
        assert changes.get("c1") == ended

    run(body)


def test_result_and_id_reach_the_change() -> None:
    """The work is told its change's id, and what it returns is the result."""

    async def body(changes: Changes) -> None:
        async def work(change: str) -> dict[str, Any]:
            return {"me": change}

        changes.submit("heal", work, uid=0)
        assert (await changes.wait("c1", 5)).result == {"me": "c1"}

    run(body)


def test_errors_of_the_tree_keep_their_kind() -> None:
    """A failed change tells kind, message and hint."""

    async def body(changes: Changes) -> None:
        async def work(_change: str) -> None:
            raise Conflict("not now", hint="later")

        changes.submit("start", work, uid=0)
        ended = await changes.wait("c1", 5)
        assert (ended.state, ended.kind, ended.error, ended.hint) == (
            ChangeState.FAILED,
            "conflict",
            "not now",
            "later",
        )

    run(body)


def test_a_bug_in_the_work_is_an_answer() -> None:
    """An exception that nobody expected fails the change and nothing else."""

    async def body(changes: Changes) -> None:
        async def work(_change: str) -> None:
            raise ZeroDivisionError("oops")

        changes.submit("start", work, uid=0)
        ended = await changes.wait("c1", 5)
        assert (ended.state, ended.kind) == (ChangeState.FAILED, "internal")
        assert "oops" in ended.error

    run(body)


def test_key_replays_for_the_same_uid_only() -> None:
    """The same key of the same uid gives the same change; another uid's key is another key."""

    async def body(changes: Changes) -> None:
        first = changes.submit("start", nothing, uid=5, args={"a": 1}, idempotency_key="k")
        await changes.wait(first.id, 5)
        again = changes.submit("start", nothing, uid=5, args={"a": 1}, idempotency_key="k")
        assert again.id == first.id
        assert again.state is ChangeState.DONE
        assert changes.submit("start", nothing, uid=6, args={"a": 1}, idempotency_key="k").id == "c2"
        assert changes.submit("start", nothing, uid=5, args={"a": 1}).id == "c3"

    run(body)


@pytest.mark.parametrize(("action", "args"), [("stop", {"a": 1}), ("start", {"a": 2}), ("start", {})])
def test_key_of_another_request_is_refused(action: str, args: dict[str, Any]) -> None:
    """A key that was used for something else is a conflict, not a silent replay."""

    async def body(changes: Changes) -> None:
        changes.submit("start", nothing, uid=5, args={"a": 1}, idempotency_key="k")
        with pytest.raises(Conflict):
            changes.submit(action, nothing, uid=5, args=args, idempotency_key="k")

    run(body)


def test_wait_gives_up_and_shows_how_it_stands() -> None:
    """A wait that ends too early returns the change as doing."""

    async def body(changes: Changes) -> None:
        changes.submit("stop", lambda _change: asyncio.Event().wait(), uid=0)  # type: ignore[arg-type]
        assert (await changes.wait("c1", 0.01)).state is ChangeState.DOING
        assert [change.id for change in changes.doing()] == ["c1"]

    run(body)


def test_unknown_change() -> None:
    """A change that never was is NotFound, to read and to wait for."""

    async def body(changes: Changes) -> None:
        with pytest.raises(NotFound):
            changes.get("c1")
        with pytest.raises(NotFound):
            await changes.wait("c1", 0)

    run(body)


def test_memory_is_bounded_and_running_ones_stay() -> None:
    """Old ended changes and their keys are forgotten, those under way never."""

    async def body(changes: Changes) -> None:
        changes.submit("stop", lambda _change: asyncio.Event().wait(), uid=0)  # type: ignore[arg-type]
        for number in range(20):
            change = changes.submit("start", nothing, uid=0, idempotency_key=f"k{number}")
            await changes.wait(change.id, 5)
        assert changes.get("c1").state is ChangeState.DOING
        assert changes.get("c21").state is ChangeState.DONE
        with pytest.raises(NotFound):
            changes.get("c2")
        assert len(changes._kept) == 5
        assert len(changes._keys) == 4
        assert changes.submit("start", nothing, uid=0, idempotency_key="k0").id == "c22"

    run(body, keep=4)


def test_too_many_at_once_is_refused() -> None:
    """There is a limit to what is under way."""

    async def body(changes: Changes) -> None:
        for _ in range(3):
            changes.submit("stop", lambda _change: asyncio.Event().wait(), uid=0)  # type: ignore[arg-type]
        with pytest.raises(Conflict):
            changes.submit("stop", nothing, uid=0)

    run(body, max_doing=3)


def test_close_ends_what_runs_and_what_never_began() -> None:
    """After close no change is left as doing, even one that had no time to begin; `on_end` hears of each."""
    ended: list[Change] = []

    async def body(changes: Changes) -> None:
        changes.submit("stop", lambda _change: asyncio.Event().wait(), uid=0)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        changes.submit("stop", nothing, uid=0)
        await changes.close()
        assert [change.kind for change in (changes.get("c1"), changes.get("c2"))] == ["stopped", "stopped"]

    run(body, on_end=ended.append)
    assert sorted(change.id for change in ended) == ["c1", "c2"]
