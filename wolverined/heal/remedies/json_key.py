# SPDX-License-Identifier: MIT
"""A key that the code reads from a JSON configuration and that stands there misspelt.

The code's `config.database.host` is undefined because the file says `databse`: the key in the file is
renamed when no code uses it as it is; when other code does, it is the reading code that is misspelt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from wolverined.heal.remedies import json_text
from wolverined.heal.remedies.clue import Clue, Fix, Splice
from wolverined.heal.remedies.json_origin import (
    Chain,
    Origin,
    Step,
    accesses,
    chain_of,
    chains_on,
    configurations,
    origins,
)
from wolverined.heal.remedies.near import near
from wolverined.heal.remedies.tree import Node, Source, language_of

NAME = "misspelt-json-key"

_MAX_READS = 40
_UNDEFINED = re.compile(r"Cannot read propert(?:y|ies) of undefined \(reading '([^']+)'\)")
_DESTRUCTURED = re.compile(r"Cannot destructure property '([^']+)' of '([^']+)' as it is undefined")
_KEY = re.compile(r"'([^'\\]+)'$")
_NONE = re.compile(r"'NoneType' object is not subscriptable")
_ATTRIBUTE = re.compile(r"'[\w.]+' object has no attribute '(\w+)'")
_PYTHON = {"AttributeError": _ATTRIBUTE, "KeyError": _KEY, "TypeError": _NONE}


class _Read(msgspec.Struct, frozen=True, eq=False):
    """A chain that failed: all its keys up to the one that was not there."""

    chain: Chain
    steps: tuple[Step, ...]


class _Slip(msgspec.Struct, frozen=True):
    """In the object at `keys` of the file, `wrong` was asked for and `right` is the one near key."""

    path: str
    keys: tuple[str, ...]
    asked: str
    found: str


def propose(clue: Clue) -> Fix | None:
    """Rename the one near key of a configuration to what the code reads, or the other way round."""
    for language, reads in (("javascript", _javascript_reads), ("python", _python_reads)):
        for source, place in clue.spots(language):
            slips: dict[_Slip, _Read] = {}
            for read in islice(reads(clue, source, place.line), _MAX_READS):
                for slip in _slips(clue, source, read):
                    slips.setdefault(slip, read)
            if len(slips) == 1:
                slip, read = next(iter(slips.items()))
                return _fix(clue, source, slip, read)
            if slips:
                return None
    return None


def _javascript_reads(clue: Clue, source: Source, line: int) -> Iterator[_Read]:
    if match := _UNDEFINED.match(clue.message):
        for chain in chains_on(source, line):
            if chain.steps[-1].key == match.group(1):
                yield _Read(chain, chain.steps[:-1])
    elif match := _DESTRUCTURED.match(clue.message):
        for node in source.on_line(line):
            if node.field == "value" and _plain(source, node) == match.group(2):
                chain = chain_of(source, node)
                yield _Read(chain, chain.steps)


def _plain(source: Source, node: Node) -> str:
    return re.sub(r"\s+", "", source.text(node))


def _python_reads(clue: Clue, source: Source, line: int) -> Iterator[_Read]:
    pattern = _PYTHON.get(clue.type.rpartition(".")[2])
    match = pattern.match(clue.message) if pattern is not None else None
    if match is None:
        return
    nothing = match.re is _NONE or match.group().startswith("'NoneType'")
    for chain in chains_on(source, line):
        # What was None is told by no name: any key of the chain may be the one that is not there.
        if nothing or chain.steps[-1].key == match.group(1):
            yield _Read(chain, chain.steps)


def _slips(clue: Clue, source: Source, read: _Read) -> Iterator[_Slip]:
    keys = tuple(step.key for step in read.steps)
    known = origins(clue.workspace, source, read.chain.root)
    if known:
        paths = [Origin(origin.path, origin.keys + keys) for origin in sorted(known, key=lambda o: (o.path, o.keys))]
    else:
        paths = [Origin(path, keys[start:]) for path in configurations(clue.workspace) for start in range(len(keys))]
    for origin in paths:
        slip = _slip(clue, origin, exact=bool(known))
        if slip is not None:
            yield slip


def _slip(clue: Clue, origin: Origin, *, exact: bool) -> _Slip | None:
    try:
        value: Any = json_text.load(clue.workspace.data(origin.path))
    except (KeyError, ValueError):
        return None
    for index, key in enumerate(origin.keys):
        if not isinstance(value, dict):
            return None
        if key in value:
            value = value[key]
            continue
        close = near(key, (other for other in value if value[other] is not None))
        # Of an unknown root only the key that failed may be looked for, not one on the way to it.
        if len(close) != 1 or (not exact and index != len(origin.keys) - 1):
            return None
        return _Slip(origin.path, origin.keys[:index], key, close[0])
    return None


def _fix(clue: Clue, source: Source, slip: _Slip, read: _Read) -> Fix | None:
    if not _used(clue, slip.found):
        spans = json_text.key_spans(clue.workspace.data(slip.path), (*slip.keys, slip.found))
        if len(spans) != 1:
            return None
        start, end = spans[0]
        return Fix(
            remedy=NAME,
            reason=f"the code reads `{slip.asked}`, which {slip.path} spells `{slip.found}`; no code uses it so",
            root_cause=f"the key `{slip.found}` in {slip.path} is a misspelling of `{slip.asked}`",
            splices={slip.path: (Splice(start, end, json.dumps(slip.asked, ensure_ascii=False).encode()),)},
        )
    wrong = next((step for step in read.steps if step.key == slip.asked), None)
    if wrong is None:
        return None
    return Fix(
        remedy=NAME,
        reason=f"{slip.path} has `{slip.found}`, and other code reads it so",
        root_cause=f"`{slip.asked}` in {source.path} is a misspelling of the key `{slip.found}` of {slip.path}",
        splices={source.path: tuple(_respelt(source, read.chain, wrong, slip))},
    )


def _used(clue: Clue, key: str) -> bool:
    """Tell whether any code uses a key as a word."""
    word = re.compile(rb"(?<![\w$])" + re.escape(key.encode()) + rb"(?![\w$])")
    return any(language_of(path) and word.search(clue.workspace.data(path)) for path in clue.workspace.paths)


def _respelt(source: Source, chain: Chain, wrong: Step, slip: _Slip) -> Iterator[Splice]:
    """Spell the key right wherever the file reads it in the same words."""
    words = source.data[chain.root.start : wrong.token.end]
    for node, step in accesses(source):
        if step.key == slip.asked and source.data[chain_of(source, node).root.start : step.token.end] == words:
            quote = 1 if step.token.kind == "string" else 0
            yield Splice(step.token.start + quote, step.token.end - quote, slip.found.encode())
