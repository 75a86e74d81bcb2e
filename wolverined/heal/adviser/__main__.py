# SPDX-License-Identifier: MIT
"""Starts the adviser, `python -I -m wolverined.heal.adviser FD KEYS_FD`: memory hidden before all else is loaded."""

from wolverined.linux.memory import hide_memory

if __name__ == "__main__":
    hide_memory()
    import sys

    from wolverined.heal.adviser.process import main

    sys.exit(main())
