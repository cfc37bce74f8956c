"""What becomes of the platform when an embedder fails as nobody has expected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from soorma.testing import LocalPlatform, WordEmbedder


class Faulty(WordEmbedder):
    """An embedder with a fault, at first."""

    failures = 2

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a fault of the model")
        return await super().embed(texts)


@pytest.mark.behaviour("knowledge.meaning")
async def test_a_fault_of_an_embedder_is_told_and_does_not_end_the_embedding(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("soorma_platform.work.embedding.worker.POLL_SECONDS", 0.01)
    embedder = Faulty()
    async with LocalPlatform(embedder=embedder) as platform:
        memory = platform.context.memory
        passage_id = await memory.store_knowledge("The night train leaves from platform 4.")
        for _ in range(1_000):
            if not embedder.failures:
                break
            await asyncio.sleep(0.01)
        hits = await memory.search_knowledge("night train", mode="vector", wait=30)
        assert [hit.id for hit in hits] == [passage_id]
    assert any(record.exc_info for record in caplog.records)
