# SPDX-License-Identifier: MIT
"""`/etc/wolverine/ai/NAME.toml` or `ai/default.toml`: which model may be asked, where, and with which key.

Root's files, 0600. Under systemd the adviser gets one of them as its credential `ai` and nobody else reads it;
`prepare` looks into it so that the supervisor knows whether there is a model, and where source goes to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields

from wolverined.config.load import Wrong, convert, decode, read_toml, refuse
from wolverined.config.numbers import Bound
from wolverined.config.problems import Problems
from wolverined.config.schema import ModelsTable, PriceTable
from wolverined.config.words import wrong_url

DEFAULT_URL = "https://api.openai.com/v1"
"""Asked when the file names none."""

MAX_BYTES = 64 * 1024
DIRECTORY = Path("/etc/wolverine/ai")

_SAID = 12
_LONGEST_KEY = 4096
_LONGEST_NAME = 200
_PRICE = Bound(0, 1e9)
_EXAMPLES = {
    "base_url": 'write base_url = "https://HOST/v1"',
    "key": 'write key = "…", the key of the endpoint, in quotes',
    "models": 'write models = {fast = "NAME"}',
    "prices": 'write prices = {"MODEL" = {input = 0.5, output = 2.0}}, in US dollars for a million tokens',
}


class AiFile(msgspec.Struct, frozen=True, kw_only=True):
    """What such a file says; empty: no model is asked."""

    base_url: str = ""
    key: str = ""
    models: ModelsTable = ModelsTable()
    prices: dict[str, PriceTable] = {}

    def __repr__(self) -> str:
        return f"AiFile({self.url!r}, {'a key' if self.key else 'no key'})"

    @property
    def url(self) -> str:
        """Where source is sent to."""
        return self.base_url or DEFAULT_URL


def candidates(name: str, *, directory: Path = DIRECTORY) -> tuple[Path, Path]:
    """The application's own file, and the one of all that have none; the first that exists counts."""
    return directory / f"{name}.toml", directory / "default.toml"


def parse(data: bytes, *, origin: Path) -> AiFile:
    """Understand the bytes of a file; no message ever holds its key.

    Raises:
        ConfigError: With every problem found, each with its line, what is wrong and what to write.
    """
    raw, problems = read_toml(decode(data, origin=origin), origin=origin)
    known = {field.name: field for field in fields(AiFile)}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known:
            said = f"{key[:_SAID]}…" if len(key) > _SAID else key  # it may be the secret itself
            what = f"unknown table [{said}]" if isinstance(value, dict) else f"unknown key {said!r}"
            problems.add(key, what, f"known here, outside of any table: {', '.join(known)}")
            continue
        try:
            values[key] = convert(value, known[key].type, key)
        except Wrong as wrong:
            problems.add(key, str(wrong.args[0]), _EXAMPLES[key])
    made = AiFile(**values)
    _check(made, problems)
    refuse(problems, origin=origin)
    return msgspec.structs.replace(made, key=made.key.strip())


def _check(made: AiFile, problems: Problems) -> None:
    if made.base_url and (wrong := wrong_url(made.base_url)):
        problems.add("base_url", f"base_url {wrong}", _EXAMPLES["base_url"])
    key = made.key.strip()
    # An HTTP header carries it: anything else would end in an error of a library, with the key in it.
    if not (key.isascii() and key.isprintable() and " " not in key and len(key) <= _LONGEST_KEY):
        problems.add("key", "key holds what no key of an endpoint has", _EXAMPLES["key"])
    for field in fields(ModelsTable):
        model = getattr(made.models, field.name)
        if not model.isprintable() or len(model) > _LONGEST_NAME:
            problems.add(f"models.{field.name}", f"models.{field.name} is no name of a model", _EXAMPLES["models"])
    for model, price in made.prices.items():
        for side in ("input", "output"):
            if wrong := _PRICE.broken_by(getattr(price, side)):
                problems.add(f"prices.{model}.{side}", f"prices.{model}.{side} {wrong}", _EXAMPLES["prices"])
