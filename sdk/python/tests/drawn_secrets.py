"""Secrets made up for tests, of each kind that is recognised; none was ever issued."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from random import Random
from string import ascii_letters, ascii_uppercase, digits

from soorma_platform.engine.secrets.numbers import passes_97, passes_luhn

WORD = ascii_letters + digits
URL_SAFE = WORD + "-_"
HEX = "0123456789abcdef"


def drawn(dice: Random, count: int, letters: str = WORD) -> str:
    return "".join(dice.choices(letters, k=count))


def _after(prefix: str, count: int, letters: str = WORD) -> Callable[[Random], str]:
    return lambda dice: prefix + drawn(dice, count, letters)


def _jwt(dice: Random) -> str:
    def part(value: object) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = part({"sub": drawn(dice, 12), "iat": dice.randrange(2**31)})
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{claims}.{drawn(dice, 43, URL_SAFE)}"


def _pem(dice: Random) -> str:
    lines = [drawn(dice, 64, WORD + "+/") for _ in range(dice.randrange(3, 30))]
    kind = dice.choice(["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""])
    end = dice.choice(["\n", "\\n", "\r\n"])
    return end.join(
        [f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"]
    )


def _card(dice: Random) -> str:
    start, length = dice.choice(
        [("4", 16), ("53", 16), ("2720", 16), ("37", 15), ("6011", 16), ("3530", 16)]
    )
    body = start + drawn(dice, length - len(start) - 1, digits)
    number = next(body + digit for digit in digits if passes_luhn(body + digit))
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    groups, at = [], 0
    for size in sizes:
        groups.append(number[at : at + size])
        at += size
    return dice.choice([" ", "-"]).join(groups)


def _iban(dice: Random) -> str:
    country, length = dice.choice([("DE", 22), ("GB", 22), ("FR", 27), ("NO", 15), ("MT", 31)])
    body = drawn(dice, length - 4, digits)
    number = next(
        f"{country}{check:02}{body}" for check in range(2, 99)
        if passes_97(f"{country}{check:02}{body}")
    )  # fmt: skip
    return " ".join(number[at : at + 4] for at in range(0, length, 4))


SECRETS: list[tuple[str, Callable[[Random], str]]] = [
    ("AWS access key", _after("AKIA", 16, ascii_uppercase + "234567")),
    ("AWS access key", _after("ASIA", 16, ascii_uppercase + "234567")),
    ("Google API key", _after("AIza", 35, URL_SAFE)),
    ("Google client secret", _after("GOCSPX-", 28, URL_SAFE)),
    ("Google access token", _after("ya29.", 60, URL_SAFE)),
    ("GitHub token", _after("ghp_", 36)),
    ("GitHub token", _after("ghs_", 36)),
    ("GitHub token", lambda dice: f"github_pat_{drawn(dice, 22)}_{drawn(dice, 59)}"),
    ("GitLab token", _after("glpat-", 20, URL_SAFE)),
    ("Slack token", lambda dice: f"xoxb-{drawn(dice, 12, digits)}-{drawn(dice, 24)}"),
    ("Slack token", _after("xapp-1-A", 40)),
    ("Stripe key", _after("sk_" + "live_", 24)),
    ("Stripe key", _after("rk_" + "test_", 24)),
    ("Stripe webhook secret", _after("whsec_", 32)),
    ("model API key", _after("sk-proj-", 100, URL_SAFE)),
    ("model API key", _after("sk-", 48)),
    ("model API key", _after("sk-ant-api03-", 93, URL_SAFE)),
    ("model API key", _after("sk-or-v1-", 64, HEX)),
    ("Hugging Face token", _after("hf_", 34)),
    ("model API key", _after("gsk_", 52)),
    ("npm token", _after("npm_", 36)),
    ("PyPI token", _after("pypi-AgEIcHlwaS5vcmc", 120, URL_SAFE)),
    ("SendGrid key", lambda dice: f"SG.{drawn(dice, 22)}.{drawn(dice, 43)}"),
    ("Telegram bot token", lambda dice: f"{drawn(dice, 10, '123456789')}:AA{drawn(dice, 33)}"),
    ("Shopify token", _after("shpat_", 32, HEX)),
    ("Vault token", _after("hvs.", 90)),
    ("DigitalOcean token", _after("dop_v1_", 64, HEX)),
    ("Databricks token", _after("dapi", 32, HEX)),
    ("age key", _after("AGE-SECRET-KEY-1", 58, ascii_uppercase + digits)),
    ("private key", _pem),
    ("JSON Web Token", _jwt),
    ("card number", _card),
    ("IBAN", _iban),
]
"""Kinds, each with what draws one: they are secrets wherever they stand."""


def base64_of(dice: Random, count: int) -> str:
    return b64encode(dice.randbytes(count)).decode()


WITHIN: list[tuple[str, Callable[[Random], str], Callable[[Random], str]]] = [
    ("AWS secret key", lambda _: 'aws_secret_access_key = "', lambda dice: base64_of(dice, 30)),
    ("AWS secret key", lambda _: '"SecretAccessKey": "', lambda dice: base64_of(dice, 30)),
    ("Azure storage key", lambda _: "AccountName=a;AccountKey=", lambda dice: base64_of(dice, 64)),
    ("Azure shared access key", lambda _: "SharedAccessKey=", lambda dice: base64_of(dice, 32)),
    (
        "Slack webhook",
        lambda _: "https://hooks.slack.com/services/",
        lambda dice: f"T{drawn(dice, 10)}/B{drawn(dice, 10)}/{drawn(dice, 24)}",
    ),
    ("card number", lambda _: "my credit card is ", lambda dice: _card(dice).translate(_BARE)),
]
"""Kinds, with what says what follows, and the secret."""
_BARE = {ord(" "): None, ord("-"): None}
