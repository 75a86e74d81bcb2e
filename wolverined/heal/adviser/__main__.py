# SPDX-License-Identifier: MIT
"""Main of the adviser process: `python -I -m wolverined.heal.adviser FD`, started by wolverined alone."""

from __future__ import annotations

import os
import resource
import sys

from wolverined.errors import StreamError
from wolverined.heal.adviser.advise import Adviser
from wolverined.heal.adviser.endpoint import from_environment
from wolverined.heal.syncstream import SyncChannel, inherited
from wolverined.linux.mounts import prctl

LONGEST_S = 3600.0
_MEMORY = 2 * 1024**3
_PR_SET_DUMPABLE = 4


def main(argv: list[str]) -> int:
    """Serve one heal over the stream whose fd is the first argument."""
    # prctl(2): a process that is not dumpable keeps its environment (the key) from others of its uid.
    prctl(_PR_SET_DUMPABLE, 0)
    # What an endpoint sends is bounded elsewhere; this bounds what bounds were forgotten.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with SyncChannel(inherited(argv[1] if len(argv) > 1 else ""), role="adviser", deadline_s=LONGEST_S) as channel:
            channel.start()
            adviser = Adviser(channel=channel, endpoint=lambda: from_environment(os.environ))
            channel.serve({"advise": adviser.advise})
    except StreamError as error:
        sys.stderr.write(f"adviser: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
