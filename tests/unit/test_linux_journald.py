# SPDX-License-Identifier: MIT
"""journald's own limit, read as journald reads it, out of a tree that a test makes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.linux.journald import RateLimit, _seconds, own_unit, rate_limit

UNIT = "wolverine@shop.service"


def write(root: Path, name: str, text: str | bytes) -> None:
    """One file of the tree."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """30 s and 10,000, which is what journald is built with."""
    assert rate_limit(UNIT, root=tmp_path) == RateLimit(30.0, 10_000)


def test_drop_ins_have_the_last_word_by_name(tmp_path: Path) -> None:
    """Whatever directory they lie in; one of the same name in /etc hides that of the vendor."""
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\nRateLimitBurst=500\nRateLimitIntervalSec=10s\n")
    write(tmp_path, "usr/lib/systemd/journald.conf.d/20-a.conf", "[Journal]\nRateLimitBurst=600\n")
    write(tmp_path, "usr/lib/systemd/journald.conf.d/90-z.conf", "[Journal]\nRateLimitBurst=900\n")
    write(tmp_path, "run/systemd/journald.conf.d/30-b.conf", "[Journal]\nRateLimitIntervalSec=1min 30s\n")
    assert rate_limit(UNIT, root=tmp_path) == RateLimit(90.0, 900)
    write(tmp_path, "etc/systemd/journald.conf.d/90-z.conf", "[Journal]\n#RateLimitBurst=1\n")
    assert rate_limit(UNIT, root=tmp_path) == RateLimit(90.0, 600)


def test_the_vendors_file_counts_only_without_one_of_the_admin(tmp_path: Path) -> None:
    """One journald.conf is read, the first there is."""
    write(tmp_path, "usr/lib/systemd/journald.conf", "[Journal]\nRateLimitBurst=7\n")
    assert rate_limit(UNIT, root=tmp_path).burst == 7
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\n")
    assert rate_limit(UNIT, root=tmp_path).burst == 10_000


def test_what_the_unit_says_counts_most(tmp_path: Path) -> None:
    """The manager leaves it as links, in microseconds, for each unit."""
    write(tmp_path, "etc/systemd/journald.conf", "[Journal]\nRateLimitBurst=500\n")
    units = tmp_path / "run/systemd/units"
    units.mkdir(parents=True)
    (units / f"log-rate-limit-interval:{UNIT}").symlink_to("5000000")
    (units / f"log-rate-limit-burst:{UNIT}").symlink_to("77")
    assert rate_limit(UNIT, root=tmp_path) == RateLimit(5.0, 77)
    assert rate_limit("another.service", root=tmp_path) == RateLimit(30.0, 500)
    assert rate_limit("", root=tmp_path) == RateLimit(30.0, 500)


def test_only_its_own_section_is_read(tmp_path: Path) -> None:
    """Comments, other sections, continued lines, old names and rubbish change nothing that they should not."""
    text = (
        "RateLimitBurst=1\n[Other]\nRateLimitBurst=2\n[Journal]\n; RateLimitBurst=3\n # RateLimitBurst=4\n"
        "RateLimitBurst = \\\n 5\nnonsense\nRateLimitInterval=7\n"
    )
    write(tmp_path, "etc/systemd/journald.conf", text)
    assert rate_limit(UNIT, root=tmp_path) == RateLimit(7.0, 5)


@pytest.mark.parametrize("value", ["", "-1", "x", "1e4", "²", "1" * 40, "10 000"])
def test_a_number_that_is_none_counts_as_unsaid(tmp_path: Path, value: str) -> None:
    """A warning is all that journald says of it; it goes on with the default, and so do we."""
    write(tmp_path, "etc/systemd/journald.conf", f"[Journal]\nRateLimitBurst={value}\nRateLimitIntervalSec={value}x\n")
    assert rate_limit(UNIT, root=tmp_path) == RateLimit()


def test_a_hostile_file_stops_nobody(tmp_path: Path) -> None:
    """Binary, endless, a directory in its place, unreadable links."""
    write(tmp_path, "etc/systemd/journald.conf", b"\0\xff[Journal\n" * 200_000)
    (tmp_path / "etc/systemd/journald.conf.d/a.conf").mkdir(parents=True)
    (tmp_path / "etc/systemd/journald.conf.d/b.conf").symlink_to("b.conf")
    assert rate_limit("../../etc", root=tmp_path) == RateLimit()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0), ("30s", 30.0), ("5min", 300.0), ("1h 30min", 5400.0), ("500ms", 0.5), ("2.5 s", 2.5),
        ("infinity", math.inf), ("0", 0.0), ("1M", 2629800.0), ("1month2h", 2637000.0),
        ("", None), ("s", None), ("5 parsecs", None), ("-5s", None), ("5s!", None), ("5s  ", None),
    ],
)  # fmt: skip
def test_spans_of_time_are_read_as_systemd_writes_them(text: str, seconds: float | None) -> None:
    """systemd.time(7)."""
    assert _seconds(text) == seconds


@given(st.text())
def test_no_span_is_too_strange(text: str) -> None:
    """Rubbish is no time, and no fault."""
    found = _seconds(text)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (
            "1:name=systemd:/x.service\n0::/system.slice/system-wolverine.slice/wolverine@shop.service/supervisor\n",
            UNIT,
        ),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/user.slice/user@1000.service/app.slice/mine.service\n", "mine.service"),
        ("0::/\n", ""),
        ("", ""),
        ("0::/x.service.d/y\n", ""),
    ],
)
def test_our_unit_is_found_in_our_cgroup(cgroup: str, unit: str) -> None:
    """The innermost one, above our own leaf."""
    assert own_unit(cgroup) == unit
