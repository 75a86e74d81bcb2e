# SPDX-License-Identifier: MIT
"""Runs inside an emulated machine, which no host process can enter: takes commands from a virtio port.

A request is one line of JSON {id, argv, input, timeout_s}, its answer another {id, status, out, err}; bytes
travel as base64. It tells {"ready": true} when it begins.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

PORT = "lab"


def device() -> str:
    """The port's device: its name stands in sysfs, whether udev made a link or not."""
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == PORT:
            return f"/dev/{port.name}"
    raise SystemExit("there is no virtio port for the lab")


def answer(request: dict[str, Any]) -> dict[str, object]:
    """Run what a request names, to its end."""
    try:
        done = subprocess.run(
            [str(word) for word in request["argv"]],
            input=base64.b64decode(request["input"]),
            capture_output=True,
            timeout=float(request["timeout_s"]),
            check=False,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except (subprocess.TimeoutExpired, OSError) as error:
        status, out, err = 255, b"", str(error).encode()
    code = {name: base64.b64encode(text).decode() for name, text in (("out", out), ("err", err))}
    return {"id": request["id"], "status": status, **code}


def main() -> None:
    """Serve until the port goes."""
    # Unbuffered, and one descriptor for both ways: the port may be opened only once.
    port = os.open(device(), os.O_RDWR | os.O_CLOEXEC)
    _tell(port, {"ready": True})
    rest = b""
    while chunk := os.read(port, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _tell(port, answer(json.loads(line)))


def _tell(port: int, words: dict[str, object]) -> None:
    left = json.dumps(words).encode() + b"\n"
    while left:
        left = left[os.write(port, left) :]


if __name__ == "__main__":
    main()
