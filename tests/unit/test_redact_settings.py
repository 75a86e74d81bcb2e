# SPDX-License-Identifier: MIT
"""Settings files: which secrets stand in one, and a version of it that holds none."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from wolverined.redact import Redactor, secrets_of_files, with_fakes
from wolverined.redact.settings import fake, settings

TEXT = """
# the shop
NODE_ENV=production
PORT=3000
export API_TOKEN="tok-Abc123 # no comment"
SHORT_PASSWORD=abcd   # a comment
DATABASE_URL=postgres://shop:s3cretpw@db.example.org:5432/shop
TITLE='My shop'
SIGNING_KEY="-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
-----END PRIVATE KEY-----"
ONE_LINE_KEY="-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgk\\n-----END PRIVATE KEY-----"
INNOCENT=9f86d081884c7d659a2feaa0c55ad015
SESSION_SECRET=9f86d081884c7d65
AWS=AKIAIOSFODNN7EXAMPLE
FEATURE_TOKENS=true
"""
SECRETS = (
    "tok-Abc123",
    "abcd",
    "s3cretpw",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "MIIEvQIBADANBgk",
    "9f86d081884c7d659a2feaa0c55ad015",
    "9f86d081884c7d65",
    "AKIAIOSFODNN7EXAMPLE",
)


def test_a_version_with_fakes_holds_no_secret_and_still_boots() -> None:
    """Every secret is another value of its shape; names, plain settings, hosts and lines stay."""
    told = with_fakes(TEXT)
    assert not [secret for secret in SECRETS if secret in told]
    assert [one.name for one in settings(told)] == [one.name for one in settings(TEXT)]
    assert len(told) == len(TEXT)
    assert told.count("\n") == TEXT.count("\n")
    values = {one.name: one.value for one in settings(told)}
    assert values["NODE_ENV"] == "production"
    assert values["PORT"] == "3000"
    assert values["TITLE"] == "My shop"
    assert values["FEATURE_TOKENS"] == "true"
    assert values["DATABASE_URL"] == "postgres://shop:x0xxxxxx@db.example.org:5432/shop"
    assert values["SESSION_SECRET"] == "0a00a000000a0a00"
    assert values["SIGNING_KEY"].startswith("-----BEGIN PRIVATE KEY-----\nXXXXxX")
    assert values["ONE_LINE_KEY"].count("\\n") == 2


def test_a_redactor_knows_what_a_settings_file_holds() -> None:
    """Quotes, comments and line ends are not part of the value that a program prints."""
    redactor = Redactor(secrets_of_files((TEXT,), besides={"API_TOKEN": "another-one"}))
    for secret in ("tok-Abc123 # no comment", "s3cretpw", "9f86d081884c7d659a2feaa0c55ad015", "another-one"):
        assert secret not in redactor.text(f"it failed with {secret} in hand")
    printed = "key is MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
    assert "MIIE" not in redactor.text(printed)
    assert redactor.text("production on 3000") == "production on 3000"


@given(st.text(alphabet="AKEYTOKEN_=\"'`\\\n #:abc19/-@", max_size=400))
def test_any_text_is_read(text: str) -> None:
    """Half-written, hostile, empty: no error, the same lines, the same names, and twice is as once."""
    told = with_fakes(text)
    assert told.count("\n") == text.count("\n")
    assert with_fakes(told) == told


@given(st.text(max_size=200))
def test_a_fake_has_the_length_of_its_secret(secret: str) -> None:
    """What only looks at the length of a key takes a fake."""
    assert len(fake(secret)) == len(secret)


def test_a_hostile_file_takes_no_time() -> None:
    """Quotes that nobody closes, on every line."""
    started = time.process_time()
    with_fakes('A="\n' * 20_000)
    assert time.process_time() - started < 20
