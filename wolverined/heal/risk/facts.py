# SPDX-License-Identifier: MIT
"""What a piece of code does, as far as a patch is judged by it, and the comparison of before and after.

Each language fills in the same facts; the rules stand here once. They ask one question: does the new
code reach for anything that the old did not, or let go of something that guarded? When in doubt, a
human looks: a false alarm costs a glance, a missed one costs the machine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import msgspec

MAX_STRING = 80
_SHOWN = 5


def listed(words: str) -> frozenset[str]:
    """A set from words with blanks between, for tables that a person reads."""
    return frozenset(words.split())


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `callee` is dotted ("a.b"), "*.b" when the receiver is an expression, "" when it is computed."""

    callee: str
    root: str = ""
    method: str = ""
    receiver: str = ""
    text: str = ""


class Facts(msgspec.Struct, kw_only=True):
    """What some statements do. Filled in by one walk over them, in the order of the source."""

    names: set[str] = msgspec.field(default_factory=set)
    bound: set[str] = msgspec.field(default_factory=set)
    calls: list[Call] = msgspec.field(default_factory=list)
    chains: set[str] = msgspec.field(default_factory=set)
    strings: set[str] = msgspec.field(default_factory=set)
    subscripted: set[str] = msgspec.field(default_factory=set)
    stores: set[str] = msgspec.field(default_factory=set)
    imports: Counter[str] = msgspec.field(default_factory=Counter)
    foreign: set[str] = msgspec.field(default_factory=set)
    odd: Counter[str] = msgspec.field(default_factory=Counter)
    handlers: Counter[str] = msgspec.field(default_factory=Counter)
    checks: Counter[str] = msgspec.field(default_factory=Counter)
    flow: list[tuple[str, str]] = msgspec.field(default_factory=list)


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What a language offers that anybody may use: callees, methods and names without side effects.

    `globals` are its doors to the outside: what hangs on them must stand in the file already.
    """

    callees: frozenset[str]
    methods: frozenset[str]
    names: frozenset[str]
    globals: frozenset[str]
    hidden: frozenset[str]


def compare(*, file: Facts, old: Facts, new: Facts, words: Words) -> Iterator[str]:
    """Why a human must look, one reason each.

    Args:
        file: The whole file as it was.
        old: The functions that change, as they were.
        new: The same functions as they would be.
        words: Of the language.
    """
    doors = file.foreign | words.globals
    yield from _named("it adds an import", new.imports - old.imports)
    yield from _names(file, old, new, words)
    yield from _calls(file, old, new, words, doors)
    chains = {chain for chain in new.chains - file.chains if _root(chain) in doors and not _is_pure(chain, words)}
    yield from _named("it uses more of a module or of the runtime", chains)
    yield from _named(
        "it changes a module or the runtime", {store for store in new.stores - file.stores if _root(store) in doors}
    )
    yield from _named(
        "it adds a string that looks like an address, a path or code", filter(suspicious, new.strings - file.strings)
    )
    for kind in new.odd - old.odd:
        yield f"it adds {kind}"
    if new.handlers - old.handlers:
        yield "it adds or changes an exception handler"
    for kind in old.checks - new.checks:
        yield f"it removes {kind}"
    yield from _exits(old, new)
    yield from _dropped(old, new)


def _named(what: str, which: Iterable[str]) -> Iterator[str]:
    shown = sorted(which)
    if shown:
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        yield f"{what}: {', '.join(ascii(word[:60]) for word in shown[:_SHOWN])}{more}"


def _names(file: Facts, old: Facts, new: Facts, words: Words) -> Iterator[str]:
    offered = {part for callee in words.callees for part in callee.split(".")} | words.names | words.methods | {"get"}
    fresh = new.names - file.names - new.bound - offered
    yield from _named("it uses names that the file does not", fresh)
    hidden = {name for name in new.names - old.names if name.startswith("__") or name in words.hidden}
    yield from _named("it reaches into the internals of the language", hidden - fresh)


def _calls(file: Facts, old: Facts, new: Facts, words: Words, doors: set[str]) -> Iterator[str]:
    known = {call.callee for call in file.calls}
    before = Counter(call.callee for call in old.calls)
    gone = [*(before - Counter(call.callee for call in new.calls))]
    texts = {call.text for call in old.calls}
    extra = Counter(call.callee for call in new.calls) - before
    computed, unknown, outside, more = set(), set(), set(), set()
    for call in new.calls:
        if call.text in texts and not extra[call.callee]:
            continue
        if not call.callee:
            if call.text not in texts:
                computed.add(call.text)
        elif _harmless(call, old, words, doors):
            continue
        elif call.callee not in known:
            unknown.add(call.callee)
        elif call.root in doors:
            outside.add(call.callee)
        elif call.callee not in before and not get_close_matches(call.callee, gone, cutoff=0.7):
            # The app's own functions have effects as well; only a name put right is no new call.
            more.add(call.callee)
    yield from _named("it makes a computed call", computed)
    yield from _named("it calls what the file does not call", unknown)
    yield from _named("it calls what these functions did not call", more)
    yield from _named("it adds or changes calls into a module or the runtime", outside)
    calls_before, calls_after = (sum(not _is_pure(call.callee, words) for call in facts.calls) for facts in (old, new))
    if calls_after < calls_before:
        yield "it removes a call"


def _harmless(call: Call, old: Facts, words: Words, doors: set[str]) -> bool:
    """Whether a call can have no effect but its value."""
    if call.callee in words.callees:
        return True
    if not call.method or call.root in doors:
        return False
    # What is read with [] is a mapping or a sequence, so its get() asks nobody else.
    return call.method in words.methods or (call.method == "get" and call.receiver in old.subscripted)


def _is_pure(callee: str, words: Words) -> bool:
    return callee in words.callees or callee.rpartition(".")[2] in words.methods


def _root(chain: str) -> str:
    return chain.partition(".")[0]


def _exits(old: Facts, new: Facts) -> Iterator[str]:
    """A new way out of the function that stands before a check skips the check."""
    if _skipping(new) > _skipping(old):
        yield "it leaves the function before a check that follows"


def _dropped(old: Facts, new: Facts) -> Iterator[str]:
    """An error is soonest gone when what raised it is no longer done: `return {}`. A name put right is no loss."""
    lost = old.names - new.names
    if len(lost) > len(new.names - old.names):
        yield from _named("it does without what these functions used", lost)


def _skipping(facts: Facts) -> int:
    """How many ways out stand before the last check."""
    kinds = [kind for kind, _ in facts.flow]
    last = max((n for n, kind in enumerate(kinds) if kind == "check"), default=0)
    return kinds[:last].count("exit")


_HOST = re.compile(r"\w\.\w|\d+\.\d+\.\d+|^localhost$|^\w+:\d{2,5}$|^\.\w|^[.:@]+$")
_CODE = frozenset("/\\(){};<>|&$`=*^~")


def suspicious(text: str) -> bool:
    """Whether a string may be an address, a path, a command or code; plain words are not."""
    if len(text) > MAX_STRING or not all(char.isprintable() for char in text):
        return True
    return bool(_CODE.intersection(text)) or _HOST.search(text) is not None
