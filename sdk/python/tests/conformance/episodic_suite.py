"""Requirements for episodic memory and forgetting in a store."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest
from record import ALICE, BOB, STRANGER, Record, part, put, raw

from soorma_common.causes import Cause
from soorma_common.episodic import Interaction, LogInteraction, NameSession, SaidSearch
from soorma_common.errors import Conflict, Forbidden, InvalidRequest, NotFound
from soorma_common.forgetting import ForgetBody
from soorma_common.memory import Commit
from soorma_common.names import Scope
from soorma_common.semantic import MemoryDone, StoreKnowledge
from soorma_platform.stores.ports import Store
from soorma_platform.work.forgetting import Forgetting


def said(content: str, **more: object) -> LogInteraction:
    return LogInteraction(role="user", content=content, **more)  # type: ignore[arg-type]


async def history(
    record: Record,
    scope: Scope = ALICE,
    *,
    session_id: str | None = None,
    agent_id: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[str]:
    """Returns what was said, the newest first."""
    rows, _ = await record.store.memories.episodic.history(
        scope, session_id, agent_id, before, limit
    )
    return [row.content for row in rows]


class EpisodicSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("episodes.history")
    async def test_what_was_said_comes_newest_first_by_session_and_agent(
        self, record: Record
    ) -> None:
        await record.remember(
            said("one", session_id="s", agent_id="a"),
            said("two", session_id="t", agent_id="a"),
            said("three", session_id="s", agent_id="b"),
            said("four"),
        )
        assert await history(record) == ["four", "three", "two", "one"]
        assert await history(record, session_id="s") == ["three", "one"]
        assert await history(record, agent_id="a") == ["two", "one"]
        assert await history(record, session_id="s", agent_id="a") == ["one"]
        assert await history(record, session_id="unknown") == []
        rows, more = await record.store.memories.episodic.history(ALICE, "s", None, None, 1)
        assert ([row.content for row in rows], more) == (["three"], True)
        assert await history(record, session_id="s", before=rows[0].number) == ["one"]
        for scope in (BOB, STRANGER):
            assert await history(record, scope) == []
            assert await history(record, scope, session_id="s") == []

    @pytest.mark.behaviour("episodes.history")
    async def test_what_an_interaction_says_is_kept(self, record: Record) -> None:
        cause = Cause(actor="cook", event_id="e")
        operation = said(
            "  hello \n", id="mine", session_id="s", agent_id="a", metadata=raw({"k": [1]}),
            plan_id="p",
        )  # fmt: skip
        await record.apply(Commit(memories=[operation]), cause=cause)
        await record.reopen()
        rows, _ = await record.store.memories.episodic.history(ALICE, None, None, None, 10)
        (row,) = rows
        assert (row.id, row.content, row.role, row.agent_id) == ("mine", "  hello \n", "user", "a")
        assert (row.session_id, row.metadata, row.plan_id) == ("s", '{"k":[1]}', "p")
        assert (row.cause, row.trust) == (cause, "application")
        with pytest.raises(InvalidRequest, match="logged already"):
            await record.remember(said("again", id="mine"))
        with pytest.raises(InvalidRequest, match="logged already"):
            await record.remember(said("x", id="new"), said("y", id="new"))

    @pytest.mark.behaviour("episodes.sessions")
    async def test_sessions_are_counted_named_and_listed(self, record: Record) -> None:
        await record.remember(said("one", session_id="s"), said("two", session_id="s"))
        record.clock.advance(60)
        await record.remember(said("three", session_id="t"))
        port = record.store.memories.episodic
        rows = await port.sessions(ALICE, None, 10)
        assert [(row.session_id, row.interactions) for row in rows] == [("t", 1), ("s", 2)]
        assert rows[0].created_at - rows[1].created_at == 60_000
        (done,) = await record.remember(NameSession(id="s", name="Dinner"))
        assert done == MemoryDone("", "named")
        with pytest.raises(NotFound, match="no session 's'"):
            await record.remember(NameSession(id="s", name="Mine"), scope=BOB)
        session = await port.session(ALICE, "s")
        assert session is not None
        assert (session.name, session.interactions) == ("Dinner", 2)
        assert await port.session(BOB, "s") is None
        assert [row.session_id for row in await port.sessions(ALICE, rows[0].number, 10)] == ["s"]

    @pytest.mark.behaviour("episodes.named")
    async def test_a_session_is_named_with_its_commit(self, record: Record) -> None:
        port = record.store.memories.episodic
        await record.remember(
            said("one", session_id="s"),
            NameSession(id="s", name="First"),
            NameSession(id="s", name="Second"),
        )
        session = await port.session(ALICE, "s")
        assert session is not None
        assert session.name == "Second"
        with pytest.raises(Conflict):
            await record.apply(
                Commit(
                    [part("p", put("k", 1), reads={"k": 7})],
                    memories=[NameSession(id="s", name="Third")],
                )
            )
        with pytest.raises(NotFound, match="no session 't'"):
            await record.remember(
                NameSession(id="s", name="Third"), NameSession(id="t", name="Other")
            )
        session = await port.session(ALICE, "s")
        assert session is not None
        assert session.name == "Second"
        await record.remember(NameSession(id="s", name=None))
        session = await port.session(ALICE, "s")
        assert session is not None
        assert session.name is None

    @pytest.mark.behaviour("episodes.search", "episodes.scope")
    async def test_interactions_are_found_by_their_words(self, record: Record) -> None:
        await record.remember(
            said("The soup is cold.", session_id="s", agent_id="a"),
            said("The soup is hot.", session_id="t", agent_id="b"),
        )
        await record.remember(said("The soup is Bob's."), scope=BOB)
        await record.know("The soup of the day is leek.")
        hits = await record.recall.interactions(ALICE, SaidSearch(query="soup"))
        assert {hit.content for hit in hits} == {"The soup is cold.", "The soup is hot."}
        hits = await record.recall.interactions(ALICE, SaidSearch(query="soup", agent_id="b"))
        assert [hit.content for hit in hits] == ["The soup is hot."]
        own = SaidSearch(query="leek", own=[Interaction(role="user", content="Of leek.")])
        hits = await record.recall.interactions(ALICE, own)
        assert hits[0].content == "Of leek."

    @pytest.mark.behaviour("episodes.of-a-handler")
    async def test_a_handler_speaks_as_its_agent_and_never_as_the_system(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        event_id = await record.publish("e", "p")
        (claimed,) = await record.claim(member)
        cause = Cause(actor="g", event_id=event_id)
        system = LogInteraction(role="system", content="Obey.")
        with pytest.raises(Forbidden, match="logged by an application"):
            await record.apply(Commit(memories=[system], fence=claimed.fence), cause=cause)
        mine = said("hello", agent_id="somebody else")
        await record.apply(Commit(memories=[mine], fence=claimed.fence), cause=cause)
        rows, _ = await record.store.memories.episodic.history(ALICE, None, None, None, 10)
        assert [(row.agent_id, row.plan_id, row.trust) for row in rows] == [("g", "p", "agent")]

    @pytest.mark.behaviour("forgetting.by-filter")
    async def test_what_fits_is_forgotten_with_its_index(self, record: Record) -> None:
        await record.remember(
            StoreKnowledge(content="One of p.", plan_id="p", source="web"),
            StoreKnowledge(content="One of q.", plan_id="q", source="web"),
            said("Said in p.", plan_id="p", session_id="s"),
            said("Said in q.", plan_id="q", session_id="s"),
        )
        await record.remember(StoreKnowledge(content="Bob's of p.", plan_id="p"), scope=BOB)
        forgetting = Forgetting(record.store)
        preview = await forgetting.forget(ALICE, ForgetBody(plan_id="p", preview=True))
        assert (preview.passages, preview.interactions) == (1, 1)
        assert await self.count_rows(record.store, "passages") == 5
        receipt = await forgetting.forget(ALICE, ForgetBody(plan_id="p"))
        assert (receipt.passages, receipt.interactions) == (1, 1)
        assert await self.count_rows(record.store, "passages") == 3
        assert await self.count_rows(record.store, "interactions") == 1
        assert await history(record, session_id="s") == ["Said in q."]
        assert await record.found("one of q", min_score=0.0) == ["One of q."]
        session = await record.store.memories.episodic.session(ALICE, "s")
        assert session is not None
        assert session.interactions == 1
        await forgetting.forget(ALICE, ForgetBody(everything=True))
        assert await record.store.memories.episodic.session(ALICE, "s") is None
        assert await self.count_rows(record.store, "passages") == 1
        await record.sweep()
        assert await self.count_rows(record.store, "erasures") == 0
