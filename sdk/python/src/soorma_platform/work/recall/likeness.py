"""Finds passages that seem to state the same as one that was just embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from soorma_platform.engine.likeness import NoteLikeness
from soorma_platform.engine.retrieval.likeness import may_restate
from soorma_platform.engine.rows.likeness import Likeness
from soorma_platform.engine.rows.passages import StoredPassage, UnembeddedPart
from soorma_platform.stores.ports import Store
from soorma_platform.work.embedding.protocol import Embedder
from soorma_platform.work.recall.searching import Searching

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.vectors import Vector

MOST = 8
"""Passages that one is compared with: the nearest."""


class LikenessCheck:
    """Notes which passages of a collection seem to state the same.

    Each is one part: of a long document, a part that is repeated says little. The calibration of
    the model says from which cosine on two texts may state the same.
    """

    def __init__(self, searching: Searching, store: Store, embedder: Embedder) -> None:
        self._searching = searching
        self._store = store
        self._embedder = embedder

    async def check(self, model: int, parts: Sequence[tuple[UnembeddedPart, Vector]]) -> None:
        """Notes what is alike among parts that were just embedded, and what was stored before."""
        pairs: list[Likeness] = []
        for collection in {part.collection for part, _ in parts}:
            within = [(part, vector) for part, vector in parts if part.collection == collection]
            pairs += await self._alike_in(collection, model, within)
        if pairs:
            await self._store.transact(NoteLikeness(pairs), durable=False)

    async def _alike_in(
        self, collection: int, model: int, parts: Sequence[tuple[UnembeddedPart, Vector]]
    ) -> list[Likeness]:
        calibration = self._embedder.calibration
        row = await self._store.memories.likeness.collection(collection)
        if calibration is None or row is None or row.model != model:
            return []
        near = await self._searching.near(
            row, model, [vector for _, vector in parts], calibration.alike, MOST
        )
        numbers = {part.passage for part, _ in parts} | {
            number for found in near for number, _ in found
        }
        if all(number >= part.passage for (part, _), found in zip(parts, near, strict=True)
               for number, _ in found):  # fmt: skip
            return []  # each is near to itself alone, or to what came later
        texts = await self._store.memories.semantic.texts([*numbers])
        return await asyncio.to_thread(_pairs, [part for part, _ in parts], near, texts)


def _pairs(
    parts: Sequence[UnembeddedPart],
    near: Sequence[Sequence[tuple[int, float]]],
    texts: Mapping[int, StoredPassage],
) -> list[Likeness]:
    """Returns what is alike: each passage with older ones that are near to it."""
    pairs = []
    for part, found in zip(parts, near, strict=True):
        own = texts.get(part.passage)
        if own is None or own.content != part.text:
            continue  # forgotten meanwhile, or one part of several
        pairs += [
            Likeness(part.passage, number, round(cosine, 4))
            for number, cosine in found
            if number < part.passage
            and (other := texts.get(number)) is not None
            and may_restate(own.content, other.content)
        ]
    return pairs
