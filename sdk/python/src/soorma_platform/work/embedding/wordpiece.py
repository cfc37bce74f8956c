"""WordPiece: a text as the numbers of the pieces that a model of the BERT family knows.

It takes what the model was trained with: lower case, without accents, each punctuation mark and
each CJK character a word of its own; a word is cut into the longest known pieces from its start
(Devlin et al., 2018, section 3). The usual library for it brings fifteen others along, among them a
client that downloads models.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

LONGEST_WORD = 100
"""Characters of a word; a longer one is unknown to the model."""
_CJK = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class _Table(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met, by what stands for each."""

    def __init__(self, made: Callable[[str], str]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, code: int) -> str:
        self[code] = found = self._made(chr(code))
        return found


def _cleaned(character: str) -> str:
    """Blanks are blanks, control characters are gone, CJK characters stand alone."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return " "
    if character == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {character} " if any(a <= ord(character) <= b for a, b in _CJK) else character


def _folded(character: str) -> str:
    """After decomposition: accents are gone, punctuation stands alone, letters are small."""
    category = unicodedata.category(character)
    if category == "Mn":
        return ""
    is_mark = "!" <= character <= "~" and not character.isalnum()
    return f" {character} " if is_mark or category[0] == "P" else character.lower()


class WordPiece:
    """The pieces of a vocabulary, a file with one in each line."""

    def __init__(self, vocabulary: Path, most: int) -> None:
        lines = vocabulary.read_text("utf-8").split("\n")
        self._numbers = {piece: number for number, piece in enumerate(lines) if piece}
        self._unknown = self._numbers["[UNK]"]
        self._first, self._last = self._numbers["[CLS]"], self._numbers["[SEP]"]
        self._most = most - 2
        self._cleaned, self._folded = _Table(_cleaned), _Table(_folded)
        self._pieces_of = lru_cache(maxsize=50_000)(self._pieces)

    def numbers(self, text: str) -> list[int]:
        """Returns the numbers of a text's pieces, as many as the model reads."""
        text = unicodedata.normalize("NFD", text.translate(self._cleaned))
        found: list[int] = []
        for word in text.translate(self._folded).split():
            found += self._pieces_of(word)
            if len(found) >= self._most:
                break
        return [self._first, *found[: self._most], self._last]

    def _pieces(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:
            return (self._unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self._numbers.get(prefix + word[start:end])
                if number is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return (self._unknown,)
        return tuple(found)
