# SPDX-License-Identifier: MIT
"""What `packaging/lab` does: boots one machine, runs a command or a shell in it, powers it off."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from support.lab import Machine, ensure_base, sweep, why_not
from support.lab_deb import ensure_deb, ensure_installed
from support.lab_launch import in_namespaces

LOOK = ["systemctl", "--no-pager", "status"]


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line, as `packaging/lab --help` tells it."""
    parser = argparse.ArgumentParser(prog="packaging/lab", allow_abbrev=False)
    parser.add_argument("what", choices=("base", "boot", "shell", "sweep"))
    parser.add_argument("--suite", choices=("bookworm", "trixie"), default="bookworm")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--deb", type=Path)
    # argparse gives what follows `--` to no list that may be empty.
    cut = argv.index("--") if "--" in argv else len(argv)
    wanted = parser.parse_args(argv[:cut])
    wanted.command = argv[cut + 1 :]
    return wanted


def main(argv: list[str]) -> int:
    """Do what the command line says; its exit status."""
    wanted = parse(argv)
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    try:
        return _do(wanted)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _do(wanted: argparse.Namespace) -> int:
    left = sweep()
    if wanted.what == "sweep":
        print(f"removed {len(left)}: {' '.join(left)}" if left else "nothing was left behind")
        return 0
    layers = _layers(wanted)
    if wanted.what == "base":
        print("\n".join(map(str, layers)))
        return 0
    with Machine(layers, name="lab") as machine:
        if wanted.what == "shell":
            return _shell(machine)
        return _in_unit(machine, wanted.command or LOOK, terminal=False)


def _layers(wanted: argparse.Namespace) -> list[Path]:
    base = ensure_base(suite=wanted.suite)
    if wanted.bare:
        return [base]
    deb = wanted.deb.resolve() if wanted.deb else ensure_deb(suite=wanted.suite)
    return [ensure_installed(deb, lower=[base]), base]


def _shell(machine: Machine) -> int:
    print(f"{machine.name} is up; its files: {machine.path('/')}; end the shell to power it off", file=sys.stderr)
    return _in_unit(machine, ["/bin/bash", "-l"], terminal=sys.stdin.isatty())


def _in_unit(machine: Machine, command: list[str], *, terminal: bool) -> int:
    """Run `command` as a unit of its own in the machine, on our own standard streams."""
    options = ["-q", "--pty" if terminal else "--pipe", "--wait", "--collect", "--service-type=exec"]
    options += ["--setenv=HOME=/root", "--setenv=TERM=xterm", "--working-directory=/root"]
    words = [word.replace("$", "$$") for word in command]
    argv = [*in_namespaces(machine.leader), "systemd-run", *options, "--", *words]
    return subprocess.run(argv, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
