"""The task that embeds what was stored, beside the commits that store it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from soorma_common.errors import SoormaError
from soorma_platform.buses.protocol import MEMORY_BELL, Bus
from soorma_platform.engine.rows.passages import UnembeddedPart
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports.embeddings import EmbeddingStore
from soorma_platform.work.embedding.protocol import Embedder, TextRefused, VectorCheck

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.vectors import Vector

BATCH = 32
"""Parts that are embedded and stored together: some tenths of a second of the offline model."""
GATHER_SECONDS = 0.02
"""Pause after fewer than a batch: what is stored one at a time is then embedded together."""
CHECKED = 256
"""Parts after which their likeness to others is checked, while more are to be embedded."""
POLL_SECONDS = 1.0
LONGEST_PAUSE = 30.0
SWEPT = 500
ANY_MODEL = 1 << 62
"""More than the number of any model: nothing is embedded by it."""
MOST_COUNTED = 1_000
MOST_WAITING = 10_000
KEPT = 4_096
"""Vectors kept by the text that they are of, for a text that is stored again."""

NOT_EMBEDDED = "nothing is embedded, and it is tried again; searches go by words"

log = Log("soorma.embeddings")


class Embedding:
    """Embeds parts as they come, and queries as they are asked."""

    def __init__(
        self,
        store: EmbeddingStore,
        bus: Bus,
        embedder: Embedder,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._store = store
        self._bus = bus
        self.embedder = embedder
        self._metrics.memories.embedding_model = embedder.name
        self._kept: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()
        """by collection, so that nobody can find out what others have stored"""
        self._model: int | None = None
        self.likeness: VectorCheck | None = None
        """what is done with the vectors of passages besides storing them"""
        self._unchecked: list[tuple[UnembeddedPart, Vector]] = []
        self._queries: OrderedDict[tuple[str, str, str], Vector] = OrderedDict()

    async def model(self) -> int:
        """Returns the number of the model in the store."""
        if self._model is None:
            self._model = await self._store.model(self.embedder.name)
        return self._model

    async def run(self) -> None:
        """Runs until it is cancelled; failures are logged and retried."""
        pause = POLL_SECONDS
        with self._bus.bell(MEMORY_BELL) as bell:
            while True:
                try:
                    embedded = await self._step()
                    pause = POLL_SECONDS
                    if embedded == 0:
                        await bell.wait(POLL_SECONDS)
                    elif embedded < BATCH:
                        await asyncio.sleep(GATHER_SECONDS)
                    continue
                except SoormaError as error:
                    log.error(NOT_EMBEDDED, error=error.message, seconds=pause)  # noqa: TRY400 - the message says it all
                except Exception:  # a fault of a model is none of the platform
                    log.exception(NOT_EMBEDDED, seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _step(self) -> int:
        """Embeds some parts, and returns how many; if there are none, removes vectors not used."""
        if not await self._store.count(ANY_MODEL, 1):
            return 0  # nothing was ever stored: the model need not be known there
        model = await self.model()
        self._metrics.memories.unembedded = await self._store.count(model, MOST_WAITING)
        embedded = await self.step(model)
        if not embedded:
            await self._store.sweep(model, SWEPT)
        return embedded

    async def step(self, model: int) -> int:
        """Embeds at most a batch of parts, and returns how many."""
        parts = await self._store.unembedded(model, BATCH)
        if not parts or len(self._unchecked) >= CHECKED:
            await self._check_likeness(model)
        if parts:
            await self._embed(model, parts)
        return len(parts)

    async def _embed(self, model: int, parts: list[UnembeddedPart]) -> None:
        from soorma_platform.engine.retrieval.vectors import packed, unpacked  # noqa: PLC0415 - numpy

        keys = [(part.collection, _digest(part.text)) for part in parts]
        new = [part for part, key in zip(parts, keys, strict=True) if key not in self._kept]
        made = await self._embedded([part.text for part in new]) if new else []
        for part, vector in zip(new, made, strict=True):
            self._kept[part.collection, _digest(part.text)] = (
                b"" if vector is None else packed(vector)
            )
        vectors = [self._kept[key] for key in keys]
        await self._store.put(model, [*zip(parts, vectors, strict=True)])
        if self.likeness is not None:
            self._unchecked += [
                (part, unpacked(one)) for part, one in zip(parts, vectors, strict=True) if one
            ]
        for _ in parts:
            self._metrics.memories.embedded.add()
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def _check_likeness(self, model: int) -> None:
        """Compares what was embedded with all of its collection: cheaper for many at once."""
        parts, self._unchecked = self._unchecked, []
        if self.likeness is not None and parts:
            await self.likeness.check(model, parts)

    async def _embedded(self, texts: list[str]) -> Sequence[Vector | None]:
        """Returns a vector for each text, None for one that the model refuses."""
        try:
            return await self._made(texts)
        except TextRefused as error:
            if len(texts) == 1:
                log.warning("a text is found by its words alone", error=error.message)
                return [None]
        return [one for text in texts for one in await self._embedded([text])]

    async def _made(self, texts: list[str]) -> Sequence[Vector]:
        """Returns the model's vectors, and notes whether it works."""
        try:
            made = await self.embedder.embed(texts)
        except TextRefused:  # of one text: that says nothing of others
            raise
        except Exception:
            self._metrics.memories.embedding_failures.add()
            if self._metrics.memories.embedding_failing_since is None:
                self._metrics.memories.embedding_failing_since = time.monotonic()
            raise
        self._metrics.memories.embedding_failing_since = None
        return made

    async def left(self, collection: int, model: int) -> int:
        """Returns how many parts of a collection are not embedded yet, counted up to a limit."""
        return await self._store.count(model, MOST_COUNTED, collection)

    async def query(self, tenant_id: str, user_id: str, text: str) -> Vector:
        """Returns the vector of a query, of length 1; each user's last ones are kept."""
        from soorma_platform.engine.retrieval.vectors import unit  # noqa: PLC0415 - numpy

        key = (tenant_id, user_id, text)
        found = self._queries.get(key)
        if found is None:
            (vector,) = await self._made([text])
            found = self._queries[key] = unit(vector)
            if len(self._queries) > KEPT:
                self._queries.popitem(last=False)
        self._queries.move_to_end(key)
        return found


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
