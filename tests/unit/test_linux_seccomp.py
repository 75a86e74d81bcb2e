# SPDX-License-Identifier: MIT
from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.linux import seccomp
from wolverined.linux.seccomp import ARCHITECTURES, DENIED, POWER, program

ALLOW = seccomp.SECCOMP_RET_ALLOW
REFUSED = seccomp.SECCOMP_RET_ERRNO | seccomp.EPERM
NO_FAMILY = seccomp.SECCOMP_RET_ERRNO | seccomp.EAFNOSUPPORT
KILLED = seccomp.SECCOMP_RET_KILL_PROCESS
MACHINES = sorted(ARCHITECTURES)


def decide(code: bytes, *, nr: int, arch: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: an interpreter of the few BPF instructions that the filter uses."""
    data = struct.pack("=IIQ6Q", nr, arch, 0, *(args + (0,) * 6)[:6])
    lines = [struct.unpack_from("=HBBI", code, offset) for offset in range(0, len(code), 8)]
    at, accumulator = 0, 0
    for _ in range(len(lines) + 1):
        op, true, false, operand = lines[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif op == 0x54:
            accumulator &= operand
        elif op == 0x06:
            return operand
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += true if tests[op] else false
    raise AssertionError("the program does not end")


def ask(machine: str, numbers: tuple[int, int | None], *args: int, unix_datagrams: bool = False) -> int:
    """Decide one system call given by its number on both machines."""
    column, arch = ARCHITECTURES[machine]
    code = program(machine, unix_datagrams=unix_datagrams)
    return decide(code, nr=numbers[column], arch=arch, args=args)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(DENIED))
def test_a_denied_call_is_refused_without_killing(machine: str, name: str) -> None:
    """Every call in the table answers EPERM, so that a runtime that only tries it goes on."""
    assert ask(machine, DENIED[name]) == REFUSED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "datagrams", "answer"),
    [
        (seccomp.AF_INET, 1, False, ALLOW),
        (seccomp.AF_INET6, 1 | 0o2000000, False, ALLOW),
        (seccomp.AF_NETLINK, 3, False, ALLOW),
        (seccomp.AF_UNIX, 1, False, NO_FAMILY),
        (seccomp.AF_UNIX, 2, False, NO_FAMILY),
        (seccomp.AF_UNIX, 2, True, ALLOW),
        (seccomp.AF_UNIX, 2 | 0o2000000 | 0o4000, True, ALLOW),
        (seccomp.AF_UNIX, 1, True, NO_FAMILY),
        (seccomp.AF_UNIX, 5, True, NO_FAMILY),
        (40, 1, False, NO_FAMILY),  # AF_VSOCK has no namespace: it reaches the hypervisor
        (38, 5, False, NO_FAMILY),
        (17, 3, False, NO_FAMILY),
    ],
)
def test_sockets_by_family(machine: str, family: int, kind: int, datagrams: bool, answer: int) -> None:
    """Only loopback TCP and UDP and netlink; Unix datagrams when readiness is told through them."""
    assert ask(machine, seccomp.SOCKET, family, kind, unix_datagrams=datagrams) == answer


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("kind", "answer"), [(1, ALLOW), (5, ALLOW), (2, REFUSED), (3, REFUSED), (2 | 0o4000, REFUSED)]
)
def test_socket_pairs_by_type(machine: str, kind: int, answer: int) -> None:
    """Stream pairs stay (libuv, asyncio); a datagram pair could be connected again, to a path."""
    assert ask(machine, seccomp.SOCKETPAIR, seccomp.AF_UNIX, kind) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_processes_and_threads_but_no_namespaces(machine: str) -> None:
    """Fork and threads pass, CLONE_NEW* does not, clone3 looks unknown so that glibc takes clone."""
    assert ask(machine, seccomp.CLONE, 17) == ALLOW
    assert ask(machine, seccomp.CLONE, 0x3D0F00) == ALLOW
    assert ask(machine, seccomp.CLONE, 0x10000000 | 17) == REFUSED
    assert ask(machine, seccomp.CLONE, 0x40000000) == REFUSED
    assert ask(machine, seccomp.CLONE3) == seccomp.SECCOMP_RET_ERRNO | seccomp.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_another_machines_calls_end_the_process(machine: str) -> None:
    """32-bit and x32 calls have other numbers, so they must not be looked up in these tables."""
    _, arch = ARCHITECTURES[machine]
    code = program(machine)
    assert decide(code, nr=0, arch=0x40000003) == KILLED
    assert decide(code, nr=0x40000000 | 1, arch=arch) == KILLED


@given(st.sampled_from(MACHINES), st.integers(0, 1000), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_every_call_gets_an_answer_of_the_filter(machine: str, nr: int, args: list[int]) -> None:
    """No call falls off the program's end, and what is in no table passes."""
    column, arch = ARCHITECTURES[machine]
    answer = decide(program(machine), nr=nr, arch=arch, args=tuple(args))
    special = {numbers[column] for numbers in (seccomp.CLONE, seccomp.CLONE3, seccomp.SOCKET, seccomp.SOCKETPAIR)}
    denied = {numbers[column] for numbers in DENIED.values()}
    if nr in denied:
        assert answer == REFUSED
    elif nr not in special:
        assert answer == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_process_without_power_is_refused_what_owners_may(machine: str) -> None:
    """No program, signal, mode or owner for it; a process with power is not asked."""
    column, arch = ARCHITECTURES[machine]
    for numbers in POWER.values():
        if (number := numbers[column]) is not None:
            assert decide(program(machine, power=False), nr=number, arch=arch) == REFUSED
            assert decide(program(machine), nr=number, arch=arch) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", range(45))
def test_without_network_no_socket_is_opened(machine: str, family: int) -> None:
    """No family is left; a stream pair, which an event loop needs, is."""
    column, arch = ARCHITECTURES[machine]
    code = program(machine, network=False, power=False)
    assert decide(code, nr=seccomp.SOCKET[column], arch=arch, args=(family, 1, 0)) == NO_FAMILY
    assert decide(code, nr=seccomp.SOCKETPAIR[column], arch=arch, args=(seccomp.AF_UNIX, 1, 0)) == ALLOW


def test_an_unknown_machine_is_said_to_be_one() -> None:
    """No filter is better than a wrong one: the caller must refuse to run."""
    assert not seccomp.supported("riscv64")
    assert seccomp.supported("x86_64")
