# SPDX-License-Identifier: MIT
"""What root does for one application before its unit starts, and before it reloads (DESIGN 1).

`ExecStartPre=+` and `ExecReload=+` of `wolverine@.service` run it: it looks at what the supervisor may not see
and leaves the facts, makes the spool directory, and lays down the walls of this app's adviser and trial as
run-time drop-ins. It runs no program of the app, opens nothing of it with root's rights, and reads nothing whole
that has no bound: whoever wrote the application may be after root.
"""
