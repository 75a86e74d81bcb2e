# SPDX-License-Identifier: MIT
"""What an application's requests say of it: totals, good requests, what a route answers when all is well."""

from __future__ import annotations

from wolverined.model import Request
from wolverined.sense.route_error import Requests, Sample
from wolverined.sense.traffic import MAX_ROUTES, SAMPLES, Traffic


def second(*sample: Sample, count: int = 1, errors: int = 0, dropped: int = 0) -> Requests:
    """One second with these good requests."""
    return Requests(count=count, errors=errors, dropped=dropped, sample=list(sample))


def test_totals_are_kept() -> None:
    """Requests, errors, and what the reporters could not get rid of."""
    traffic = Traffic()
    traffic.take(second(count=3, errors=1, dropped=2))
    traffic.take(second(count=4))
    assert traffic.told() == {"count": 7, "errors": 1, "dropped": 2}


def test_samples_are_harmless_and_of_different_routes_the_newest_first() -> None:
    """A POST is never asked again for nothing; of one route the newest is."""
    traffic = Traffic()
    traffic.take(second(Sample("GET", "/a/1", 200), Sample("POST", "/a", 201), Sample("GET", "/b?x=1", 200)))
    traffic.take(second(Sample("GET", "/a/2", 200)))
    assert traffic.samples() == (Request(method="GET", path="/a/2"), Request(method="GET", path="/b?x=1"))


def test_what_a_route_answers_when_all_is_well() -> None:
    """For any request of that route; of an unknown one nothing."""
    traffic = Traffic()
    traffic.take(second(Sample("GET", "/a/1", 200), Sample("GET", "/a/2", 404), Sample("POST", "/a/1", 201)))
    assert traffic.statuses(Request(method="GET", path="/a/77?full=1")) == (200, 404)
    assert traffic.statuses(Request(method="DELETE", path="/a/77")) == ()


def test_it_is_bounded() -> None:
    """An application with routes without end takes no memory without end."""
    traffic = Traffic()
    for number in range(MAX_ROUTES + 50):
        traffic.take(second(Sample("GET", f"/r{number}x", 200)))
    assert len(traffic.samples()) == SAMPLES
    assert len(traffic.hand_over().good) == MAX_ROUTES
    assert traffic.statuses(Request(method="GET", path="/r0x")) == ()


def test_a_successor_knows_it_all() -> None:
    """Totals and good requests, and goes on from there without touching what it got."""
    traffic = Traffic()
    traffic.take(second(Sample("GET", "/a/1", 200)))
    successor = Traffic(traffic.hand_over())
    successor.take(second(Sample("GET", "/c", 200)))
    assert (successor.told()["count"], len(successor.samples()), len(traffic.samples())) == (2, 2, 1)
