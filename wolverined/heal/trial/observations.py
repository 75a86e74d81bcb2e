# SPDX-License-Identifier: MIT
"""What was seen of one run, baseline or candidate. Facts only; `verdict` says what they mean."""

from __future__ import annotations

import msgspec

from wolverined.model import Exit


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """How the sandbox stands. `sandbox` is "full" or "binds"; `weaknesses` are lines for the operator."""

    sandbox: str = "full"
    weaknesses: tuple[str, ...] = ()
    ms: int = 0


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """One start. Not ready and no `exit`: it ran, but was not ready in time; `detail` says what the probe saw."""

    ready: bool
    ready_ms: int = 0
    exit: Exit | None = None
    tail: tuple[str, ...] = ()
    detail: str = ""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it. `status` None: no whole answer came.

    `body_shape` is the types of a JSON answer ("" for anything else); `tail` what was printed meanwhile.
    """

    status: int | None = None
    crashed: bool = False
    timed_out: bool = False
    exit: Exit | None = None
    content_type: str = ""
    body_shape: str = ""
    tail: tuple[str, ...] = ()
    ms: int = 0
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether the server failed at it; an answer of 4xx is no failure of the server."""
        return self.crashed or self.status is None or self.status >= 500  # noqa: PLR2004  HTTP


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the main process still runs after a while of watching."""

    alive: bool
    exit: Exit | None = None
    tail: tuple[str, ...] = ()


class Syntax(msgspec.Struct, frozen=True, kw_only=True):
    """One file before its interpreter; `ok` None: nothing here can tell for this kind of file."""

    ok: bool | None
    message: str = ""


class Tests(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a command to its end; `code` None: it was cut off or ended by a signal."""

    code: int | None
    tail: tuple[str, ...] = ()
    timed_out: bool = False
    ms: int = 0


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one side. Tuples go with the questions asked; None in them: not asked.

    `missing` says why there is nothing: no sandbox, or it broke. `refused` says why the patch cannot even
    be put into a copy of this tree. `absent` names what stands in the app's directory and not in the copy, with
    the reason; None: the trial sees the directory itself.
    """

    missing: str = ""
    refused: str = ""
    absent: dict[str, str] | None = None
    prepared: Prepared | None = None
    syntax: dict[str, Syntax] = {}
    build: Tests | None = None
    tests: Tests | None = None
    boot: Boot | None = None
    goods: tuple[Replay | None, ...] = ()
    trigger: Replay | None = None
    repeats: tuple[Replay, ...] = ()
    siblings: tuple[Replay | None, ...] = ()
    after: tuple[Replay | None, ...] = ()
    alive: Alive | None = None
