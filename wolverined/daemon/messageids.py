# SPDX-License-Identifier: MIT
"""The MESSAGE_ID of each event that somebody may want to watch for (sd-journal(3)); they never change.

Random numbers, one for each name, as systemd.journal-fields(7) asks for. wolverined(8) lists them, and
systemd/wolverine.catalog says for each what it means and what to do (`journalctl -x`).
"""

from __future__ import annotations

MESSAGE_IDS = {
    "app.backoff": "437556a0585e4d9b83906bdeeccaec31",
    "app.crash_loop": "918824baac5046698f26cb60138aa23e",
    "app.degraded": "b968ff5b87884852a7778b5c51f114fb",
    "app.exit": "f85f43e365314278bcdea0cf2581f659",
    "app.failed": "56450c0d6642453994e854989bbfb6fa",
    "app.hint": "d24c0a5e7b9146d3a1f86e0b5c7d9243",
    "app.oom": "19b1cd5ade944cd19860c99ab681e267",
    "app.ready": "d973538d91234c8b979e992c0f61a65d",
    "app.started": "d7d04337105f4f979af357230c1cc04f",
    "app.stuck": "bb42f43ac5164598bf779f6ecab5921a",
    "audit.change": "3f09ae996d9d46c49ccf758533df4670",
    "audit.denied": "1f3bb97e85e94aa9aa8896914fdb4f74",
    "config.rejected": "185527479ada4f3b9acba40b6170fa32",
    "config.reloaded": "9e2fccfa704c4b798e7677b89f9dfba7",
    "daemon.fault": "c5539df3b18a41b495d8a250e94e3ba6",
    "daemon.started": "3eaac6709d7245b0a01b0551b2f28181",
    "daemon.stopping": "0b31c2e67c544c1eb8e31c8d3e483234",
    "daemon.weaker": "abf1043bb2db47a08b9afa4c0bb5eefd",
    "heal.approval": "eee41d0bd20d499da6c290a88c78df38",
    "heal.failed": "56ac542eec86494cb7c99e990576a1ce",
    "heal.mixed": "119c88aa685c49fab4e682430a422ed1",
    "heal.nothing": "8ccd4168ecc345ba9d6da293d6365dc7",
    "heal.started": "d68f9a97d3c743ffaa89f25dd35a8f24",
    "incident.closed": "ea39fb90e0cb41e790619bd6a531248f",
    "incident.opened": "774639aa5dc34b048d8e744d78517b4a",
    "incident.quarantined": "b8219c2493d2401eb6559503a1b9cc1c",
    "incident.repeated": "f87665618cb74f27aaf4118f40f81059",
    "journal.lost": "4a2dc0e14941431f8e761976df9d31f9",
    "output.limited": "2ac418aaa1284b8b97e03b1b40657383",
    "reexec.done": "716f378fa8f24e34b9a3b9cda77d587c",
    "reexec.lost": "09fe131db9964ca2814d8fba39b84688",
    "reexec.refused": "e097a335f8004188b55c4abe5db23cbb",
    "reexec.waits": "719363978d694e50b2aa9ab9d6dfd3cf",
    "repair.applied": "1a4f40a9da474b4cb689e2596e8b9f2a",
    "repair.lost": "187a361732f74fb0b6cce49090de6f6f",
    "repair.rollback_failed": "f29cbdfbb5f646abbe42710af721203a",
    "repair.rolled_back": "0fbd1c69a9614b459e98956e7b3ee695",
    "repair.upstream": "a44d0a5018d24e74a0d7a1dbac507226",
    "repair.verified": "2b31e52037fc496d8470b7a3ae1dc591",
}
