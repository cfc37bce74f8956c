"""Requirements for quarantine in a store: it hides from every read, and release is exact."""

from __future__ import annotations

import pytest
from record import ALICE, BOB, STRANGER, Record

from soorma_common.causes import Cause
from soorma_common.episodic import LogInteraction, SaidSearch
from soorma_common.errors import Conflict, Forbidden, InvalidRequest, LimitExceeded, NotFound
from soorma_common.memory import Commit
from soorma_common.names import Owner, Scope
from soorma_common.procedural import (
    ActivateProcedure,
    ProcedureHits,
    RelevantBody,
    RollBackProcedure,
    StoreProcedure,
)
from soorma_common.quarantine import MOST_QUARANTINES, agent_origin, source_origin
from soorma_common.semantic import (
    ForgetKnowledge,
    PublishKnowledge,
    StoreKnowledge,
    UpdateKnowledge,
)
from soorma_platform.engine.quarantine import MOST_ORIGINS, BeginQuarantine, EndQuarantine
from soorma_platform.engine.rows.procedures import ProcedureKey
from soorma_platform.stores.ports.semantic import Listed

MOON = "The moon is made of cheese."
SEA = "The sea is salty."
MAIL = source_origin("mail")
READER = Cause(actor="reader")


async def set_aside(record: Record, origin: str = MAIL, whose: Scope | Owner = ALICE) -> None:
    await record.store.transact(BeginQuarantine(whose, origin, None))


async def release(record: Record, origin: str = MAIL, whose: Scope | Owner = ALICE) -> None:
    await record.store.transact(EndQuarantine(whose, origin))


async def found(record: Record, scope: Scope = ALICE) -> set[str]:
    """Returns all that a search with no minimum finds."""
    query = "moon sea cheese salty made"
    return {*await record.found(query, scope=scope, min_score=0.0, limit=100)}


async def listed(record: Record, which: Listed, scope: Scope = ALICE) -> list[str]:
    rows, _ = await record.store.memories.semantic.list(scope, 0, 2_000, which)
    return [row.content for row in rows]


async def by_agent(record: Record, *operations: object, cause: Cause = READER) -> None:
    """Commits as an agent outside a handler would."""
    await record.apply(Commit(memories=list(operations)), cause=cause)  # type: ignore[arg-type]


async def history(record: Record, agent_id: str | None = None) -> list[str]:
    rows, _ = await record.store.memories.episodic.history(ALICE, None, agent_id, None, 100)
    return [row.content for row in rows]


async def skills(record: Record, context: str | None = None) -> ProcedureHits:
    return await record.recall.procedures(ALICE, RelevantBody(context=context))


def skill(content: str, **more: object) -> StoreProcedure:
    return StoreProcedure(**{"name": "refund", "content": content, **more})  # type: ignore[arg-type]


