# SPDX-License-Identifier: MIT
"""Secrets never leave: known values in every form, shapes of secrets, requests; ordinary text stays."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolverined.model import Request
from wolverined.redact import Redactor, clean, known_secrets, looks_secret

SECRET = 'p@ss/w"rd+ü?1'
RULES_ONLY = Redactor()


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps(json.dumps({"k": SECRET})),
        repr({"k": SECRET}),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        urlencode({"k": SECRET}),
        SECRET.replace('"', "&quot;"),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
        "\x1b[31m" + SECRET[:5] + "\x1b[0m" + SECRET[5:],
        SECRET[:4] + "\u200b" + SECRET[4:],
        SECRET[:5] + "\n" + SECRET[5:],
        SECRET[:5] + "\r\n    " + SECRET[5:9] + "\n" + SECRET[9:],
        SECRET[:5] + "\\\n" + SECRET[5:],
    ],
)
def test_a_known_value_goes_in_every_form(form: str) -> None:
    """Plain, escaped, encoded, coloured, split by line ends: the placeholder stands there instead."""
    redactor = Redactor({"DB": SECRET})
    done = redactor.text(f"before {form} after")
    assert "«secret:DB»" in done
    assert SECRET not in done.replace("\n", "").replace(" ", "")
    assert done.startswith("before ")
    assert done.rstrip().endswith(" after")
    assert redactor.text(done) == done


@given(
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=9, max_size=40),
)
def test_base64_of_text_around_a_secret_shows_nothing_of_it(before: bytes, after: bytes, secret: str) -> None:
    """Wherever the secret stands in what was encoded (as in `user:password`), its characters are gone."""
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    done = Redactor({"S": secret}).text(encoded)
    assert "«secret:S»" in done
    left = "".join(c for c in done.replace("«secret:S»", "") if c.isalnum() or c in "+/=")
    # What is left are the neighbours: at most the characters that hold bits of them.
    assert len(left) <= len(base64.b64encode(before + after)) + 8


@given(st.text(min_size=6, max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_no_known_value_survives(secret: str, before: str, after: str) -> None:
    """Whatever the value and its surroundings, the text that comes out does not hold it."""
    if not clean(secret).strip("\n") or clean(secret) != secret or secret in "«secret:S»":
        return
    done = Redactor({"S": secret}).text(before + secret + after)
    assert (
        secret.strip("\r\n") not in done.replace("«secret:S»", "") or len(secret.strip("\r\n")) < 6 or secret.isalpha()
    )


def test_each_line_of_a_long_value_is_secret_by_itself() -> None:
    """A key of several lines is printed line by line."""
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nabcdefghijklmnopqrstuvwx\n-----END PRIVATE KEY-----"
    done = Redactor({"KEY": key}).lines(["log: MIIEvQIBADANBgkqhkiG9w0B", "x abcdefghijklmnopqrstuvwx"])
    assert done == ["log: «secret:KEY»", "x «secret:KEY»"]


def test_an_ordinary_word_is_only_blotted_out_as_a_word() -> None:
    """A password that is a word does not eat other words; short values are not looked for."""
    redactor = Redactor({"PASSWORD": "postgres", "PIN": "12345"})
    assert redactor.text("postgresql as postgres 12345") == "postgresql as «secret:PASSWORD» 12345"


def test_a_secret_named_like_a_placeholder_does_no_harm() -> None:
    """Placeholders are never searched, so values such as "secret" cannot spoil them."""
    redactor = Redactor({"A": "secret", "API_TOKEN": "tok-12345678", "B": "API_TOKEN"})
    done = redactor.text("tok-12345678 and password=«secret:API_TOKEN»")
    assert "tok-12345678" not in done
    assert redactor.text(done) == done


SHAPES = {
    "openai-key": "sk-proj-abcDEF123456789012345678",
    "github-token": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github-token ": "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "gitlab-token": "glpat-abcdefghij0123456789",
    "slack-token": "xoxb-123456789012-abcdefABCDEF",
    "aws-key": "AKIAIOSFODNN7EXAMPLE",
    "google-key": "AIzaSyA-abcdefghijklmnopqrstuvwxyz01234",
    "stripe-key": "sk_live_abcdefghijklmnop",
    "npm-token": "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "sendgrid-key": "SG.abcdefghijklmnopqrst.abcdefghijklmnopqrstuvwxyz",
    "huggingface-token": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "vault-token": "hvs.abcdefghijklmnopqrstuvwx",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    "age-key": "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
    "telegram-token": "123456789:AAabcdefghijklmnopqrstuvwxyz_123456",
}


@pytest.mark.parametrize("name", SHAPES)
def test_keys_of_known_services_are_recognised(name: str) -> None:
    """A key has a shape, also without a name beside it."""
    assert RULES_ONLY.text(f"using {SHAPES[name]} now") == f"using «secret:{name.strip()}» now"


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("Authorization: Bearer abcDEF123.x", "Authorization: Bearer «secret:authorization»"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic «secret:authorization»"),
        ("{'X-Api-Key': 'abc'}", "{'X-Api-Key': '«secret:authorization»'}"),
        ('{"cookie":"sid=abc; x=1"}', '{"cookie":"«secret:cookie»"}'),
        ("Set-Cookie: sid=abc; Path=/", "Set-Cookie: «secret:cookie»"),
        ("postgres://app:hunter2@db:5432/x", "postgres://app:«secret:url-password»@db:5432/x"),
        ("redis://:hunter2@cache", "redis://:«secret:url-password»@cache"),
        ('{"password": "hun ter2", "u": 1}', '{"password": "«secret:password»", "u": 1}'),
        ('"{\\"password\\": \\"hunter2\\"}"', '"{\\"password\\": \\"«secret:password»\\"}"'),
        ("DB_PASSWORD=hunter2 PORT=80", "DB_PASSWORD=«secret:DB_PASSWORD» PORT=80"),
        ("a=1&access_token=abcd1234&b=2", "a=1&access_token=«secret:access_token»&b=2"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = «secret:aws_secret_access_key»"),
        ("apiKey: 'abc12345'", "apiKey: '«secret:apiKey»'"),
        ("password: correcthorse", "password: «secret:password»"),
        ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/«secret:slack-webhook»"),
    ],
)
def test_settings_headers_and_urls_lose_their_secret_part(text: str, done: str) -> None:
    """What stands beside a secret stays, so that the line still says what happened."""
    assert RULES_ONLY.text(text) == done
    assert RULES_ONLY.text(done) == done


def test_a_private_key_goes_and_its_lines_stay() -> None:
    """The number of lines does not change, also when the end is missing."""
    text = "a\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nabc+/=\n-----END RSA PRIVATE KEY-----\n(b)"
    done = RULES_ONLY.lines(text.split("\n"))
    assert done == ["a", "-----BEGIN RSA PRIVATE KEY-----«secret:private-key»", "", "", "", "", "(b)"]
    assert "abc" not in RULES_ONLY.text("-----BEGIN PRIVATE KEY-----\nabc\ndef")


@pytest.mark.parametrize(
    "text",
    [
        "SyntaxError: Unexpected token: identifier",
        "SyntaxError: Unexpected token u in JSON at position 0",
        "const token = req.headers.authorization;",
        "    token = getToken(user)",
        "    const password = process.env.PASSWORD;",
        'secret = os.environ["SECRET"]',
        "API_KEY: null",
        "token: expired",
        "password=",
        "basic authentication failed",
        "Bearer token missing",
        "max_tokens: 4096",
        "https://example.org:8080/a@b",
        "user@example.org logged in",
        "task-scheduler-runner-queue ask-something-long-enough",
        "-----BEGIN CERTIFICATE-----",
        "at tokenize (/srv/app/node_modules/tokenizer/index.js:12:3)",
        "GET /api/items/5f3e2b1a9c8d7e6f5a4b3c2d 200 12ms",
        "«secret:DB»",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Program text, prose and paths are what a heal needs to read."""
    assert RULES_ONLY.text(text) == text


