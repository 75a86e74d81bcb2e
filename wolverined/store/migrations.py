# SPDX-License-Identifier: MIT
"""The schema of the store, as numbered migrations: `PRAGMA user_version` counts those that ran.

A migration that has been released is never edited; the next one is added. Structs of `model.py` stand
as JSON in `body`, beside the columns that are queried. AUTOINCREMENT: an id is never used twice.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE incidents (
            n           INTEGER PRIMARY KEY AUTOINCREMENT,
            fingerprint TEXT NOT NULL,
            state       TEXT NOT NULL CHECK (state IN ('open', 'healing', 'approval', 'closed')),
            opened_at   REAL NOT NULL,
            body        BLOB NOT NULL
        ) STRICT
        """,
        # One incident of a fingerprint is open at a time: the next crash of the same kind is counted on it.
        "CREATE UNIQUE INDEX incidents_one_open ON incidents (fingerprint) WHERE state <> 'closed'",
        """
        CREATE TABLE repairs (
            n           INTEGER PRIMARY KEY AUTOINCREMENT,
            incident    TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            state       TEXT NOT NULL,
            sha256      TEXT NOT NULL,
            body        BLOB NOT NULL,
            changes     BLOB NOT NULL
        ) STRICT
        """,
        "CREATE INDEX repairs_by_fingerprint ON repairs (fingerprint, state)",
        "CREATE INDEX repairs_by_incident ON repairs (incident)",
        """
        CREATE TABLE backups (
            n          INTEGER PRIMARY KEY AUTOINCREMENT,
            repair     TEXT NOT NULL,
            state      TEXT NOT NULL CHECK (state IN ('unstable', 'verified', 'stable')),
            created_at REAL NOT NULL,
            body       BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE usage (
            n             INTEGER PRIMARY KEY AUTOINCREMENT,
            at            REAL NOT NULL,
            incident      TEXT NOT NULL,
            category      TEXT NOT NULL,
            mode          TEXT NOT NULL,
            model         TEXT NOT NULL,
            settled       INTEGER NOT NULL CHECK (settled IN (0, 1)),
            calls         INTEGER NOT NULL CHECK (calls >= 0),
            input_tokens  INTEGER NOT NULL CHECK (input_tokens >= 0),
            output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
            cost_usd      REAL CHECK (cost_usd >= 0),
            estimated     INTEGER NOT NULL CHECK (estimated IN (0, 1))
        ) STRICT
        """,
        "CREATE INDEX usage_by_time ON usage (at)",
        "CREATE INDEX usage_by_incident ON usage (incident)",
        """
        CREATE TABLE events (
            cursor INTEGER PRIMARY KEY AUTOINCREMENT,
            body   BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE quarantine (
            fingerprint TEXT PRIMARY KEY,
            body        BLOB NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE journal (
            n      INTEGER PRIMARY KEY AUTOINCREMENT,
            kind   TEXT NOT NULL CHECK (kind IN ('apply', 'rollback', 'restore')),
            repair TEXT NOT NULL,
            backup TEXT NOT NULL,
            state  TEXT NOT NULL
                   CHECK (state IN ('intent', 'swapping', 'committed', 'undoing', 'done', 'undone')),
            at     REAL NOT NULL,
            plan   BLOB NOT NULL,
            note   TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        # One surgery at a time: a second one is refused by the database itself until the first is done or undone.
        "CREATE UNIQUE INDEX journal_one_open ON journal ((1)) WHERE state NOT IN ('done', 'undone')",
    ),
)

SEQUENCES = ("incidents", "repairs", "backups", "usage", "events", "journal")
"""The tables whose numbers must never start again, not even in a file made anew."""
