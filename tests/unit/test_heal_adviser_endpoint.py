# SPDX-License-Identifier: MIT
from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from wolverined.errors import AdviserRefused
from wolverined.heal.adviser.endpoint import DEFAULT_URL, from_environment
from wolverined.heal.adviser.trouble import retry_after


def test_the_default_is_openai_over_https() -> None:
    """A key alone is enough, and it is not in the printed form."""
    endpoint = from_environment({"OPENAI_API_KEY": " sk-1 "})
    assert (endpoint.base_url, endpoint.key) == (DEFAULT_URL, "sk-1")
    assert DEFAULT_URL.startswith("https://")
    assert "sk-1" not in repr(endpoint)


GOOD = ["https://ai.example.org/v1", "http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:1/v1"]


@pytest.mark.parametrize("url", GOOD)
def test_https_anywhere_and_http_on_this_machine(url: str) -> None:
    """Plain HTTP never leaves the machine."""
    assert from_environment({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url}).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://ai.example.org/v1",
        "http://10.0.0.1/v1",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://127.0.0.1@ai.example.org/",
        "https://user:pass@ai.example.org/",
        "https://ai.example.org/?x=1",
        "ftp://ai.example.org/",
        "file:///etc/passwd",
        "ai.example.org/v1",
        "https://",
        "https://[::1",
        "https://host:port/",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    """Clear text to another machine, credentials in the address, other schemes."""
    with pytest.raises(AdviserRefused):
        from_environment({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url})


def test_without_a_key_nothing_is_asked() -> None:
    """The hint names the variable."""
    with pytest.raises(AdviserRefused, match="OPENAI_API_KEY"):
        from_environment({"OPENAI_BASE_URL": DEFAULT_URL})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("99999", 120.0), ("-5", 0.0), ("nan", None), ("inf", None), ("soon", None), ("", None)],
)
def test_retry_after_is_read_within_bounds(value: str, seconds: float | None) -> None:
    """Two minutes at most, nonsense is ours to replace."""
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_may_be_a_date() -> None:
    """RFC 9110 allows one."""
    waited = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert waited is not None
    assert 50 < waited <= 61
