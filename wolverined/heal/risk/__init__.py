# SPDX-License-Identifier: MIT
"""Whether a model's patch does anything that the code did not do before (pure; DESIGN 6, "low-risk")."""

from wolverined.heal.risk.assess import assess

__all__ = ["assess"]
