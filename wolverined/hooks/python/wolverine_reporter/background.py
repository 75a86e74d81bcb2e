# SPDX-License-Identifier: MIT
"""Errors of asyncio that nobody waits for: in a timer, in a task whose result is never asked for.

The event loops tell of them through the logger of that name, uvloop's too; the process lives on.
"""

from __future__ import annotations

from .crash import crash_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EXC_INFO = 6  # name, level, file, line, message, arguments, error


def log(module: Any) -> None:
    """Look at what asyncio logs with an error; an application that handles these itself logs nothing here."""
    logger = module.logger
    make = logger.makeRecord

    def make_record(*told: Any, **more: Any) -> Any:
        info = told[_EXC_INFO] if len(told) > _EXC_INFO else more.get("exc_info")
        if info:
            _tell(info)
        return make(*told, **more)

    logger.makeRecord = make_record


def _tell(info: Any) -> None:
    try:
        kind, error, trace = info
        if isinstance(error, Exception):
            from .sender import sender  # noqa: PLC0415 - only where there is an error

            sender.put(crash_line(kind, error, trace, "asyncio", []))
    except Exception:  # noqa: S110 - the application goes on
        pass
