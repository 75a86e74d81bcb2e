# SPDX-License-Identifier: MIT
"""What `doctor NAME` looks at of one application: its file, its user, its programs, its port, its source."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from wolverined.cli import installation
from wolverined.cli.findings import BAD, OK, WEAK, Finding, run_as
from wolverined.config.check import DIRECTORY
from wolverined.config.environment import override
from wolverined.config.load import load
from wolverined.config.problems import Loaded, Problem
from wolverined.config.schema import Config, Policy
from wolverined.errors import ConfigError, SpawnError, WolverineError
from wolverined.linux import proc
from wolverined.linux.credentials import Credentials
from wolverined.linux.hierarchy import open_hierarchy, parse_own_cgroup
from wolverined.linux.ports import Holder, who_listens
from wolverined.linux.program import check as check_program

_INTERPRETER = re.compile(r"(?:node|nodejs|bun|deno|(?:python|pypy)[0-9.]*)$")
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read(path: Path) -> tuple[Loaded | None, list[Finding]]:
    """The configuration, if it can be used, and what is to be said of it."""
    try:
        loaded = load(path)
        override(loaded.config, os.environ)
    except ConfigError as error:
        found = [problem for problem in error.problems if isinstance(problem, Problem)]
        if not found:
            return None, [Finding(BAD, error.message, error.hint)]
        return None, [Finding(BAD, f"{path}:{each.line or 1}: {each.message}", each.hint) for each in found]
    findings = [Finding(OK, f"{path} can be used")]
    for warning in loaded.warnings:
        what, _, mend = warning.rpartition("; ")
        findings.append(Finding(WEAK, what or warning, mend if what else "see wolverine.toml(5)"))
    return loaded, findings


def look(config: Config, *, name: str, running: frozenset[int], service: bool = False) -> Iterator[Finding]:
    """Look at the application.

    Args:
        config: Its configuration.
        name: Its name.
        running: The pids of its running instance; empty when none was found.
        service: Whether it is a service of this machine, whose keys are root's files alone.
    """
    who = Credentials.of_user(config.app.user)
    other = who if os.geteuid() == 0 else None
    yield from program(config, who, other)
    yield port(config, name=name, running=running)
    yield source(config, other)
    if service and config.heal.policy is not Policy.OFF:
        yield installation.adviser(name)
    else:
        yield adviser(config, name=name)


def program(config: Config, who: Credentials, other: Credentials | None) -> Iterator[Finding]:
    """Whether the command can be started by its user, and which interpreter it is."""
    path = config.app.environment.get("PATH") or os.environ.get("PATH") or _PATH
    try:
        start = check_program(config.app.command, cwd=config.app.directory, env={"PATH": path}, credentials=other)
    except SpawnError as error:
        yield Finding(BAD, error.message, error.hint)
        return
    found = start.argv[0] if start.cwd else start.argv[3]
    # Only interpreters are asked: any other program may take --version for a reason to serve.
    if not _INTERPRETER.search(Path(found).name):
        yield Finding(OK, f"{found} can be started by {who.name}")
        return
    ran = run_as(other, [found, "--version"], env={"PATH": path, "HOME": who.home})
    version = (ran.out or ran.err).partition("\n")[0]
    if ran.code == 0:
        yield Finding(OK, f"{found} ({version}), run as {who.name}")
    else:
        yield Finding(
            BAD, f"{found} does not run as {who.name}: {version or f'exit {ran.code}'}", "run it by hand, and mend it"
        )


def port(config: Config, *, name: str, running: frozenset[int]) -> Finding:
    """Whether the port is free, or who has it."""
    number = config.app.port
    if number is None:
        return Finding(OK, "no port to look at")
    try:
        holder = _holder(number)
    except (WolverineError, OSError) as error:
        return Finding(WEAK, f"who listens on port {number} cannot be seen: {error}", "ss -ltnp shows it")
    if holder is None:
        return Finding(OK, f"port {number} is free")
    names = rf"/wolverine(?:-|@){re.escape(name)}(?:-[0-9a-f]{{8}}|\.service)?/"
    if (holder.pid in running) or re.search(names, f"{holder.cgroup}/"):
        return Finding(OK, f"port {number} is held by {name} itself")
    process = f"process {holder.pid} ({holder.command[:80]})" if holder.pid else "a process"
    return Finding(
        BAD, f"port {number} is held by {process} of user {holder.user}", "stop it, or write another app.port"
    )


def _holder(number: int) -> Holder | None:
    inodes = dict(_listening(number))
    if not inodes:
        return None
    if os.geteuid() == 0 and (found := _by_descriptor(number, inodes)) is not None:
        return found
    # Whose process it is is not for us to see: the kernel tells at least its user and cgroup.
    with tempfile.TemporaryDirectory(prefix="wolverine-doctor-") as place:
        hierarchy = open_hierarchy(f"doctor-{os.getpid()}", state_dir=Path(place))
        try:
            return asyncio.run(who_listens(number, hierarchy=hierarchy))
        finally:
            hierarchy.close()


def _listening(number: int) -> Iterator[tuple[str, int]]:
    """Inode and uid of each socket that listens on a port, by proc(5)."""
    for name in ("tcp", "tcp6"):
        for line in (proc.read(f"/proc/net/{name}") or "").splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == number and fields[3] == _LISTEN:
                yield fields[9], int(fields[7])


def _by_descriptor(number: int, inodes: Mapping[str, int]) -> Holder | None:
    """The process that has one of these sockets open."""
    links = {f"socket:[{inode}]": uid for inode, uid in inodes.items()}
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            uid = links.get(str(fd.readlink()))
        except OSError:
            continue  # it has ended, or closed it
        if uid is not None:
            pid = int(fd.parts[2])
            return Holder(
                port=number,
                uid=uid,
                user=Credentials.of_user(uid).name,
                cgroup=parse_own_cgroup(proc.read(f"/proc/{pid}/cgroup") or "") or "",
                pid=pid,
                command=(proc.read(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip(),
                ours=False,
            )
    return None


def source(config: Config, other: Credentials | None) -> Finding:
    """Whether a repair could be written."""
    heal = config.heal
    place = config.app.directory / heal.source
    if heal.policy in {Policy.OFF, Policy.OBSERVE}:
        return Finding(OK, f"heal.policy is {heal.policy.value}: nothing is written into {place}")
    if heal.apply_as == "root" and not heal.allow_root_owner:
        mend = f"chown -R {config.app.user}: {place}, or heal.allow_root_owner = true"
        return Finding(WEAK, f"{place} belongs to root: no repair is applied", mend)
    writer = Credentials.of_user(heal.apply_as) if other is not None else None
    if run_as(writer, ["/usr/bin/test", "-w", str(place)], env={"PATH": os.defpath}).code != 0:
        whose = heal.apply_as if other is not None else "this user"
        return Finding(WEAK, f"{whose} may not write to {place}: no repair can be applied", f"chown it to {whose}")
    return Finding(OK, f"repairs of {place} are written as {heal.apply_as if other else Credentials.own().name}")


def adviser(config: Config, *, name: str) -> Finding:
    """Whether a model could be asked."""
    if config.heal.policy is Policy.OFF:
        return Finding(OK, "heal.policy is off: no model is asked")
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return Finding(OK, f"OPENAI_API_KEY is set; models are asked at {config.ai.base_url or 'the OpenAI endpoint'}")
    files = [DIRECTORY / "ai" / f"{each}.toml" for each in (name, "default")]
    if any(path.exists() for path in files if os.access(path.parent, os.X_OK)):
        return Finding(OK, "a key of a model lies in /etc/wolverine/ai")
    return Finding(
        WEAK,
        "no key of a model: what the built-in remedies cannot mend waits for you",
        "export OPENAI_API_KEY for `wolverined run`, or write /etc/wolverine/ai/default.toml",
    )
