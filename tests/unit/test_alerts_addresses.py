# SPDX-License-Identifier: MIT
"""The credential `notify-urls`: what is an address, and what a wrong line says."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.alerts.notifier.addresses import Mail, Webhook, parse
from wolverined.errors import ConfigError

MAIL = "smtps://ops:p%40ss@mail.example.net/?from=w@example.net&to=a@example.net&to=b@example.net"


def test_addresses_are_read_a_line_each() -> None:
    """Comments and empty lines are passed over."""
    text = f"# who\n\nhttps://example.net/hook?x=1 secret=word\n  {MAIL}\nhttp://127.0.0.1:8080/\n"
    hook, mail, local = parse(text)
    assert hook == Webhook(url="https://example.net/hook?x=1", secret="word", where="https://example.net")
    assert isinstance(mail, Mail)
    assert (mail.user, mail.password, mail.port, mail.tls) == ("ops", "p@ss", 465, True)
    assert mail.to == ("a@example.net", "b@example.net")
    assert local == Webhook(url="http://127.0.0.1:8080/", where="http://127.0.0.1")


def test_no_addresses_is_no_error() -> None:
    """An empty credential means: tell nobody."""
    assert parse("") == parse("# nobody\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "http://example.net/hunter2",
        "ftp://hunter2.example.net/",
        "hunter2",
        "https://",
        "https://example.net:99999/hunter2",
        "https://example.net/ hunter2",
        "https://example.net/ secret=",
        "smtp://mail.example.net/hunter2",
        "smtp://mail.example.net/?from=a@b.example",
        "smtp://mail.example.net/?from=hunter2&to=a@b.example",
        "smtp://ops:hunter2@mail.example.net:25/?from=a@b.example&to=a@b.example",
        "smtps://mail.example.net/?from=a@b.example&to=c@d.example%0d%0aBcc:hunter2@e.example",
        "https://[hunter2/",
        "https://example.net:hunter2/",
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_never_shown(line: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigError, match="line 2") as caught:
        parse(f"# first\n{line}\n")
    assert "hunter2" not in str(caught.value)


def test_too_many_addresses_are_refused() -> None:
    """A file of the wrong kind would else become a thousand requests."""
    with pytest.raises(ConfigError, match="at most"):
        parse("https://example.net/\n" * 21)


@given(st.text(max_size=200))
def test_any_text_is_addresses_or_a_config_error(text: str) -> None:
    """Nothing else ever comes out of a credential."""
    with contextlib.suppress(ConfigError):
        assert all(isinstance(one, Webhook | Mail) for one in parse(text))
