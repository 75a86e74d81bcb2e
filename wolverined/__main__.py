# SPDX-License-Identifier: MIT
"""Entry point of `wolverined`."""

from __future__ import annotations


def main() -> int:
    """Run the daemon."""
    return 0
