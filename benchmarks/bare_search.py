"""The floors of a search: its vectors compared by bare numpy, its words found by bare FTS5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from soorma_platform.engine.retrieval.tokens import STOP_WORDS

Vector = NDArray[np.float32]

LIMIT = 10
RESCORED = 512
"""Vectors that are compared exactly: as many as the platform does."""
_PARTS = 16
_BITS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


class BareSearch:
    """Texts in an FTS5 table, their vectors in memory; slot and rowid are their number."""

    def __init__(self, file: Path, texts: Sequence[str], vectors: Sequence[bytes]) -> None:
        self.vectors = np.frombuffer(b"".join(vectors), np.float16).reshape(len(vectors), -1)
        self._codes = np.packbits(self.vectors > 0, axis=1).view(np.uint64)
        self._connection = apsw.Connection(str(file))
        self._connection.pragma("cache_size", -1_000_000)  # in KiB: all of it stays in memory
        self._connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (content)")
        with self._connection:
            self._connection.executemany(
                "INSERT INTO texts (rowid, content) VALUES (?, ?)", enumerate(texts)
            )

    def scan(self, vector: Vector) -> list[int]:
        """Returns the nearest: of all by their codes, then of these exactly."""
        code = np.packbits(vector > 0).view(np.uint64)
        distances = _ones(self._codes ^ code).sum(axis=1, dtype=np.uint16)
        few = min(RESCORED, len(distances) - 1)
        nearest = np.argpartition(distances, few)[:few]
        cosines = self.vectors[nearest].astype(np.float32) @ vector
        return [int(one) for one in nearest[np.argsort(-cosines)[:LIMIT]]]

    def exact(self, vectors: Sequence[Vector]) -> list[set[int]]:
        """Returns the nearest of each by the cosines of all."""
        asked = np.stack(vectors, axis=1)
        cosines = np.concatenate(
            [part.astype(np.float32) @ asked for part in np.array_split(self.vectors, _PARTS)]
        )
        nearest = np.argpartition(-cosines, LIMIT, axis=0)[:LIMIT]
        return [{int(one) for one in nearest[:, number]} for number in range(len(vectors))]

    def words(self, query: str) -> list[Any]:
        """Returns the best by BM25, for a query without its stop words."""
        asked = " OR ".join(f'"{word}"' for word in query.split() if word not in STOP_WORDS)
        return self._connection.execute(
            "SELECT rowid, rank FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?",
            (asked, LIMIT),
        ).fetchall()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def _ones(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Returns the number of ones in each word, or in each quarter of one."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        found: NDArray[np.uint8] = np.bitwise_count(words)
        return found
    return _BITS[words.view(np.uint16)]
