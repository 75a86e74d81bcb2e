# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.requests import MAX_GUESSES, MAX_SIBLINGS, guesses, siblings
from wolverined.model import Frame, Request, Snapshot, SourceFile, Trace


def paths(request: Request) -> list[str]:
    """The siblings' paths."""
    return [like.path for like in siblings(request)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/items/7", ["/items/8", "/items/999983", "/items/7?other=999983"]),
        (
            "/items/7/lines/8?full=1",
            ["/items/7/lines/8", "/items/7/lines/9?full=1", "/items/7/lines/999983?full=1"],
        ),
        ("/search?q=a&page=2", ["/search", "/search?page=2", "/search?q=a&page=2&other=999983"]),
        ("/boom", ["/boom?other=999983"]),
        (
            "/u/3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            ["/u/999983", "/u/3f2504e0-4f89-11d3-9a0c-0305e82c3301?other=999983"],
        ),
    ],
)
def test_siblings_of_a_path(path: str, expected: list[str]) -> None:
    """Another id, an empty query, a missing field, and always something that finds a compared URL."""
    assert paths(Request(method="GET", path=path)) == expected


def test_siblings_of_a_body() -> None:
    """An empty body and one without its first field."""
    like = siblings(Request(method="POST", path="/orders", body='{"item": 1, "count": 2}'))
    assert [other.body for other in like] == ["{}", '{"count":2}', '{"item": 1, "count": 2}']
    assert siblings(Request(method="POST", path="/x", body="a=b"))[0].body == ""
    assert siblings(Request(method="POST", path="/x", body="[1]"))[0].body == "[]"


@given(
    st.builds(Request, method=st.sampled_from(["GET", "POST"]), path=st.text(max_size=60), body=st.text(max_size=60))
)
def test_siblings_are_few_and_never_the_request_itself(request: Request) -> None:
    """Whatever the request was: at most three others, all different."""
    like = siblings(request)
    assert len(like) <= MAX_SIBLINGS
    assert request not in like
    assert len({(other.path, other.body) for other in like}) == len(like)


def snapshot(**files: str) -> Snapshot:
    """A snapshot of texts; two underscores stand for a dot."""
    known = {name.replace("__", "."): SourceFile(text.encode(), 0o644) for name, text in files.items()}
    return Snapshot(root="/srv/app", files=known, tree_hash="0")


def test_routes_are_found_where_the_failing_code_is_first() -> None:
    """Paths in the trace's own files come before those of other files; parameters get a value."""
    source = snapshot(
        a__js="app.get('/other', x)",
        b__js="app.get('/items/:id', f); app.post(\"/orders\", g); if (url.startsWith('/users/')) h()",
        c__py="@app.route('/py/<int:number>')",
        d__txt="'/not/code'",
        e__js="require('/usr/lib/x'); fs.read('/etc/passwd'); import('./x'); send('/page.html'); open('/data.db')",
    )
    trace = Trace(language="node", errors=(), frames=(Frame(path="b.js", line=1, own=True),))
    found = [(request.method, request.path) for request in guesses(trace, source, first=["/health"])]
    assert found[0] == ("GET", "/health")
    assert found[1] == ("GET", "/items/1")
    assert found.index(("POST", "/orders")) < found.index(("GET", "/other"))
    assert ("GET", "/users/1") in found
    assert ("GET", "/py/1") in found
    assert not [path for _, path in found if "etc" in path or "not" in path or path.endswith((".html", ".db"))]


@given(st.text(max_size=300))
def test_any_source_gives_few_guesses(text: str) -> None:
    """Source is data: it never raises and never makes more requests than a trial has time for."""
    assert len(guesses(None, snapshot(a__js=text * 5))) <= MAX_GUESSES


def test_a_source_full_of_paths_gives_few_guesses() -> None:
    """The cap holds for a file of thousands of routes."""
    text = "\n".join(f"app.post('/r{number}', f)" for number in range(5000))
    assert len(guesses(None, snapshot(a__js=text))) == MAX_GUESSES
