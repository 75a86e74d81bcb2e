# SPDX-License-Identifier: MIT
"""What apt on this host knows about reaching Debian: its mirrors, and the options of its downloads.

Reads both formats of source lists and answers one-line entries for a wanted suite, so that a host of one
release can build a base of another.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LISTS = Path("/etc/apt")
RELEASE = re.compile(
    r"(?P<name>bookworm|trixie|forky|sid|oldstable|stable|testing)(?P<part>-updates|-security|/updates)?"
)
DOWNLOADS = re.compile(r"Acquire::(https?|ftp|Retries|Check-|ForceIPv|AllowReleaseInfoChange|Queue-Mode|Languages)")


class Source(NamedTuple):
    """One archive of packages, of one suite."""

    uri: str
    suite: str
    components: str
    signed_by: str


def sources_for(suite: str, *, lists: Path = LISTS) -> str:
    """Lines of a sources.list for `suite`, by way of the mirrors that this host uses; empty: it names none."""
    lines: list[str] = []
    for source in _sources(lists):
        found = RELEASE.fullmatch(source.suite)
        if found is None:
            continue
        signed = f"[signed-by={source.signed_by}] " if source.signed_by.startswith("/") else ""
        line = f"deb {signed}{source.uri} {suite}{found['part'] or ''} {source.components}"
        if line not in lines:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def apt_options() -> str:
    """The host's options for downloads (proxies, certificates, checks), as text of an apt.conf."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(f"{line}\n" for line in dump.splitlines() if DOWNLOADS.match(line) and not line.endswith(' "";'))


def _sources(lists: Path) -> Iterator[Source]:
    parts = lists / "sources.list.d"
    for path in [lists / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.exists():
            yield from _one_line(path.read_text())
    for path in sorted(parts.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            yield from _stanza(stanza)


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>[^#]+)", line)
        if found:
            signed = re.search(r"signed-by=(\S+)", found["options"] or "")
            yield Source(found["uri"], found["suite"], found["rest"].strip(), signed[1] if signed else "")


def _stanza(text: str) -> Iterator[Source]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith(("#", " ", "\t")):
            fields[name.lower()] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
        return
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            yield Source(uri, suite, fields.get("components", "main"), fields.get("signed-by", ""))
