# SPDX-License-Identifier: MIT
"""What holds for every test: property tests write nothing into the checkout, and a slow machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("house", database=None, deadline=None)
settings.load_profile("house")