class QuarantineSuite:
    @pytest.mark.behaviour("quarantine.nothing-counts")
    @pytest.mark.parametrize("first", ["stored", "quarantined"])
    async def test_a_source_is_hidden_whatever_comes_first(
        self, record: Record, first: str
    ) -> None:
        if first == "quarantined":
            await set_aside(record)
        await record.know(MOON, source="mail")
        await record.know(SEA, source="book")
        if first == "stored":
            assert await found(record) == {MOON, SEA}
            await set_aside(record)
        for _ in range(2):
            assert await found(record) == {SEA}
            assert await listed(record, Listed()) == [SEA]
            assert await listed(record, Listed(source="mail")) == []
            assert await listed(record, Listed(is_quarantined=True)) == [MOON]
            await record.reopen()
        await release(record)
        assert await found(record) == {MOON, SEA}
        assert await listed(record, Listed(is_quarantined=True)) == []

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_an_agent_is_hidden_with_what_it_stored_and_said(self, record: Record) -> None:
        await by_agent(record, StoreKnowledge(content=MOON))
        await record.know(SEA)
        await record.remember(
            LogInteraction(role="assistant", content="I read it.", agent_id="reader"),
            LogInteraction(role="user", content="I heard it.", agent_id="listener"),
        )
        await set_aside(record, agent_origin("reader"))
        assert await found(record) == {SEA}
        assert await history(record) == ["I heard it."]
        assert await history(record, "reader") == []
        said = await record.recall.interactions(ALICE, SaidSearch(query="read heard"))
        assert [hit.content for hit in said] == ["I heard it."]
        await release(record, agent_origin("reader"))
        assert await found(record) == {MOON, SEA}
        assert await history(record) == ["I heard it.", "I read it."]

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_what_is_derived_is_hidden_however_far_and_of_whatever_kind(
        self, record: Record
    ) -> None:
        bad = await record.know(MOON, source="mail")
        next_one = await record.know("So the moon can be eaten.", derived_from=[bad])
        last = await record.know("Bring bread.", derived_from=[next_one], source="book")
        (restated,) = await record.remember(StoreKnowledge(content="Bring bread."))
        assert restated.id == last
        await record.remember(skill("Eat the moon.", derived_from=[last]))
        (said,) = await record.remember(
            LogInteraction(role="tool", content="cheese", agent_id="reader")
        )
        await record.know("It was said to be cheese.", derived_from=[said.id])
        # In one commit, from what it has stored itself.
        await record.remember(
            StoreKnowledge(id="one", content="One of the mail.", source="mail"),
            StoreKnowledge(content="Two of the mail.", derived_from=["one"]),
        )
        await record.know(SEA)
        await set_aside(record)
        await set_aside(record, agent_origin("reader"))
        assert await listed(record, Listed()) == [SEA]
        assert await record.found("moon bread said mail cheese", min_score=0.0) == []
        assert list(await skills(record)) == []
        await release(record)
        assert len(await listed(record, Listed())) == 6
        assert [one.content for one in await skills(record)] == ["Eat the moon."]
        await release(record, agent_origin("reader"))
        assert len(await listed(record, Listed())) == 7

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_a_poisoned_value_replaces_nothing_and_is_merged_with_nothing(
        self, record: Record
    ) -> None:
        good = await record.know(SEA, subject="sea", attribute="taste", external_id="e")
        await set_aside(record)
        (done,) = await record.remember(
            StoreKnowledge(
                content="The sea is sweet.", subject="sea", attribute="taste",
                external_id="e", supersedes=good, source="mail",
            )
        )  # fmt: skip
        assert (done.outcome, done.closed) == ("quarantined", [])
        (done,) = await record.remember(
            StoreKnowledge(content=SEA, subject="sea", attribute="taste", external_id="e",
                           source="mail", tags=["poison"])
        )  # fmt: skip
        assert done.outcome == "quarantined"
        assert done.id != good
        assert await found(record) == {SEA}
        passage = await record.passage(good)
        assert passage is not None
        assert (passage.stated, passage.tags, passage.revision) == (1, [], 1)
        # And the other way round: what counts is not swallowed by its equal in quarantine.
        await record.know(MOON, source="mail")
        (done,) = await record.remember(StoreKnowledge(content=MOON))
        assert done.outcome == "stored"
        assert await found(record) == {SEA, MOON}

    @pytest.mark.behaviour("quarantine.nothing-counts")
    @pytest.mark.parametrize("first", ["stored", "quarantined"])
    async def test_no_value_ends_where_one_in_quarantine_begins(
        self, record: Record, first: str
    ) -> None:
        names = {"subject": "sea", "attribute": "taste"}
        if first == "quarantined":
            await set_aside(record)
        old = await record.know("It is salty.", **names)
        await record.know("It is sweet.", **names, source="mail", valid_from="2030-01-10T00:00:00Z")
        if first == "stored":
            await set_aside(record)
        (done,) = await record.remember(
            StoreKnowledge(content=SEA, **names, valid_from="2030-01-05T00:00:00Z")
        )
        assert done.closed == [old]
        for day, true in ((4, "It is salty."), (6, SEA), (12, SEA)):
            as_of = f"2030-01-{day:02}T00:00:00Z"
            assert await record.found("it is sea salty", as_of=as_of, min_score=0.0) == [true]

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_it_changes_no_score(self, record: Record) -> None:
        for number in range(30):
            await record.know(f"Passage {number} of the sea.")
        hits = await record.search("passage 7 of the sea", min_score=0.0)
        before = [(hit.id, hit.score) for hit in hits]
        for number in range(30):
            await record.know(f"Passage {number} of the moon and the sea.", source="mail")
        hits = await record.search("passage 7 of the sea", min_score=0.0)
        assert [(hit.id, hit.score) for hit in hits] != before
        await set_aside(record)
        hits = await record.search("passage 7 of the sea", min_score=0.0)
        assert [(hit.id, hit.score) for hit in hits] == before

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_its_past_is_hidden_too(self, record: Record) -> None:
        await record.know(MOON, source="mail", subject="moon", attribute="of")
        record.clock.advance(60)
        known_at = (await record.search("moon")).hits[0].created_at
        assert known_at is not None
        await record.know("The moon is made of rock.", subject="moon", attribute="of")
        assert await record.found("moon cheese", known_at=known_at.isoformat()) == [MOON]
        await set_aside(record)
        assert await record.found("moon cheese", known_at=known_at.isoformat()) == []

    @pytest.mark.behaviour("quarantine.whose")
    async def test_it_is_of_one_user_or_of_a_tenant(self, record: Record) -> None:
        for scope in (ALICE, BOB, STRANGER):
            await record.know(MOON, scope=scope, source="mail")
        await record.know("The moon is public.", source="mail", is_public=True)
        everybody = {MOON, "The moon is public."}
        await set_aside(record)
        assert await found(record) == set()
        assert await found(record, BOB) == everybody
        assert await found(record, STRANGER) == {MOON}
        with pytest.raises(NotFound):
            await release(record, whose=BOB)
        with pytest.raises(NotFound):
            await release(record, whose="acme")
        await set_aside(record, whose="acme")
        await release(record)
        assert await found(record) == await found(record, BOB) == set()
        assert await found(record, STRANGER) == {MOON}
        seen = await record.store.memories.quarantines.list(BOB)
        assert [one.origin for one in seen] == [MAIL]
        assert await record.store.memories.quarantines.list(STRANGER) == []
        await release(record, whose="acme")
        assert await found(record, BOB) == everybody

    @pytest.mark.behaviour("quarantine.whose")
    async def test_it_begins_once(self, record: Record) -> None:
        first = await record.store.transact(BeginQuarantine(ALICE, MAIL, "instructions"))
        record.clock.advance(60)
        again = await record.store.transact(BeginQuarantine(ALICE, MAIL, "another reason"))
        assert again == first
        await release(record)
        with pytest.raises(NotFound, match="source 'mail' is in no quarantine of this user"):
            await release(record)

    @pytest.mark.behaviour("quarantine.from-outside")
    async def test_a_handler_changes_nothing_in_quarantine(self, record: Record) -> None:
        own = await record.know(MOON, source="mail")
        await set_aside(record)
        member = await record.subscribe("reader", "asked")
        await record.publish("asked")
        (claimed,) = await record.claim(member)
        for operation in (UpdateKnowledge(id=own, source="book"), ForgetKnowledge(id=own)):
            with pytest.raises(Forbidden, match="is in quarantine"):
                await record.apply(Commit(memories=[operation], fence=claimed.fence), cause=READER)
        # What it supersedes is not there for it: it works on.
        again = StoreKnowledge(content=SEA, supersedes=own)
        await record.apply(Commit(memories=[again], fence=claimed.fence), cause=READER)
        assert await listed(record, Listed(is_quarantined=True)) == [MOON]
        assert await listed(record, Listed()) == [SEA]

    @pytest.mark.behaviour("quarantine.from-outside")
    @pytest.mark.parametrize("by_handler", [True, False])
    @pytest.mark.parametrize("how", ["update", "restate"])
    @pytest.mark.parametrize("first", ["changed", "quarantined"])
    async def test_another_source_frees_nothing(
        self, record: Record, by_handler: bool, how: str, first: str
    ) -> None:
        """Be it before anybody suspects the first one, or after."""
        bad = await record.know(MOON, source="mail", external_id="e")
        derived = await record.know("So it can be eaten.", derived_from=[bad])
        change = (
            UpdateKnowledge(id=bad, source="book")
            if how == "update"
            else StoreKnowledge(content=MOON, source="book", external_id="e", derived_from=[bad])
        )
        fence = None
        if by_handler:
            member = await record.subscribe("reader", "asked")
            await record.publish("asked")
            (claimed,) = await record.claim(member)
            fence = claimed.fence
        if first == "quarantined":
            await set_aside(record)
        commit = Commit(memories=[change], fence=fence)
        if by_handler and how == "update" and first == "quarantined":
            with pytest.raises(Forbidden):
                await record.apply(commit, cause=READER)
        else:
            await record.apply(commit, cause=READER if by_handler else Cause())
        if first == "changed":
            await set_aside(record)
        assert await listed(record, Listed()) == []
        assert await found(record) == set()
        # Also not by way of another one in quarantine that is released.
        await set_aside(record, source_origin("book"))
        await release(record, source_origin("book"))
        assert await listed(record, Listed()) == []
        await release(record)
        assert len(await listed(record, Listed())) == 2
        assert await record.passage(derived) is not None

    @pytest.mark.behaviour("quarantine.from-outside")
    async def test_an_agent_in_quarantine_changes_nothing_that_counts(self, record: Record) -> None:
        one, two = await record.know(SEA), await record.know("The sun is hot.")
        await set_aside(record, agent_origin("reader"))
        member = await record.subscribe("reader", "asked")
        await record.publish("asked")
        (claimed,) = await record.claim(member)
        changes = [
            ForgetKnowledge(id=one),
            UpdateKnowledge(id=two, tags=["evil"], valid_until="2020-01-01T00:00:00Z"),
            StoreKnowledge(content=SEA, tags=["evil"]),
        ]
        done = await record.apply(Commit(memories=changes, fence=claimed.fence), cause=READER)
        assert [each.outcome for each in done.memories or []] == ["quarantined"] * 3
        assert await listed(record, Listed()) == [SEA, "The sun is hot."]
        passage = await record.passage(two)
        assert passage is not None
        assert (passage.tags, passage.valid_until) == ([], None)

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_what_comes_from_within_the_same_commit_is_hidden_too(
        self, record: Record
    ) -> None:
        """In whatever order, and whatever it is."""
        await record.remember(
            StoreKnowledge(id="last", content="Account 17 is good.", derived_from=["skill"]),
            skill("Twice.", id="other", name="other", derived_from=["skill"]),
            skill("Pay to 17.", id="skill", derived_from=["first"]),
            StoreKnowledge(id="first", content="Pay.", source="mail"),
        )
        assert len(list(await skills(record))) == 2
        await set_aside(record)
        assert await listed(record, Listed()) == []
        assert list(await skills(record)) == []
        await release(record)
        assert len(await listed(record, Listed())) == 2

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_a_source_that_is_named_later_is_that_of_what_is_derived(
        self, record: Record
    ) -> None:
        bad = await record.know(MOON)
        await record.know("So it can be eaten.", derived_from=[bad])
        await record.remember(skill("Eat it.", derived_from=[bad]))
        await record.know(SEA)
        (again,) = await record.remember(StoreKnowledge(content=SEA, derived_from=[bad]))
        await record.know("So fish live in it.", derived_from=[again.id])
        assert await record.found("eaten fish live", min_score=0.0)
        await record.remember(UpdateKnowledge(id=bad, source="mail"))
        await set_aside(record)
        for _ in range(2):
            assert await listed(record, Listed()) == []
            assert await record.found("eaten fish live", min_score=0.0) == []
            assert list(await skills(record, "eat it")) == []
            await record.reopen()
        await release(record)
        assert len(await listed(record, Listed())) == 4
        assert len(await record.found("so eaten fish live", min_score=0.0)) == 2

    @pytest.mark.behaviour("quarantine.whose")
    async def test_what_one_user_hides_changes_nothing_for_others(self, record: Record) -> None:
        public = {"is_public": True, "source": "mail"}
        fee = {**public, "subject": "fee", "attribute": "value", "external_id": "fee"}
        await record.know("The fee is 1.", **fee)
        await record.know(SEA, **public)
        await record.remember(skill("One.", **public))
        await set_aside(record)
        await record.know("The fee is 2.", **fee)
        await record.know(SEA, is_public=True)
        await record.remember(skill("Two.", **public))
        assert await listed(record, Listed(is_public=True), BOB) == [SEA, "The fee is 2."]
        hits = await record.recall.procedures(BOB, RelevantBody(context=None))
        assert [hit.content for hit in hits] == ["Two."]
        assert list(await skills(record)) == [], "she still finds nothing of it"

    @pytest.mark.behaviour("quarantine.procedures")
    async def test_a_hidden_skill_keeps_no_other_from_being_found(self, record: Record) -> None:
        about = "refund an order of broken lamps"
        await record.remember(skill("Ask.", description="refund an order", name="good"))
        before = [(one.name, one.score) for one in await skills(record, about)]
        assert [name for name, _ in before] == ["good"]
        await record.remember(skill("Pay.", description=about, name="bad", source="mail"))
        assert [one.name for one in await skills(record, about)] == ["bad"]
        await set_aside(record)
        assert [(one.name, one.score) for one in await skills(record, about)] == before

    @pytest.mark.behaviour("quarantine.procedures")
    async def test_it_is_not_rolled_back_to_and_not_listed(self, record: Record) -> None:
        key = ProcedureKey(False, "skill", "refund")
        await record.remember(skill("First.", description="The first."))
        await record.remember(skill("Bad.", description="The bad one.", source="mail"))
        await record.remember(skill("Good.", description="The good one."))
        await set_aside(record)
        procedures = record.store.memories.procedural
        rows = await procedures.versions(ALICE, key, None, 10)
        assert [row.version for row in rows] == [3, 1]
        rows = await procedures.versions(ALICE, key, None, 10, quarantined=True)
        assert [row.version for row in rows] == [2]
        (one,) = await procedures.list(ALICE, None, 0, 10)
        assert (one.versions, one.newest, one.description) == (2, 3, "The good one.")
        (done,) = await record.remember(RollBackProcedure(name="refund"))
        assert (done.outcome, done.version) == ("activated", 1)
        await set_aside(record, agent_origin("nobody"))
        await release(record)
        (one,) = await procedures.list(ALICE, None, 0, 10)
        assert one.versions == 3

    @pytest.mark.behaviour("quarantine.seen")
    async def test_a_store_that_comes_again_finds_what_it_has_stored(self, record: Record) -> None:
        await record.know(MOON, id="one", source="mail")
        once = StoreKnowledge(id="two", content="So it can be eaten.", derived_from=["one"])
        await record.remember(once)
        await set_aside(record)
        await record.remember(ForgetKnowledge(id="one"))
        await record.know(MOON, id="three")
        for source, outcome in (("mail", "quarantined"), (None, "restated")):
            again = StoreKnowledge(id="three", content=MOON, source=source)
            (done,) = await record.remember(again)
            assert done.id == "three"
            assert done.outcome in ("restated", outcome)

    @pytest.mark.behaviour("quarantine.seen")
    async def test_a_handler_that_has_read_what_is_hidden_reads_again(self, record: Record) -> None:
        own = await record.know(MOON, source="mail")
        await set_aside(record)
        with pytest.raises(Conflict):
            await record.remember(StoreKnowledge(content=SEA), reads={own: 1})
        await record.remember(StoreKnowledge(content=SEA), reads={own: 0})
        await release(record)
        with pytest.raises(Conflict):
            await record.remember(StoreKnowledge(content="Later."), reads={own: 0})

    @pytest.mark.behaviour("quarantine.nothing-counts")
    async def test_a_proposal_in_quarantine_is_not_published(self, record: Record) -> None:
        member = await record.subscribe("reader", "asked")
        await record.publish("asked")
        (claimed,) = await record.claim(member)
        proposal = StoreKnowledge(id="p", content=MOON, source="mail", is_public=True)
        await record.apply(Commit(memories=[proposal], fence=claimed.fence), cause=READER)
        await set_aside(record)
        with pytest.raises(InvalidRequest, match="because it comes from source 'mail'"):
            await record.remember(PublishKnowledge(id="p"))
        await release(record)
        await record.remember(PublishKnowledge(id="p"))
        assert await found(record, BOB) == {MOON}

    @pytest.mark.behaviour("quarantine.procedures")
    async def test_a_version_in_quarantine_applies_nowhere(self, record: Record) -> None:
        await record.remember(skill("Ask first.", is_public=True))
        await record.remember(skill("At once.", source="mail"))
        assert [one.content for one in await skills(record)] == ["At once."]
        await set_aside(record)
        for context in (None, "refund"):
            assert [one.content for one in await skills(record, context)] == ["Ask first."]
        (done,) = await record.remember(skill("Twice.", source="mail"))
        assert done.outcome == "quarantined"
        with pytest.raises(InvalidRequest, match="is in quarantine"):
            await record.remember(ActivateProcedure(name="refund", version=2))
        await release(record)
        assert [one.content for one in await skills(record)] == ["At once."], "it was not replaced"
        await record.remember(ActivateProcedure(name="refund", version=2))
        assert [one.content for one in await skills(record, "refund")] == ["Twice."]

    @pytest.mark.behaviour("quarantine.procedures")
    async def test_an_equal_version_in_quarantine_does_not_stand_for_one_that_counts(
        self, record: Record
    ) -> None:
        await by_agent(record, skill("At once."))
        await set_aside(record, agent_origin("reader"))
        assert list(await skills(record)) == []
        (done,) = await record.remember(skill("At once."))
        assert (done.outcome, done.version) == ("stored", 2)
        assert [one.version for one in await skills(record)] == [2]

    @pytest.mark.behaviour("quarantine.bounded")
    async def test_there_are_bounds(self, record: Record) -> None:
        for number in range(MOST_QUARANTINES):
            await set_aside(record, source_origin(f"s{number}"))
        with pytest.raises(LimitExceeded, match="256 sources and agents"):
            await set_aside(record)
        await set_aside(record, source_origin("s0"))
        await set_aside(record, whose=BOB)
        await set_aside(record, whose="acme")
        await release(record, source_origin("s0"))
        await set_aside(record)

    @pytest.mark.behaviour("quarantine.bounded")
    async def test_a_memory_does_not_come_from_everywhere(self, record: Record) -> None:
        """Each of these comes from 60 sources, the last from all of them."""
        per = 60
        made = []
        for group in range(MOST_ORIGINS // per + 1):
            first = group * per
            await record.remember(
                *(
                    StoreKnowledge(id=f"p{number}", content=f"Page {number}.", source=f"s{number}")
                    for number in range(first, first + per)
                )
            )
            sources = [f"p{number}" for number in range(first, first + per)]
            made.append(await record.know(f"Chapter {group}.", derived_from=sources))
        await record.know("All but one.", derived_from=made[:-1])
        with pytest.raises(LimitExceeded, match=r"comes from 1,020 sources and agents"):
            await record.know("All.", derived_from=made)
        assert (await record.remember(StoreKnowledge(content="All but one.")))[0].id
        with pytest.raises(LimitExceeded, match=r"comes from 1,020 sources and agents"):
            await record.know("All but one.", derived_from=made[-1:])
        await set_aside(record, source_origin("s1000"))
        assert "All but one." in await listed(record, Listed())
        await set_aside(record, source_origin("s7"))
        assert "All but one." not in await listed(record, Listed())
