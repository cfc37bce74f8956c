"""The event that tells that nothing more is said in a session: for an agent that consolidates."""

from __future__ import annotations

from typing import Any

import pytest

from soorma import HandlerContext, RetryPolicy, Worker
from soorma.testing import LocalPlatform

SYSTEM = "system-events"


@pytest.mark.behaviour("episodes.idle")
async def test_an_agent_reads_what_was_said_since_the_last_report(
    soorma_platform: LocalPlatform,
) -> None:
    read: list[list[str]] = []
    librarian = Worker("librarian")

    @librarian.on_event("session.idle", topic=SYSTEM)
    async def consolidate(event: Any, context: HandlerContext) -> None:
        page = await context.memory.get_recent_history(session_id=event.data["session_id"])
        new = [one for one in page.interactions if one.number > event.data["previous"]]
        assert new[-1].number == event.data["newest"]
        read.append([one.content for one in new])
        await context.memory.log_interaction(None, "assistant", f"Read {len(new)}.")
        await context.memory.store_knowledge(f"A summary of {len(new)}.", source="session")

    await soorma_platform.run(librarian)
    memory = soorma_platform.context.memory
    for content in ("One.", "Two."):
        await memory.log_interaction("a", "user", content, session_id="s")
        await soorma_platform.advance(500)
    assert read == []
    await soorma_platform.advance(101)
    await soorma_platform.settle()
    assert read == [["One.", "Two."]]
    await memory.log_interaction("a", "user", "Three.", session_id="s")
    await soorma_platform.advance(2000)
    await soorma_platform.settle()
    assert read == [["One.", "Two."], ["Three."]], "what it logs itself does not wake the session"
    assert (await memory.get_session("s")).interactions == 3


@pytest.mark.behaviour("episodes.idle")
async def test_the_report_is_handled_once_by_an_agent_that_died(
    soorma_platform: LocalPlatform,
) -> None:
    librarian = Worker("librarian", retry=RetryPolicy(max_attempts=3))

    @librarian.on_event("session.idle", topic=SYSTEM)
    async def consolidate(event: Any, context: HandlerContext) -> None:
        await context.memory.store_knowledge(f"Idle at {event.data['newest']}.")

    await soorma_platform.run(librarian)
    memory = soorma_platform.context.memory
    await memory.log_interaction("a", "user", "One.", session_id="s")
    await soorma_platform.stop(librarian)
    await soorma_platform.advance(700)
    await soorma_platform.advance(700)
    await soorma_platform.run(librarian)
    await soorma_platform.settle()
    assert len(soorma_platform.published("session.idle")) == 1
    assert [one.stated async for one in memory.list_knowledge()] == [1]


@pytest.mark.behaviour("episodes.idle-setting")
@pytest.mark.parametrize(("seconds", "expected"), [(30.0, 1), (0.0, 0)])
async def test_the_setting_says_when_a_session_is_idle(seconds: float, expected: int) -> None:
    librarian = Worker("librarian")

    @librarian.on_event("session.idle", topic=SYSTEM)
    async def consolidate(event: Any, context: HandlerContext) -> None:
        pass

    whose = {"tenant_id": "acme", "user_id": "ann"}
    async with LocalPlatform(**whose, session_idle=seconds) as platform:
        await platform.run(librarian)
        await platform.context.memory.log_interaction("a", "user", "One.", session_id="s")
        await platform.advance(29)
        assert platform.published("session.idle") == []
        await platform.advance(2)
        await platform.settle()
        assert len(platform.published("session.idle")) == expected
        await platform.advance(100_000)
        assert len(platform.published("session.idle")) == expected
