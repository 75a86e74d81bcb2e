# SPDX-License-Identifier: MIT
"""The control API: HTTP/1.1 and JSON on a Unix socket, its access rules, and a thin client.

Knows interfaces, not rooms: the daemon hands in an `interfaces.Instance`. This file stays empty of
imports, for `wolverinectl status` loads `control.client` alone.
"""
