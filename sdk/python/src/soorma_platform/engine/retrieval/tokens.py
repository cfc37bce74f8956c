"""The tokenizer: the words of a text, in the form in which they are compared.

There is one for all engines. What it returned was stored, so a change of its results needs a new
`VERSION`, and texts of an older one are tokenized again.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

VERSION = 1

LONGEST_TOKEN = 64
"""Characters of a token that count; the rest of a longer one is ignored."""

_STOP_WORDS = (
    "a about all also am an and any are as at be been being but by can could did do does doing for "
    "from get give had has have having he her here hers him his how i if in into is it its just "
    "let like may me might mine my of on one or other our ours please shall she should so some "
    "such tell than that the their theirs them then there these they this those to too up us was "
    "we were what when where which who whom whose why will with would you your yours"
)
_CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u3131-\u318e\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_UNSPACED = f"{_CJK}\u0e00-\u0edf\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df"
"""Scripts that put no blanks between words: CJK, Thai, Lao, Tibetan, Burmese, Khmer, Tai."""

_unspaced = re.compile(f"[{_UNSPACED}]+")
_thousands = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_VOWEL = re.compile("[aeiouy]")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2018": "'"})
_ACCENTS = dict.fromkeys(range(0x300, 0x370))


def tokens(text: str) -> list[str]:
    """Returns the tokens of a text, in order.

    Case, width, accents and English endings do not count. A number with a fraction is one token,
    thousands are not separated. Of scripts that do not separate words, each two neighbouring
    characters are a token.
    """
    marks = ""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).translate(_ACCENTS))
        # Vowel signs and the like, which Python does not count as parts of a word.
        marks = "".join(sorted(one for one in set(text) if unicodedata.category(one)[0] == "M"))
    if "," in text:
        text = _thousands.sub(lambda number: number[0].replace(",", ""), text)
    found: list[str] = []
    for word in _words(marks).findall(text):
        if word.isascii():
            found.append(_normal(word[:LONGEST_TOKEN]))
        else:
            _add(found, word)
    return found


@lru_cache(maxsize=256)
def _words(marks: str) -> re.Pattern[str]:
    """Returns a pattern of words, in which these marks may stand."""
    letter = rf"(?:[^\W_]|[{re.escape(marks)}])" if marks else r"[^\W_]"
    return re.compile(rf"\d+(?:\.\d+)+(?![^\W_])|{letter}+(?:'{letter}+)*")


def _add(found: list[str], word: str) -> None:
    """Adds the tokens of a word, which may run through several scripts."""
    end = 0
    for run in _unspaced.finditer(word):
        if run.start() > end:
            found.append(_normal(word[end : run.start()][:LONGEST_TOKEN]))
        signs = run[0]
        found += [signs[at : at + 2] for at in range(len(signs) - 1)] or [signs]
        end = run.end()
    if end < len(word):
        found.append(_normal(word[end:][:LONGEST_TOKEN]))


@lru_cache(maxsize=65_536)
def _normal(word: str) -> str:
    """Returns a word without an English ending."""
    if "'" in word:
        if word.endswith("n't"):
            return "not"
        word = word.partition("'")[0] or word
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    return _stem(word)


def _stem(word: str) -> str:
    """Returns an English word without the endings of its forms.

    It goes less far than the algorithms of a dictionary would: words that are not related should
    not become one.
    """
    if word.endswith("ies") and len(word) > 4:
        word = f"{word[:-3]}y"
    elif word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and _VOWEL.search(stem):
            word = stem
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if len(word) > 5 and word.endswith("ly"):
        word = word[:-2]
    if len(word) > 6 and word.endswith(("tion", "sion")):
        word = word[:-3]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 3 and word.endswith("y"):
        word = f"{word[:-1]}i"
    return word


@lru_cache(maxsize=131_072)
def term_of(token: str) -> int:
    """Returns the term by which a token is found: 64 bits, the same in all processes."""
    return int.from_bytes(blake2b(token.encode(), digest_size=8).digest(), "little")


STOP_WORDS = frozenset(tokens(_STOP_WORDS))
"""Tokens that say nothing about the subject of an English text; negations are not among them."""
