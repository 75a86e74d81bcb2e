# SPDX-License-Identifier: MIT
"""What deserves a human, and how he hears of it: rules (pure), a post office in the supervisor, the notifier.

The supervisor decides and hands a letter over a Unix socket; the notifier, a process of its own behind
PID 1's walls, holds the addresses and their passwords and is the only one that talks to the network.
"""
