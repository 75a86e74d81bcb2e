# SPDX-License-Identifier: MIT
"""What one instance remembers: one SQLite file in its state directory (DESIGN 7.8, 7.9).

Two processes write here: the supervisor (incidents, events, quarantine) and the heal (repairs,
backups, usage, journal). Nobody else opens the file.
"""

from wolverined.store.backups import Backups
from wolverined.store.events import Events
from wolverined.store.incidents import Incidents
from wolverined.store.journal import Journal, JournalEntry, JournalState
from wolverined.store.quarantine import Quarantine, Quarantines
from wolverined.store.repairs import Repairs, StoredRepair
from wolverined.store.store import Store
from wolverined.store.usage import Reservation, UsageLedger, UsageTotals

__all__ = [
    "Backups",
    "Events",
    "Incidents",
    "Journal",
    "JournalEntry",
    "JournalState",
    "Quarantine",
    "Quarantines",
    "Repairs",
    "Reservation",
    "Store",
    "StoredRepair",
    "UsageLedger",
    "UsageTotals",
]
