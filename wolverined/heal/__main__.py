# SPDX-License-Identifier: MIT
"""Starts heal: `python -I -m wolverined.heal FD ROLES STATE_DIR`, with its memory hidden before all else is loaded."""

from wolverined.linux.memory import hide_memory

if __name__ == "__main__":
    hide_memory()
    import sys

    from wolverined.heal.process import main

    sys.exit(main())
