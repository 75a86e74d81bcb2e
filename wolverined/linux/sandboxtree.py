# SPDX-License-Identifier: MIT
# Plain strings on purpose: these paths are covered and uncovered while we work, and go to the kernel as they are.
# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH113, PTH119, PTH120, PTH211
"""The tree that a candidate sees: the host's, read-only, with the candidate's files laid over the app's directory.

`sandbox.build_tree` is the door. Nothing is copied but the changed files: an overlay whose upper layer
lives in memory, or, where the kernel refuses one, binds of every entry around the changed files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence

from wolverined.errors import EditRejected, SandboxUnavailable
from wolverined.linux import mounts
from wolverined.linux.mounts import MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC

PRIVATE = ("/tmp", "/var/tmp", "/run")  # noqa: S108  the host's are hidden, not used
DEVICES = ("full", "null", "random", "urandom", "zero")
SPECIAL = ("/dev", "/proc", "/sys")
UPPER_SIZE = "512m"
NOTHING = "/dev/nothing"
"""An empty file, bound over each file that is hidden."""
PRIVATE_SIZE = "256m"
MAX_BINDS = 20_000
MAX_OWN_DIRECTORIES = 100

NO_OVERLAY = frozenset({errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM})
"""What mount(2) answers where users may mount no overlay, or something is mounted inside the directory."""

Change = tuple[str, bytes | None, int]
"""Path relative to the directory, the new content or None for a removed file, permission bits."""


class Tree:
    """One sandbox's tree.

    Args:
        directory: The app's own directory.
        changes: What the candidate changes in it.
        hide: Directories and files that appear empty.
        keep: Programs' places that stay visible even below a private directory such as /tmp.
    """

    def __init__(self, *, directory: str, changes: Sequence[Change], hide: Sequence[str], keep: Sequence[str]) -> None:
        self._asked = directory
        self._directory = os.path.realpath(directory)
        self._changes = changes
        self._hidden = {os.path.realpath(path) for path in hide}
        masks = {os.path.realpath(path) for path in PRIVATE} | self._hidden
        # What lies above the app's directory is masked first, and the app's directory comes back. All
        # else that is to be hidden is masked last, over whatever came back.
        first = {os.path.realpath(path) for path in PRIVATE if not _below(os.path.realpath(path), self._directory)}
        stays = {self._directory, *(os.path.realpath(path) for path in keep)}
        first |= {path for path in self._hidden if any(_below(place, path) for place in stays)}
        self._first = sorted(path for path in first if not any(_below(path, other) for other in first))
        self._last = sorted(masks - first)
        self._keep = keep

    def build(self) -> str:
        """Mount it all in this process's mount namespace; see `sandbox.build_tree`.

        Raises:
            SandboxUnavailable: The directory or a changed path cannot stand in a sandbox.
            EditRejected: A changed path goes through a symbolic link or a file.
            OSError: The kernel refused a mount.
        """
        self._refuse_nonsense()
        mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
        mounts.set_attributes("/", mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID, recursive=True)
        lower = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        devices = {name: mounts.clone_tree(mounts.AT_FDCWD, f"/dev/{name}") for name in DEVICES}
        kept = {path: mounts.clone_tree(mounts.AT_FDCWD, path) for path in self._kept_paths()}
        # The overlay's upper layer needs a place while it is being mounted; /dev is covered again below.
        mounts.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=0700,size={UPPER_SIZE}")
        os.close(os.open(NOTHING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
        self._mask(self._first)
        for path, tree in kept.items():
            _place(tree, path)
        self._recreate_directory()
        kind = self._lay_over(lower)
        self._mask(self._last)
        _fill_dev(devices)
        os.close(lower)
        os.chdir("/")
        return kind

    def _refuse_nonsense(self) -> None:
        if any(_same_or_below(self._directory, special) for special in SPECIAL):
            raise SandboxUnavailable(f"no sandbox for an app in {self._directory}")
        if self._directory == "/" or self._directory in {*self._first, *self._last}:
            raise SandboxUnavailable(
                f"the app's directory {self._directory} cannot be told apart from the system's",
                hint="give the app a directory of its own",
            )
        for path, _, _ in self._changes:
            if "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
                raise SandboxUnavailable(f"no path of a source file: {path!r:.200}")

    def _kept_paths(self) -> list[str]:
        """The places in `keep` that a mask would hide, without those inside another one of them."""
        found: list[str] = []
        for path in sorted({os.path.realpath(path) for path in self._keep if os.path.exists(path)}):
            hidden = any(_below(path, mask) for mask in self._first)
            if hidden and not any(_same_or_below(path, place) for place in (*found, self._directory)):
                found.append(path)
        return found

    def _mask(self, paths: Iterable[str]) -> None:
        for path in paths:
            own = _own_directories(path) if path == "/run" else []
            readonly = MS_RDONLY if path in self._hidden and path not in self._first else 0
            options = f"mode={'0755' if readonly else '1777'},size={PRIVATE_SIZE}"
            try:
                if os.path.isfile(path):
                    mounts.attach(mounts.clone_tree(mounts.AT_FDCWD, NOTHING), path)
                    continue
                mounts.mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | readonly, options)
            except (FileNotFoundError, PermissionError) as error:
                # What this user cannot even reach, the candidate, who is the same user, cannot either.
                if os.access(path, os.R_OK) or os.access(path, os.X_OK):
                    raise SandboxUnavailable(f"{path} cannot be hidden from the candidate: {error}") from error
                continue
            for name, bits in own:
                os.mkdir(f"{path}/{name}", bits)

    def _recreate_directory(self) -> None:
        """Make the app's directory again, as a place to mount on, when a mask has hidden it."""
        os.makedirs(self._directory, exist_ok=True)
        if not os.path.lexists(self._asked):
            os.makedirs(os.path.dirname(self._asked), exist_ok=True)
            os.symlink(self._directory, self._asked)

    def _lay_over(self, lower: int) -> str:
        for path, _, _ in self._changes:
            _refuse_symlinked(lower, path)
        try:
            self._overlay(lower)
        except OSError as error:
            if error.errno not in NO_OVERLAY:
                raise
        else:
            return "full"
        options = f"mode=0755,size={UPPER_SIZE}"
        mounts.mount("tmpfs", self._directory, "tmpfs", MS_NOSUID | MS_NODEV, options)
        _Binds(self._changes).fill(lower, self._directory, "")
        return "binds"

    def _overlay(self, lower: int) -> None:
        _make_directory("/dev/upper", _directory_mode(os.fstat(lower)))
        _make_directory("/dev/work", 0o700)
        for path, data, mode in self._changes:
            _make_parents(lower, "/dev/upper", path)
            if data is None:
                # How overlayfs marks a removed file; the kernel lets plain users make this one device.
                os.mknod(f"/dev/upper/{path}", stat.S_IFCHR, 0)
            else:
                _write_file(f"/dev/upper/{path}", data, mode)
        # By descriptor and ".", so that no character of the path is taken for an option's separator,
        # and a mask over the path does not matter.
        os.fchdir(lower)
        options = "lowerdir=.,upperdir=/dev/upper,workdir=/dev/work,userxattr"
        mounts.mount("overlay", self._directory, "overlay", MS_NOSUID | MS_NODEV, options)


