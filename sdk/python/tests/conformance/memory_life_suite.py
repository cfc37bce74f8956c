"""Requirements for the life of memories in a store: what upkeep tells of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytest
from record import ALICE, BOB, STRANGER, Record, part, put

from soorma_common.delivery import Subscription
from soorma_common.episodic import LogInteraction
from soorma_common.forgetting import ForgetBody
from soorma_common.json_text import decode
from soorma_common.memory import Commit
from soorma_common.names import Scope
from soorma_common.operations import Cleanup, Complete
from soorma_common.procedural import StoreProcedure
from soorma_common.semantic import ForgetKnowledge, StoreKnowledge
from soorma_platform.engine.ageing import ForgetAged
from soorma_platform.engine.purging import ForgetWithPlan
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.sessions import IDLE_SECONDS, ReportIdle
from soorma_platform.stores.ports import Store
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.upkeep import Upkeep

IDLE, SYSTEM = "session.idle", "system-events"
ALMOST = IDLE_SECONDS - 1
DAY = 86_400.0


async def say(record: Record, session_id: str, *, scope: Scope = ALICE) -> int:
    """Logs an interaction; returns its number."""
    said = LogInteraction(role="user", content="Something.", session_id=session_id)
    await record.remember(said, scope=scope)
    rows, _ = await record.store.memories.episodic.history(scope, session_id, None, None, 1)
    return rows[0].number or 0


async def told(record: Record) -> list[dict[str, Any]]:
    """Returns the data of all reports of idle sessions, the oldest first."""
    return [decode(one.envelope)["data"] for one in await record.log() if one.type == IDLE]


async def fill_plan(record: Record, plan: str) -> None:
    """Stores memories of a plan that ends: of each sort that may outlive it or not."""
    await record.remember(
        LogInteraction(role="user", content=f"Said in {plan}.", plan_id=plan, session_id="s"),
        StoreKnowledge(content=f"Note of {plan}.", id=f"note-{plan}", plan_id=plan),
        StoreKnowledge(content=f"Result of {plan}.", plan_id=plan, outlives_plan=True),
        StoreKnowledge(content=f"Public of {plan}.", plan_id=plan, is_public=True),
        StoreKnowledge(content="Known to all plans.", plan_id=plan),
        StoreKnowledge(content=f"Drawn from {plan}.", derived_from=[f"note-{plan}"]),
        StoreProcedure(name=f"skill-{plan}", content="Do it.", plan_id=plan),
    )
    await record.commit(part(plan, put("k", 1)))


async def purge(record: Record, outliving: Any, after: float = 31 * DAY) -> None:
    """Runs upkeep, once plans that have ended are due to be purged."""
    record.clock.advance(after)
    upkeep = Upkeep(record.store, record.limits, Retention(), outliving=outliving)
    while await upkeep.step():
        pass


async def contents(record: Record, scope: Scope = ALICE) -> set[str]:
    """Returns the open passages of a user."""
    rows, _ = await record.store.memories.semantic.list(scope, 0, 1_000)
    return {row.content for row in rows}


async def history(record: Record, scope: Scope = ALICE) -> list[str]:
    """Returns what was said to a user, the newest first."""
    rows, _ = await record.store.memories.episodic.history(scope, None, None, None, 1_000)
    return [row.content for row in rows]


class MemoryLifeSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("episodes.idle")
    async def test_a_session_in_which_nothing_is_said_is_reported_once_each_time(
        self, record: Record
    ) -> None:
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM))
        await say(record, "s")
        record.clock.advance(ALMOST)
        newest = await say(record, "s")
        at = record.clock.now
        record.clock.advance(ALMOST)
        await record.sweep()
        assert await told(record) == []
        record.clock.advance(2)
        await record.sweep()
        (first,) = await told(record)
        assert (first["session_id"], first["interactions"]) == ("s", 2)
        assert (first["newest"], first["previous"]) == (newest, 0)
        assert first["idle_since"].startswith("2027-01-15T08:09:59"), at
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        await record.reopen()
        await record.sweep()
        assert len(await told(record)) == 1, "it has not gone on"
        last = await say(record, "s")
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        _, second = await told(record)
        assert (second["interactions"], second["newest"]) == (3, last)
        assert second["previous"] == newest, "what is new since the last report"

    @pytest.mark.behaviour("episodes.idle")
    async def test_a_report_is_of_one_user_and_of_ids_alone(self, record: Record) -> None:
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM), tenant=ALICE.tenant_id)
        others = await record.subscribe("other", Subscription(IDLE, SYSTEM), tenant="umbrella")
        await say(record, "s")
        await say(record, "s", scope=BOB)
        await record.remember(LogInteraction(role="user", content="Said in no session."))
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        events = [one for one in await record.log() if one.type == IDLE]
        assert [(one.tenant_id, one.user_id) for one in events] == [
            ("acme", "alice"),
            ("acme", "bob"),
        ]
        assert all("Something" not in one.envelope for one in events)
        assert all("session_id" not in decode(one.envelope) for one in events)
        assert await record.claim(others) == []

    @pytest.mark.behaviour("episodes.idle")
    async def test_without_a_subscriber_no_report_is_published(self, record: Record) -> None:
        await say(record, "s")
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM))
        await record.sweep()
        assert await told(record) == [], "who subscribes later does not hear of it"
        await say(record, "s")
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        assert len(await told(record)) == 1

    @pytest.mark.behaviour("episodes.idle")
    async def test_a_session_that_goes_on_or_is_forgotten_meanwhile_is_not_reported(
        self, record: Record
    ) -> None:
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM))
        await say(record, "s")
        await say(record, "t")
        record.clock.advance(IDLE_SECONDS)
        before = (await record.store.upkeep.begin()).uptime - round(IDLE_SECONDS * 1000)
        rows = await record.store.memories.life.quiet(before, 10)
        assert [row.session_id for row in rows] == ["s", "t"]
        assert len(await record.store.memories.life.quiet(before, 1)) == 1
        await say(record, "s")
        await Forgetting(record.store).forget(ALICE, ForgetBody(session_id="t"))
        for row in rows:
            report = ReportIdle(
                row.scope, row.session_id, before, row.session_id, limits=record.limits
            )
            assert not await record.store.transact(report)
        assert await told(record) == []

    @pytest.mark.behaviour("episodes.idle")
    async def test_neither_a_jump_nor_a_time_without_a_platform_makes_a_session_idle(
        self, record: Record
    ) -> None:
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM))
        await say(record, "s")
        record.clock.jump(IDLE_SECONDS)
        await record.sweep()
        await record.close()
        record.clock.advance(IDLE_SECONDS)
        await record.open()
        await record.sweep()
        assert await told(record) == []
        record.clock.advance(IDLE_SECONDS)
        await record.sweep()
        assert len(await told(record)) == 1

    @pytest.mark.behaviour("episodes.idle")
    async def test_many_idle_sessions_are_reported_in_bounded_steps(self, record: Record) -> None:
        await record.subscribe("librarian", Subscription(IDLE, SYSTEM))
        for number in range(230):
            await say(record, f"s{number}")
        record.clock.advance(IDLE_SECONDS)
        assert await record.upkeep()
        assert len(await told(record)) == 100
        await record.sweep()
        sessions = [one["session_id"] for one in await told(record)]
        assert sorted(sessions) == sorted(f"s{number}" for number in range(230))

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_interactions_are_kept_for_a_time(self, record: Record) -> None:
        kept = Retention(interactions=DAY)
        await say(record, "s")
        await say(record, "s", scope=STRANGER)
        await record.know("The user is a vegetarian.")
        record.clock.advance(DAY - 10)
        await say(record, "s")
        await say(record, "t")
        await record.sweep(kept)
        assert len(await history(record)) == 3
        record.clock.advance(11)
        await record.sweep(kept)
        assert len(await history(record)) == 2
        assert await history(record, STRANGER) == []
        assert await contents(record) == {"The user is a vegetarian."}
        session = await record.store.memories.episodic.session(ALICE, "s")
        assert session is not None
        assert session.interactions == 1
        record.clock.advance(DAY)
        await record.sweep(kept)
        assert await record.store.memories.episodic.sessions(ALICE, None, 9) == []
        for table in ("interactions", "sessions", "erasures"):
            assert await self.count_rows(record.store, table) == 0

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_what_was_made_of_it_stays_at_its_own_age(self, record: Record) -> None:
        said = LogInteraction(role="user", content="I eat no meat.", id="said")
        await record.remember(said)
        old = await record.know("A draft.", external_id="doc")
        record.clock.advance(DAY)
        await record.know("The user is a vegetarian.", derived_from=["said"])
        await record.know("A conclusion.", derived_from=[old])
        await record.know("The final text.", external_id="doc")
        record.clock.advance(DAY / 2)
        await record.sweep(Retention(interactions=DAY))
        assert await history(record) == []
        record.clock.advance(DAY)
        await record.sweep(Retention(closed_knowledge=DAY))
        everything = {"The user is a vegetarian.", "A conclusion.", "The final text."}
        assert await contents(record) == everything
        assert await record.passage(old) is None, "it was closed a day ago"
        await record.remember(ForgetKnowledge(id=old))
        assert await contents(record) == everything

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_closed_passages_are_kept_for_a_time(self, record: Record) -> None:
        kept = Retention(closed_knowledge=DAY)
        home = {"subject": "user", "attribute": "home"}
        first = await record.know("Lisbon.", **home)
        await record.know("As old.", is_public=True)
        record.clock.advance(5 * DAY)
        second = await record.know("Porto.", **home)
        record.clock.advance(DAY - 10)
        await record.know("Faro.", **home)
        await record.sweep(kept)
        assert await record.passage(first) is not None
        record.clock.advance(11)
        await record.sweep(kept)
        assert await record.passage(first) is None
        assert await record.passage(second) is not None
        assert await record.found("faro") == ["Faro."]
        assert await record.found("as old", min_score=0.1) == ["As old."]

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_passages_are_kept_since_they_were_last_stated(self, record: Record) -> None:
        kept = Retention(knowledge=DAY)
        await record.know("Never again.")
        await record.know("For all.", is_public=True, scope=BOB)
        await record.know("Stated again.")
        record.clock.advance(DAY - 10)
        await record.know("Stated again.")
        await say(record, "s")
        await record.sweep(kept)
        assert len(await contents(record)) == 2
        record.clock.advance(11)
        await record.sweep(kept)
        assert await contents(record) == {"Stated again."}
        assert await record.found("for all", min_score=0.1, scope=BOB) == []
        assert len(await history(record)) == 1
        record.clock.advance(DAY)
        await record.sweep(kept)
        assert await contents(record) == set()

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_without_a_setting_memories_are_kept_for_ever(self, record: Record) -> None:
        await record.know("Old.", external_id="doc")
        await record.know("New.", external_id="doc")
        await say(record, "s")
        record.clock.advance(10_000 * DAY)
        await record.sweep()
        assert await self.count_rows(record.store, "passages") == 3

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_a_jump_of_the_clock_ages_nothing_for_good(self, record: Record) -> None:
        kept = Retention(interactions=DAY, knowledge=DAY, closed_knowledge=DAY)
        await say(record, "s")
        await record.know("One.")
        record.clock.advance(700)
        record.clock.jump(10 * DAY)
        await record.sweep(kept)
        record.clock.jump(-10 * DAY)
        record.clock.advance(700)
        await record.sweep(kept)
        assert await self.count_rows(record.store, "passages") == 2

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_what_is_stated_again_meanwhile_is_left_alone(self, record: Record) -> None:
        passage_id = await record.know("Stated again.")
        row = await record.store.memories.semantic.passage(ALICE, passage_id)
        assert row is not None
        record.clock.advance(DAY)
        before = round((record.clock.now - 10) * 1000)
        numbers = [row.number or 0, 4_711]
        await record.know("Stated again.")
        forget = ForgetAged(ALICE, numbers, before, closed=False)
        assert await record.store.transact(forget) == 0
        closed = ForgetAged(ALICE, numbers, before, closed=True)
        assert await record.store.transact(closed) == 0, "it is open"
        record.clock.advance(DAY)
        later = ForgetAged(ALICE, numbers, round(record.clock.now * 1000), closed=False)
        assert await record.store.transact(later) == 1
        assert await record.store.transact(later) == 0

    @pytest.mark.behaviour("forgetting.by-age")
    async def test_many_are_forgotten_in_bounded_steps(self, record: Record) -> None:
        kept = Retention(knowledge=DAY)
        for scope in (ALICE, BOB):
            await record.remember(
                *(StoreKnowledge(content=f"Passage {number}.") for number in range(300)),
                scope=scope,
            )
        record.clock.advance(DAY + 1)
        assert await record.upkeep(kept)
        assert await self.count_rows(record.store, "passages") == 400
        await record.sweep(kept)
        assert await self.count_rows(record.store, "passages") == 0
        assert await self.count_rows(record.store, "passage_parts") <= 600

    @pytest.mark.behaviour("forgetting.by-tenant")
    async def test_all_users_of_a_tenant_are_forgotten_and_no_other(self, record: Record) -> None:
        bob_public = await record.know("For all.", is_public=True, scope=BOB, source="web")
        for scope in (ALICE, STRANGER):
            await record.know("Known.", scope=scope, source="web")
            await say(record, "s", scope=scope)
        users = record.store.memories.life.users
        assert await users("acme", "", 9) == ["alice", "bob"]
        assert await users("acme", "", 1) == ["alice"]
        assert await users("acme", "alice", 9) == ["bob"]
        assert await users("nobody", "", 9) == []
        forgetting = Forgetting(record.store)
        web = ForgetBody(source="web", kind="knowledge", preview=True)
        preview = await forgetting.forget_tenant("acme", web)
        assert (preview.passages, preview.interactions, preview.is_preview) == (2, 0, True)
        assert await record.passage(bob_public) is not None
        receipt = await forgetting.forget_tenant("acme", ForgetBody(everything=True))
        assert (receipt.passages, receipt.interactions) == (2, 1)
        assert await record.passage(bob_public) is None
        assert (await contents(record), await history(record)) == (set(), [])
        assert await contents(record, STRANGER) == {"Known."}
        assert len(await history(record, STRANGER)) == 1
        again = await forgetting.forget_tenant("acme", ForgetBody(everything=True))
        assert (again.passages, again.interactions) == (0, 0)

    @pytest.mark.behaviour("forgetting.by-tenant")
    async def test_a_tenant_of_many_users_is_forgotten_page_by_page(self, record: Record) -> None:
        for number in range(230):
            await record.know("Known.", scope=Scope("acme", f"user {number}"))
        receipt = await Forgetting(record.store).forget_tenant("acme", ForgetBody(everything=True))
        assert receipt.passages == 230

    @pytest.mark.behaviour("forgetting.with-plan")
    @pytest.mark.parametrize("outliving", ["all", "knowledge", "promoted"])
    async def test_what_outlives_a_purged_plan(self, record: Record, outliving: str) -> None:
        for plan in ("p", "q"):
            await fill_plan(record, plan)
        for scope in (BOB, STRANGER):
            await record.know("Of another user.", plan_id="p", scope=scope)
        await record.commit(part("p", Complete()))
        everything = {
            *(
                f"{what} {plan}."
                for what in ("Note of", "Result of", "Drawn from")
                for plan in "pq"
            ),
            "Known to all plans.",
        }
        assert await contents(record) == everything
        await purge(record, outliving, after=29 * DAY)
        assert await contents(record) == everything
        await purge(record, outliving, after=2 * DAY)
        left = everything - {"Note of p."} if outliving == "promoted" else everything
        assert await contents(record) == left
        said = ["Said in q.", "Said in p."]
        assert await history(record) == (said if outliving == "all" else said[:1])
        assert "Public of p." in await record.found("public of p", min_score=0.0, limit=9)
        for scope in (BOB, STRANGER):
            assert await contents(record, scope) == {"Of another user."}
        procedures = await record.store.memories.procedural.list(ALICE, None, 0, 9)
        assert [row.name for row in procedures] == ["skill-p", "skill-q"]

    @pytest.mark.behaviour("forgetting.with-plan")
    async def test_a_cleanup_is_no_purge(self, record: Record) -> None:
        await fill_plan(record, "p")
        await record.commit(part("p", Complete()))
        await record.commit(part("p", Cleanup()))
        await purge(record, "promoted")
        assert "Note of p." in await contents(record)
        assert await history(record) == ["Said in p."]

    @pytest.mark.behaviour("forgetting.with-plan")
    async def test_what_was_forgotten_before_a_crash_is_not_missed_after_it(
        self, record: Record
    ) -> None:
        await record.remember(
            *(StoreKnowledge(content=f"Note {number}.", plan_id="p") for number in range(450))
        )
        await record.commit(part("p", put("k", 1), Complete()))
        record.clock.advance(31 * DAY)
        uptime = (await record.store.upkeep.begin()).uptime
        forget = ForgetWithPlan(ALICE, "p", uptime, "promoted", 200)
        assert await record.store.transact(forget) == (200, 0)
        await record.reopen()
        await purge(record, "promoted", after=0)
        assert await contents(record) == set()
        assert await record.state("p") == {}

    @pytest.mark.behaviour("forgetting.with-plan")
    async def test_nothing_goes_with_a_plan_that_is_not_due(self, record: Record) -> None:
        await fill_plan(record, "p")
        uptime = (await record.store.upkeep.begin()).uptime
        forget = ForgetWithPlan(ALICE, "p", uptime, "promoted", 200)
        assert await record.store.transact(forget) == (0, 0)
        record.clock.advance(10)
        await record.commit(part("p", Complete()))
        assert await record.store.transact(forget) == (0, 0)
        assert "Note of p." in await contents(record)

    @pytest.mark.behaviour("forgetting.with-plan")
    async def test_whatever_is_stated_again_as_outliving_is(self, record: Record) -> None:
        await record.know("Stated twice.", plan_id="p")
        await record.know("Stated twice.", plan_id="p", outlives_plan=True)
        await record.know("Stated twice.", plan_id="p")
        await record.know("Twice in one plan.", plan_id="p")
        await record.know("Twice in one plan.", plan_id="p")
        await record.apply(Commit(plans=[part("p", put("k", 1), Complete())]))
        await purge(record, "promoted")
        assert await contents(record) == {"Stated twice."}

    @pytest.mark.behaviour("forgetting.with-plan")
    async def test_a_plan_is_purged_once_its_memories_are_gone_in_bounded_steps(
        self, record: Record
    ) -> None:
        for first in (0, 250):
            await record.remember(
                *(
                    StoreKnowledge(content=f"Note {number}.", plan_id="p")
                    for number in range(first, first + 250)
                )
            )
        await record.commit(part("p", put("k", 1), Complete()))
        record.clock.advance(31 * DAY)
        upkeep = Upkeep(record.store, record.limits, Retention(), outliving="promoted")
        for left in (300, 100):
            assert await upkeep.step()
            assert await self.count_rows(record.store, "passages") == left
            assert await record.state("p") == {"k": 1}
        await upkeep.step()
        assert await self.count_rows(record.store, "passages") == 0
        assert await record.state("p") == {}
