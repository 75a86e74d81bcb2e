# SPDX-License-Identifier: MIT
"""The walls of one application's trial: its drop-ins, and what is lacking."""

from __future__ import annotations

from wolverined.config.schema import Config
from wolverined.linux.credentials import Credentials
from wolverined.prepare.dropins import Walls


def walls(name: str, config: Config, *, app: Credentials) -> Walls:  # noqa: ARG001
    """What the units of this app's trial need.

    Args:
        name: The application.
        config: Checked; its paths and users are those that root found.
        app: As whom the application runs.
    """
    return Walls(trouble="this version has no unit for trials")
