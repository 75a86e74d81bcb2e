# SPDX-License-Identifier: MIT
"""Takes a line that was written for a shell apart: words, variables, what stands before the program (pure).

wolverined runs programs, not shells. What only a shell could do is refused with the reason; what has a
key of its own in the configuration (variables, files of variables, a directory) is handed over as such.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import msgspec

from wolverined.config.projects.project import Refused

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-=]([^{}]*))?\})")
_OPERATORS = re.compile(r"[;&|<>()]+")
_PLAIN_PREFIXES = {"exec", "nohup", "time", "cross-env", "cross-env-shell"}
_RUNNERS = {
    ("npx",): ("-y", "--yes", "--no-install", "--"),
    ("pnpx",): (),
    ("bunx",): (),
    ("pnpm", "exec"): ("--",),
    ("yarn", "exec"): ("--",),
    ("npm", "exec"): ("-y", "--yes", "--"),
    ("poetry", "run"): (),
    ("pipenv", "run"): (),
    ("uv", "run"): ("--frozen", "--no-sync", "--"),
    ("pdm", "run"): (),
    ("rye", "run"): (),
    ("hatch", "run"): (),
}
_MAX_WORDS = 200


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line taken apart: the program's words, and what was said around them."""

    words: tuple[str, ...]
    environment: dict[str, str] = {}
    environment_file: str = ""
    directory: str = ""
    notes: tuple[str, ...] = ()


class _Reader:
    """Takes prefixes off a list of words, noting what each of them means."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self.environment: dict[str, str] = {}
        self.environment_file = ""
        self.directory = ""
        self.notes: list[str] = []
        self.used: set[str] = set()

    def assign(self, words: list[str]) -> list[str]:
        """Take VARIABLE=value words off the front."""
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            self.environment[found[1]] = self.expand(found[2])
            words = words[1:]
        return words

    def expand(self, word: str) -> str:
        """Put values for the variables of a word.

        Raises:
            Refused: A value is not known, or only a shell could find it.
        """
        if "`" in word or "$(" in word:
            raise Refused("runs a command inside the command, for which it would need a shell")

        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            known = self.environment.get(name, self.known.get(name, found[3]))
            if known is None:
                raise Refused(f"needs the variable {name}, whose value is not known here")
            self.used.add(name)
            return known

        expanded = _VARIABLE.sub(value, word)
        if "$" in _VARIABLE.sub(lambda found: found[3] or "", word):
            raise Refused(f"holds {word!r}, which only a shell can expand")
        if word.startswith("~") or re.search(r"[*?]", word):
            raise Refused(f"holds {word!r}, which only a shell can expand")
        return expanded

    def strip(self, words: list[str]) -> list[str]:
        """Take everything off that stands before the program."""
        for _ in range(20):  # a line has an end
            before = words
            words = self.assign(words)
            if not words:
                raise Refused("names no program")
            words = self._strip_one(words)
            if words is before:
                return words
        raise Refused("has too many programs before the one that it means")

    def _strip_one(self, words: list[str]) -> list[str]:
        first = words[0]
        if first in _PLAIN_PREFIXES:
            return words[1:]
        if first == "env":
            if len(words) > 1 and words[1].startswith("-"):
                raise Refused(f"uses env {words[1]}, which has no counterpart in the configuration")
            return words[1:]
        if first == "sudo":
            raise Refused("uses sudo; say who runs it by app.user")
        for runner, options in _RUNNERS.items():
            if tuple(words[: len(runner)]) == runner:
                words = words[len(runner) :]
                while words and words[0] in options:
                    words = words[1:]
                if words and words[0].startswith("-"):
                    raise Refused(f"uses {' '.join(runner)} {words[0]}, which has no counterpart in the configuration")
                return words
        if first in {"dotenv", "env-cmd", "dotenvx"}:
            return self._strip_dotenv(first, words[1:])
        return words

    def _strip_dotenv(self, program: str, words: list[str]) -> list[str]:
        """`dotenv [-e FILE] [--] X`, `dotenv -f FILE run X`, `env-cmd [-f FILE] X`, `dotenvx run [-f FILE] -- X`."""
        file = ".env"
        while words and (words[0].startswith("-") or words[0] == "run"):
            if words[0] in {"-e", "-f", "--file", "--env-file"} and len(words) > 1:
                file, words = words[1], words[2:]
            elif words[0] in {"--", "run"}:
                words = words[1:]
            else:
                raise Refused(
                    f"uses {program} {words[0]}, which has no counterpart here: "
                    "put the variables into one file and name it as app.environment_file"
                )
        if self.environment_file:
            raise Refused("reads two files of variables; app.environment_file names one")
        self.environment_file = self.expand(file)
        return words


def take_apart(line: str, *, known: Mapping[str, str]) -> Line:
    """The program that a shell line ends in.

    Args:
        line: As it stands in package.json, a Procfile or a task runner's table.
        known: Values of variables that it may use, such as PORT.

    Raises:
        Refused: It needs a shell.
    """
    *before, last = _parts(line)
    reader = _Reader(known)
    for words in before:
        _prepare(words, reader)
    words = [reader.expand(word) for word in reader.strip(last)]
    for name in sorted(reader.used & set(known)):
        if name != "PORT":
            reader.notes.append(f"${name} of the line became {known[name]}")
    return Line(
        words=tuple(words),
        environment=reader.environment,
        environment_file=reader.environment_file,
        directory=reader.directory,
        notes=tuple(reader.notes),
    )


def _parts(line: str) -> list[list[str]]:
    """The words between `&&`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise Refused(f"cannot be read: {str(error).lower()}") from error
    if len(words) > _MAX_WORDS:
        raise Refused("is too long")
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            parts.append([])
        elif _OPERATORS.fullmatch(word) and word != "()":
            raise Refused(f"needs a shell for {word!r}")
        else:
            parts[-1].append(word)
    if not all(parts):
        raise Refused("names no program")
    return parts


def _prepare(words: list[str], reader: _Reader) -> None:
    """What stands before `&&`: a directory, variables, or work that belongs to a deploy."""
    if words[0] == "cd" and len(words) == 2:  # noqa: PLR2004
        if words[1].startswith(("/", "-")) or ".." in words[1].split("/"):
            raise Refused(f"changes to {words[1]}, outside of the project")
        reader.directory = f"{reader.directory}/{reader.expand(words[1])}".strip("/")
    elif words[0] == "export":
        if reader.assign(words[1:]):
            raise Refused("uses export in a way that only a shell understands")
    elif words[0] in {"source", ".", "set", "trap", "if", "for", "while"}:
        raise Refused(f"needs a shell for {words[0]!r}")
    else:
        reader.notes.append(
            f"`{shlex.join(words)}` stood before it and is not run at each start: run it when you deploy"
            " (heal.build_command runs it after a repair)"
        )
