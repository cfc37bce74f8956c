"""Texts made up of words by chance, and an embedder for them that takes no time.

Each text has a topic, and so do some of its words: those of one topic begin alike, more so than
those of topics of one field, and their vectors point in similar directions. So texts of a topic are
near to each other, also without a shared word, and how near the next ones are falls as slowly as by
the offline model: its spectrum (half of the variance in some 35 of 384 directions) and its cosines
(for a query among 872 passages, the nearest at 0.5, the tenth at 0.3, the hundredth at 0.2) are
what these numbers go by; here they are lower by 0.1.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from soorma_platform.engine.retrieval.tokens import STOP_WORDS
from soorma_platform.work.embedding.offline import CALIBRATION

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.vectors import Vector

DIMENSION = 384
"""That of the offline model."""
TOPICS, WORDS_OF_TOPIC = 1_000, 24
COMMON, RANKED_FROM = 5_000, 30
"""Common words are as frequent as their rank says, by Zipf's law; the first ones are left out."""
TOPICAL, ORDINARY, STOPPED = 12, 16, 12
"""Words of a text: of its topic, common ones, and stop words. Together 40."""
SHARED = 0.35
"""How much the field of a word, and its topic, each counts beside its own direction."""
SPECTRUM = 50.0
"""Directions after which the variance is lower by the factor e."""
DIRECTIONS = 4_096
"""Directions of which each word has two."""
SEED = 2026

_SQRT2 = np.float32(2**0.5)
_SYLLABLES = [a + b for a in "bdfgklmnprtv" for b in "aeiou"]
_OF_TOPIC, _ORDINARY = "k", "m"
"""The last letter of a word says of which kind it is."""
_FIELD, _TOPIC = 2, 6
"""Its first letters say of which field and topic."""
_STOPS = sorted(word for word in STOP_WORDS if len(word) > 1)


def _word(number: int, syllables: int) -> str:
    found = []
    for _ in range(syllables):
        number, one = divmod(number, len(_SYLLABLES))
        found.append(_SYLLABLES[one])
    return "".join(found)


def _topic_word(topic: int, number: int) -> str:
    return f"{_word(topic, 3)}{_word(number, 2)}{_OF_TOPIC}"


class Texts:
    """Texts and queries by number, always the same."""

    def __init__(self) -> None:
        frequency = 1 / np.arange(RANKED_FROM, RANKED_FROM + COMMON)
        self._frequency = np.cumsum(frequency / frequency.sum())
        self._common = [f"{_word(number, 4)}{_ORDINARY}" for number in range(COMMON)]

    def passage(self, number: int) -> str:
        """A text of 40 words."""
        return self._text([1, number], TOPICAL, ORDINARY, STOPPED)

    def query(self, number: int, *, stopped: int = 3) -> str:
        """A query of 6 words and some stop words, on the topic of some of the texts."""
        return self._text([2, number], 3, 3, stopped)

    def _text(self, seed: list[int], topical: int, ordinary: int, stopped: int) -> str:
        chance = np.random.default_rng([SEED, *seed])
        topic = int(chance.integers(TOPICS))
        words = [_topic_word(topic, one) for one in chance.integers(0, WORDS_OF_TOPIC, topical)]
        ranks = np.searchsorted(self._frequency, chance.random(ordinary))
        words += [self._common[rank] for rank in ranks]
        words += [_STOPS[one] for one in chance.integers(0, len(_STOPS), stopped)]
        return " ".join(words[one] for one in chance.permutation(len(words)))


@cache
def _directions() -> NDArray[np.float32]:
    """Directions by chance, about 1 long; they differ the most along some axes, not along signs."""
    chance = np.random.default_rng(SEED)
    axes, _ = np.linalg.qr(chance.standard_normal((DIMENSION, DIMENSION)))
    variance = np.exp(-np.arange(DIMENSION) / SPECTRUM)
    made = chance.standard_normal((DIRECTIONS, DIMENSION)) * np.sqrt(variance / variance.sum())
    found: NDArray[np.float32] = (made @ axes).astype(np.float32)
    return found


def _direction(word: str) -> NDArray[np.float32]:
    """The direction of a word: always the same, and as good as its own."""
    first, second = struct.unpack("<II", hashlib.blake2b(word.encode(), digest_size=8).digest())
    of = _directions()
    found: NDArray[np.float32] = (of[first % DIRECTIONS] + of[second % DIRECTIONS]) / _SQRT2
    return found


@cache
def _meaning(word: str) -> NDArray[np.float32]:
    if word.endswith(_OF_TOPIC):
        shared = _direction(word[:_FIELD]) + _direction(word[:_TOPIC])
        return np.float32(SHARED) * shared + _direction(word)
    return _direction(word)


class MadeEmbedder:
    """An embedder of these texts, calibrated as the offline model is."""

    name = "made"
    calibration = CALIBRATION

    def __init__(self) -> None:
        _directions()  # takes as long as some searches

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Returns a vector for each text."""
        return [vector_of(text) for text in texts]

    async def close(self) -> None:
        """Does nothing."""


def vector_of(text: str) -> Vector:
    """Returns the sum of the vectors of a text's words."""
    words = [_meaning(word) for word in text.split() if word not in STOP_WORDS]
    found: Vector = np.sum(words, axis=0) if words else np.zeros(DIMENSION, np.float32)
    return found
