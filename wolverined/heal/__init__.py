# SPDX-License-Identifier: MIT
"""From an incident to a proven, reversible repair.

`dispatch`, `job`, `stream` and `triage` run in the supervisor and are light; everything else runs in
processes of its own (`conductor` in heal, and the roles surgeon, adviser and trial).
"""
