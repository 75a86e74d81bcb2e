# SPDX-License-Identifier: MIT
"""Programs with a slip, for the tests of remedies: run one, read its trace, apply the proposal, run again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.places import node_path

from wolverined import traces
from wolverined.heal.remedies import propose
from wolverined.model import (
    ErrorLink,
    Evidence,
    Frame,
    Incident,
    IncidentKind,
    Proposal,
    Snapshot,
    SourceFile,
    Trace,
)

Files = Mapping[str, str | bytes]

ROOT = "/srv/app"


def snapshot_of(files: Files, *, root: str = ROOT) -> Snapshot:
    """The files as the surgeon would hand them over."""
    sources = {
        path: SourceFile(text if isinstance(text, bytes) else text.encode(), 0o640) for path, text in files.items()
    }
    return Snapshot(root=root, files=sources, tree_hash="t")


def evidence_of(*found: Trace) -> Evidence:
    """Evidence for a crash that left these traces."""
    incident = Incident(id="i1", fingerprint="f", kind=IncidentKind.CRASH, error="", trace=found[-1] if found else None)
    return Evidence(incident=incident, traces=found)


def trace_of(error: str, path: str, line: int, *, hint: str = "", text: str = "") -> Trace:
    """A trace with one own frame; `error` is "Type: message"."""
    kind, _, message = error.partition(": ")
    frame = Frame(path=path, line=line, own=True)
    language = "python" if path.endswith(".py") else "node"
    return Trace(language=language, errors=(ErrorLink(kind, message),), frames=(frame,), hint=hint, text=text)


def proposals(files: Files, error: str, path: str, line: int, *, hint: str = "") -> list[Proposal]:
    """What the remedies propose for one error at one place."""
    return propose(evidence_of(trace_of(error, path, line, hint=hint)), snapshot_of(files))


def changed(files: Files, error: str, path: str, line: int, *, hint: str = "") -> dict[str, str]:
    """The whole text of every file that the first proposal changes; empty when there is none."""
    found = proposals(files, error, path, line, hint=hint)
    if not found:
        return {}
    for change in found[0].changes:
        before = files[change.path]
        assert change.before == (before if isinstance(before, bytes) else before.encode())
        assert change.mode == 0o640
    return {change.path: (change.after or b"").decode() for change in found[0].changes}


class Program:
    """A program on the disk: Python when it has a `main.py`, else Node."""

    def __init__(self, directory: Path, files: Files) -> None:
        self.directory = directory
        self.entry = next(name for name in ("main.py", "main.mjs", "main.js") if name in files)
        node = node_path()
        if not self.entry.endswith(".py") and node is None:
            pytest.skip("no Node interpreter")
        self.interpreter = sys.executable if self.entry.endswith(".py") else str(node)
        self.write(files)

    def write(self, files: Files) -> None:
        """Write these files over what is there."""
        for path, text in files.items():
            place = self.directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text if isinstance(text, bytes) else text.encode())

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [self.interpreter, str(self.directory / self.entry)]
        return subprocess.run(
            argv, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    def files(self) -> dict[str, bytes]:
        """All files of it, as they are now."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file()
        }

    def heal(self) -> tuple[subprocess.CompletedProcess[str], list[Proposal]]:
        """Run it, apply the first proposal for its crash if there is one, and run it again."""
        first = self.run()
        assert first.returncode != 0, first.stdout
        found = traces.parse(first.stderr, app_root=str(self.directory))
        proposed = propose(evidence_of(*found), snapshot_of(self.files(), root=str(self.directory)))
        if not proposed:
            return first, []
        self.write({change.path: change.after or b"" for change in proposed[0].changes})
        return self.run(), proposed
