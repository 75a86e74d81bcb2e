# SPDX-License-Identifier: MIT
"""The app's environment: made from nothing, in the order that the design fixes.

The base of a login, then `environment_file`, then `[app.environment]`, then what wolverined tells the
app. Of the supervisor's own environment only PATH, LANG and TZ pass. Reads the environment file and
looks at permissions; decides nothing else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import msgspec

from wolverined.config.schema import Config
from wolverined.errors import SpawnError
from wolverined.linux.credentials import Credentials
from wolverined.linux.workers import read_capacity, recommend

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_FILE_BYTES = 256 << 10  # it is read and parsed in the loop, at each start
_ENTER = (stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH)

REPORT_SOCKET = Path("app/report.sock")
"""Where the hooks report, below the runtime directory."""

NOTIFY_SOCKET = Path("app/notify.sock")
"""Where the app tells of itself (sd_notify), below the runtime directory."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one line of an environment file."""

    line: int
    message: str


def build_environment(
    config: Config,
    *,
    credentials: Credentials,
    generation: int,  # noqa: ARG001 - every caller says which run it is for; nothing differs by it today
    runtime_dir: Path,
    base: Mapping[str, str],
    hooks_dir: Path | None = None,
    workers: int | None = None,
) -> dict[str, str]:
    """The whole environment of the next generation.

    Args:
        config: The configuration.
        credentials: The app's user.
        generation: The number of that generation.
        runtime_dir: Where our sockets for the app lie.
        base: The supervisor's environment; PATH, LANG and TZ are taken from it.
        hooks_dir: Where the reporters lie; None: the app reports nothing.
        workers: The recommended number of workers; None: found out from the machine.

    Raises:
        SpawnError: The environment file cannot be read, or a line of it cannot be understood.
    """
    environment = {
        "HOME": credentials.home,
        "USER": credentials.name,
        "LOGNAME": credentials.name,
        "SHELL": credentials.shell,
        "PATH": base.get("PATH") or _PATH,
        "LANG": base.get("LANG") or "C.UTF-8",
    }
    if base.get("TZ"):
        environment["TZ"] = base["TZ"]
    if config.app.environment_file is not None:
        environment |= read_environment_file(config.app.environment_file)
    environment |= config.app.environment
    environment |= _told(config, runtime_dir=runtime_dir, workers=workers)
    if hooks_dir is not None:
        environment |= _hooks(environment, hooks_dir, credentials)
    return environment


def _told(config: Config, *, runtime_dir: Path, workers: int | None) -> dict[str, str]:
    count = config.cluster.workers or workers or recommend(read_capacity())
    told = {
        "WOLVERINE_MANAGED": "1",
        "WOLVERINE_RECOMMENDED_WORKERS": str(count),
        "WOLVERINE_REPORT_SOCKET": str(runtime_dir / REPORT_SOCKET),
    }
    if config.app.port is not None:
        told["PORT"] = str(config.app.port)
    if config.cluster.enabled:
        told["WOLVERINE_CLUSTER"] = "true"
    if config.probe.notify:
        told["NOTIFY_SOCKET"] = str(runtime_dir / NOTIFY_SOCKET)
        # sd_watchdog_enabled(3): without a period libraries never send WATCHDOG=1. No WATCHDOG_PID, so
        # that a worker may send it too. Silence counts only once the app has sent the first one.
        told["WATCHDOG_USEC"] = str(int(config.probe.interval_s * config.probe.failures * 1_000_000))
    return told


def _hooks(environment: Mapping[str, str], hooks_dir: Path, credentials: Credentials) -> dict[str, str]:
    added = {}
    reporter = hooks_dir / "node" / "reporter.cjs"
    if may_read(reporter, credentials):
        options = environment.get("NODE_OPTIONS", "")
        added["NODE_OPTIONS"] = f"{options} --require {_node_quoted(str(reporter))}".lstrip()
    if may_reach(hooks_dir / "python", credentials):
        before = environment.get("PYTHONPATH", "")
        added["PYTHONPATH"] = str(hooks_dir / "python") + (f":{before}" if before else "")
    return added


