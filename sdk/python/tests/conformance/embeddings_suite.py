"""Requirements for embeddings in a store: what is to be embedded, and which vectors are used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest
from record import ALICE, BOB, LARGEST_INDEX, STRANGER, Record
from semantic_suite import DOGS, LONG, REFUND, TRAIN

from soorma.testing import WordEmbedder
from soorma_common.errors import InvalidRequest, TimedOut, Unavailable
from soorma_common.names import Scope
from soorma_common.semantic import ForgetKnowledge, Hits, SearchBody, UpdateKnowledge
from soorma_platform.buses.in_process import InProcessBus
from soorma_platform.engine.retrieval.vectors import packed
from soorma_platform.engine.rows.passages import UnembeddedPart
from soorma_platform.stores.ports import Store
from soorma_platform.work.embedding.protocol import TextRefused
from soorma_platform.work.embedding.worker import Embedding
from soorma_platform.work.recall import Recall

MANY = 1_000


class Named(WordEmbedder):
    """A model of another name, with texts that it refuses and a time in which it is away."""

    def __init__(self, name: str, refuses: str = "\0", **meanings: str) -> None:
        super().__init__(meanings)
        self.name = name
        self.refuses = refuses
        self.is_away = False
        self.embedded: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[np.ndarray]:
        if self.is_away:
            raise Unavailable("the model is away")
        if any(self.refuses in text for text in texts):
            raise TextRefused("too odd")
        self.embedded += texts
        return await super().embed(texts)


class Mind:
    """Searches of a record by meaning, with a model."""

    def __init__(self, record: Record, embedder: Named) -> None:
        self.embedder = embedder
        self.embedding = Embedding(record.store.memories.embeddings, InProcessBus(), embedder)
        self.recall = Recall(record.store.memories, record.limits, LARGEST_INDEX, self.embedding)

    async def embed(self) -> None:
        """Embeds all that there is."""
        model = await self.embedding.model()
        while await self.embedding.step(model):
            pass

    async def search(self, query: str, scope: Scope = ALICE, **more: object) -> Hits:
        return await self.recall.knowledge(scope, SearchBody(query=query, **more))  # type: ignore[arg-type]

    async def found(self, query: str, scope: Scope = ALICE, **more: object) -> list[str]:
        return [hit.content for hit in await self.search(query, scope, **more)]


class EmbeddingsSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("knowledge.meaning")
    async def test_what_shares_no_word_is_found_by_its_meaning(self, record: Record) -> None:
        mind = Mind(record, Named("m", poodle="dog"))
        await record.know(DOGS)
        await record.know(TRAIN)
        await mind.embed()
        hits = await mind.search("may my poodle travel")
        assert [hit.content for hit in hits] == [DOGS]
        assert (hits.mode, hits.model, hits.unembedded) == ("hybrid", "m", 0)
        assert await mind.found("poodle", mode="vector") == [DOGS]
        assert await mind.found("poodle", mode="text") == []

    @pytest.mark.behaviour("knowledge.meaning")
    async def test_text_is_found_at_once_and_the_response_says_what_is_not_embedded(
        self, record: Record
    ) -> None:
        mind = Mind(record, Named("m"))
        await record.know(DOGS)
        await mind.embed()
        await record.know(TRAIN)
        hits = await mind.search("the night train to Lund")
        assert ([hit.content for hit in hits], hits.unembedded) == ([TRAIN], 1)
        assert await mind.found("night train", mode="vector") == []
        await mind.embed()
        hits = await mind.search("the night train to Lund")
        assert ([hit.content for hit in hits], hits.unembedded) == ([TRAIN], 0)
        assert await mind.found("night train", mode="vector") == [TRAIN]

    @pytest.mark.behaviour("knowledge.meaning")
    async def test_a_search_can_wait_for_the_vectors(self, record: Record) -> None:
        mind = Mind(record, Named("m"))
        await record.know(TRAIN)
        with pytest.raises(TimedOut, match="not all that is stored is embedded"):
            await mind.search("night train", mode="vector", wait=0.05)
        await mind.embed()
        assert await mind.found("night train", mode="vector", wait=0.05) == [TRAIN]

    @pytest.mark.behaviour("knowledge.without-model")
    async def test_without_a_model_searches_go_by_words_and_say_so(self, record: Record) -> None:
        await record.know(TRAIN)
        hits = await record.search("night train")
        assert (hits.mode, hits.model, len(hits)) == ("text", None, 1)
        with pytest.raises(InvalidRequest, match="no embedding model is in use"):
            await record.search("night train", mode="vector")

    @pytest.mark.behaviour("knowledge.without-model")
    async def test_a_model_that_is_away_costs_meaning_and_not_the_search(
        self, record: Record
    ) -> None:
        mind = Mind(record, Named("m"))
        await record.know(TRAIN)
        await mind.embed()
        mind.embedder.is_away = True
        hits = await mind.search("the night train")
        assert (hits.mode, [hit.content for hit in hits]) == ("text", [TRAIN])
        with pytest.raises(Unavailable, match="away"):
            await mind.search("the train of the night", mode="vector")

    @pytest.mark.behaviour("knowledge.without-model")
    async def test_a_text_that_a_model_refuses_holds_up_no_other(self, record: Record) -> None:
        mind = Mind(record, Named("m", refuses="Dogs"))
        for text in (TRAIN, DOGS, REFUND):
            await record.know(text)
        await mind.embed()
        assert await record.store.memories.embeddings.count(1, MANY) == 0
        assert await mind.found("night train", mode="vector") == [TRAIN]
        assert await mind.found("dogs travel free") == [DOGS]

    @pytest.mark.behaviour("knowledge.model-switch")
    async def test_a_collection_switches_models_in_one_step(self, record: Record) -> None:
        old, new = Named("old", poodle="dog"), Named("new", terrier="dog")
        await record.know(DOGS)
        await record.know(TRAIN)
        await record.know(REFUND, scope=BOB)
        before = Mind(record, old)
        await before.embed()
        after = Mind(record, new)
        assert await after.found("terrier") == [], "its model has embedded nothing yet"
        model = await after.embedding.model()
        (first, *others) = await record.store.memories.embeddings.unembedded(model, MANY)
        assert len(others) == 2
        vector = packed(np.ones(8, np.float32))
        await record.store.memories.embeddings.put(model, [(first, vector)])
        own = (await record.store.memories.semantic.collections(ALICE)).own
        assert own is not None
        assert own.model == model - 1, "half of it is embedded"
        assert await before.found("poodle", mode="vector") == [DOGS]
        await record.store.memories.embeddings.put(model, [(one, vector) for one in others])
        own = (await record.store.memories.semantic.collections(ALICE)).own
        assert own is not None
        assert own.model == model
        assert not await record.store.memories.embeddings.sweep(model, MANY)
        assert await self.count_rows(record.store, "part_vectors") == 3

    @pytest.mark.behaviour("knowledge.model-switch")
    async def test_vectors_of_two_models_are_never_compared(self, record: Record) -> None:
        await record.know(DOGS)
        before = Mind(record, Named("old", poodle="dog"))
        await before.embed()
        assert await before.found("poodle", mode="vector") == [DOGS]
        after = Mind(record, Named("new", terrier="dog"))
        # As if it searched while the other still embeds: it finds by words.
        hits = await after.search("poodle", mode="vector")
        assert list(hits) == []
        assert hits.unembedded == 1
        await after.embed()
        assert await after.found("terrier", mode="vector") == [DOGS]
        back = Mind(record, Named("old", poodle="dog"))
        await back.embed()
        assert await back.found("poodle", mode="vector") == [DOGS]

    @pytest.mark.behaviour("knowledge.vector-of-its-text")
    async def test_a_vector_is_written_only_for_what_is_there(self, record: Record) -> None:
        mind = Mind(record, Named("m"))
        gone = await record.know(DOGS)
        await record.know(TRAIN)
        model = await mind.embedding.model()
        parts = await record.store.memories.embeddings.unembedded(model, MANY)
        await record.remember(ForgetKnowledge(id=gone))
        await record.store.memories.embeddings.put(
            model, [(part, packed(np.ones(4, np.float32))) for part in parts]
        )
        assert await self.count_rows(record.store, "part_vectors") == 1
        ghost = UnembeddedPart(77, 77, 0, "x")
        await record.store.memories.embeddings.put(model, [(ghost, packed(np.ones(4, np.float32)))])
        assert await self.count_rows(record.store, "part_vectors") == 1

    @pytest.mark.behaviour("knowledge.vector-of-its-text")
    async def test_a_vector_stays_with_its_passage(self, record: Record) -> None:
        mind = Mind(record, Named("m", poodle="dog"))
        passage_id = await record.know(DOGS)
        await mind.embed()
        assert await mind.found("poodle") == [DOGS]
        await record.remember(UpdateKnowledge(id=passage_id, tags=["seen"]))
        assert await mind.found("poodle", tags=["seen"]) == [DOGS]
        assert await mind.found("poodle", tags=["seen"], mode="vector") == [DOGS]
        await record.remember(ForgetKnowledge(id=passage_id))
        assert await mind.found("poodle") == []
        assert await self.count_rows(record.store, "part_vectors") == 0

    @pytest.mark.behaviour("knowledge.meaning")
    async def test_each_part_of_a_long_text_is_embedded(self, record: Record) -> None:
        mind = Mind(record, Named("m", borrow="steal"))
        await record.know(LONG)
        await mind.embed()
        assert len(mind.embedder.embedded) > 5
        (hit,) = await mind.search("section 13 handbook item number 13 depot", mode="vector")
        assert hit.content in LONG
        assert hit.place.end - hit.place.start == len(hit.content)

    @pytest.mark.behaviour("knowledge.meaning")
    async def test_newer_passages_do_not_wait_for_a_long_backlog(self, record: Record) -> None:
        mind = Mind(record, Named("m"))
        for number in range(100):
            await record.know(f"Passage number {number} of a long list.")
        await record.know(DOGS, scope=BOB)
        await mind.embedding.step(await mind.embedding.model())
        assert DOGS in mind.embedder.embedded
        assert "Passage number 0 of a long list." in mind.embedder.embedded

    @pytest.mark.behaviour("knowledge.scope")
    async def test_the_same_text_of_another_user_is_embedded_anew(self, record: Record) -> None:
        """Or the time that it takes would tell what others have stored."""
        mind = Mind(record, Named("m"))
        for scope in (ALICE, BOB, STRANGER):
            await record.know(TRAIN, scope=scope)
        await mind.embed()
        assert mind.embedder.embedded == [TRAIN] * 3
        old = await record.know(REFUND, external_id="faq")
        await mind.embed()
        await record.know(DOGS, external_id="faq")
        await record.know(REFUND, external_id="faq")
        await mind.embed()
        assert mind.embedder.embedded.count(REFUND) == 1, "of the same user it is known"
        assert await record.passage(old) is not None

    @pytest.mark.behaviour("knowledge.scope")
    async def test_no_vector_of_another_user_is_found(self, record: Record) -> None:
        mind = Mind(record, Named("m"))
        await record.know(TRAIN)
        await mind.embed()
        score = (await mind.search("night train"))[0].score
        for scope in (BOB, STRANGER):
            await record.know(TRAIN, scope=scope)
            for number in range(10):
                await record.know(f"{TRAIN} {number}", scope=scope)
        await mind.embed()
        for mode in ("hybrid", "vector"):
            hits = await mind.search("night train", mode=mode)
            assert len(hits) == 1
        assert (await mind.search("night train"))[0].score == score
