# SPDX-License-Identifier: MIT
"""What keeps the supervisor small harms nobody: absent is absent, postponed comes when it is asked for."""

import subprocess
import sys

from wolverined import lean


def run(code: str) -> str:
    """What a new interpreter prints that was made lean first."""
    before = "import sys; from wolverined.lean import be_lean; be_lean(); "
    return subprocess.run(
        [sys.executable, "-P", "-c", before + code], capture_output=True, text=True, check=True
    ).stdout


def test_what_is_absent_cannot_be_imported() -> None:
    """Who tries gets the ImportError that these modules' users are written for."""
    code = """
from importlib import import_module
for name in NAMES:
    try:
        import_module(name)
    except ImportError:
        print(name)
"""
    assert run(f"NAMES = {lean.ABSENT}\n{code}").split() == list(lean.ABSENT)


def test_what_is_postponed_is_whole_when_it_is_used() -> None:
    """An import does not execute it, the first use does, and every form of use finds what it needs."""
    code = """
import ipaddress, textwrap
assert type(ipaddress).__name__ == type(textwrap).__name__ == "_Postponed"
assert ipaddress.ip_address("::1").is_loopback
assert type(ipaddress).__name__ == "module"
from textwrap import dedent
assert dedent("  x") == "x"
from base64 import *
assert b64encode(b"x") == b"eA=="
import importlib
assert importlib.reload(ipaddress).ip_address("10.0.0.1").is_private
try: textwrap.no_such_name
except AttributeError: print("right")
"""
    assert run(code) == "right\n"


def test_every_postponed_module_can_be_used() -> None:
    """Each of them loads, after the whole daemon was imported over it."""
    code = """
import wolverined.daemon.serve
for name in NAMES:
    module = sys.modules[name]
    getattr(module, "no_such_name", None)
    print(type(module).__name__)
"""
    assert run(f"NAMES = {lean.POSTPONED}\n{code}").split() == ["module"] * len(lean.POSTPONED)


def test_an_imported_daemon_has_used_few_of_them() -> None:
    """Importing the daemon executes none of them: else it would not be worth a line in that list."""
    code = "import wolverined.daemon.serve; print([n for n in NAMES if type(sys.modules[n]).__name__ == 'module'])"
    assert run(f"NAMES = {lean.POSTPONED}\n{code}") == "[]\n"


def test_what_was_imported_before_stays_as_it_is() -> None:
    """A module that is loaded already is not replaced under its users' feet."""
    code = (
        "import sys, textwrap; from wolverined.lean import be_lean; be_lean(); "
        "print(sys.modules['textwrap'] is textwrap, textwrap.dedent('  x'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True x\n"
