# SPDX-License-Identifier: MIT
"""An emulated machine with a kernel of Debian's own: for limits that the cgroups of this host cannot set.

Everything in it is twenty to fifty times slower than in a `Machine`, so it is for few tests, in a lane of
their own. It is emulated in full (tcg), because where the lab runs a hypervisor is rarely to be had.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from support.lab_images import ensure_layer
from support.lab_launch import LIFELINE, environment
from support.lab_places import Place, cache, in_private, locked
from support.lab_words import Completed, shell_words, told, unit_words, wait_until

AGENT = Path(__file__).with_name("lab_agent.py")

QEMU = "qemu-system-x86_64"

KERNEL = """
mkdir -p /etc/initramfs-tools/conf.d
printf 'MODULES=list\\nCOMPRESS=lz4\\n' > /etc/initramfs-tools/conf.d/lab
apt-get update -qq
apt-get install -y -qq --no-install-recommends lz4 udev initramfs-tools
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> /etc/initramfs-tools/modules
apt-get install -y -qq --no-install-recommends linux-image-cloud-amd64
apt-get clean
rm -rf /var/lib/apt/lists/*
install -D -m 644 /run/lab-agent.py /usr/local/lib/lab/agent.py
cat > /etc/systemd/system/lab-agent.service <<'UNIT'
[Unit]
After=multi-user.target
[Service]
ExecStartPre=/sbin/modprobe virtio_console
ExecStart=/usr/bin/python3 /usr/local/lib/lab/agent.py
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q lab-agent.service
systemctl mask -q serial-getty@ttyS0.service getty@tty1.service systemd-networkd-wait-online.service
"""

IMAGE = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root /mnt/none
mount -t overlay overlay -o "lowerdir=/mnt/none:$1" /mnt/root
truncate -s 4G "$2"
mke2fs -q -t ext4 -E lazy_itable_init=1,nodiscard -d /mnt/root "$2"
"""

DAY_S = 86400


def why_no_vm() -> str:
    """Why no machine can be emulated here; empty when one can."""
    return "" if shutil.which(QEMU) else f"the lab needs {QEMU}: apt install qemu-system-x86"


def ensure_kernel(*, lower: Sequence[Path]) -> Path:
    """A layer above `lower` with Debian's kernel, and what takes our commands in an emulated machine."""
    key = hashlib.sha256(AGENT.read_bytes()).hexdigest()
    return ensure_layer("kernel", lower=lower, script=KERNEL, key=key, binds={AGENT: "/run/lab-agent.py"})


def ensure_image(layers: Sequence[Path]) -> Path:
    """A disk image of what the layers (topmost first) show together."""
    names = ":".join(map(str, layers))
    place = cache() / f"image-{hashlib.sha256(names.encode()).hexdigest()[:12]}"
    with locked(place):
        if not place.exists():
            aside = place.with_name(f".{place.name}.new")
            aside.unlink(missing_ok=True)
            in_private(IMAGE, names, str(aside))
            aside.rename(place)
        place.touch()
    for old in cache().glob("image-????????????"):
        if time.time() - old.stat().st_mtime > DAY_S:
            old.unlink()
    return place


class EmulatedMachine:
    """One emulated machine. As a context manager it boots at the start and is gone at the end.

    Args:
        layers: Directories to boot from, topmost first; one of them holds a kernel.
        memory_mb: How much memory it has.
        cpus: How many processors it has.
    """

    def __init__(self, layers: Sequence[Path], *, memory_mb: int = 1024, cpus: int = 2) -> None:
        self.name = "vm"
        self._layers = list(layers)
        self._size = ["-m", str(memory_mb), "-smp", str(cpus)]
        self._place: Place | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: socket.socket | None = None
        self._rest = b""
        self._asked = 0

    def boot(self, *, within_s: float = 240) -> Self:
        """Start it and wait until it takes commands.

        Raises:
            RuntimeError: It did not come up; with its console's last words.
        """
        image = ensure_image(self._layers)
        self._place = Place(name=self.name)
        try:
            self._start(self._place.path, image)
            self._connect(self._place.path / "port", within_s=within_s)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, place: Path, image: Path) -> None:
        boot = next(path for layer in self._layers for path in (layer / "boot").glob("vmlinuz-*")).parent
        devices = ["-device", "virtio-serial", "-chardev", f"socket,id=port,path={place}/port,server=on,wait=off"]
        devices += ["-device", "virtserialport,chardev=port,name=lab"]
        # Written to a nameless file that goes with the process: the image stays as it is.
        devices += ["-drive", f"file={image},if=virtio,format=raw,snapshot=on"]
        argv = [QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", *self._size, "-display", "none", "-monitor", "none"]
        argv += ["-serial", f"file:{place}/console", "-nic", "none", "-no-reboot", *devices]
        argv += ["-kernel", str(next(boot.glob("vmlinuz-*"))), "-initrd", str(next(boot.glob("initrd.img-*")))]
        argv += ["-append", "root=/dev/vda rw console=ttyS0 quiet"]
        with (place / "qemu").open("wb") as said:
            self._process = subprocess.Popen(
                [*LIFELINE, *argv], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment()
            )

    def _connect(self, path: Path, *, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        self._port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                self._port.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self._alive(deadline)
                time.sleep(0.02)
        if not self._line(deadline).get("ready"):
            raise RuntimeError("the emulated machine's agent did not say that it is ready")

    def _alive(self, deadline: float) -> None:
        if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
            assert self._place is not None
            said = "".join(
                path.read_text(errors="replace")[-3000:]
                for name in ("qemu", "console")
                if (path := self._place.path / name).exists()
            )
            raise RuntimeError(f"the emulated machine does not answer; its console:\n{said}")

    def _line(self, deadline: float) -> dict[str, Any]:
        assert self._port is not None
        self._port.settimeout(0.5)
        while b"\n" not in self._rest:
            try:
                chunk = self._port.recv(65536)
            except TimeoutError:
                chunk = b""
            if not chunk:
                self._alive(deadline)
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Pull its plug."""
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._port:
            self._port.close()
        if self._place:
            self._place.close()
        self._process, self._port, self._place = None, None, None

    def __enter__(self) -> Self:
        return self.boot()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # -- what happens inside, as with a `Machine`

    def enter(self, *argv: str, input_bytes: bytes = b"", timeout_s: float = 120) -> subprocess.CompletedProcess[bytes]:
        """Run a program inside, as a child of the agent."""
        assert self._port is not None
        self._asked += 1
        request = {"id": self._asked, "argv": argv, "timeout_s": timeout_s}
        request["input"] = base64.b64encode(input_bytes).decode()
        self._port.settimeout(timeout_s)
        self._port.sendall(json.dumps(request).encode() + b"\n")
        answer = self._line(time.monotonic() + timeout_s + 30)
        assert answer["id"] == self._asked, answer
        out, err = (base64.b64decode(answer[name]) for name in ("out", "err"))
        return subprocess.CompletedProcess(argv, int(answer["status"]), out, err)

    def run(
        self,
        cmd: str | Sequence[str],
        *,
        check: bool = True,
        user: str | None = None,
        timeout_s: float = 120,
        properties: Sequence[str] = (),
    ) -> Completed:
        """Run a shell command (or an argv) inside as a transient unit, as `Machine.run` does."""
        argv = shell_words(cmd)
        words = unit_words(argv, user=user, timeout_s=timeout_s, properties=properties)
        return told(self.enter(*words, timeout_s=timeout_s + 30), argv=argv, who=self.name, check=check)

    def until(self, condition: Callable[[], object] | str, *, within_s: float = 60) -> Any:
        """Wait until a predicate answers something true, or a command ends with 0; what it answered."""
        return wait_until(condition, run=self.run, who=self.name, within_s=within_s)

    def read(self, path: str | Path) -> str:
        """The text of a file inside."""
        return told(self.enter("cat", str(path)), argv=["cat", str(path)], who=self.name, check=True).stdout

    def write(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """Write a file inside, with the directories above it."""
        at, above = shlex.quote(str(path)), shlex.quote(str(Path(path).parent))
        script = f"mkdir -p {above}; cat > {at}; chmod {mode:o} {at}"
        told(self.enter("sh", "-ec", script, input_bytes=text.encode()), argv=[script], who=self.name, check=True)

    def journal(self, unit: str | None = None, *extra: str) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first."""
        words = ["-u", unit] if unit else []
        done = self.enter("journalctl", "-o", "json", "--all", "--no-pager", *words, *extra)
        return [json.loads(line) for line in done.stdout.splitlines()]
