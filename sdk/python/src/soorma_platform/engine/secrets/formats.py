"""The formats of secrets that are recognised: fixed prefixes, and what must follow them.

Each is as its issuer documents it (the comments name the page), or as its tokens are made where no
page says so. A prefix alone says whose token it is, so the checksums that some of them end with are
not computed: a token of the issuer's next version is a secret, too.

Every pattern takes time in proportion to the text, whatever the text is: it begins with a literal,
its repetitions are possessive, and those without an upper bound either end the match, or are of
characters that cannot begin another one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from soorma_platform.engine.secrets.numbers import CARD, IBAN, cards, ibans

Span = tuple[int, int]
IN_URL = "password in a URL"
KEY = "private key"
JWT = "JSON Web Token"
_LONGEST_PASSWORD = 256
_LONGEST_BOT = 12
_PLACEHOLDERS = "$<{*%["
"""How a password begins that stands for one, as in `postgres://app:${PASSWORD}@host`."""


class Format(NamedTuple):
    """A kind of secret: where `anchor` occurs, `pattern` is tried, and `check` says what of it."""

    kind: str
    anchor: str
    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], Span | None]


def _whole(match: re.Match[str]) -> Span:
    return match.span(match.lastindex or 0)


def _password(match: re.Match[str]) -> Span | None:
    text = match[1]
    if len(text) > _LONGEST_PASSWORD or text[0] in _PLACEHOLDERS:
        return None
    return match.span(1)


def _private_key(match: re.Match[str]) -> Span:
    """Returns the key up to its end mark; without one, up to the last line of base64."""
    if match[2] is not None:
        return match.span()
    rest = _BASE64_LINES.match(match.string, match.end(1), match.end())
    return match.start(), match.end(1) if rest is None else rest.end()


_BASE64_LINES = re.compile(r"(?:(?:\\n|\\r|\s)*+[A-Za-z0-9+/=]{16,}+)*+")


def _bot(match: re.Match[str]) -> Span:
    """Returns the token of a bot with the bot's number before it."""
    start = match.start()
    while (
        start and match.start() - start < _LONGEST_BOT and match.string[start - 1] in "0123456789"
    ):
        start -= 1
    return start, match.end()


