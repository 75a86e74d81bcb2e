# SPDX-License-Identifier: MIT
"""Keeps a process's memory, environment and descriptors from other processes of the same user.

Light on purpose: a role calls `hide_memory` before it loads anything else.
"""

from __future__ import annotations

from wolverined.linux.mounts import prctl

PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Let no process of the same user read or trace this one, nor write its memory through /proc.

    prctl(2), PR_SET_DUMPABLE: the /proc files of a process that is not dumpable belong to root.
    """
    prctl(PR_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Take `hide_memory` back, for as long as this process must write its own /proc files."""
    prctl(PR_SET_DUMPABLE, 1)
