"""Memories that are kept for a time only: what is too old is in no file any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soorma import HandlerContext, Worker, WorkflowState
from soorma.testing import LocalPlatform
from soorma_platform.engine.retention import Retention

DAY = 86_400.0
WORD = "zyxwordmark"


@pytest.mark.behaviour("forgetting.by-age", "forgetting.erased")
async def test_what_is_too_old_is_gone_from_every_file() -> None:
    retention = Retention(interactions=DAY, knowledge=9 * DAY, closed_knowledge=2 * DAY)
    whose = {"tenant_id": "acme", "user_id": "ann"}
    async with LocalPlatform(**whose, retention=retention) as platform:
        folder = Path(platform._platform.settings.database).parent
        memory = platform.context.memory
        said = await memory.log_interaction("a", "user", f"{WORD} said.", session_id="s")
        await memory.store_knowledge(f"{WORD}, closed soon.", external_id="doc")
        await memory.store_knowledge("The current text.", external_id="doc", derived_from=[said])
        await platform.advance(DAY + 1)
        assert (await memory.get_recent_history()).interactions == []
        assert any(WORD.encode() in file.read_bytes() for file in folder.iterdir())
        await platform.advance(DAY)
        await platform.advance(60)
        assert [one.content async for one in memory.list_knowledge()] == ["The current text."]
        assert not any(WORD.encode() in file.read_bytes() for file in folder.iterdir())
        await platform.advance(8 * DAY)
        assert [one.content async for one in memory.list_knowledge()] == []


@pytest.mark.behaviour("forgetting.with-plan", "knowledge.promoted")
async def test_what_was_promoted_outlives_its_plan() -> None:
    whose = {"tenant_id": "acme", "user_id": "ann"}
    async with LocalPlatform(**whose, outlives_plan="promoted") as platform:
        worker = Worker("w")

        @worker.on_event("begun", topic="business-facts")
        async def begun(event: Any, context: HandlerContext) -> None:
            await context.memory.log_interaction(None, "assistant", "I begin.")
            await context.memory.store_knowledge("A note of the plan.")
            await context.memory.store_knowledge("Kept.", outlives_plan=True)
            state = WorkflowState(context.memory, event.plan_id)
            await state.set("result", "The result.")
            await state.promote("result")
            await state.set("draft", "The draft.")
            await state.promote("draft", outlives_plan=False)
            await state.complete()

        await platform.run(worker)
        await platform.publish("begun", topic="business-facts", data={}, plan_id="p")
        await platform.settle()
        memory = platform.context.memory
        assert len([one async for one in memory.list_knowledge()]) == 4
        await platform.advance(31 * DAY)
        left = [one.content async for one in memory.list_knowledge()]
        assert sorted(left) == ["Kept.", "The result."]
        assert (await memory.get_recent_history()).interactions == []
