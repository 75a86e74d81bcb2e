# SPDX-License-Identifier: MIT
"""Entry point of `wolverine-notifier@.service`: the connection is standard input."""

from __future__ import annotations

import sys

from wolverined.alerts.notifier.process import main

sys.exit(main())