def _token_of_json(match: re.Match[str]) -> Span | None:
    """Returns the token if its first part is a header with an algorithm (RFC 7515, 4)."""
    head = match[0].partition(".")[0]
    try:
        header = msgspec.json.decode(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (msgspec.DecodeError, ValueError):
        return None
    return match.span() if isinstance(header, dict) and "alg" in header else None


def _made(
    kind: str,
    anchor: str,
    body: str,
    check: Callable[[re.Match[str]], Span | None] = _whole,
    *,
    alone: str = "",
) -> Format:
    """Returns a format; with `alone`, no character of this class may stand before the anchor.

    An escaped line end before it, as in a text that quotes JSON, is none.
    """
    literal = re.escape(anchor)
    start = rf"{literal}(?:(?<![{alone}]{literal})|(?<=\\[nrt]{literal}))" if alone else literal
    return Format(kind, anchor, re.compile(start + body), check)


_WORD = "A-Za-z0-9"
_END = r"(?![A-Za-z0-9])"
_ASSIGNED = r"[\"']?\s{0,4}+[:=]\s{0,4}+[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"

FORMATS: tuple[Format, ...] = (
    # docs.aws.amazon.com: IAM, "Unique identifiers" and "Manage access keys"
    *(_made("AWS access key", one, rf"[A-Z2-7]{{16}}{_END}", alone=_WORD)
      for one in ("AKIA", "ASIA")),
    *(_made("AWS secret key", one, _ASSIGNED)
      for one in ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey",
                  "secretAccessKey", "secret_access_key", "aws_secret_key")),
    # cloud.google.com: "Authenticate by using API keys"; OAuth clients and access tokens
    _made("Google API key", "AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])", alone=_WORD),
    _made("Google client secret", "GOCSPX-", r"[A-Za-z0-9_-]{20,}+"),
    _made("Google access token", "ya29.", r"[A-Za-z0-9_-]{20,}+", alone=_WORD),
    # The page "Configure Azure Storage connection strings" of learn.microsoft.com
    _made("Azure storage key", "AccountKey=", r"([A-Za-z0-9+/]{86}==)"),
    _made("Azure shared access key", "SharedAccessKey=", r"([A-Za-z0-9+/]{43}=)"),
    # The article "Behind GitHub's new authentication token formats" of github.blog
    *(_made("GitHub token", one, r"[A-Za-z0-9]{36,}+")
      for one in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _made("GitHub token", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    # docs.gitlab.com: "Token overview", prefixes
    *(_made("GitLab token", one, r"[A-Za-z0-9_-]{20,}+")
      for one in ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "gloas-", "glft-",
                  "glagent-", "glimt-")),
    # docs.slack.dev: "Tokens", "Incoming webhooks"
    *(_made("Slack token", one, r"[A-Za-z0-9-]{16,}+")
      for one in ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xoxe.xoxb-",
                  "xoxe.xoxp-", "xapp-")),
    _made("Slack webhook", "hooks.slack.com/services/",
          r"(T[A-Za-z0-9]{6,16}+/B[A-Za-z0-9]{6,16}+/[A-Za-z0-9]{16,}+)"),
    # docs.stripe.com: "API keys", "Webhooks"
    *(_made("Stripe key", one, r"[A-Za-z0-9]{16,}+")
      for one in ("sk_live_", "sk_test_", "rk_live_", "rk_test_")),
    _made("Stripe webhook secret", "whsec_", r"[A-Za-z0-9+/=]{24,}+"),
    # keys of models: the prefixes that their consoles show
    *(_made("model API key", one, r"[A-Za-z0-9_-]{20,}+")
      for one in ("sk-proj-", "sk-svcacct-", "sk-admin-")),
    _made("model API key", "sk-", rf"[A-Za-z0-9]{{48}}{_END}", alone=_WORD),
    _made("model API key", "sk-ant-", r"[A-Za-z0-9_-]{20,}+"),
    _made("model API key", "sk-or-v1-", r"[0-9a-f]{64}"),
    _made("Hugging Face token", "hf_", rf"[A-Za-z0-9]{{34}}{_END}", alone=_WORD + "_"),
    _made("model API key", "gsk_", rf"[A-Za-z0-9]{{52}}{_END}", alone=_WORD + "_"),
    # The help pages of the two package indexes on their access tokens
    _made("npm token", "npm_", rf"[A-Za-z0-9]{{36}}{_END}", alone=_WORD + "_"),
    _made("PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{40,}+"),
    # docs.sendgrid.com, core.telegram.org/bots/api, shopify.dev, developer.hashicorp.com/vault,
    # docs.digitalocean.com, docs.databricks.com, age-encryption.org
    _made("SendGrid key", "SG.", rf"[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}{_END}", alone=_WORD),
    _made("Telegram bot token", ":AA",
          r"(?<=[0-9]{8}:AA)[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])", _bot),
    *(_made("Shopify token", one, rf"[a-fA-F0-9]{{32}}{_END}")
      for one in ("shpat_", "shpss_", "shpca_", "shppa_")),
    *(_made("Vault token", one, r"[A-Za-z0-9_-]{24,}+", alone=_WORD) for one in ("hvs.", "hvb.")),
    *(_made("DigitalOcean token", one, r"[a-f0-9]{64}")
      for one in ("dop_v1_", "doo_v1_", "dor_v1_")),
    _made("Databricks token", "dapi", rf"[a-f0-9]{{32}}(?:-[0-9])?{_END}", alone=_WORD),
    _made("age key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    # RFC 7468 and RFC 4880, 6.2
    Format(KEY, "-----BEGIN ", re.compile(
        r"(-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----)(?:[^-]++|-(?!----))*+"
        r"(-----END (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"), _private_key),
    # RFC 7519: three parts, of which the first two are JSON objects
    _made(JWT, "eyJ",
          r"[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{16,}+", _token_of_json,
          alone=_WORD + "_-"),
    # RFC 3986, 3.2.1: user information, with a password
    _made(IN_URL, "://", r"(?<=[a-z0-9]://)[^\s/:@\"']{0,256}+:([^\s/@\"']++)@", _password),
)  # fmt: skip

NUMBERS = (cards, ibans)
"""Formats without a prefix: numbers with a check digit."""
KINDS = tuple(dict.fromkeys([*(one.kind for one in FORMATS), CARD, IBAN]))
"""All kinds of secrets, but those of own patterns."""
