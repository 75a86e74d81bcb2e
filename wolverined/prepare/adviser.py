# SPDX-License-Identifier: MIT
"""The adviser of one application: which file of root's it is given, and what that says to the supervisor."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec

from wolverined.config import ai
from wolverined.errors import ConfigError
from wolverined.prepare.dropins import Dropin, Walls, user_for
from wolverined.prepare.eyes import read_of_root
from wolverined.prepare.ways import way_to


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model can be asked, and where; nothing of the key but that it is there."""

    file: str = ""
    url: str = ""
    key: bool = False
    weaknesses: tuple[str, ...] = ()


def model_of(name: str, *, directory: Path = ai.DIRECTORY) -> Model:
    """Look into the file of `name`, else into that of all applications."""
    for path in ai.candidates(name, directory=directory):
        try:
            way = way_to(path)
            if not way.is_roots:
                what = (
                    f"{path} can be changed by others than root, and is not used: chown root: {path}; chmod 600 {path}"
                )
                return Model(file=str(path), weaknesses=(what,))
            data = read_of_root(way, most=ai.MAX_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            return Model(file=str(path), weaknesses=(f"no model is asked: cannot read {path}: {error.strerror}",))
        return _understood(path, data, open_to_others=bool(way.mode & (stat.S_IRWXG | stat.S_IRWXO)))
    return Model()


def _understood(path: Path, data: bytes, *, open_to_others: bool) -> Model:
    if len(data) > ai.MAX_BYTES:
        return Model(file=str(path), weaknesses=(f"no model is asked: {path} is larger than 64 KiB",))
    try:
        read = ai.parse(data, origin=path)
    except ConfigError as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        return Model(file=str(path), weaknesses=(f"no model is asked: {lines}",))
    weak = (f"{path} can be read by others than root: chmod 600 {path}",) if open_to_others and read.key else ()
    return Model(file=str(path), url=read.url if read.key else "", key=bool(read.key), weaknesses=weak)


def adviser_walls(name: str, model: Model) -> Walls:
    """The drop-in of this app's adviser: a uid of its own, and its credential when there is a key."""
    lines = ["[Service]", f"User={user_for('wva', name)}"]
    if model.key:
        # Not for value(): this directive takes its words apart at colons, and knows no quotes.
        lines.append(f"LoadCredential=ai:{model.file}")
    return Walls(dropins=(Dropin(unit=f"wolverine-adviser@{name}.service", text="\n".join(lines) + "\n"),))