def _node_quoted(path: str) -> str:
    # Node splits NODE_OPTIONS at spaces and knows double quotes with backslash escapes in them.
    if not re.search(r'[\s"\\]', path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def may_read(file: Path, credentials: Credentials) -> bool:
    """Whether that user may read a file, and enter every directory on the way to it."""
    groups = credentials.groups() | {credentials.gid}
    try:
        info = file.stat()
    except OSError:
        return False
    bits = (stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH)
    return (
        stat.S_ISREG(info.st_mode) and _may(info, bits, credentials.uid, groups) and may_reach(file.parent, credentials)
    )


def may_reach(path: Path, credentials: Credentials) -> bool:
    """Whether that user may enter the directory and everything above it.

    A hook that the app cannot read would keep it from booting, which is worse than no reports.
    """
    groups = credentials.groups() | {credentials.gid}
    try:
        resolved = path.resolve(strict=True)
        return all(_may(part.stat(), _ENTER, credentials.uid, groups) for part in (resolved, *resolved.parents))
    except OSError:
        return False


def _may(info: os.stat_result, bits: tuple[int, int, int], uid: int, groups: frozenset[int]) -> bool:
    """Whether the bit that counts for that user (as owner, by group, or as anyone) is set."""
    owner, group, other = bits
    if info.st_uid == uid:
        return bool(info.st_mode & owner)
    if info.st_gid in groups:
        return bool(info.st_mode & group)
    return bool(info.st_mode & other)


def read_environment_file(path: Path) -> dict[str, str]:
    """Read and parse one environment file.

    Raises:
        SpawnError: It cannot be read, or a line of it cannot be understood.
    """
    try:
        data = _read(path)
        text = data.decode("utf-8")
    except OSError as error:
        raise SpawnError(
            f"cannot read the environment file {path}: {error.strerror}",
            hint="make it readable for the user that wolverined runs as, or remove app.environment_file",
        ) from error
    except UnicodeDecodeError as error:
        raise SpawnError(f"the environment file {path} is not UTF-8", hint="save it as UTF-8") from error
    if len(data) > _FILE_BYTES:
        raise SpawnError(f"the environment file {path} is larger than 256 KiB", hint="is it the right file?")
    values, problems = parse_environment_file(text)
    if problems:
        said = "; ".join(f"line {problem.line}: {problem.message}" for problem in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""  # noqa: PLR2004 - as many as were said
        raise SpawnError(f"the environment file {path} has a mistake: {said}{more}", hint="write lines of KEY=VALUE")
    return values


def _read(path: Path) -> bytes:
    """The file's bytes, one more than allowed at most. Never waits: this runs in the loop."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SpawnError(
                f"the environment file {path} is no regular file", hint="a pipe, a socket or a device cannot be used"
            )
        return file.read(_FILE_BYTES + 1)


def parse_environment_file(text: str) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Parse lines of KEY=VALUE, the way systemd and dotenv files agree on; nothing is expanded.

    Empty lines and lines that begin with `#` or `;` are skipped, a leading `export` is allowed. A value may
    stand in single quotes (taken as it is) or double quotes (backslash escapes); quoted values may span
    lines. An unquoted value ends at the line's end or at a `#` after a space. A later key wins.

    Returns:
        The variables, and what is wrong with which line (a value is never repeated in a message).
    """
    values: dict[str, str] = {}
    problems: list[Problem] = []
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = text.split("\n")
    begins = [0, *accumulate(len(line) + 1 for line in lines)]
    index = 0
    while index < len(lines):
        number, line = index + 1, lines[index].strip()
        index += 1
        if not line or line[0] in "#;":
            continue
        key, equals, raw = line.removeprefix("export ").partition("=")
        key, raw = key.rstrip(), raw.lstrip()
        if not equals:
            problems.append(Problem(number, "there is no '='"))
            continue
        if not _NAME.fullmatch(key):
            problems.append(Problem(number, "what stands before '=' is no name of a variable"))
            continue
        if raw[:1] in {"'", '"'}:
            # Only a quoted value takes the lines as they are, with the spaces at their ends.
            value, used, problem = _quoted(text, text.index(raw[0], text.index("=", begins[number - 1])))
            index += used
        else:
            value, problem = re.sub(r"\s+#.*$", "", raw).rstrip(), ""
        if "\0" in value:
            problem = "a value cannot hold a NUL byte"
        if problem:
            problems.append(Problem(number, problem))
        else:
            values[key] = value
    return values, tuple(problems)


def _quoted(body: str, begin: int) -> tuple[str, int, str]:
    """The quoted value that begins there, how many further lines it takes, and what is wrong."""
    quote, position = body[begin], begin + 1
    out: list[str] = []
    while position < len(body):
        char = body[position]
        if char == quote:
            end = body.find("\n", position)
            rest = body[position + 1 : end if end >= 0 else None].strip()
            wrong = "something follows the closing quote" if rest and rest[0] != "#" else ""
            return "".join(out), body.count("\n", begin, position), wrong
        if char == "\\" and quote == '"' and position + 1 < len(body):
            position += 1
            following = body[position]
            out.append("" if following == "\n" else _ESCAPES.get(following, following))
        else:
            out.append(char)
        position += 1
    return "", body.count("\n", begin), "the closing quote is missing"  # nor is anything after it looked at
