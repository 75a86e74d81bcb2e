# SPDX-License-Identifier: MIT
"""The supervisor's post office: hands letters to the notifier's socket and waits for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from wolverined.alerts import letter, rules
from wolverined.alerts.letter import Letter, Receipt
from wolverined.alerts.rules import Alert
from wolverined.errors import StreamError
from wolverined.model import Event

ANSWER_S = 120.0
"""The notifier tries an address several times before it gives up; its own time (`process.ANSWER_S`) is shorter."""
AT_ONCE = 4

Failed = Callable[[str], None]
"""Told why letters do not arrive; once until one arrives again."""


class PostOffice:
    """Sends what deserves a human.

    Args:
        app: The instance's name.
        host: This machine's name.
        min_severity: Gives the configured `alerts.min_severity`.
        monotonic: Gives the time that counts.
        failed: Told of letters that do not arrive.
        path: The notifier's socket.
    """

    def __init__(
        self,
        *,
        app: str,
        host: str,
        min_severity: Callable[[], str],
        monotonic: Callable[[], float],
        failed: Failed,
        path: Path,
    ) -> None:
        self._app = app
        self._host = host
        self._min_severity = min_severity
        self._monotonic = monotonic
        self._failed = failed
        self._path = path
        self._told = rules.Told()
        self._under_way: set[asyncio.Task[None]] = set()
        self._complained = False

    def event(self, event: Event) -> None:
        """Look at one event; send a letter if it deserves one."""
        alert = rules.alert_of(event)
        if alert is None:
            return
        before, room = self._told, len(self._under_way) < AT_ONCE
        least, now = self._min_severity(), self._monotonic()
        self._told, send = rules.decide(before, alert, min_severity=least, now=now, room=room)
        if not send:
            if not room and self._told.withheld > before.withheld:
                self._complain("the notifier is slower than what there is to tell")
            return
        words = Letter(
            app=self._app,
            host=self._host,
            type=alert.type,
            severity=alert.severity,
            event=alert.event,
            message=alert.message,
            at=alert.at,
            incident=alert.incident,
            repair=alert.repair,
            withheld=before.withheld,
        )
        task = asyncio.get_running_loop().create_task(self._send(words, alert))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Let go of what is under way; the notifier finishes what it has read."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _send(self, words: Letter, alert: Alert) -> None:
        try:
            receipt = await self._exchange(words)
        except (OSError, TimeoutError, StreamError) as error:
            self._told = rules.undelivered(self._told, alert, withheld=words.withheld)
            self._complain(f"the notifier cannot be asked: {error or 'no answer'}")
            return
        if receipt.sent == 0 and (receipt.error or receipt.undelivered):
            self._told = rules.undelivered(self._told, alert, withheld=words.withheld)
        if receipt.error or receipt.undelivered:
            why = receipt.error or "; ".join(f"{one.where}: {one.why}" for one in receipt.undelivered)
            self._complain(f"a message to a human did not arrive: {why}")
        else:
            self._complained = False

    async def _exchange(self, words: Letter) -> Receipt:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(self._path, limit=letter.MAX_BYTES)
            try:
                writer.write(letter.encode(words))
                await writer.drain()
                return letter.decode_receipt(await reader.readline())
            except ValueError as error:
                raise StreamError("the notifier's answer is too long") from error
            finally:
                writer.close()

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            self._failed(why)
