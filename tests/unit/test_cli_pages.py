# SPDX-License-Identifier: MIT
from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from wolverined.__main__ import parser as daemon_parser
from wolverined.cli.commands import MODULES, help_text
from wolverined.cli.options import Command, parser_of

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
CTL_PAGE = PACKAGING / "man" / "wolverinectl.1"
DAEMON_PAGE = PACKAGING / "man" / "wolverined.8"
COMPLETION = PACKAGING / "completion" / "wolverinectl.bash"
COMMON = {"--runtime-dir", "--json", "--color", "-h", "--help"}


def command_of(name: str) -> Command:
    """A command by its name."""
    command = import_module(f"wolverined.cli.{MODULES[name]}").COMMANDS[name]
    assert isinstance(command, Command)
    return command


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser."""
    return {option for action in parser._actions for option in action.option_strings}


def plain(roff: str) -> str:
    """A page without fonts and escapes."""
    return re.sub(r"\\f[A-Z]", "", roff).replace("\\-", "-")


def sections(page: Path) -> dict[str, str]:
    """The sections of a page by title."""
    parts = re.split(r"^\.SH (.+)$", plain(page.read_text("utf-8")), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> set[str]:
    """The options that have a paragraph of their own."""
    heads = re.findall(r"^\.TP\n\.B[RI]? (.*)$", section, flags=re.MULTILINE)
    return {option for head in heads for option in re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", head)}


def commands_of_page() -> dict[str, str]:
    """Usage line -> text, for each command of the page."""
    parts = re.split(r"^\.SS (.+)$", sections(CTL_PAGE)["COMMANDS"], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_page_and_help_have_the_same_commands() -> None:
    """Every command stands in wolverinectl(1) as it is written, and no other."""
    usages = [command_of(name).usage for name in MODULES]
    assert list(commands_of_page()) == usages
    for usage in usages:
        assert f"  {usage}\n" in help_text()


@pytest.mark.parametrize("name", MODULES)
def test_page_and_help_have_the_same_options(name: str) -> None:
    """Every option of a command is described on the page under that command, and no other."""
    command = command_of(name)
    own = options_of(parser_of(name, command)) - COMMON
    assert described(commands_of_page()[command.usage]) == own


def test_options_of_every_command() -> None:
    """The options that every command has are described once, and the short help names them."""
    assert described(sections(CTL_PAGE)["OPTIONS"]) == COMMON | {"--version"}
    for option in COMMON | {"--version"}:
        assert option in help_text()


def test_page_of_the_daemon() -> None:
    """Every option of wolverined stands in wolverined(8), and no other."""
    parser = daemon_parser()
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    page = sections(DAEMON_PAGE)
    commands = re.findall(r"^\.SS (.+)$", page["COMMANDS"], flags=re.MULTILINE)
    assert commands == list(subparsers.choices)
    assert described(page["COMMANDS"]) == options_of(subparsers.choices["run"]) - {"-h", "--help"}
    assert described(page["OPTIONS"]) == options_of(parser)


@pytest.mark.parametrize("page", [CTL_PAGE, DAEMON_PAGE])
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_pages_are_good_roff(page: Path) -> None:
    """Groff has nothing to say about the pages."""
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def complete(line: str, environment: dict[str, str]) -> list[str]:
    """What bash offers at the end of a line."""
    script = (
        'source "$1"; read -ra COMP_WORDS <<<"$2"; if [[ $2 == *" " ]]; then COMP_WORDS+=(""); fi; '
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _wolverinectl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", COMPLETION, line],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=20,
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
BARE = {"PATH": "/usr/bin:/bin"}


@needs_bash
def test_completion_of_commands() -> None:
    """Every command is completed, and no other."""
    assert complete("wolverinectl ", BARE) == sorted(MODULES)
    assert complete("wolverinectl is-", BARE) == ["is-active", "is-healthy"]
    assert complete("wolverinectl --json sta", BARE) == ["start", "status"]


@needs_bash
@pytest.mark.parametrize("name", MODULES)
def test_completion_of_options(name: str) -> None:
    """Each command completes exactly the options that it has."""
    assert complete(f"wolverinectl {name} -", BARE) == sorted(options_of(parser_of(name, command_of(name))))


@needs_bash
def test_completion_of_names_and_ids(tmp_path: Path) -> None:
    """Names come from the runtime directories, ids from the daemon, directories from the disk."""
    (tmp_path / "wolverine" / "shop").mkdir(parents=True)
    (tmp_path / "wolverine" / "blog").mkdir()
    program = tmp_path / "wolverinectl"
    program.write_text('#!/bin/sh\necho "$*" >>"$0.log"\necho \'[{"id":"r1","incident":"i7"},{"id":"r22"}]\'\n')
    program.chmod(0o755)
    environment = {**BARE, "XDG_RUNTIME_DIR": str(tmp_path)}
    assert {"blog", "shop"} <= set(complete("wolverinectl status ", environment))
    assert complete("wolverinectl stop sho", environment) == ["shop"]
    assert complete(f"{program} approve shop r", environment) == ["r1", "r22"]
    assert complete(f"{program} repairs shop ", environment) == ["show"]
    assert complete(f"{program} repairs shop show r2", environment) == ["r22"]
    assert complete(f"{program} --runtime-dir {tmp_path} diff ", environment) == ["r1", "r22"]
    log = (tmp_path / "wolverinectl.log").read_text().splitlines()
    assert log[0] == "repairs shop --json"
    assert log[-1] == f"repairs --runtime-dir {tmp_path} --json"
    assert complete("wolverinectl config ", environment) == ["check"]
    assert "shop" in complete("wolverinectl config check ", environment)
    assert complete("wolverinectl status --color ", environment) == ["always", "auto", "never"]
    assert complete(f"wolverinectl --runtime-dir {tmp_path}/wol", environment) == [f"{tmp_path}/wolverine"]
