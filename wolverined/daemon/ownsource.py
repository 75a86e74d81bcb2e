# SPDX-License-Identifier: MIT
"""Keeps the source of those modules in memory that a running daemon imports late, so that they stay of its version.

An upgrade replaces our files under the running program, which is then asked to make room for the new one:
what it imported from disk only then would be the new version's, in the middle of the old. Read as text
they cost an idle supervisor 0.2 MiB; imported at once, though seldom needed, 1.0 MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

LATE = (
    "wolverined.daemon.handover",
    "wolverined.daemon.inheritance",
    "wolverined.daemon.reexec",
    "wolverined.daemon.rooms",
)
"""What is imported by a daemon that has begun already. A test holds this against what is imported."""


def keep(names: Iterable[str] = LATE) -> None:
    """From now on import these modules, as far as they are not yet, from what their files hold now."""
    kept = _Kept()
    for name in names:
        if name not in sys.modules:
            kept.read(name)
    sys.meta_path.insert(0, kept)


class _Kept:
    """A finder and loader of modules whose source it has read before."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[str, bytes]] = {}

    def read(self, name: str) -> None:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            self._sources[name] = (spec.origin, Path(spec.origin).read_bytes())

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """The import system asks for a module by its name."""
        if fullname not in self._sources:
            return None
        spec = ModuleSpec(fullname, self, origin=self._sources[fullname][0])  # type: ignore[arg-type]  # it is one by form
        spec.has_location = True  # it has a `__file__`, as tracebacks show it
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An ordinary one."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute what was read."""
        origin, source = self._sources[module.__name__]
        exec(compile(source, origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - that is importing
        del self._sources[module.__name__]
