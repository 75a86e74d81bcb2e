# SPDX-License-Identifier: MIT
"""Keeps the supervisor small: what its libraries would import and it never, or rarely, uses.

Measured on Python 3.11: 27 MiB of memory for an idle supervisor become 24, and 31 with OpenSSL. Must run
before those libraries are imported. Children are new interpreters and know nothing of it.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

ABSENT = ("ssl", "typing_extensions", "bz2", "lzma")
"""Whose importers are written to do without: asyncio has no TLS then, shutil unpacks fewer archives, and
msgspec takes from `typing` what this Python has there anyway. We speak to Unix sockets and probe plain HTTP."""

POSTPONED = (
    "asyncio.sslproto",
    "base64",
    "difflib",
    "hmac",
    "ipaddress",
    "linecache",
    "locale",
    "msgspec.inspect",
    "secrets",
    "shlex",
    "shutil",
    "tempfile",
    "textwrap",
    "tokenize",
)
"""What is bound by an `import` at the top of some module, and used by a running supervisor seldom or never."""


def be_lean() -> None:
    """Leave out what is never needed, and load what is rarely needed when it is."""
    for name in ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # the import system's own word for "there is none"
    # hashlib uses Python's own code then, which some builds leave out; we hash a few lines.
    if find_spec("_sha256") or find_spec("_sha2"):
        sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]
    for name in POSTPONED:
        _postpone(name)


class _Postponed(ModuleType):
    """A module that is executed when something of it is asked for.

    `importlib.util.LazyLoader` does not serve here: to it the import statement itself is such a question,
    because it looks at the module's `__spec__`.
    """

    def __getattr__(self, name: str) -> object:
        if name == "__path__":  # asked by the import system, of packages
            raise AttributeError(name)
        spec = self.__spec__
        # First, because the module asks for its own names while it is executed.
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def _postpone(name: str) -> None:
    """Put a module in place that is yet to be executed; leave alone what is there, or is nowhere to be found."""
    package, _, _ = name.rpartition(".")
    if name in sys.modules or package in sys.modules:
        return
    parent = find_spec(package) if package else None
    spec = PathFinder.find_spec(name, parent.submodule_search_locations if parent else None)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Postponed
    sys.modules[name] = module
