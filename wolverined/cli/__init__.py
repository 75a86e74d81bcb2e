# SPDX-License-Identifier: MIT
"""`wolverinectl`: one module per command group, each imported only when its command is asked for."""
