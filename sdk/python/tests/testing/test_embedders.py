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


class Counting(WordEmbedder):
    """An embedder that counts how often it is called for passages."""

    calls = texts = 0

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        self.calls += 1
        self.texts += len(texts)
        return await super().embed(texts)


@pytest.mark.behaviour("knowledge.meaning")
async def test_what_is_stored_one_at_a_time_is_embedded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("soorma_platform.work.embedding.worker.GATHER_SECONDS", 2.0)
    embedder = Counting()
    async with LocalPlatform(embedder=embedder) as platform:
        memory = platform.context.memory
        for number in range(12):
            await memory.store_knowledge(f"Train {number} leaves from platform {number + 1}.")
        await memory.search_knowledge("train", mode="text", wait=30)
        hits = await memory.search_knowledge("train", mode="vector", limit=20, wait=30, min_score=0)
        assert len(hits) == 12
        assert embedder.texts == 12 + 1, "passages, and the query"
        assert embedder.calls <= 4
