# SPDX-License-Identifier: MIT
"""The daemon's main line from its first start to its end: recover, start the app, keep house."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from wolverined.control.server import Server
from wolverined.daemon.desk import Desk
from wolverined.daemon.faults import Faults
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.places import RuntimePlace
from wolverined.daemon.service import Service
from wolverined.errors import TimedOut, WolverineError
from wolverined.sense.reports import Counts, ReportServer
from wolverined.supervise.supervisor import Supervisor

HOUSE_S = 5.0
MEND_S = 10.0
TIDY_EVERY = 12


class MainLine:
    """What the daemon does besides answering.

    Args:
        supervisor: Runs the app.
        desk: Sees to incidents.
        service: The daemon as its service manager sees it.
        narrator: Tells what happens.
        faults: Takes what goes wrong.
        place: The runtime directory.
        server: The control socket in it.
        reports: The app's report socket in it.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        desk: Desk,
        service: Service,
        narrator: Narrator,
        faults: Faults,
        place: RuntimePlace,
        server: Server,
        reports: ReportServer,
    ) -> None:
        self._supervisor = supervisor
        self._desk = desk
        self._service = service
        self._narrator = narrator
        self._faults = faults
        self._place = place
        self._server = server
        self._reports = reports
        self.begun = False
        """Whether everything has been recovered, so that the app may be started."""
        self._dropped = 0
        self._whole = False

    async def run(self) -> None:
        """Recover, start the app, then keep house for ever."""
        self._dropped = _dropped(self._reports.counts)  # what a predecessor in this process has told
        await self._until_predecessor_is_gone()
        if self.begun:  # by a predecessor in this process: the app runs, or does not for a reason
            async with self._faults.unharmed("the app is not ready"):
                await self._supervisor.until_ready()
        else:
            await self._begin()
        self._service.ready()
        beats = 0
        while True:
            await asyncio.sleep(HOUSE_S)
            beats += 1
            await self.mend_place()
            if beats % TIDY_EVERY == 0:
                self._tell_dropped()
                async with self._faults.unharmed("the store is not tidied", once=True):
                    await self._desk.tidy()

    async def _begin(self) -> None:
        await self._make_whole()
        async with self._faults.unharmed("earlier incidents are not seen to"):
            self._desk.resume()  # before the start, so that whoever watches a repair misses nothing of it
        self.begun = True
        async with self._faults.unharmed("the app is not ready"):
            await self._supervisor.start()

    async def mend_place(self) -> None:
        """Make the runtime directory and the sockets in it anew when somebody removed them."""
        async with self._faults.unharmed("the runtime directory cannot be made anew", once=True):
            if self._place.there() and self._server.there() and self._reports.there():
                return
            await self._reports.close()
            await self._server.close()
            self._place.make()
            await self._reports.start()
            await self._server.start()
            words = f"{self._place.path} had been removed and was made anew"
            self._narrator.tell("daemon.mended", words, severity="warn")

    async def _until_predecessor_is_gone(self) -> None:
        """Nothing is recovered or started beside what a killed predecessor left: it may still be writing."""
        while True:
            try:
                return await self._supervisor.until_prepared()
            except TimedOut as error:
                self._faults.say(error.message, severity="critical")

    async def _make_whole(self) -> None:
        """Finish or undo what an earlier heal left; the app is never started on half a tree, not even by a command."""
        held = self._supervisor.held  # by a predecessor in this process
        while not await self._is_whole():
            if not held:
                held = True
                await self._supervisor.hold_down("its source may be half changed")
                words = "the source may be half changed; the app stays down until it is whole"
                self._faults.say(words, severity="critical")
                self._service.ready()
            await asyncio.sleep(MEND_S)
        if held:
            with contextlib.suppress(WolverineError):  # it is started next in any case
                await self._supervisor.release(timeout_s=1.0)

    async def _is_whole(self) -> bool:
        self._whole = False  # unless it is known to be
        async with self._faults.unharmed("what an earlier heal left could not be finished", once=True):
            await self._desk.recover()
        async with self._faults.unharmed("whether the source is whole cannot be read", once=True):
            self._whole = not self._desk.torn
        return self._whole

    def _tell_dropped(self) -> None:
        """Tell what the app said on its report socket too fast, or not as agreed, since this was told last."""
        counts = self._reports.counts
        dropped = _dropped(counts)
        if dropped > self._dropped:
            words = f"{dropped - self._dropped} lines on the app's report socket were too many, too long or no JSON"
            self._narrator.tell("reports.dropped", words, severity="warn", fields=msgspec.to_builtins(counts))
        self._dropped = dropped


def _dropped(counts: Counts) -> int:
    return counts.too_fast + counts.too_long + counts.malformed
