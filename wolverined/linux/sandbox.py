# SPDX-License-Identifier: MIT
"""The walls around a candidate, made by a plain user without help: namespaces, a read-only tree, limits.

Order of use, each step in a process that goes on with the next: `enter` (namespaces), `raise_loopback`,
`build_tree` (mounts); then in a fork of it, the first process of the new PID namespace, `mount_proc`;
then in a fork of that, `confine`, and exec. Whoever stays in the first process sees the candidate's
network and tree, and is itself out of the candidate's sight. Any step that fails raises
`SandboxUnavailable`: there is no half sandbox. Man pages: user_namespaces(7), mount_setattr(2),
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence

from wolverined.errors import SandboxUnavailable
from wolverined.linux import seccomp
from wolverined.linux.memory import hide_memory, show_memory
from wolverined.linux.mounts import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, check, libc, mount, prctl
from wolverined.linux.sandboxtree import Change, Tree

CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWUTS = 0x04000000
IFF_UP = 0x1
PR_CAPBSET_DROP = 24
PR_SET_PDEATHSIG = 1
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914

NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
UNIT_NAMESPACES = CLONE_NEWUSER | CLONE_NEWPID
"""What a process that PID 1 has walled in must add: nobody beside the candidate may be seen or signalled by it."""

LIMITS: Mapping[int, int] = {
    resource.RLIMIT_AS: 1 << 40,  # Node and Go reserve hundreds of GiB that they never touch
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_DATA: 4 << 30,  # what is really writable and private
    resource.RLIMIT_FSIZE: 1 << 30,
    resource.RLIMIT_NPROC: 1024,  # threads of this user inside the user namespace (since Linux 5.14)
}


def die_with_parent(*, alive: Callable[[], bool]) -> None:
    """Have the kernel kill this process when its parent ends; `alive` is asked after, for a parent gone before."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not alive():
        os._exit(1)


def enter(namespaces: int = NAMESPACES) -> None:
    """Move this process into namespaces of its own, where it may mount, and owns nothing else.

    The PID namespace begins with the next fork. The user is mapped to itself: an exec sheds all
    capabilities, and files are owned as they are outside.

    Args:
        namespaces: CLONE_NEW* flags, CLONE_NEWUSER among them.

    Raises:
        SandboxUnavailable: The kernel, or the box we are in, does not let this user.
    """
    uid, gid = os.geteuid(), os.getegid()
    # /proc/self belongs to root while a process is not dumpable; open that window for these writes only.
    show_memory()
    try:
        check(libc.unshare(namespaces), "unshare")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        # Memory that runs out must cost the candidate, not the app that still serves.
        _write("/proc/self/oom_score_adj", "800")
    except OSError as error:
        raise SandboxUnavailable(f"no user namespace: {error}", hint=_namespace_hint(error)) from error
    finally:
        hide_memory()


def raise_loopback() -> None:
    """Bring `lo` of the new network namespace up; there is no other interface.

    Raises:
        SandboxUnavailable: The kernel refuses.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = bytearray(struct.pack("16sH22x", b"lo", 0))
            fcntl.ioctl(sock, SIOCGIFFLAGS, request)
            (flags,) = struct.unpack_from("H", request, 16)
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))
    except OSError as error:
        # Ubuntu lets a plain user make the namespace and then use nothing in it: this is where it shows first.
        raise SandboxUnavailable(f"no loopback: {error}", hint=_namespace_hint(error)) from error


def build_tree(*, directory: str, changes: Sequence[Change], hide: Sequence[str], keep: Sequence[str]) -> str:
    """Make the tree that the candidate sees: everything read-only, `directory` with the changes laid over it.

    Args:
        directory: The app's own directory; in the sandbox it stands at the same path, writable into
            memory only.
        changes: What the candidate changes in it.
        hide: Directories and files that appear empty.
        keep: Programs' places that must stay even if they lie below a private directory such as /tmp.

    Returns:
        "full" for an overlay; "binds" where the kernel refuses one: then only directories that hold a
        changed file (and the top) are writable.

    Raises:
        SandboxUnavailable: Anything that leaves a wall open, or the directory not as it is outside.
    """
    try:
        return Tree(directory=directory, changes=changes, hide=hide, keep=keep).build()
    except OSError as error:
        raise SandboxUnavailable(
            f"the sandbox's tree cannot be built: {error}",
            hint="a container often forbids mounts; run wolverined outside of it, or allow user namespaces",
        ) from error


def mount_proc() -> None:
    """Mount a /proc of this PID namespace over the host's, read-only.

    Read-only since root's own files in it, /proc/sys, ask for no capability.

    Raises:
        SandboxUnavailable: The host's /proc is masked (containers do), so the kernel gives no new one.
    """
    try:
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    except OSError as error:
        raise SandboxUnavailable(
            f"no /proc of its own for the candidate: {error}",
            hint="a container hides parts of /proc; run wolverined outside of it",
        ) from error


def drop_bounding_set() -> None:
    """Give up every capability for what this process execs, even when it is root in here; needs them now."""
    number = 0
    while libc.prctl(PR_CAPBSET_DROP, *(ctypes.c_ulong(value) for value in (number, 0, 0, 0))) == 0:
        number += 1
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: past the last capability that this kernel knows
        raise SandboxUnavailable(f"capabilities stay: {os.strerror(ctypes.get_errno())}")


def confine(filter_code: bytes, *, limits: Mapping[int, int] = LIMITS) -> None:
    """Put limits and the system call filter on this process; the last step before exec.

    Raises:
        OSError: One of them was refused.
    """
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)  # noqa: PLW2901
        resource.setrlimit(kind, (value, value))
    seccomp.install(filter_code)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _namespace_hint(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "sysctl user.max_user_namespaces is 0 or used up"
    if error.errno in {errno.EPERM, errno.EACCES}:
        return (
            "user namespaces are forbidden here: see sysctl kernel.unprivileged_userns_clone (Debian), "
            "kernel.apparmor_restrict_unprivileged_userns (Ubuntu), a chroot, or the container's settings"
        )
    return "the kernel must be built with user, network, PID, IPC and UTS namespaces"
