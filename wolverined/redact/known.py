# SPDX-License-Identifier: MIT
"""Says which of an application's settings are secrets, and in which forms a program may print one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

SHORTEST = 6
_SHORTEST_FORM = 8
_SHORTEST_LINE = 16
_LONGEST_LINE = 16 << 10

_SECRET_WORDS = (
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PWD",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "CREDENTIAL",
    "WEBHOOK",
    "PHRASE",
    "SALT",
    "DSN",
    "COOKIE",
    "SESSION_KEY",
    "LICENSE_KEY",
)
_SECRET_ENDS = ("_KEY", "_PASS", "_AUTH", "_PIN", "_PAT", "_CERT", "_SIGNATURE")
_NO_SECRETS = ("PWD", "OLDPWD", "SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM")
_NO_SECRET_NAME = re.compile(
    r"(?:PUBLIC|_URL$|_PATH$|_FILE$|_DIR$|_TTL|_EXPIR|_TIMEOUT|MAX_|_LENGTH$|_ENABLED$|_NAME$)"
)
_PLAIN = re.compile(r"(?i)(?:true|false|yes|no|on|off|null|none|undefined|\d{1,9}|/[\w./-]{1,200})$")
_USERINFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://([^\s/@:]{0,256}):([^\s@]{1,256})@")
_QUERY_SECRET = re.compile(r"(?i)[?&](?:[\w-]{0,32}(?:key|token|secret|password|sig|signature))=([^&\s#]{6,512})")
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]{0,127})\s*=\s*(.*?)\s*$")


def known_secrets(environment: Mapping[str, str], files: Iterable[str] = ()) -> dict[str, str]:
    """Pick the secrets out of an application's settings.

    Args:
        environment: Variables as the application gets them.
        files: The texts of files of the `NAME=value` sort (an environment file, a `.env`).

    Returns:
        Name -> secret value: the values under names that look secret, and the passwords inside URLs.
    """
    secrets: dict[str, str] = {}
    for name, value in (*environment.items(), *(pair for text in files for pair in _env_pairs(text))):
        for secret in secrets_in(name, value):
            label = name if secrets.get(name, secret) == secret else f"{name}-{len(secrets)}"
            secrets[label] = secret
    return secrets


def _env_pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines()[:10_000]:
        if not line.lstrip().startswith("#") and (found := _ENV_LINE.match(line[:_LONGEST_LINE])):
            value = found[2]
            if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
                value = value[1:-1]
            yield found[1], value


def secrets_in(name: str, value: str) -> Iterator[str]:
    """The secrets in one setting: passwords inside URLs, and the whole value under a name that looks secret."""
    if len(value) < SHORTEST:
        return
    for found in _USERINFO.finditer(value):
        if len(found[2]) >= SHORTEST:
            yield found[2]
    for found in _QUERY_SECRET.finditer(value):
        yield found[1]
    if looks_secret(name) and not plain(value):
        yield value


def plain(value: str) -> bool:
    """Whether a value is none of a secret's, whatever its name: a switch, a small number, a path."""
    return bool(_PLAIN.match(value))


def looks_secret(name: str) -> bool:
    """Whether a variable of this name usually holds a secret."""
    upper = name.upper().replace("-", "_")
    if upper in _NO_SECRETS:
        return False
    if any(word in upper for word in ("WEBHOOK", "DSN")):
        return True
    if _NO_SECRET_NAME.search(upper):
        return False
    return any(word in upper for word in _SECRET_WORDS) or upper.endswith(_SECRET_ENDS)


_PERCENT = re.compile(r"%[0-9A-F]{2}")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def forms_of(value: str) -> set[str]:
    """Every form in which a program may print a value."""
    value = value.strip("\r\n")
    if len(value) < SHORTEST:
        return set()
    escaped = json.dumps(value)[1:-1]
    forms = {
        escaped,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(escaped)[1:-1],
        repr(value)[1:-1],
        value.translate(_HTML),
    }
    for safe in ("", "/", "!'()*~", "!'()*~/:@;,=&$+"):
        quoted = quote(value, safe=safe)
        forms |= {quoted, quoted.replace("%20", "+"), _PERCENT.sub(lambda found: found[0].lower(), quoted)}
    data = value.encode("utf-8", "surrogatepass")
    forms |= {data.hex(), data.hex().upper(), *_base64_forms(data)}
    forms = {form for form in forms if len(form) >= _SHORTEST_FORM or form == escaped}
    # Each line of a value of several lines is a secret by itself: a log prints them one by one.
    forms |= {line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE}
    return {form for form in (*forms, value) if "\n" not in form}


def _base64_forms(data: bytes) -> Iterator[str]:
    """The characters of base64 that depend on `data` alone, wherever it stands in what was encoded."""
    for before, dropped in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        core = encoded.rstrip("=")
        core = core[dropped : len(core) - ((before + len(data)) % 3 != 0)]
        if len(core) >= SHORTEST:
            yield core
            yield core.replace("+", "-").replace("/", "_")
