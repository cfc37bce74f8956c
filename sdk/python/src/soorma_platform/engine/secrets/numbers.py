"""Numbers that are secret and carry a check digit: of payment cards, and of bank accounts.

One number in ten passes Luhn's check, and an order may have sixteen digits. So a card's number must
begin as an issuer's does, and either be printed in groups as on a card, or stand behind a word that
says that it is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from string import ascii_uppercase

CARD = "card number"
IBAN = "IBAN"

_ISSUER = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|36|38|30[0-5]|35(?:2[89]|[3-8])"
    r"|6(?:011|4[4-9]|5|2)"
)
"""Identification numbers of issuers (ISO/IEC 7812): Visa to UnionPay."""
_GROUPED = re.compile(
    r"[0-9]{4}(?:"
    r"([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|([ -])[0-9]{6}\2[0-9]{4,5}"
    r")(?![0-9A-Za-z]|-[0-9]| [0-9]{4})"
)
_PLAIN = re.compile(r"[0-9]{13,}+(?![A-Za-z_])")
_NEAR = 48
"""Characters before a number in which a word may say that it is a card's."""
_CARD_WORD = re.compile(
    r"card|visa|master|amex|american express|credit|debit|\bpan\b|karte|carte|tarjeta|carta"
    r"|cart[aã]o|maestro|diners|jcb|unionpay"
)
_JOINED = re.compile(r"(?s:.*)(?:[0-9A-Za-z_.+]|[0-9]-|[0-9]{4} )")
_REACH = 5
"""The end of what is before a number that is a part of another one, and its characters."""
_ESCAPES = (r"\n", r"\r", r"\t")
"""Line ends in a text that quotes JSON."""

_LENGTHS = {
    int(length): codes.split()
    for length, _, codes in (
        line.partition(" ")
        for line in (
            "15 NO", "16 BE", "18 DK FI FO GL NL", "19 MK SI", "20 AT BA EE KZ LT LU XK",
            "21 CH HR LI LV", "22 BG BH CR DE GB GE IE ME RS VA", "23 AE GI IL IQ OM TL",
            "24 AD CZ ES MD PK RO SA SE SK TN VG", "25 LY PT ST", "26 IS TR",
            "27 FR GR IT MC MR SM", "28 AL AZ BY CY DO GT HU LB PL SV", "29 BR EG PS QA UA",
            "30 JO KW MU", "31 MT SC", "32 LC",
        )
    )
}  # fmt: skip
"""Lengths of IBANs by country (ISO 13616, as SWIFT registers them)."""
_LENGTH_OF = {code: length for length, codes in _LENGTHS.items() for code in codes}
_AS_NUMBERS = {ord(letter): str(int(letter, 36)) for letter in ascii_uppercase}
_IBAN_START = re.compile(r"[A-Z]{2}[0-9]{2} ?(?=[A-Z0-9])")


def cards(text: str) -> Iterator[tuple[str, int, int]]:
    """Yields the numbers of cards in a text: kind, start and end."""
    for match in _GROUPED.finditer(text):
        start, end = match.span()
        if not _is_joined(text, start) and _is_card(match[0]):
            yield CARD, start, end
    for match in _PLAIN.finditer(text):
        start, end = match.span()
        if (
            not _is_joined(text, start)
            and _is_card(match[0])
            and _says_card(text[max(0, start - _NEAR) : start])
        ):
            yield CARD, start, end


def _is_joined(text: str, start: int) -> bool:
    """Returns whether a number is a part of another one; an escaped line end is not."""
    before = text[max(0, start - _REACH) : start]
    return before[-2:] not in _ESCAPES and _JOINED.fullmatch(before) is not None


def _says_card(before: str) -> bool:
    return _CARD_WORD.search(before.lower()) is not None


def _is_card(number: str) -> bool:
    digits = number.replace(" ", "").replace("-", "")
    return 13 <= len(digits) <= 19 and bool(_ISSUER.match(digits)) and passes_luhn(digits)


def passes_luhn(digits: str) -> bool:
    """Returns whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def ibans(text: str) -> Iterator[tuple[str, int, int]]:
    """Yields the numbers of bank accounts in a text: kind, start and end."""
    for match in _IBAN_START.finditer(text):
        start = match.start()
        length = _LENGTH_OF.get(text[start : start + 2])
        if length is None or _is_in_word(text, start):
            continue
        whole = _iban_of(length).match(text, start)
        if whole is not None and passes_97(whole[0].replace(" ", "")):
            yield IBAN, start, whole.end()


def _is_in_word(text: str, start: int) -> bool:
    before = text[max(0, start - 2) : start]
    return before not in _ESCAPES and before[-1:].isascii() and before[-1:].isalnum()


@lru_cache
def _iban_of(length: int) -> re.Pattern[str]:
    return re.compile(rf"(?:[A-Z0-9] ?){{{length - 1}}}[A-Z0-9](?![A-Za-z0-9])")


def passes_97(iban: str) -> bool:
    """Returns whether an IBAN's check digits are those of the rest (ISO 7064, MOD 97-10)."""
    return int((iban[4:] + iban[:4]).translate(_AS_NUMBERS)) % 97 == 1
