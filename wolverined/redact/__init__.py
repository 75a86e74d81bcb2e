# SPDX-License-Identifier: MIT
"""Takes secrets out of any text: evidence, events, alerts and heartbeats all pass through here.

Known values go first, in every form in which a program may print them; then rules for the shapes that
secrets have. Each becomes a stable placeholder, `«secret:NAME»`, so that two texts that held the same
secret still read the same. Logs are hostile: every rule is linear or bounded, and lines are cut at 16 KiB.
"""

from wolverined.redact.clean import clean
from wolverined.redact.known import known_secrets, looks_secret
from wolverined.redact.redactor import Redactor
from wolverined.redact.settings import secrets_of_files, with_fakes

__all__ = ["Redactor", "clean", "known_secrets", "looks_secret", "secrets_of_files", "with_fakes"]
