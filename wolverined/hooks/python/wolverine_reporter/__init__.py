# SPDX-License-Identifier: MIT
"""What a supervised Python application tells its supervisor; `../sitecustomize.py` loads it.

A package, so that its parts are found through it whatever the application does to `sys.path`, and loaded
only when the application loads what they look at. Python 3.9 and newer, the standard library alone.
"""
