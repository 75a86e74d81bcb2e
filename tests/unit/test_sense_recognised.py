# SPDX-License-Identifier: MIT
"""Errors are named without reading each, a flood costs little, and one that was told twice is one."""

from __future__ import annotations

import pytest

from wolverined.model import Request, Trace
from wolverined.sense import recognised
from wolverined.sense.recognised import KEPT, READS, TWIN_S, Recogniser, Twins
from wolverined.sense.route_error import Cause, RouteError


def error(
    word: str = "", *, number: int = 7, told: bool = False, path: str = "/a", name: str = "TypeError"
) -> RouteError:
    """An error with that word in its message and in its stack."""
    message = f"no {word} at {number}"
    stack = f"{name}: {message}\n    at f (/srv/app/a{word}.js:{number}:1)"
    return RouteError(
        route=f"GET {path}",
        status=500,
        request=Request(method="GET", path=path),
        chain=(Cause(name, message, stack),),
        told=told,
    )


def recogniser() -> Recogniser:
    """A fresh one."""
    return Recogniser(app_root=lambda: "/srv/app")


def test_the_same_error_with_other_numbers_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and lines change; the stack is parsed for the first of them only."""
    reads: list[RouteError] = []
    real = recognised.trace_of

    def read(one: RouteError, *, app_root: str) -> Trace | None:
        reads.append(one)
        return real(one, app_root=app_root)

    monkeypatch.setattr(recognised, "trace_of", read)
    mine = recogniser()
    found = {mine.look(error(number=number), now=0.0) for number in range(500)}
    assert len(found) == 1
    assert len(reads) == 1


def test_another_place_or_route_is_another_error() -> None:
    """What was remembered is not taken for something else."""
    mine = recogniser()
    names = [mine.look(one, now=0.0) for one in (error("x"), error("y"), error("x"))]
    assert names[0] == names[2] != names[1]
    assert mine.look(error("v1"), now=0.0) != mine.look(error("v2"), now=0.0)


def test_too_many_new_ones_are_taken_for_the_newest_of_their_route_and_type() -> None:
    """Reading begins again as time goes by; of what is like nothing known nothing is made up."""
    mine = recogniser()
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(READS[0])]
    found = [mine.look(error(word), now=0.0) for word in words]
    assert len(set(found)) == READS[0]
    assert mine.look(error("late"), now=0.0) == found[-1]
    assert mine.look(error("late", name="RangeError"), now=0.0) is None
    assert mine.look(error(words[0]), now=0.0) == found[0]
    assert mine.look(error("late"), now=1.0) not in found


def test_what_is_remembered_is_bounded() -> None:
    """The newest is kept."""
    mine = recogniser()
    for n in range(KEPT + 50):
        mine.look(error("x", path=f"/{'y' * n}"), now=float(n))
    assert len(mine._known) == len(mine._newest) == KEPT
    twins = Twins()
    for n in range(KEPT + 50):
        twins.has(error(path=f"/{n}"), now=0.0)
    for _ in range(KEPT + 50):
        twins.has(error(), now=0.0)
    assert len(twins._alone) == KEPT
    assert max(map(len, twins._alone.values())) == KEPT


def test_an_error_that_the_application_and_its_reporter_tell_is_one() -> None:
    """In whichever order; the next pair is the next error."""
    twins = Twins()
    own, reporters = error(told=False), error(told=True)
    assert [twins.has(one, now=0.0) for one in (own, reporters, reporters, own)] == [False, True, False, True]
    assert not twins._alone


def test_two_errors_told_in_one_way_are_two() -> None:
    """Also with the same words, and also when both are told twice."""
    twins = Twins()
    assert [twins.has(error(), now=0.0) for _ in range(3)] == [False] * 3
    assert [twins.has(error(told=True), now=0.5) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("other", [error("y", told=True), error(told=True, path="/b")])
def test_another_error_is_no_twin(other: RouteError) -> None:
    """Another message, another path."""
    twins = Twins()
    twins.has(error(), now=0.0)
    assert not twins.has(other, now=0.0)


def test_a_twin_comes_at_once_or_not_at_all() -> None:
    """A second later the same words are another error."""
    twins = Twins()
    twins.has(error(), now=0.0)
    assert not twins.has(error(told=True), now=TWIN_S)
