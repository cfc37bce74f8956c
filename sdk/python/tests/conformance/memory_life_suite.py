"""Requirements for the life of memories in a store: what upkeep tells of."""

from __future__ import annotations

from typing import Any

import pytest
from record import ALICE, BOB, Record

from soorma_common.delivery import Subscription
from soorma_common.episodic import LogInteraction
from soorma_common.forgetting import ForgetBody
from soorma_common.json_text import decode
from soorma_common.names import Scope
from soorma_platform.engine.sessions import IDLE_SECONDS, ReportIdle
from soorma_platform.work.forgetting import Forgetting

IDLE, SYSTEM = "session.idle", "system-events"
ALMOST = IDLE_SECONDS - 1


async def say(record: Record, session_id: str, *, scope: Scope = ALICE) -> int:
    """Logs an interaction; returns its number."""
    said = LogInteraction(role="user", content="Something.", session_id=session_id)
    await record.remember(said, scope=scope)
    rows, _ = await record.store.memories.episodic.history(scope, session_id, None, None, 1)
    return rows[0].number or 0


async def told(record: Record) -> list[dict[str, Any]]:
    """Returns the data of all reports of idle sessions, the oldest first."""
    return [decode(one.envelope)["data"] for one in await record.log() if one.type == IDLE]


class MemoryLifeSuite:
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
