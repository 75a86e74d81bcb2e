# SPDX-License-Identifier: MIT
"""The .deb as a file: small, the same each time it is built, and nothing that Debian's checkers object to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.lab import Machine, ensure_layer, installing
from support.lab_deb import TOP, ensure_installed
from support.packages import control_field, unpacked
from support.places import public_tmp, unused_user

CACHE = Path(os.environ.get("WOLVERINE_CACHE") or "/var/cache/wolverine-dev")
LIMIT = 5_000_000
SOURCES = ("debian", "systemd", "wolverined", "packaging", "LICENSE", "CHANGELOG.md")

PIUPARTS = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/up /mnt/work /mnt/base /mnt/tmp
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/up,workdir=/mnt/work" /mnt/base
: >/mnt/base/etc/apt/sources.list # all that the package needs is there: no mirror is asked
exec piuparts -e /mnt/base -d bookworm -t /mnt/tmp --keep-sources-list --skip-minimize --no-eatmydata \
    --skip-logrotatefiles-test --skip-cronfiles-test --no-upgrade-test "$2"
"""


class Checks(NamedTuple):
    """Programs that look at the package, or build it once more, all at once while the other tests go on."""

    lintian: subprocess.Popen[str] | None
    piuparts: subprocess.Popen[str] | None
    here: subprocess.Popen[str]
    elsewhere: subprocess.Popen[str]


def begin(argv: list[str], **options: object) -> subprocess.Popen[str]:
    """A program whose words are kept for its test."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def words_of(process: subprocess.Popen[str] | None, program: str) -> tuple[int, str]:
    """How a program ended, and what it said."""
    if process is None:
        pytest.skip(f"needs {program}: not installed")
    words, _ = process.communicate()
    return process.returncode, words


def copied(place: Path) -> Path:
    """A copy of the sources, without git: nobody else writes there."""
    place.mkdir()
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / name, place / name)
    return place


def build(source: Path, *, cache: Path, **options: object) -> subprocess.Popen[str]:
    """`packaging/deb` of a copy; the last line that it prints is the package's path."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "WOLVERINE_CACHE": str(cache)}
    others = options.pop("env", {})
    assert isinstance(others, dict)
    return begin([str(source / "packaging/deb")], env=environment | others, **options)


