# SPDX-License-Identifier: MIT
"""Starts the surgeon: `python -I -m wolverined.heal.surgeon FD`, with its memory hidden before all else is loaded."""

from wolverined.linux.memory import hide_memory

if __name__ == "__main__":
    hide_memory()
    import sys

    from wolverined.heal.surgeon.process import main

    sys.exit(main())
