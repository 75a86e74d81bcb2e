# SPDX-License-Identifier: MIT
"""Where the adviser may talk to, and with which key: from what wolverined, or PID 1, handed to it alone.

A heal reads text of strangers, so it may not choose who gets the key: the address never comes with
the job. HTTPS only; plain HTTP only to this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wolverined.config.ai import DEFAULT_URL, AiFile
from wolverined.config.schema import ModelsTable, PriceTable
from wolverined.config.words import wrong_url
from wolverined.errors import AdviserRefused


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An address and its key; under systemd also the models and prices, None where the heal says them."""

    base_url: str
    key: str
    models: ModelsTable | None = None
    prices: dict[str, PriceTable] | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"


def from_environment(environment: Mapping[str, str]) -> Endpoint:
    """Read OPENAI_API_KEY and OPENAI_BASE_URL.

    Raises:
        AdviserRefused: There is no key, or the address may not be used.
    """
    key = environment.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise AdviserRefused("no model can be asked: there is no key", hint="set OPENAI_API_KEY")
    base_url = environment.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL
    if problem := wrong_url(base_url):
        raise AdviserRefused(f"OPENAI_BASE_URL {problem}", hint="write https://HOST/v1")
    return Endpoint(base_url=base_url, key=key)


def from_credential(read: AiFile) -> Endpoint:
    """What the file of root's says.

    Raises:
        AdviserRefused: It holds no key.
    """
    if not read.key:
        raise AdviserRefused(
            "no model can be asked: there is no key",
            hint="write key in /etc/wolverine/ai/NAME.toml, then systemctl reload wolverine@NAME",
        )
    return Endpoint(base_url=read.url, key=read.key, models=read.models, prices=read.prices)