def build_elsewhere(source: Path, place: Path) -> subprocess.Popen[str]:
    """Build as a plain user who may not write the sources, in another directory, time zone, language and umask.

    His cache has the downloads, and no package.
    """
    user = unused_user()
    for wheels in (CACHE / "deb").glob("wheels-3.11-*"):
        shutil.copytree(wheels, place / "cache/deb" / wheels.name)
    for directory in (place / "cache", place / "cache/deb"):
        shutil.chown(directory, user.pw_uid, user.pw_gid)
    return build(
        Path(shutil.copytree(source, place / "some where else")),
        cache=place / "cache",
        env={"TZ": "Asia/Kathmandu", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1", "DEB_BUILD_OPTIONS": "nostrip"},
        umask=0o077,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )


@pytest.fixture(scope="module")
def checks(base: Path, deb: Path) -> Iterator[Checks]:
    """The slow checks, begun together."""
    lintian = piuparts = None
    if shutil.which("lintian"):
        changes = deb.with_suffix(".changes")
        lintian = begin(["lintian", "--allow-root", "--fail-on", "error,warning", str(changes)])
    if shutil.which("piuparts"):
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-ec", PIUPARTS, "sh", str(base), str(deb)]
        piuparts = begin(argv)
    with public_tmp() as place:
        here = copied(place / "here")
        made = Checks(lintian, piuparts, build(here, cache=CACHE), build_elsewhere(here, place))
        yield made
        for process in made:
            if process is not None:
                with process:
                    process.kill()


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the package."""
    return unpacked(deb, tmp_path_factory.mktemp("deb") / "tree")


def test_it_is_small(checks: Checks, deb: Path) -> None:
    """The whole package, libraries included, stays below five megabytes."""
    assert deb.stat().st_size <= LIMIT


def test_it_depends_on_the_python_that_it_was_built_for(deb: Path) -> None:
    """Compiled libraries are for one Python: no other may be installed under them."""
    depends = control_field(deb, "Depends")
    assert "python3 (>= 3.11~)" in depends
    assert "python3 (<< 3.12~)" in depends


def test_files_are_root_s_and_nobody_else_may_write_them(tree: Path) -> None:
    """Plain files and directories of root, the usual modes, nothing set-uid, no link that leads out."""
    for path in tree.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        if path.is_symlink():
            assert path.exists(), path
        else:
            assert f"{status.st_mode & 0o7777:o}" in {"644", "755"}, path


def test_libraries_come_without_what_only_builders_need(tree: Path) -> None:
    """No byte code of the build, no C sources, no note of where pip took a library from, no programs."""
    names = {path.name for path in (tree / "usr/lib/wolverine").rglob("*")}
    assert not names & {"__pycache__", "RECORD", "direct_url.json", "INSTALLER", "bin", "py.typed"}
    assert not [name for name in names if name.endswith((".c", ".h", ".pyi", ".pyc"))]


def test_the_licence_files_of_libraries_stay(tree: Path) -> None:
    """Each library's own licence file is in the package, beside debian/copyright that sums them up."""
    infos = sorted((tree / "usr/lib/wolverine/vendor").glob("*.dist-info"))
    told = (tree / "usr/share/doc/wolverined/copyright").read_text()
    for info in infos:
        name = info.name.rsplit("-", 1)[0].removesuffix(".dist-info").split("-")[0]
        assert f"vendor/{name}-*.dist-info/*" in told, name
        assert [path for path in info.rglob("*") if re.match(r"(?i)licen[cs]e|copying", path.name)], name
    assert len(infos) == told.count(".dist-info/*")


def test_a_licence_that_a_library_declares_is_the_one_that_is_told(tree: Path) -> None:
    """What the wheels say of their licence, in SPDX's words, is what debian/copyright says in Debian's."""
    debian = {"MIT": "Expat", "GPL-2.0-or-later": "GPL-2+"}
    told = (tree / "usr/share/doc/wolverined/copyright").read_text().split("\n\n")
    for metadata in (tree / "usr/lib/wolverine/vendor").glob("*.dist-info/METADATA"):
        text = metadata.read_text()
        found = re.search(r"(?m)^License(?:-Expression)?: (\S.*)$", text)
        declared = found[1] if found and found[1] != "UNKNOWN" else "MIT"
        if not found or found[1] == "UNKNOWN":
            assert "License :: OSI Approved :: MIT License" in text, metadata
        names = sorted(debian.get(word, word) for word in declared.split(" OR "))
        glob = f"vendor/{metadata.parent.name.split('-')[0]}-*"
        [stanza] = [stanza for stanza in told if glob in stanza]
        assert sorted(re.search(r"(?m)^License: (.*)$", stanza)[1].split(" or ")) == names, glob  # type: ignore[index]


def test_the_package_s_own_test_passes(base: Path, deb: Path) -> None:
    """autopkgtest: the smoke test of debian/tests, in a machine with the package installed."""
    tools = ensure_layer("autopkgtest", lower=[base], script=installing("autopkgtest", "dpkg-dev"))
    with Machine([ensure_installed(deb, lower=[tools, base]), tools, base], name="autopkg") as machine:
        machine.push(TOP / "debian", "/root/src/debian")
        done = machine.run(["autopkgtest", "--no-built-binaries", "-B", "/root/src/", "--", "null"], check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"(?m)^smoke\s+PASS", done.stdout + done.stderr)


def test_built_elsewhere_it_is_the_same(checks: Checks) -> None:
    """Another user, directory, time zone, language, umask and cache give the same package, bit for bit."""
    packages = []
    for process in (checks.here, checks.elsewhere):
        code, words = words_of(process, "dpkg-dev")
        assert code == 0, words
        packages.append(Path(words.splitlines()[-1]))
    assert packages[0] != packages[1]
    assert packages[0].read_bytes() == packages[1].read_bytes()


def test_lintian_finds_nothing(checks: Checks) -> None:
    """Neither an error nor a warning; each override has its reason beside it."""
    code, words = words_of(checks.lintian, "lintian")
    assert code == 0, words
    assert not re.search(r"(?m)^[EW]:", words)


def test_piuparts_finds_nothing(checks: Checks) -> None:
    """Installed, removed and purged in a bare root it leaves no file, no directory and no broken link."""
    code, words = words_of(checks.piuparts, "piuparts")
    assert code == 0, words[-4000:]
    assert "PASS: All tests" in words
