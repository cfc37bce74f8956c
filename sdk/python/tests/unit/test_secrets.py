"""What is recognised as a secret, what is not, and how long that takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha1, sha256, sha512
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from depth import at_depth, dice
from drawn_secrets import SECRETS, WITHIN, drawn

from soorma.errors import InvalidRequest
from soorma_platform.engine.secrets import KINDS, find, parse_patterns, redacted

Draw = Callable[[Random], str]
ROOT = Path(__file__).parents[4]
AROUND = [("", ""), ("The key is ", "."), ('{"key": "', '"}'), ("(", ")"), ("a\n", "\nb"),
          ("key=", ";"), ("ключ ", " да"), ("鍵は", "です"), ('"\\n', '\\n"')]  # fmt: skip
MEBIBYTE = 1024 * 1024
LEAST_SPEED = 3.0
"""Seconds in which a mebibyte of any text is searched, on a machine that does other things, too."""


@pytest.mark.behaviour("secrets.formats")
@pytest.mark.parametrize(("kind", "draw"), SECRETS, ids=range(len(SECRETS)))
def test_a_secret_is_found_wherever_it_stands(kind: str, draw: Draw) -> None:
    rolled = dice("secrets")
    for _ in range(at_depth(20, 500)):
        secret = draw(rolled)
        for before, after in AROUND:
            text = before + secret + after
            found = find(text)
            assert [one.kind for one in found] == [kind], text
            assert text[found[0].start : found[0].end] == secret
            clean = redacted(text, found)
            assert clean == f"{before}[redacted: {kind}]{after}"
            assert find(clean) == []


@pytest.mark.behaviour("secrets.formats")
@pytest.mark.parametrize(("kind", "before", "draw"), WITHIN, ids=range(len(WITHIN)))
def test_a_secret_is_found_by_what_says_so(kind: str, before: Draw, draw: Draw) -> None:
    rolled = dice("secrets within")
    for _ in range(at_depth(20, 500)):
        start, secret = before(rolled), draw(rolled)
        (found,) = find(f"{start}{secret}\n")
        assert (found.kind, found.start, found.end) == (kind, len(start), len(start + secret))


@pytest.mark.behaviour("secrets.formats")
def test_of_a_connection_string_the_password_goes() -> None:
    for text, clean in (
        ("postgresql://app:s3cr3t@db.example/x", "postgresql://app:[redacted: {}]@db.example/x"),
        ("redis://:p%40ss@h:6379/0", "redis://:[redacted: {}]@h:6379/0"),
        ("(amqp://u:a:b@h)", "(amqp://u:[redacted: {}]@h)"),
    ):  # fmt: skip
        assert redacted(text, find(text)) == clean.format("password in a URL")
    for text in (
        "https://example.org:8080/a@b", "postgres://app@host/x", "mailto://a@b", "http://[::1]:80/@",
        "postgres://app:${PASSWORD}@host/x", "postgres://app:<password>@host", "ssh://git@host:22/x",
    ):  # fmt: skip
        assert find(text) == [], text


@pytest.mark.behaviour("secrets.formats")
def test_a_key_without_its_end_goes_as_far_as_it_is_one() -> None:
    body = "\n".join("A1b2" * 16 for _ in range(5))
    text = f"see -----BEGIN RSA PRIVATE KEY-----\n{body}\nand so on, they said"
    assert redacted(text, find(text)) == "see [redacted: private key]\nand so on, they said"
    public = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"
    assert find(public) == []


@pytest.mark.behaviour("secrets.formats")
def test_each_kind_has_an_example() -> None:
    drawn_kinds = {kind for kind, *_ in [*SECRETS, *WITHIN]} | {"password in a URL"}
    assert drawn_kinds == set(KINDS)


@pytest.mark.behaviour("secrets.only-those")
def test_ordinary_texts_are_left_alone() -> None:
    texts = []
    for name in ("household", "railway"):
        folder = ROOT / "benchmarks/retrieval" / name
        files = sorted(folder.glob("*.json*"))
        assert len(files) == 5
        texts += [line for file in files for line in file.read_text("utf-8").splitlines()]
    assert len(texts) > 1_500
    assert [text for text in texts if find(text)] == []


@pytest.mark.behaviour("secrets.only-those")
def test_code_and_pages_are_left_alone() -> None:
    """Of our own source and pages: they name formats, and hold examples of URLs."""
    files = [*(ROOT / "sdk/python/src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"),
             *(ROOT / "sdk/python/requirements").glob("*.txt")]  # fmt: skip
    assert len(files) > 300
    found = {
        (file.name, one.kind)
        for file in files
        for one in find(file.read_text("utf-8"))
        if one.kind != "password in a URL"
    }
    assert found == set()


def _ordinary(rolled: Random) -> list[str]:
    number = rolled.getrandbits(256)
    raw = number.to_bytes(32, "big")
    year, month, day = (
        rolled.randrange(1900, 2100),
        rolled.randrange(1, 13),
        rolled.randrange(1, 29),
    )
    digits = f"{rolled.randrange(10**16):016}"
    return [
        str(UUID(int=number >> 128)),
        str(UUID(int=number >> 128)).upper(),
        UUID(int=number >> 128).hex,
        f"commit {sha1(raw).hexdigest()}",
        sha256(raw).hexdigest(),
        sha256(raw).hexdigest().upper(),
        f"sha512-{sha512(raw).hexdigest()}",
        f"sha256:{sha256(raw).hexdigest()}",
        f"+49 {digits[:3]} {digits[3:7]} {digits[7:11]}",
        f"+1 ({digits[:3]}) {digits[3:6]}-{digits[6:10]}",
        f"00{digits[:2]}{digits[2:13]}",
        f"{year}-{month:02}-{day:02}T{digits[:2]}:{digits[2:4]}:00.{digits[4:10]}Z",
        f"{day:02}.{month:02}.{year}",
        f"order {digits[:3]}-{digits[3:10]}-{digits[:7]}",
        f"order no. {digits}",
        f"ORD-{year}-{digits[:8]}",
        f"PO {digits[:10]}",
        f"tracking 1Z{digits}",
        f"{rolled.random()} {rolled.random() * 1e18:.0f} {number}",
        f"at {1_600_000_000_000 + rolled.randrange(10**12)} ms",
        f"ISBN 978-{digits[0]}-{digits[1:4]}-{digits[4:9]}-{digits[9]}",
        f"10.{digits[:2]}.{digits[2:4]}.1:{digits[4:8]}",
        drawn(rolled, rolled.randrange(1, 60)),
        " ".join(drawn(rolled, rolled.randrange(1, 12)) for _ in range(8)),
        json.dumps({drawn(rolled, 8): int(digits), "id": f"{number:x}", "v": f"{rolled.random()}"}),
    ]


@pytest.mark.behaviour("secrets.only-those")
def test_numbers_ids_and_hashes_are_left_alone() -> None:
    rolled = dice("ordinary")
    wrong = [
        (text, one.kind)
        for _ in range(at_depth(400, 20_000))
        for text in _ordinary(rolled)
        for one in find(text)
    ]
    assert wrong == []


HOSTILE = [
    "eyJ", " eyJ", "eyJaaaaaaaa.", " eyJhbGciOiJIUzI1NiJ9.", "AKIA", "://", "://a:b", "x://a:",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----BEGIN A B ", "-----", "glpat-", "4111 ",
    "4", "4111-1111-1111-1111 ", "DE89 ", "DE89370400440532013000 ", "sk-", "sk-ant-aaaa ", ":AA",
    "12345678:AA", "ghp_aaaaaaaaaa ", "aws_secret_access_key =  ", "a", " ", "\\n", "card 4111",
    "BADGE-1", "BADGE-",
]  # fmt: skip


@pytest.mark.behaviour("secrets.fast")
@pytest.mark.parametrize("unit", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_makes_the_search_slow(unit: str) -> None:
    own = parse_patterns("badge: BADGE-[0-9A-Z-]{1,200}x", "a file")
    text = (unit * (MEBIBYTE // len(unit) + 1))[:MEBIBYTE]
    since = time.thread_time()
    find(text, own)
    assert time.thread_time() - since < LEAST_SPEED


@pytest.mark.behaviour("secrets.own-patterns")
def test_own_patterns_are_found() -> None:
    own = parse_patterns(
        "# ours\nbadge number: BADGE-[0-9]{4,6}\n\nmascot: tok\\.\\w{3}\\d?\n", "a file"
    )
    text = "BADGE-12345, BADGE-12, tok.abc7 and tok.ab"
    found = find(text, own)
    assert [(one.kind, text[one.start : one.end]) for one in found] == [
        ("badge number", "BADGE-12345"),
        ("mascot", "tok.abc7"),
    ]
    assert find(text) == []


@pytest.mark.behaviour("secrets.own-patterns")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no colon", "kind: pattern"),
        ("bad/kind: abc", "kind: pattern"),
        ("a: (a+)+b", "character 1"),
        ("a: abc+", "character 4"),
        ("a: abc.*", "character 4"),
        ("a: abc|def", "character 4"),
        ("a: abc(?=x)", "character 4"),
        ("a: abc\\b", "character 4"),
        ("a: ab[0-9]{3}", "must begin with 3"),
        ("a: [a-z]{3}", "must begin with 3"),
        ("a: abc[0-9]{300}", "the maximum is 256"),
        ("a: abc[0-9]{5,2}", "never"),
        ("a: abc[z-a]", "no pattern"),
        ("\n".join(f"k{number}: abc{number}" for number in range(33)), "32 patterns"),
        ("x" * 70_000, "65,536 characters"),
    ],
    ids=range(15),
)
def test_what_is_no_pattern_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        parse_patterns(text, "a file")
