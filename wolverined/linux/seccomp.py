# SPDX-License-Identifier: MIT
"""A seccomp filter for code that nobody has vouched for: as raw BPF, since no library is needed for it.

`program` is pure and gives the bytes; `install` hands them to the kernel for good. The filter is a
list of what is refused (EPERM), not of what is allowed: any runtime must be able to boot behind it.
What it adds to namespaces: no new namespace, mount or trace, and no door to the host's Unix sockets,
which neither a network namespace nor a read-only tree closes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

AF_INET = 2
AF_INET6 = 10
AF_NETLINK = 16  # getifaddrs; it sees the empty network only
AF_UNIX = 1
AUDIT_ARCH_AARCH64 = 0xC00000B7
AUDIT_ARCH_X86_64 = 0xC000003E
CLONE_NEW_ANY = 0x7E020000  # every CLONE_NEW* that clone(2) takes
EAFNOSUPPORT = 97
ENOSYS = 38
EPERM = 1
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_KILL_PROCESS = 0x80000000
SOCK_DGRAM = 2
SOCK_RAW = 3  # AF_UNIX treats it as SOCK_DGRAM: unix(7)
SOCK_TYPE_MASK = 0xF
X32_SYSCALL_BIT = 0x40000000

# Number on x86_64, number on aarch64 (asm-generic; None: it has no such call), of what is refused outright.
DENIED: dict[str, tuple[int, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),  # its IORING_OP_SOCKET would open what socket(2) may not
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# For a process that starts nothing, opens no socket and changes no file's owner or mode: what one of root's
# without capabilities could else still do to root's files and processes.
POWER: dict[str, tuple[int, int | None]] = {
    "chmod": (90, None),
    "chown": (92, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "ioprio_set": (251, 30),
    "kill": (62, 129),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "migrate_pages": (256, 238),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "prlimit64": (302, 261),
    "removexattr": (197, 14),
    "removexattrat": (466, 466),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setpriority": (141, 140),
    "setxattr": (188, 5),
    "setxattrat": (463, 463),
    "shmget": (29, 194),
    "tgkill": (234, 131),
    "tkill": (200, 130),
}
CLONE = (56, 220)
CLONE3 = (435, 435)
SOCKET = (41, 198)
SOCKETPAIR = (53, 199)

ARCHITECTURES = {"x86_64": (0, AUDIT_ARCH_X86_64), "aarch64": (1, AUDIT_ARCH_AARCH64)}
"""Machine name -> column in the tables, and the value that seccomp_data.arch must have."""

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data; low halves, both machines are little-endian

_Line = tuple[int, int, str, str]
"""Opcode, operand, label to go to when true, label when false; an empty label is the next line."""


def supported(machine: str) -> bool:
    """Whether the filter knows this machine's numbers."""
    return machine in ARCHITECTURES and sys.byteorder == "little"


def program(machine: str, *, unix_datagrams: bool = False, network: bool = True, power: bool = True) -> bytes:
    """The filter as an array of struct sock_filter.

    Args:
        machine: `os.uname().machine`; a key of ARCHITECTURES.
        unix_datagrams: Let socket(AF_UNIX, SOCK_DGRAM) through, for an app that tells its readiness
            through a notify socket.
        network: Let sockets of the internet families through; without, none is opened at all.
        power: Without, the calls in POWER are refused as well.
    """
    families = (AF_INET, AF_INET6, AF_NETLINK) if network else ()
    denied = DENIED if power else DENIED | POWER
    column, arch = ARCHITECTURES[machine]
    lines: list[tuple[str, _Line]] = [
        ("", (_LOAD, _ARCH, "", "")),
        ("", (_EQUAL, arch, "", "kill")),
        ("", (_LOAD, _NR, "", "")),
        ("", (_AT_LEAST, X32_SYSCALL_BIT, "kill", "")),
    ]
    lines += [("", (_EQUAL, number, "refuse", "")) for numbers in denied.values() if (number := numbers[column])]
    lines += [
        # glibc falls back to clone(2), whose flags a filter can read; clone3 hides them behind a pointer.
        ("", (_EQUAL, CLONE3[column], "unknown", "")),
        ("", (_EQUAL, CLONE[column], "clone", "")),
        ("", (_EQUAL, SOCKET[column], "socket", "")),
        ("", (_EQUAL, SOCKETPAIR[column], "pair", "allow")),
        ("clone", (_LOAD, _ARG0, "", "")),
        ("", (_ANY_BIT, CLONE_NEW_ANY, "refuse", "allow")),
        ("socket", (_LOAD, _ARG0, "", "")),
        *(("", (_EQUAL, family, "allow", "")) for family in families),
        ("", (_EQUAL, AF_UNIX, "type" if unix_datagrams else "family", "family")),
        ("type", (_LOAD, _ARG1, "", "")),
        ("", (_AND, SOCK_TYPE_MASK, "", "")),
        ("", (_EQUAL, SOCK_DGRAM, "allow", "family")),
        # One half of a datagram pair may be connected again, to any path: only stream pairs are harmless.
        ("pair", (_LOAD, _ARG1, "", "")),
        ("", (_AND, SOCK_TYPE_MASK, "", "")),
        ("", (_EQUAL, SOCK_DGRAM, "refuse", "")),
        ("", (_EQUAL, SOCK_RAW, "refuse", "allow")),
        ("allow", (_RETURN, SECCOMP_RET_ALLOW, "", "")),
        ("refuse", (_RETURN, SECCOMP_RET_ERRNO | EPERM, "", "")),
        ("family", (_RETURN, SECCOMP_RET_ERRNO | EAFNOSUPPORT, "", "")),
        ("unknown", (_RETURN, SECCOMP_RET_ERRNO | ENOSYS, "", "")),
        ("kill", (_RETURN, SECCOMP_RET_KILL_PROCESS, "", "")),
    ]
    return _assemble(lines)


def _assemble(lines: list[tuple[str, _Line]]) -> bytes:
    places = {label: number for number, (label, _) in enumerate(lines) if label}
    out = bytearray()
    for number, (_, (code, operand, true, false)) in enumerate(lines):
        jumps = (places[label] - number - 1 if label else 0 for label in (true, false))
        out += struct.pack("=HBBI", code, *jumps, operand)
    return bytes(out)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(code: bytes) -> None:
    """Put the filter on this process and all it will ever start; it cannot be taken off.

    Raises:
        OSError: The kernel has no seccomp filters, or refuses this one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    zero, one, mode = (ctypes.c_ulong(number) for number in (0, 1, SECCOMP_MODE_FILTER))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) != 0 or (
        libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(described), zero, zero) != 0
    ):
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
