# SPDX-License-Identifier: MIT
"""The TOML file of one application -> one frozen Config. Every default is written once, in `schema`."""

from wolverined.config.schema import Config

__all__ = ["Config"]
