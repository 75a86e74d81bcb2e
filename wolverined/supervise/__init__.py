# SPDX-License-Identifier: MIT
"""Keeping one application running: lifecycle and backoff decide, supervisor drives them through `linux`."""
