# SPDX-License-Identifier: MIT
"""Takes secrets out of any text: evidence, events, alerts and heartbeats all pass through here.

Known values go first, in every form in which a program may print them; then rules for the shapes that
secrets have. Each becomes a stable placeholder, `«secret:NAME»`, so that two texts that held the same
secret still read the same. Logs are hostile: every rule is linear or bounded, and lines are cut at 16 KiB.
"""

from __future__ import annotations

import base64
import bisect
import functools
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

import msgspec

from wolverined.model import Request

MAX_LINE = 16 << 10
CUT = "…[cut]"
_SHORTEST = 6
_SHORTEST_FORM = 8

# ---------------------------------------------------------------- what no reader should see or obey

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?"
)
# Controls but for tab and line feed, zero-width and bidirectional marks, and half surrogate pairs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Return a text without terminal escapes, control, zero-width and bidirectional characters.

    Tabs and line feeds stay; CR LF becomes LF, a lone CR (a progress bar) and U+2028/2029 too.
    """
    if text.isascii() and text.isprintable():
        return text
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_replace_unseen, text)


def _replace_unseen(found: re.Match[str]) -> str:
    sign = found[0]
    if sign in "\u2028\u2029":
        return "\n"
    return "\ufffd" if "\ud800" <= sign <= "\udfff" else ""


# ---------------------------------------------------------------- which values are secrets

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
        for secret in _secrets_of(name, value):
            label = name if secrets.get(name, secret) == secret else f"{name}-{len(secrets)}"
            secrets[label] = secret
    return secrets


def _env_pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines()[:10_000]:
        if not line.lstrip().startswith("#") and (found := _ENV_LINE.match(line[:MAX_LINE])):
            value = found[2]
            if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
                value = value[1:-1]
            yield found[1], value


def _secrets_of(name: str, value: str) -> Iterator[str]:
    if len(value) < _SHORTEST:
        return
    for found in _USERINFO.finditer(value):
        if len(found[2]) >= _SHORTEST:
            yield found[2]
    for found in _QUERY_SECRET.finditer(value):
        yield found[1]
    if looks_secret(name) and not _PLAIN.match(value):
        yield value


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


# ---------------------------------------------------------------- rules for the shapes of secrets


class Rule(msgspec.Struct, frozen=True):
    """One shape. It is tried only where one of `hints` occurs; group `secret` (or all) is replaced."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    any_case: bool = False


def _rule(name: str, hints: str, pattern: str, *, any_case: bool = False) -> Rule:
    return Rule(name, tuple(hints.split()), re.compile(pattern, re.IGNORECASE if any_case else 0), any_case)


