# SPDX-License-Identifier: MIT
"""What the kernel and systemd offer, one noun a module: leaves, processes, peers, ports, journal, notify.

Nothing here decides anything; rooms above ask, and are told. Heavy libraries (psutil, pyroute2) are
imported where they are needed and never at module level: the supervisor lives in this room.
"""
