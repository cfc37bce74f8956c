"""Agents that remember: one files what it is told, another looks it up, and derives from it."""

from __future__ import annotations

from typing import Any

from soorma import HandlerContext, Worker, WorkflowState

ASKED = {
    "event_type": "note.asked",
    "topic": "action-requests",
    "data": {"note": "The night train leaves from platform 4."},
    "plan_id": "the notes",
    "session_id": "the session",
}


def agents() -> dict[str, Worker]:
    """Agents of one run, by name."""
    return {"filer": _filer(), "reader": _reader()}


def _filer() -> Worker:
    filer = Worker("filer")

    @filer.on_event("note.asked", topic="action-requests")
    async def note(event: Any, context: HandlerContext) -> None:
        memory, state = context.memory, WorkflowState(context.memory, event.plan_id)
        await memory.log_interaction("filer", "user", event.data["note"])
        draft = await memory.store_knowledge("A draft of the note.")
        first = await memory.store_knowledge(event.data["note"], external_id="train")
        await state.set("note", first)
        # Restated, replaced, changed and forgotten in one commit.
        await memory.store_knowledge(event.data["note"], external_id="train", tags=["train"])
        await memory.store_knowledge("Platform 5 since May.", external_id="train")
        await memory.update_knowledge(first, source="timetable")
        await memory.delete_knowledge(draft)
        await state.record_action("filed")
        await context.bus.publish("note.filed", "action-results", {"note": "train"})

    return filer


def _reader() -> Worker:
    reader = Worker("reader")

    @reader.on_event("note.filed", topic="action-results")
    async def read(event: Any, context: HandlerContext) -> None:
        memory, state = context.memory, WorkflowState(context.memory, event.plan_id)
        old = await memory.get_knowledge(await state.get("note"))
        (hit,) = await memory.search_knowledge("platform 5", limit=1)
        history = await memory.get_recent_history(session_id="the session")
        said = history.messages()[0]["content"]
        await memory.store_knowledge(
            f"{hit.content} Before: {old.content} Said: {said}", derived_from=[hit.id]
        )
        await memory.log_interaction("reader", "assistant", f"Noted: {hit.content}")
        await memory.store_procedure("find-a-train", "Ask for the platform.", derived_from=[hit.id])
        await state.record_action("read")
        await context.bus.publish("note.read", "business-facts", {"found": hit.content})

    return reader
