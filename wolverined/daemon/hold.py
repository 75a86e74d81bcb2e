# SPDX-License-Identifier: MIT
"""How long an operator holds heals: measured by the monotonic clock, remembered over a restart by the wall's.

A deploy must not be healed into because wolverined was restarted in the middle of it.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from wolverined.clock import Clock

LONGEST_S = 7 * 86400.0


class Hold:
    """The end of a hold.

    Args:
        path: Where it is remembered; a file that cannot be written makes it last as long as this process.
        clock: Monotonic time decides.

    Attributes:
        ends_at: When it ends (monotonic).
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self.ends_at = clock.monotonic() + self._remembered()

    def until(self) -> float:
        """Wall time of its end; in the past when nothing is held."""
        return self._clock.wall() + self.ends_at - self._clock.monotonic()

    def set(self, seconds: float) -> None:
        """Hold for so long from now; 0 lifts it."""
        self.ends_at = self._clock.monotonic() + seconds
        with contextlib.suppress(OSError):  # the hold itself stands; only a restart would forget it
            if seconds <= 0:
                self._path.unlink(missing_ok=True)
                return
            draft = self._path.with_suffix(".new")
            draft.write_text(f"{self.until():.3f}\n", "ascii")
            draft.replace(self._path)

    def _remembered(self) -> float:
        """Seconds that are left of what a predecessor was told; no more than a hold may last."""
        try:
            left_s = float(self._path.read_text("ascii")) - self._clock.wall()
        except (OSError, ValueError):
            return 0.0
        return left_s if math.isfinite(left_s) and 0 < left_s <= LONGEST_S else 0.0
