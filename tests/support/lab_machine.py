# SPDX-License-Identifier: MIT
"""A machine: a booted systemd on layers that it cannot change, thrown away afterwards.

What it writes goes to memory, or to a disk image when there is one; only a machine with a disk remembers
anything after `shutdown` or `power_cut`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from support.lab_launch import Outer, in_namespaces, mapping_args
from support.lab_places import Place
from support.lab_switch import Switch
from support.lab_words import Completed, shell_words, told, unit_words, wait_until

FS_IOC_SHUTDOWN = 0x8004587D  # ext4(5) and linux/fs.h: stop all writing at once
SHUTDOWN_NOLOGFLUSH = 2  # without the journal's last transaction: as if the current had failed

POWEROFF = signal.SIGRTMIN + 4  # systemd(1), SIGNALS
REBOOT = signal.SIGRTMIN + 5

NAME_LIMIT = 11
"""An interface `vb-NAME` has at most 15 characters."""


class Machine:
    """One machine. As a context manager it boots at the start and is gone at the end.

    Boot it from the main thread: the machine ends when the *thread* that booted it ends.

    Args:
        layers: Directories to boot from, topmost first, down to a base.
        name: Its host name, at most 11 letters; unique on one switch only.
        switch: The network to be on; None: no network but loopback.
        address: Its address there, such as 10.99.0.5.
        disk: An ext4 image for what the machine writes; made when it does not exist.
        binds: Directories and files of the host, seen read-only at a path inside.
        nspawn: More words for systemd-nspawn.
    """

    def __init__(
        self,
        layers: Sequence[Path],
        *,
        name: str = "lab",
        switch: Switch | None = None,
        address: str | None = None,
        disk: Path | None = None,
        binds: Mapping[Path, str] | None = None,
        nspawn: Sequence[str] = (),
    ) -> None:
        if len(name) > NAME_LIMIT:
            raise ValueError(f"a machine's name has at most {NAME_LIMIT} letters: {name}")
        self.name = name
        self.address = address
        self.leader = 0
        self._layers = list(layers)
        self._switch = switch
        self._disk = disk
        self._nspawn = [*(["--network-bridge=br0"] if switch else ["--private-network"]), *nspawn]
        self._nspawn += mapping_args(binds or {})
        self._place: Place | None = None
        self._outer: Outer | None = None

    # -- its life

    def boot(self, *, within_s: float = 60) -> Self:
        """Start it and wait until everything is up.

        Raises:
            RuntimeError: It did not come up; with its console's last words. Nothing is left of it.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("boot machines from the main thread: they end with the thread that booted them")
        if self._disk and not self._disk.exists():
            make_disk(self._disk)
        self._place = Place(name=self.name)
        try:
            self._outer = Outer(
                self._place,
                name=self.name,
                layers=self._layers,
                disk=self._disk,
                prefix=self._switch.prefix if self._switch else (),
                nspawn=self._nspawn,
            )
            self.wait_booted(within_s=within_s)
        except BaseException:
            self._end()
            raise
        return self

    def wait_booted(self, *, within_s: float = 60) -> None:
        """Wait for the end of a boot, the first one or one after a reboot inside."""
        while True:
            words = self._running().words(within_s=within_s)
            if any(word.startswith("X_NSPAWN_LEADER_PID=") for word in words):
                self.leader = self._running().leader()
                self._plug_in()
            if "READY=1" in words:
                return

    def _plug_in(self) -> None:
        if self._switch and self.address:
            script = f"ip addr add {self.address}/24 dev host0; ip link set host0 up"
            subprocess.run([*in_namespaces(self.leader, "-n"), "sh", "-ec", script], check=True)

    def reboot(self, *, within_s: float = 60) -> None:
        """An orderly reboot; what the machine wrote stays."""
        self._running().drain()
        os.kill(self.leader, REBOOT)
        self.wait_booted(within_s=within_s)

    def shutdown(self, *, within_s: float = 30) -> None:
        """An orderly end, by force if that takes too long. Nothing if it is off."""
        if self._outer and self._outer.alive and self.leader:
            self._outer.drain()
            with suppress(ProcessLookupError):
                os.kill(self.leader, POWEROFF)
            with suppress(subprocess.TimeoutExpired):
                self._outer.process.wait(within_s)
        self._end()

    def power_cut(self) -> None:
        """Everything ends at once. With a disk, what was not synced to it is lost, as when the current fails."""
        if self._disk:
            assert self._place is not None
            disk = os.open(self._running().path(self._place.path / "fs/disk"), os.O_RDONLY)
            try:
                fcntl.ioctl(disk, FS_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NOLOGFLUSH))
            finally:
                os.close(disk)
        self._end()

    def _end(self) -> None:
        outer, place = self._outer, self._place
        self._outer, self._place, self.leader = None, None, 0
        if outer:
            outer.close()
        if place:
            place.close()

    def _running(self) -> Outer:
        if self._outer is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._outer

    def __enter__(self) -> Self:
        return self.boot()

    def __exit__(self, *_exc: object) -> None:
        self.shutdown()

    # -- what happens inside

    def enter(
        self,
        *argv: str,
        input_bytes: bytes | None = None,
        stdin: IO[bytes] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the machine's namespaces, in 5 ms, but in a cgroup and environment of the host.

        For looking, and for bytes in and out; what is under test runs by `run`.
        """
        self._running().drain()
        words = [*in_namespaces(self.leader), *argv]
        source: dict[str, Any] = {"input": input_bytes} if input_bytes is not None else {"stdin": stdin}
        if not any(source.values()) and input_bytes is None:
            source = {"stdin": subprocess.DEVNULL}
        return subprocess.run(words, **source, capture_output=True, timeout=timeout_s, check=False)

    def run(
        self,
        cmd: str | Sequence[str],
        *,
        check: bool = True,
        user: str | None = None,
        timeout_s: float = 60,
        properties: Sequence[str] = (),
        input_text: str = "",
    ) -> Completed:
        """Run a shell command (or an argv) as a transient unit: own cgroup, clean environment.

        The status is the program's own; 255 when a signal ended it.

        Raises:
            AssertionError: `check`, and the status is not 0; with both outputs.
            TimeoutError: It took longer than `timeout_s`; systemd has ended it.
        """
        argv = shell_words(cmd)
        words = unit_words(argv, user=user, timeout_s=timeout_s, properties=properties)
        begun = time.monotonic()
        raw = self.enter(*words, input_bytes=input_text.encode(), timeout_s=timeout_s + 15)
        late = bool(raw.returncode) and time.monotonic() - begun >= timeout_s
        return told(raw, argv=argv, who=self.name, check=check, late=late)

    def until(self, condition: Callable[[], object] | str, *, within_s: float = 10) -> Any:
        """Wait until a predicate answers something true, or a command ends with 0; what it answered."""
        return wait_until(condition, run=self.run, who=self.name, within_s=within_s)

    def journal(self, unit: str | None = None, *extra: str) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first, of one unit or by `journalctl`'s own words."""
        words = ["-u", unit] if unit else []
        done = self.enter("journalctl", "-o", "json", "--all", "--no-pager", *words, *extra)
        return [json.loads(line) for line in done.stdout.splitlines()]

    # -- its files

    def path(self, inside: str | Path) -> Path:
        """A path inside, as the host sees it; a symlink on the way that begins at / leads astray."""
        return Path(f"/proc/{self.leader}/root") / str(inside).lstrip("/")

    def read(self, path: str | Path) -> str:
        """The text of a file inside."""
        done = self.enter("cat", str(path))
        if done.returncode:
            raise FileNotFoundError(done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def write(self, path: str | Path, text: str, mode: int = 0o644, *, owner: str = "root") -> None:
        """Write a file inside (0644 of root unless told), with the directories above it."""
        self._put(Path(path), mode=mode, owner=owner, input_bytes=text.encode())

    def push(self, source: Path, path: str | Path, *, owner: str = "root") -> None:
        """Copy a file or a directory of the host to `path` inside; modes stay, the owner is `owner`."""
        if not source.is_dir():
            with source.open("rb") as file:
                self._put(Path(path), mode=source.stat().st_mode & 0o7777, owner=owner, stdin=file)
            return
        into = shlex.quote(str(path))
        with subprocess.Popen(["tar", "-C", str(source), "-c", "."], stdout=subprocess.PIPE) as tar:
            script = f"mkdir -p {into}; tar -C {into} --no-same-owner -xp; chown -R {shlex.quote(owner)}: {into}"
            done = self.enter("sh", "-ec", script, stdin=tar.stdout)
        if done.returncode or tar.returncode:
            raise RuntimeError(f"{self.name}: cannot push {source}: {done.stderr.decode(errors='replace')}")

    def _put(self, path: Path, *, mode: int, owner: str, **source: Any) -> None:
        at, above, who = (shlex.quote(word) for word in (str(path), str(path.parent), owner))
        script = f"mkdir -p {above}; cat > {at}; chown {who}: {at}; chmod {mode:o} {at}"
        done = self.enter("sh", "-ec", script, **source)
        if done.returncode:
            raise RuntimeError(f"{self.name}: cannot write {path}: {done.stderr.decode(errors='replace')}")


def make_disk(path: Path, *, size: str = "2G") -> None:
    """An empty ext4 image, sparse."""
    subprocess.run(["truncate", "-s", size, str(path)], check=True)
    quiet = ["-q", "-E", "lazy_itable_init=0,nodiscard"]
    subprocess.run(["mkfs.ext4", *quiet, str(path)], check=True, capture_output=True)
