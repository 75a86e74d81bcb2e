# SPDX-License-Identifier: MIT
"""Search/replace edits: from a model's text to changed files, or a refusal that says why.

`parse` reads the text of DESIGN 7.7, `match` finds where an edit belongs, `apply` makes the files.
All of it is pure: bytes in, bytes out.
"""

from wolverined.heal.edits.apply import apply_edits
from wolverined.heal.edits.parse import Reply, parse_reply

__all__ = ["Reply", "apply_edits", "parse_reply"]