def test_clean_takes_out_what_no_reader_should_see() -> None:
    """Colours, titles, controls, zero-width and bidirectional marks go; tabs and line ends stay."""
    assert clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b(By\x00\x08\x9b") == "red xy"
    assert clean("a\r\nb\rc\u2028d\te") == "a\nb\nc\nd\te"
    assert clean("a\u202eb\u2066c\u200bd\ufeffe\udc80") == "abcde\ufffd"
    assert clean("plain é ü 漢字 🙂") == "plain é ü 漢字 🙂"


@given(st.lists(st.text(), max_size=8))
def test_lines_stay_as_many_as_they_were(lines: list[str]) -> None:
    """Redaction of lines answers one line for each."""
    assert len(Redactor({"S": "aaaaaa"}).lines(lines)) == len(lines)


def test_a_long_line_is_cut_after_known_values_are_gone() -> None:
    """16 KiB of a line are enough; a known value across the cut leaves no half."""
    done = Redactor({"S": "0123456789abcdef"}).text("x" * ((16 << 10) - 8) + "0123456789abcdef" + "y" * 50_000)
    assert len(done) < 17_000
    assert "0123" not in done
    assert done.endswith("…[cut]")


HOSTILE = [
    *("password", "password=", 'password="', "secret_", "a.token-", "key", "_key=", "authorization='", "cookie: "),
    *("a:", "://", "a://a:", "eyJ", "eyJaaaaaaaaa.", "Bearer ", "basic aaaaaaaaaaaaaaa", "sk-", "SG.a", "AKIA"),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY", "hooks.slack.com/services/"),
    *("«secret:", "«", "\x1b[", "\x1b]", "\n", "x"),
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("joint", ["", " ", "\n"])
def test_no_line_makes_a_rule_slow(piece: str, joint: str) -> None:
    """256 KiB of any one thing take well under the time that a quadratic rule would."""
    text = (piece + joint) * ((1 << 18) // len(piece + joint))
    redactor = Redactor({"S": "some-secret-value"})
    started = time.process_time()
    redactor.text(text)
    assert time.process_time() - started < 3


def test_secrets_are_picked_out_of_settings() -> None:
    """By their name, or as the password inside a URL; flags, numbers, paths and public keys are none."""
    found = known_secrets(
        {
            "DATABASE_URL": "postgres://app:hunter22@db/x",
            "SESSION_SECRET": "s" * 20,
            "STRIPE_KEY": "abcdef",
            "TEST_PHRASE": "correct horse",
            "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x",
            "SIGNED": "https://x/?token=abcdefgh&y=1",
            "NODE_ENV": "production",
            "PWD": "/srv/app/dir",
            "TOKEN_TTL": "3600000",
            "JWT_PUBLIC_KEY": "abcdefgh",
            "SSL_KEY_FILE": "/etc/ssl/key.pem",
            "TLS_KEY": "/etc/ssl/key.pem",
            "USE_TOKEN": "true",
            "SHORT_TOKEN": "abc",
        },
        ["# C_TOKEN=commented\nexport A_TOKEN='quoted value'\nB=plain\nSESSION_SECRET=other-value\nnonsense\n"],
    )
    assert found["DATABASE_URL"] == "hunter22"
    assert found["SIGNED"] == "abcdefgh"
    assert found["A_TOKEN"] == "quoted value"
    assert set(found.values()) >= {
        "s" * 20,
        "other-value",
        "abcdef",
        "correct horse",
        "https://hooks.slack.com/services/x",
    }
    assert not {"production", "/srv/app/dir", "3600000", "/etc/ssl/key.pem", "true", "abc", "commented"} & set(
        found.values()
    )


@pytest.mark.parametrize(
    ("name", "secret"), [("X-Auth-Token", True), ("x-api-key", True), ("accept", False), ("KEYBOARD", False)]
)
def test_a_name_tells_whether_its_value_is_secret(name: str, secret: bool) -> None:
    """Header names and variable names are judged alike."""
    assert looks_secret(name) is secret


def test_a_request_keeps_its_shape_and_loses_its_secrets() -> None:
    """Credentials in headers go as a whole; path and body lose the secret parts; all is bounded."""
    request = Request(
        method="POST",
        path="/login?token=abcd1234&next=/home",
        headers={"Cookie": "sid=1", "AUTHORIZATION": "Bearer x", "Accept": "text/html", "X-Csrf-Token": "abc"},
        body='{"user": "bob", "password": "hunter22"}' + "z" * 40_000,
    )
    done = RULES_ONLY.request(request)
    assert done.path == "/login?token=«secret:token»&next=/home"
    assert done.headers == {
        "Cookie": "«secret:cookie»",
        "AUTHORIZATION": "«secret:authorization»",
        "Accept": "text/html",
        "X-Csrf-Token": "«secret:x-csrf-token»",
    }
    assert done.body.startswith('{"user": "bob", "password": "«secret:password»"}')
    assert done.truncated
    assert len(done.body) <= 16 << 10
