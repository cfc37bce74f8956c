"""A goal that is fanned out to tasks and joined again, with steps, a deadline and compensations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from soorma import HandlerContext, Worker, WorkflowState

TASKS = ("first", "second", "third")
TASK_EVENT = "task.asked"
DEADLINE = 120.0
"""Seconds of the platform's time; it has ended by then."""


class Effects:
    """The tasks' effects outside the platform, which no transaction takes back.

    `is_recorded` says whether a step is recorded.
    """

    def __init__(self) -> None:
        self.is_recorded: Callable[[str], bool] = lambda _: False
        self.calls: Counter[str] = Counter()
        self.needless: list[str] = []
        """called though the result was recorded"""

    def call(self, task: str) -> None:
        self.calls[task] += 1
        if self.is_recorded(task):
            self.needless.append(task)


def agents(effects: Effects) -> dict[str, Worker]:
    """Agents of one run, by name."""
    return {"planner": _planner(), "worker": _worker(effects), "collector": _collector()}


def _planner() -> Worker:
    planner = Worker("planner")

    @planner.on_event("goal.asked", topic="action-requests")
    async def plan(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        await state.set("ends", event.data["ends"])
        await state.deadline(DEADLINE)
        await state.compensate("goal.undone", "action-requests", "all of it")
        await state.record_action("planned")
        for task in TASKS:
            await context.bus.publish(TASK_EVENT, "action-requests", task)

    @planner.on_event("goal.undone", topic="action-requests")
    async def undo(event: Any, context: HandlerContext) -> None:
        await WorkflowState(context.memory, event.plan_id).append("undone", event.data)

    return planner


def _worker(effects: Effects) -> Worker:
    worker = Worker("worker")

    async def pay(task: str) -> dict[str, str]:
        effects.call(task)
        await asyncio.sleep(0)
        return {"paid for": task}

    @worker.on_event(TASK_EVENT, topic="action-requests", ordered=False)
    async def work(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        receipt = await context.step("pay", pay, event.data)
        await state.set(f"receipt of {event.data}", receipt)
        await state.increment("length", len(event.data), blind=True)
        await state.compensate("task.undone", "action-requests", event.data)
        if await state.join("tasks", expect=TASKS, arrival=event.data):
            await context.bus.publish("tasks.joined", "action-results")

    @worker.on_event("task.undone", topic="action-requests")
    async def undo(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        await state.delete(f"receipt of {event.data}")
        await state.increment("undone tasks")

    return worker


def _collector() -> Worker:
    collector = Worker("collector")

    @collector.on_event("tasks.joined", topic="action-results")
    async def collect(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, event.plan_id)
        receipts = [await state.get(f"receipt of {task}") for task in TASKS]
        await state.record_action("collected")
        if await state.get("ends") == "failed":
            await state.fail("as it was asked")
        else:
            await state.complete({"receipts": receipts, "length": await state.get("length")})

    return collector
