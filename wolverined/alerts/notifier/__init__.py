# SPDX-License-Identifier: MIT
"""The notifier role: one connection, one letter, every address of the credential, one receipt."""