_VALUE = r"[^\s\"'`,;&<>(){}\[\]«»]"
_NAMES = (
    r"(?:secret|passw(?:or)?d|passphrase|passwd|pwd|token|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key"
    r"|encryption[_-]?key|signing[_-]?key|secret[_-]?key|credentials?|signature|auth[_-]?key)"
)
# A value in double quotes, in single quotes, or bare; the quotes may be escaped (JSON inside JSON).
_TO_QUOTE = r"(?:\\?\"(?P<secret>[^\"\\\n]{1,8192})|'(?P<secret2>[^'\n]{1,8192})|"
_SEPARATOR = r"\\?[\"']?\s{0,3}(?:=>?|:)\s{0,3}"
_RULES = (
    _rule(
        "private-key",
        "-----BEGIN",
        r"-----BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|KEY BLOCK)[A-Z ]{0,10}-----"
        r"(?P<secret>(?:(?!-----)[A-Za-z0-9+/=\s\\:,.-]){1,16384}(?:-----END [A-Z0-9 ]{0,60}-----)?)",
    ),
    _rule(
        "url-password",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,30}://[^\s/@:\"'<>]{0,256}:(?P<secret>[^\s/@\"'<>«]{1,256})@",
        any_case=True,
    ),
    _rule("jwt", "eyJ", r"\beyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}(?:\.[A-Za-z0-9_-]{0,4096})?"),
    _rule("authorization", "bearer", r"\bbearer[ =:]{1,3}(?P<secret>[A-Za-z0-9._~+/-]{8,4096}={0,2})", any_case=True),
    _rule(
        "authorization",
        "basic",
        r"\bbasic +(?P<secret>(?=[a-z+/]{0,64}[A-Z0-9])[A-Za-z0-9+/_-]{8,4096}={0,2})(?![A-Za-z])",
    ),
    _rule("authorization", "Basic", r"\bBasic +(?P<secret>[A-Za-z0-9+/_-]{8,4096}={0,2})(?![A-Za-z])"),
    _rule("openai-key", "sk-", r"\bsk-[A-Za-z0-9_-]{16,256}"),
    _rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{20,255}"),
    _rule("github-token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{20,255}"),
    _rule("gitlab-token", "glpat- gldt- glrt-", r"\bgl(?:pat|dt|rt)-[A-Za-z0-9_-]{16,128}"),
    _rule("slack-token", "xox xapp-", r"\b(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,250}"),
    _rule(
        "slack-webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9/_-]{8,256})",
    ),
    _rule("aws-key", "AKIA ASIA ABIA ACCA", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    _rule("google-key", "AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    _rule("google-token", "ya29.", r"\bya29\.[0-9A-Za-z_-]{20,2048}"),
    _rule("stripe-key", "k_live_ k_test_ whsec_", r"\b(?:[rs]k_(?:live|test)_|whsec_)[0-9A-Za-z]{10,255}"),
    _rule("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _rule("pypi-token", "pypi-AgE", r"\bpypi-AgE[A-Za-z0-9_-]{50,1000}"),
    _rule("sendgrid-key", "SG.", r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    _rule("huggingface-token", "hf_", r"\bhf_[A-Za-z0-9]{30,64}\b"),
    _rule("vault-token", "hvs. hvb.", r"\bhv[sb]\.[A-Za-z0-9_-]{20,300}"),
    _rule("digitalocean-token", "_v1_", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    _rule("telegram-token", ":AA", r"\b\d{8,10}:AA[A-Za-z0-9_-]{32,36}"),
    _rule("age-key", "AGE-SECRET-KEY-", r"\bAGE-SECRET-KEY-1[0-9A-Z]{20,80}"),
    _rule(
        "cookie",
        "cookie",
        rf"\b(?:set-)?cookie{_SEPARATOR}{_TO_QUOTE}(?P<secret3>[^\s\"'\[{{][^\n]{{0,8192}}))",
        any_case=True,
    ),
    _rule(
        "authorization",
        "authorization x-api-key x-auth-token x-amz-security-token",
        rf"\b(?:proxy-)?(?:authorization|x-api-key|x-auth-token|x-amz-security-token){_SEPARATOR}"
        rf"{_TO_QUOTE}(?P<secret3>[^\s\"'\[{{][^\n\"']{{0,8192}}))",
        any_case=True,
    ),
    _rule(
        "setting",
        "secret passw passphrase pwd token key credential signature",
        rf"(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z0-9_.-]{{0,64}}?{_NAMES}[0-9]{{0,2}}(?:_(?:base|hash|value))?)"
        rf"(?P<separator>{_SEPARATOR}){_TO_QUOTE}(?P<secret3>{_VALUE}{{4,4096}}))",
        any_case=True,
    ),
)
_NO_VALUE = re.compile(
    r"(?i)(?:null|none|undefined|nan|true|false|string|str|bytes|object|number|missing|required|invalid|expired|empty"
    r"|not|was|is|must|should|\**|x{3,}|\.{3,}|<[^>]*>|process\.env.*|os\.environ.*|\$\{?\w*\}?|%\w)$"
)
_DOTTED = re.compile(r"[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*)+[;,]?$")
_WORD = re.compile(r"[A-Za-z_]+$")
_NOT_SECRET_LEFT = re.compile(r"«secret:[^»]*»|(?i:bearer|basic|digest|token)|[\W_]")
_TOO_PLAIN_NAME = re.compile(r"(?i)(?:token|key|signature|credentials?)$")


def _is_prose(found: re.Match[str]) -> bool:
    """Whether a match of the rule for settings is program text or a sentence rather than a value."""
    value = found["secret3"]
    if value is None:
        return False
    following = found.string[found.end() : found.end() + 1]
    # `token = getToken(user)`, `token: req.headers.authorization`: source lines of a trace
    if _DOTTED.match(value) or following in ("(", "["):
        return True
    return bool(_WORD.match(value) and " " in found["separator"] and _TOO_PLAIN_NAME.search(found["name"]))


def _mask(rule: Rule, found: re.Match[str]) -> str:
    group = found.lastgroup if found.lastgroup and found.lastgroup.startswith("secret") else 0
    value = found[group]
    if "«" in value and not _NOT_SECRET_LEFT.sub("", value):
        return found[0]
    if rule.name == "setting" and (_NO_VALUE.match(value) or _is_prose(found)):
        return found[0]
    start, end = found.span(group)
    name = found["name"] if rule.name == "setting" else rule.name
    kept = "\n" * value.count("\n")
    text = found.string
    return f"{text[found.start() : start]}{placeholder(name)}{kept}{text[end : found.end()]}"


def placeholder(name: str) -> str:
    """Return what stands in the place of a secret."""
    return f"«secret:{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:64]}»"


# ---------------------------------------------------------------- the redactor


class Redactor:
    """Takes secrets out of text.

    Args:
        known: Name -> value of secrets that are known (see `known_secrets`); values under six characters
            are ignored, they would blot out ordinary words.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        forms: dict[str, str] = {}
        for name, value in (known or {}).items():
            for form in _forms(value):
                forms.setdefault(form, placeholder(name))
        # The longest first: a secret may be a part of another one.
        self._forms = sorted(forms.items(), key=lambda each: -len(each[0]))
        self._words = {
            form: re.compile(rf"(?<![A-Za-z]){form}(?![A-Za-z])")
            for form, _ in self._forms
            if form.isascii() and form.isalpha() and len(form) <= _LONGEST_WORD
        }

    def text(self, text: str) -> str:
        """Return a text without secrets and without unseen characters; its lines stay its lines."""
        text = self._without_known(clean(text))
        if len(text) > MAX_LINE:
            text = "\n".join(line if len(line) <= MAX_LINE else line[:MAX_LINE] + CUT for line in text.split("\n"))
        lower = text.lower()
        for rule in _RULES:
            place = lower if rule.any_case else text
            if any(hint in place for hint in rule.hints):
                text = rule.pattern.sub(functools.partial(_mask, rule), text)
        return text

    def lines(self, lines: Sequence[str]) -> list[str]:
        """Redact lines that follow each other: also a secret that goes over the end of a line.

        Returns:
            As many lines as came in; what belongs to a secret of several lines becomes empty.
        """
        whole = self.text("\n".join(line.replace("\n", " ").replace("\r", " ") for line in lines))
        return whole.split("\n") if lines else []

    def request(self, request: Request) -> Request:
        """Redact a request; headers that carry credentials lose their whole value."""
        headers = {
            clean(name)[:256]: placeholder(name.lower()) if _is_secret_header(name) else self.text(value)[:4096]
            for name, value in list(request.headers.items())[:100]
        }
        body = self.text(request.body)
        return msgspec.structs.replace(
            request,
            method=clean(request.method)[:32],
            path=self.text(request.path)[:4096],
            headers=headers,
            body=body[:MAX_LINE],
            truncated=request.truncated or len(body) > MAX_LINE,
        )

    def _without_known(self, text: str) -> str:
        for form, mark in self._forms:
            if form in text:
                word = self._words.get(form)
                text = text.replace(form, mark) if word is None else word.sub(mark, text)
        return self._without_wrapped(text) if self._forms and "\n" in text else text

    def _without_wrapped(self, text: str) -> str:
        """Find known secrets that go over line ends: search a copy without line ends, blot out the original."""
        breaks = [(found.start(), found.end()) for found in _WRAP.finditer(text)]
        joined = _WRAP.sub("", text)
        hits = [
            (at, at + len(form), mark)
            for form, mark in self._forms
            if form not in self._words
            for at in _occurrences(joined, form)
        ]
        if not hits:
            return text
        places = _Places(breaks)
        for start, end, mark in sorted(_disjoint(hits), reverse=True):
            first, last = places.original(start), places.original(end - 1) + 1
            text = text[:first] + mark + "\n" * text.count("\n", first, last) + text[last:]
        return text


_LONGEST_WORD = 12
_WRAP = re.compile(r"\\?\n[ \t]{0,64}")
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-auth", "x-csrf", "x-xsrf"}
)


def _is_secret_header(name: str) -> bool:
    return name.lower() in _SECRET_HEADERS or looks_secret(name)


class _Places:
    """Maps places in a text without line ends back to the text."""

    def __init__(self, breaks: Sequence[tuple[int, int]]) -> None:
        self._joined: list[int] = []
        self._removed: list[int] = []
        removed = 0
        for start, end in breaks:
            self._joined.append(start - removed)
            removed += end - start
            self._removed.append(removed)

    def original(self, place: int) -> int:
        index = bisect.bisect_right(self._joined, place)
        return place + (self._removed[index - 1] if index else 0)


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _disjoint(hits: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept: list[tuple[int, int, str]] = []
    end = -1
    for hit in sorted(hits, key=lambda each: (each[0], -each[1])):
        if hit[0] >= end:
            kept.append(hit)
            end = hit[1]
    return kept


def _forms(value: str) -> set[str]:
    """Every form in which a program may print a value."""
    value = value.strip("\r\n")
    if len(value) < _SHORTEST:
        return set()
    escaped = json.dumps(value)[1:-1]
    forms = {
        escaped,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(escaped)[1:-1],
        repr(value)[1:-1],
        html.escape(value),
        html.escape(value, quote=False),
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


_PERCENT = re.compile(r"%[0-9A-F]{2}")
_SHORTEST_LINE = 16


def _base64_forms(data: bytes) -> Iterator[str]:
    """The characters of base64 that depend on `data` alone, wherever it stands in what was encoded."""
    for before, dropped in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(b"\0" * before + data).decode()
        core = encoded.rstrip("=")
        core = core[dropped : len(core) - ((before + len(data)) % 3 != 0)]
        if len(core) >= _SHORTEST:
            yield core
            yield core.replace("+", "-").replace("/", "_")
