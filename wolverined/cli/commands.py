# SPDX-License-Identifier: MIT
"""The table of commands, and the way from a command line to the one module that serves it."""

from __future__ import annotations

from importlib import import_module

from wolverined.errors import Unreachable, UsageError

MODULES = {
    "status": "status",
    "list": "status",
    "is-active": "status",
    "is-healthy": "status",
    "start": "lifecycle",
    "stop": "lifecycle",
    "restart": "lifecycle",
    "reload": "lifecycle",
    "reexec": "lifecycle",
    "hold": "lifecycle",
    "heal": "heal",
    "incidents": "incidents",
    "repairs": "repairs",
    "diff": "repairs",
    "approve": "repairs",
    "reject": "repairs",
    "rollback": "repairs",
    "backups": "backups",
    "logs": "streams",
    "events": "streams",
    "usage": "usage",
    "config": "setup",
    "init": "setup",
    "doctor": "setup",
}
"""Command -> module of `wolverined.cli`; each has a table `COMMANDS` of its own."""

_TAKES_VALUE = ("--runtime-dir", "--color")
_GLOBAL = (*_TAKES_VALUE, "--json")


def dispatch(argv: list[str]) -> int:
    """Run the command of `argv`; its exit code."""
    before, name, after = split(argv)
    if not name:
        return _without_command(before)
    if name not in MODULES:
        raise UsageError(f"there is no command {name!r}", hint=_nearest(name))
    module = import_module(f"wolverined.cli.{MODULES[name]}")
    command = module.COMMANDS[name]

    from wolverined.cli.options import Invocation, parser_of
    from wolverined.cli.terminal import Terminal

    args = parser_of(name, command).parse_intermixed_args([*before, *after])
    invocation = Invocation(name=name, usage=command.usage, args=args, terminal=Terminal.of_process(args.color))
    try:
        code = command.run(invocation)
    except Unreachable as error:
        from wolverined.cli import absent

        if not (about := absent.named(invocation)):
            raise
        raise absent.explained(error, about, command=name) from error
    assert isinstance(code, int)
    return code


def split(argv: list[str]) -> tuple[list[str], str, list[str]]:
    """Options before the command, the command (empty when there is none), what follows it."""
    before: list[str] = []
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        word = argv[position]
        if word.partition("=")[0] not in (*_GLOBAL, "-h", "--help", "--version"):
            raise UsageError(f"there is no option {word} before a command", hint="wolverinectl --help")
        taken = 2 if word in _TAKES_VALUE else 1
        before += argv[position : position + taken]
        position += taken
    return before, "".join(argv[position : position + 1]), argv[position + 1 :]


def help_text() -> str:
    """What `wolverinectl --help` says."""
    lines = [
        "usage: wolverinectl [--runtime-dir DIR] [--json] [--color WHEN] COMMAND [...]",
        "",
        "Shows and steers applications that wolverined supervises.",
        "",
        "commands:",
    ]
    for name, module in MODULES.items():
        command = import_module(f"wolverined.cli.{module}").COMMANDS[name]
        lines += [f"  {command.usage}", f"      {command.about}"]
    lines += [
        "",
        "options:",
        "  --runtime-dir DIR   the one instance's own directory (or WOLVERINE_RUNTIME_DIR); NAME may then be left out",
        "  --json              print JSON",
        "  --color WHEN        auto, always or never (NO_COLOR is obeyed)",
        "  --version           print the version",
        "  -h, --help          show this text; wolverinectl COMMAND --help explains one command",
        "",
        "exit codes: 0 done, 1 failed, 2 usage, 3 not active or healthy, 4 no such instance, 5 daemon unreachable,",
        "6 permission, 7 timed out",
    ]
    return "\n".join(lines)


def _without_command(options: list[str]) -> int:
    if "--version" in options:
        from wolverined import __version__

        print(f"wolverinectl {__version__}")
        return 0
    if "-h" in options or "--help" in options:
        print(help_text())
        return 0
    raise UsageError("which command?", hint="wolverinectl --help")


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, MODULES, n=1)
    return f"did you mean {near[0]}?" if near else "wolverinectl --help"
