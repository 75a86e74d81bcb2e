# SPDX-License-Identifier: MIT
"""When a name is a misspelling of another."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.heal.remedies.near import agreed, differ, distance, fold, kindred, near, nearest, slips

NAMES = st.text(alphabet=string.ascii_letters + "_12", min_size=0, max_size=24)


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [
        ("", "", 0),
        ("ab", "", 2),
        ("users", "userz", 1),
        ("items", "itmes", 1),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),
    ],
)
def test_the_distance_counts_slips_of_the_hand(a: str, b: str, count: int) -> None:
    """A letter more, less, or other, and two neighbours swapped, are one slip each."""
    assert distance(a, b, limit=9) == count


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("userz", "users"),
        ("usrs", "users"),
        ("databse", "database"),
        ("toUppercase", "toUpperCase"),
        ("fetch_usrs", "fetch_users"),
        ("getusers", "get_users"),
        ("calcualteTotl", "calculateTotal"),
        ("lod", "load"),
        ("pritn", "print"),
    ],
)
def test_a_misspelt_name_is_known_among_others(wrong: str, right: str) -> None:
    """The one near name is found whatever else there is."""
    assert nearest(wrong, [right, "somethingElse", "x", "unrelated_name"]) == right


@pytest.mark.parametrize(
    ("wrong", "other"),
    [
        ("getItem", "setItem"),
        ("user", "users"),
        ("item1", "item2"),
        ("host", "post"),
        ("x", "y"),
        ("get", "set"),
        ("amp", "Map"),
        ("ab", "abc"),
        ("alpha", "omega"),
        ("same", "same"),
    ],
)
def test_another_name_is_no_misspelling(wrong: str, other: str) -> None:
    """Other digits, other words of the trade, other short words, and the name itself are not near."""
    assert nearest(wrong, [other]) is None


def test_a_tie_is_no_answer() -> None:
    """Two names that are as near leave nothing to choose; case alone may tell them apart."""
    assert nearest("userz", ["userx", "usery"]) is None
    assert near("userz", ["userx", "usery"]) == ("userx", "usery")
    assert nearest("userz", ["users", "USERS"]) == "users"


def test_a_hint_counts_only_when_the_names_agree() -> None:
    """The runtime's suggestion is taken from names that exist, and not where two are as near."""
    assert agreed("userz", {"users"}, "users") == "users"
    assert agreed("userz", {"userx", "usery"}, "userx") is None
    assert agreed("usr_cnt", {"user_count"}, "user_count") == "user_count"
    assert agreed("userz", {"users"}, "eval") is None
    assert agreed("userz", {"exec"}, "exec") is None
    assert agreed("lods", set(), "loads", complete=False) == "loads"
    assert agreed("lods", set(), "system", complete=False) is None
    assert agreed("ln", {"l", "len"}, "l") is None


def test_another_verb_for_the_same_is_known_in_closed_sets() -> None:
    """`fetchUsers` is `getUsers`, unless two verbs fit."""
    assert kindred("fetchUsers", ["getUsers", "getItems"]) == "getUsers"
    assert kindred("fetch_users", ["load_users"]) == "load_users"
    assert kindred("fetchUsers", ["getUsers", "loadUsers"]) is None
    assert kindred("fetchUsers", ["deleteUsers", "getUser"]) is None
    assert kindred("fetch", ["get"]) is None


@given(NAMES, NAMES)
def test_nearness_is_symmetric(a: str, b: str) -> None:
    """Whether two names are near does not depend on which is wrong."""
    assert slips(a, b) == slips(b, a)
    assert differ(a, b) == differ(b, a)


@given(NAMES, NAMES, st.integers(min_value=0, max_value=6))
def test_the_distance_keeps_its_limit(a: str, b: str, limit: int) -> None:
    """A distance within the limit is exact, any other is one more than the limit."""
    assert distance(a, b, limit=limit) == min(distance(a, b, limit=60), limit + 1)


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=6), st.text(max_size=40))
def test_any_text_is_a_name_without_trouble(wrong: str, names: list[str], hint: str) -> None:
    """No text makes it fail, and an answer is always one of the names, or the hint."""
    assert nearest(wrong, names) in (None, *names)
    assert kindred(wrong, names) in (None, *names)
    assert agreed(wrong, names, hint, complete=False) in (None, hint, *names)
    assert fold(fold(wrong)) == fold(wrong)
