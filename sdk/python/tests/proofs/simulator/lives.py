"""Workloads of plans from beginning to end: completed, failed and compensated, or cancelled."""

from __future__ import annotations

import asyncio

from simulator.stage import FACTS, REQUESTS, RESULTS, Record, Stage, Workload, on
from soorma import Agent, PlatformContext, WorkflowState
from soorma.context import HandlerContext
from soorma_common.errors import PlanEnded
from soorma_common.events import Event


class Chains(Workload):
    """Goals that are planned, worked off task by task, and completed: example 05."""

    name = "chains"
    groups = ("planner", "worker", "coordinator")
    tasks = ("research", "draft", "review")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.goals: list[str] = []

    def register(self, group: str, agent: Agent) -> None:
        stage, tasks = self.stage, self.tasks

        async def plan(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            await state.update({"tasks": list(tasks), "index": 0})
            await stage.pause()
            await state.record_action("planned")
            await context.bus.publish("task.asked", REQUESTS, tasks[0])

        async def work(event: Event, context: HandlerContext) -> None:
            await stage.pause()
            await on(context, event).set(f"{event.data}_result", f"done: {event.data}")
            await context.bus.publish("task.done", RESULTS, event.data)
            await stage.pause()

        async def coordinate(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            await state.record_action(f"{event.data} done")
            index = await state.get("index") + 1
            await stage.pause()
            if index < len(await state.get("tasks")):
                await state.set("index", index)
                await context.bus.publish("task.asked", REQUESTS, tasks[index])
            else:
                await context.bus.publish("goal.done", FACTS)
                await state.complete({"tasks": index})

        handlers = {"planner": ("goal.asked", plan), "worker": ("task.asked", work)}
        kind, function = handlers.get(group, ("task.done", coordinate))
        agent.on_event(kind)(function)

    async def drive(self, context: PlatformContext) -> None:
        for number in range(self.stage.size):
            await self.stage.pause()
            self.goals.append(plan := self.stage.plan(number))
            await context.bus.publish("goal.asked", REQUESTS, plan_id=plan)

    def judge(self, record: Record) -> None:
        for plan in self.goals:
            self.same(f"status of {plan}", record.status(plan), "completed")
            self.same(
                f"actions of {plan}",
                record.actions(plan),
                ["planned", *(f"{task} done" for task in self.tasks)],
            )
            self.same(f"ends of {plan}", len(record.events("goal.done", plan)), 1)
            for kind in ("task.asked", "task.done"):
                data = [data for _, _, data in record.events(kind, plan)]
                self.same(f"{kind} of {plan}", data, list(self.tasks))


class Sagas(Workload):
    """Bookings that are undone in reverse order if the trip fails."""

    name = "sagas"
    groups = ("booker", "undoer")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.trips: dict[str, tuple[int, bool]] = {}

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def book(event: Event, context: HandlerContext) -> None:
            state, number, trip = on(context, event), event.data["number"], event.data["trip"]
            booked = await state.get("booked", [])
            await stage.pause()
            await state.set("booked", [*booked, number])
            await state.compensate("undo", REQUESTS, number)
            await stage.pause()
            if number < trip["bookings"]:
                await context.bus.publish("book", REQUESTS, {"number": number + 1, "trip": trip})
            elif trip["fails"]:
                await state.fail("sold out")
            else:
                await state.complete()

        async def undo(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            undone = await state.get("undone", [])
            await stage.pause()
            await state.set("undone", [*undone, event.data])

        if group == "booker":
            agent.on_event("book")(book)
        else:
            agent.on_event("undo")(undo)

    async def drive(self, context: PlatformContext) -> None:
        dice = self.stage.dice
        for number in range(self.stage.size):
            self.trips[plan := self.stage.plan(number)] = (dice.randint(1, 3), dice.random() < 0.7)
            bookings, fails = self.trips[plan]
            trip = {"number": 1, "trip": {"bookings": bookings, "fails": fails}}
            await context.bus.publish("book", REQUESTS, trip, plan_id=plan)
            await self.stage.pause()

    def judge(self, record: Record) -> None:
        for plan, (bookings, fails) in self.trips.items():
            state, numbers = record.state(plan), list(range(1, bookings + 1))
            self.same(f"status of {plan}", record.status(plan), "failed" if fails else "completed")
            self.same(f"booked of {plan}", state.get("booked"), numbers)
            self.same(f"undone of {plan}", state.get("undone", []), numbers[::-1] if fails else [])
            self.same(
                f"compensations of {plan}",
                len(record.events("undo", plan)),
                bookings if fails else 0,
            )


class Walks(Workload):
    """Plans that continue until they are done or the user cancels them; then nothing happens."""

    name = "walks"
    groups = ("walker",)
    length = 6

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ends: dict[str, str] = {}

    def register(self, group: str, agent: Agent) -> None:
        stage, length = self.stage, self.length

        async def walk(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            steps = await state.increment("steps")
            await stage.pause()
            if steps < length:
                await context.bus.publish("walk", REQUESTS)
            else:
                await state.complete()

        agent.on_event("walk")(walk)

    async def drive(self, context: PlatformContext) -> None:
        dice = self.stage.dice
        for number in range(self.stage.size):
            self.ends[plan := self.stage.plan(number)] = "completed"
            await context.bus.publish("walk", REQUESTS, plan_id=plan)
            if dice.random() < 0.7:
                await asyncio.sleep(dice.uniform(0, 0.3))
                try:
                    await WorkflowState(context.memory, plan).cancel("enough")
                except PlanEnded:
                    continue
                self.ends[plan] = "cancelled"

    def judge(self, record: Record) -> None:
        for plan, end in self.ends.items():
            self.same(f"status of {plan}", record.status(plan), end)
            done, asked = record.state(plan).get("steps", 0), len(record.events("walk", plan))
            self.same(f"steps of {plan}", asked - done, 1 if end == "cancelled" else 0)
            self.same(f"end of {plan}", done == self.length, end == "completed")
            late = record.rows(
                "SELECT h.op FROM history h JOIN plans p ON p.id = h.plan WHERE p.plan_id = ? AND "
                "h.revision > ("
                " SELECT e.revision FROM history e WHERE e.plan = p.id AND e.op IN ('cancel', "
                "'complete'))",
                plan,
            )
            self.same(f"changes of {plan} after its end", late, [])
