# SPDX-License-Identifier: MIT
"""Stack traces of every language out of an application's output, and fingerprints of them.

Pure: text in, structs out. Stands on the ground floor; what it reads is hostile (an application prints
what its users send), so everything is bounded, linear in time, and never raises.
"""

from wolverined.traces.fingerprint import fingerprint, template
from wolverined.traces.parse import Located, located, parse

__all__ = ["Located", "fingerprint", "located", "parse", "template"]
