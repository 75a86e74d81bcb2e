# SPDX-License-Identifier: MIT
"""Wolverine: a supervisor that heals what it supervises.

The package's rooms are described in the README ("How it is built"). This file stays empty of
imports: `wolverinectl status` has 60 ms, and every one of them would pay for what stands here.
"""

__version__ = "0.1.0"
