"""An embedder for tests: the same words give the same vector, in no time, on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soorma_platform.engine.retrieval.ranking import Calibration, Cut
from soorma_platform.engine.retrieval.tokens import STOP_WORDS, tokens

DIMENSION = 256


class WordEmbedder:
    """Texts are near if they share words, or words that `meanings` makes the same.

    `WordEmbedder({"poodle": "dog", "money back": "refund"})` finds a passage on dogs by a question
    about poodles. It knows nothing else, and embeds the same text to the same vector everywhere.
    """

    name = "words"
    calibration = Calibration(zero=0.1, one=0.9, text=0.25, cut=Cut(0.2, 0.7),
                              vector_cut=Cut(0.2, 0.7), alike=0.95)  # fmt: skip

    def __init__(self, meanings: Mapping[str, str] | None = None) -> None:
        self._meanings = {
            tuple(tokens(words)): tokens(meaning) for words, meaning in (meanings or {}).items()
        }

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        """Returns a vector for each text, the sum of those of its words."""
        return [self._vector(text) for text in texts]

    async def close(self) -> None:
        """Does nothing."""

    def _vector(self, text: str) -> Any:
        words = tokens(text)
        for given, meaning in self._meanings.items():
            for at in range(len(words) - len(given), -1, -1):
                if tuple(words[at : at + len(given)]) == given:
                    words[at : at + len(given)] = meaning
        total = np.zeros(DIMENSION, np.float32)
        for word in words:
            if word not in STOP_WORDS:
                seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
                total += np.random.default_rng(seed).standard_normal(DIMENSION, np.float32)
        return total
