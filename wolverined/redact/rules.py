# SPDX-License-Identifier: MIT
"""The shapes that secrets have: keys of well-known services, tokens, credentials in URLs, settings and headers.

Every quantifier is bounded: a log is hostile, and a rule must take linear time on any line.
"""

from __future__ import annotations

import re

import msgspec

from wolverined.redact.marks import SIGNS, Marks, placeholder


class Rule(msgspec.Struct, frozen=True):
    """One shape. It is tried only where one of `hints` occurs; group `secret` (or all) is replaced."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    any_case: bool = False

    def may_match(self, text: str, lower: str) -> bool:
        """Whether a text (also given in lower case) holds a hint at all; most do not."""
        place = lower if self.any_case else text
        return any(hint in place for hint in self.hints)


def _rule(name: str, hints: str, pattern: str, *, any_case: bool = False) -> Rule:
    return Rule(name, tuple(hints.split()), re.compile(pattern, re.IGNORECASE if any_case else 0), any_case)


_VALUE = rf"[^\s\"'`,;&<>(){{}}\[\]{SIGNS}]"
_NAMES = (
    r"(?:secret|passw(?:or)?d|passphrase|passwd|pwd|token|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key"
    r"|encryption[_-]?key|signing[_-]?key|secret[_-]?key|credentials?|signature|auth[_-]?key)"
)
# A value in double quotes, in single quotes, or bare; the quotes may be escaped (JSON inside JSON).
_TO_QUOTE = r"(?:\\?\"(?P<secret>[^\"\\\n]{1,8192})|'(?P<secret2>[^'\n]{1,8192})|"
_SEPARATOR = r"\\?[\"']?\s{0,3}(?:=>?|:)\s{0,3}"
RULES = (
    _rule(
        "private-key",
        "-----BEGIN",
        r"-----BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|KEY BLOCK)[A-Z ]{0,10}-----"
        r"(?P<secret>(?:(?!-----)[A-Za-z0-9+/=\s\\:,.-]){1,16384}(?:-----END [A-Z0-9 ]{0,60}-----)?)",
    ),
    _rule(
        "url-password",
        "://",
        rf"\b[a-z][a-z0-9+.-]{{1,30}}://[^\s/@:\"'<>]{{0,256}}:(?P<secret>[^\s/@\"'<>{SIGNS}]{{1,256}})@",
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
_NOT_SECRET_LEFT = re.compile(rf"[{SIGNS}]|(?i:bearer|basic|digest|token)|[\W_]")
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


def mask(rule: Rule, marks: Marks, found: re.Match[str]) -> str:
    """Return a match of a rule with its secret hidden; unchanged where there is none after all."""
    group = found.lastgroup if found.lastgroup and found.lastgroup.startswith("secret") else 0
    value = found[group]
    if not _NOT_SECRET_LEFT.sub("", value):
        return found[0]
    if rule.name == "setting" and (_NO_VALUE.match(value) or _is_prose(found)):
        return found[0]
    start, end = found.span(group)
    name = found["name"] if rule.name == "setting" else rule.name
    kept = "\n" * value.count("\n")
    text = found.string
    return f"{text[found.start() : start]}{marks.hide(placeholder(name))}{kept}{text[end : found.end()]}"
