# SPDX-License-Identifier: MIT
"""The lab reads how this host reaches Debian, in both formats, and answers for another release."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab_sources import sources_for


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """An empty directory of package sources."""
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


STANZAS = """# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/gone
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://vendor.example/node_20.x
Suites: nodistro
Components: main
"""


def test_stanzas_become_lines_of_the_wanted_suite(lists: Path) -> None:
    """Archive, updates and security are taken over; what is disabled or no Debian is left out."""
    (lists / "sources.list.d/debian.sources").write_text(STANZAS)
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    assert sources_for("trixie", lists=lists).splitlines() == [
        f"deb {signed}http://mirror.example/debian trixie main contrib",
        f"deb {signed}http://mirror.example/debian trixie-updates main contrib",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_lines_are_read_too(lists: Path) -> None:
    """The one-line format, with options and comments; backports and sources are left out, equals are told once."""
    (lists / "sources.list").write_text(
        "# deb http://off.example bookworm main\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # the archive\n"
        "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian bookworm-backports main\n"
    )
    (lists / "sources.list.d/vendor.list").write_text("deb http://vendor.example ./\n")
    assert sources_for("bookworm", lists=lists) == "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main\n"


def test_no_debian_is_no_source(lists: Path) -> None:
    """A host that names no Debian archive leaves the choice to the builder."""
    (lists / "sources.list").write_text("deb http://other.example/ubuntu noble main\n")
    assert sources_for("bookworm", lists=lists) == ""