class _Binds:
    """The directory without an overlay: every entry is bound from outside, save the changed ones."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._files = {path: (data, mode) for path, data, mode in changes}
        parents = (path.split("/")[:depth] for path in self._files for depth in range(1, path.count("/") + 1))
        self._opened = {"/".join(parts) for parts in parents}
        self._count = 0

    def fill(self, lower: int, target: str, prefix: str) -> None:
        names = set(os.listdir(lower)) if lower >= 0 else set()
        here = {path for path in (*self._files, *self._opened) if os.path.dirname(path) == prefix}
        for name in names - {os.path.basename(path) for path in here}:
            self._bind(lower, name, f"{target}/{name}")
        for path in here:
            place = f"{target}/{os.path.basename(path)}"
            if path in self._opened:
                self._descend(lower, path, place)
            elif (data := self._files[path][0]) is not None:
                _write_file(place, data, self._files[path][1])

    def _descend(self, lower: int, path: str, place: str) -> None:
        try:
            inner = os.open(os.path.basename(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=lower)
        except FileNotFoundError:
            inner = -1
        os.mkdir(place, 0o755)
        self.fill(inner, place, path)
        if inner >= 0:
            os.close(inner)

    def _bind(self, lower: int, name: str, place: str) -> None:
        self._count += 1
        if self._count > MAX_BINDS:
            raise SandboxUnavailable("too many files for a sandbox without an overlay")
        found = os.stat(name, dir_fd=lower, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=lower), place)
            return
        _place(mounts.clone_tree(lower, name), place)


def _fill_dev(devices: Mapping[str, int]) -> None:
    """Cover /dev, the upper layer's place included, by one that holds the harmless nodes only."""
    mounts.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=64k")
    for name, tree in devices.items():
        _place(tree, f"/dev/{name}")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"/dev/{name}")
    os.symlink("/proc/self/fd", "/dev/fd")
    os.mkdir("/dev/shm")  # noqa: S108  the sandbox's own
    mounts.set_attributes("/dev", mounts.MOUNT_ATTR_RDONLY, recursive=False)
    mounts.mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={PRIVATE_SIZE}")  # noqa: S108


def _own_directories(path: str) -> list[tuple[str, int]]:
    """Directories of this user directly below `path`, such as a RuntimeDirectory: the app expects them."""
    found: list[tuple[str, int]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid():
                found.append((entry.name, info.st_mode & 0o777))
    return found[:MAX_OWN_DIRECTORIES]


def _refuse_symlinked(lower: int, path: str) -> None:
    """A changed file below a symbolic link would replace the link by a directory: not what would be applied."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        try:
            found = os.stat("/".join(parts[:depth]), dir_fd=lower, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            raise EditRejected(f"{path!r:.200} does not lie in a plain directory")


def _make_parents(lower: int, upper: str, path: str) -> None:
    parts = path.split("/")
    for depth in range(1, len(parts)):
        relative = "/".join(parts[:depth])
        place = f"{upper}/{relative}"
        if os.path.isdir(place):
            continue
        try:
            mode = _directory_mode(os.stat(relative, dir_fd=lower))
        except FileNotFoundError:
            mode = 0o755
        _make_directory(place, mode)


def _directory_mode(found: os.stat_result) -> int:
    return stat.S_IMODE(found.st_mode) & 0o777 | 0o700


def _write_file(path: str, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.chmod(path, mode & 0o777)


def _make_directory(path: str, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)  # whatever the umask is


def _place(tree: int, target: str) -> None:
    """Attach a cloned tree at a path, making the place for it; takes the descriptor."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    mounts.attach(tree, target)
    os.close(tree)


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _same_or_below(path: str, directory: str) -> bool:
    return path == directory or _below(path, directory)
