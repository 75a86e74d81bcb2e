# SPDX-License-Identifier: MIT
"""What holds for every test.

Property tests write nothing into the checkout, a slow machine is no failure, and where everything must
be there (CI) a test that skips for want of something has failed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("house", database=None, deadline=None)
settings.load_profile("house")

# Whoever starts the tests in the background of a shell has them, and all that they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

STRICT = os.environ.get("CI") == "true"

OTHER_HALF = (
    "shows what a plain user may do",
    "a plain user is needed",
    "root may do this",
    "root may write everywhere",
    "needs a home directory or another place of its own",
    "no corpora beside the project root",
)
"""Beginnings of reasons that are no want: the other user's half of the tests, and what is no part of the project."""

WANTS_ROOT = (
    "needs root",
    "becoming another user",
    "another user is needed",
    "only root",
    "mounting",
    "root is needed",
    "needs a writable cgroup v2",
    "this kernel, or what contains us, refuses clone3 into a cgroup",
)


def is_a_want(reason: str) -> bool:
    """Whether a skip for this reason hides a test that ought to have run here."""
    halves = OTHER_HALF if os.geteuid() == 0 else OTHER_HALF + WANTS_ROOT
    return not reason.startswith(halves)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn the skip of a test that ought to have run into a failure."""
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if is_a_want(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not be skipped in CI: {reason}"
    return report
