# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.config.projects.project import Refused
from wolverined.config.projects.shellline import Line, take_apart

KNOWN = {"PORT": "3000"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("node server.js", {"words": ("node", "server.js")}),
        ("  node   'a b.js'  \"c d\" ", {"words": ("node", "a b.js", "c d")}),
        ("NODE_ENV=production node x", {"words": ("node", "x"), "environment": {"NODE_ENV": "production"}}),
        ("cross-env A=1 B='2 3' node x", {"words": ("node", "x"), "environment": {"A": "1", "B": "2 3"}}),
        ("env A=1 exec node x", {"words": ("node", "x"), "environment": {"A": "1"}}),
        ("exec env A=1 nohup node x", {"words": ("node", "x"), "environment": {"A": "1"}}),
        ("npx --no-install next start", {"words": ("next", "start")}),
        ("pnpm exec tsx x", {"words": ("tsx", "x")}),
        ("poetry run gunicorn app:app", {"words": ("gunicorn", "app:app")}),
        ("uv run --frozen uvicorn a:b", {"words": ("uvicorn", "a:b")}),
        ("dotenv -- node x", {"words": ("node", "x"), "environment_file": ".env"}),
        ("dotenv -e .env.prod -- node x", {"words": ("node", "x"), "environment_file": ".env.prod"}),
        ("dotenv -f .env.prod run gunicorn a:b", {"words": ("gunicorn", "a:b"), "environment_file": ".env.prod"}),
        ("env-cmd -f prod.env node x", {"words": ("node", "x"), "environment_file": "prod.env"}),
        ("dotenvx run -f p.env -- node x", {"words": ("node", "x"), "environment_file": "p.env"}),
        ("cd server && node index.js", {"words": ("node", "index.js"), "directory": "server"}),
        ("cd a && cd b && node x", {"words": ("node", "x"), "directory": "a/b"}),
        ("export A=1 && node x", {"words": ("node", "x"), "environment": {"A": "1"}}),
        ("gunicorn -b 0.0.0.0:$PORT a:b", {"words": ("gunicorn", "-b", "0.0.0.0:3000", "a:b")}),
        ("serve -l ${PORT}", {"words": ("serve", "-l", "3000")}),
        ("serve -l ${LISTEN:-8080}", {"words": ("serve", "-l", "8080")}),
        ("A=5 serve -l $A", {"words": ("serve", "-l", "5"), "environment": {"A": "5"}}),
        ("PORT=5000 node x", {"words": ("node", "x"), "environment": {"PORT": "5000"}}),
    ],
)
def test_lines_that_are_understood(line: str, expected: dict[str, Any]) -> None:
    """The program's words, and what was said around them."""
    taken = take_apart(line, known=KNOWN)
    for key, value in expected.items():
        assert getattr(taken, key) == value
    for key in {"environment", "environment_file", "directory"} - expected.keys():
        assert not getattr(taken, key)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("node x | tee log", "needs a shell for '|'"),
        ("node x > log 2>&1", "needs a shell"),
        ("node x &", "needs a shell for '&'"),
        ("node a ; node b", "needs a shell for ';'"),
        ("node a || node b", "needs a shell for '||'"),
        ("(node a)", "needs a shell"),
        ("node `cat x`", "would need a shell"),
        ("node $(cat x)", "needs a shell"),
        ("node *.js", "only a shell can expand"),
        ("node ~/x.js", "only a shell can expand"),
        ("node $1", "only a shell can expand"),
        ("node ${A:-$B}", "only a shell can expand"),
        ("node ${A:+b}", "only a shell can expand"),
        ("node --x=$UNKNOWN", "needs the variable UNKNOWN"),
        ("sudo node x", "app.user"),
        ("env -i node x", "env -i"),
        ("dotenv -c production -- node x", "app.environment_file"),
        ("dotenv -e a -- dotenv -e b -- node x", "two files of variables"),
        ("npx --package=x y", "npx --package=x"),
        ("cd .. && node x", "outside of the project"),
        ("cd /srv && node x", "outside of the project"),
        ("source .env && node x", "needs a shell for 'source'"),
        ("set -a && . .env && node x", "needs a shell for 'set'"),
        ("if true && node x", "needs a shell"),
        ("node 'x", "cannot be read"),
        ("", "names no program"),
        ("A=1", "names no program"),
        ("node x &&", "names no program"),
        ("exec " * 50 + "node x", "too many programs"),
        ("x " * 500, "too long"),
    ],
)
def test_lines_that_only_a_shell_understands(line: str, reason: str) -> None:
    """What cannot be told is refused with the reason, never guessed."""
    with pytest.raises(
        Refused, match="(?s)" + "".join(f"[{char}]" if char in "$|.*()+?[{" else char for char in reason)
    ):
        take_apart(line, known=KNOWN)


def test_work_before_the_start_is_said() -> None:
    """A build before `&&` is no part of every start."""
    (note,) = take_apart("npm run build && node dist/x.js", known={}).notes
    assert "`npm run build`" in note
    assert "when you deploy" in note


@given(st.text(alphabet="abc$&|;<>(){}'\"`=-~*\\ \n/.#PORT", max_size=60))
def test_no_line_is_run_or_breaks_the_reader(line: str) -> None:
    """Any line becomes plain words or a refusal; no word is left that a shell would have to expand."""
    taken = taken_or_refused(line)
    assert taken is None or taken.words
    assert taken is None or not any("$" in word or "`" in word for word in taken.words)


def taken_or_refused(line: str) -> Line | None:
    """A line taken apart; None when it is refused, as anything may be."""
    try:
        return take_apart(line, known=KNOWN)
    except Refused:
        return None
