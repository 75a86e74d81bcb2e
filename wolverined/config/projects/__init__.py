# SPDX-License-Identifier: MIT
"""What a directory holds, seen by `wolverinectl init`: how its server is started, by whom, on which port.

Nothing of a project is executed or imported; its files are read, as hostile as any other input.
"""
