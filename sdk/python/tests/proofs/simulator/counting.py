"""Workloads of handlers that change the same keys, in sequence and concurrently."""

from __future__ import annotations

from collections import Counter

from simulator.stage import FACTS, REQUESTS, Record, Stage, Workload, on
from soorma import Agent, PlatformContext, WorkflowState
from soorma.context import HandlerContext
from soorma_common.errors import Conflict
from soorma_common.events import Event


class Counters(Workload):
    """Handlers that read, change and write, in plans' lanes and concurrently, beside a user."""

    name = "counters"
    groups = ("counter", "tally")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.adds: dict[str, tuple[str, int]] = {}
        self.written = 0
        self.moved = 0

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def count(event: Event, context: HandlerContext) -> None:
            state, ledger = (
                on(context, event),
                WorkflowState(context.memory, f"{stage.prefix}-ledger"),
            )
            total = await state.get("total", 0)
            await stage.pause()
            await state.set("total", total + event.data)
            await ledger.increment("count", blind=True)
            await stage.pause()
            await ledger.set("grand", await ledger.get("grand", 0) + event.data)
            await state.append("seen", event.id, blind=True)

        async def tally(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            number = await state.increment("tally")
            await stage.pause()
            await context.bus.publish("added", FACTS, {"number": number, "by": event.data})
            await stage.pause()

        if group == "counter":
            agent.on_event("add", REQUESTS)(count)
        else:
            agent.on_event("add", REQUESTS, ordered=False)(tally)

    async def drive(self, context: PlatformContext) -> None:
        stage = self.stage
        ledger = WorkflowState(context.memory, f"{stage.prefix}-ledger")
        for _ in range(3 * stage.size):
            await stage.pause()
            plan, by = stage.plan(stage.dice.randrange(2)), stage.dice.randint(1, 9)
            self.adds[await context.bus.publish("add", REQUESTS, by, plan_id=plan)] = (plan, by)
            if stage.dice.random() < 0.5:
                self.written += 1
                self.same("the user's count", await ledger.increment("user"), self.written)
            if stage.dice.random() < 0.3:
                await self._move(ledger)
                self.moved += 1

    async def _move(self, ledger: WorkflowState) -> None:
        """Repeats a transaction outside any handler until it meets no conflict."""
        while True:
            try:
                async with ledger.transaction() as tx:
                    await tx.get("count")
                    await self.stage.pause()
                    await tx.set("moves", await tx.get("moves", 0) + 1)
                    await tx.bus.publish("moved", FACTS)
            except Conflict:
                continue
            return

    def judge(self, record: Record) -> None:
        stage, sums, counts = self.stage, Counter[str](), Counter[str]()
        for plan, by in self.adds.values():
            sums[plan] += by
            counts[plan] += 1
        ledger = record.state(f"{stage.prefix}-ledger")
        for plan, wanted in sums.items():
            state = record.state(plan)
            self.same(f"total of {plan}", state.get("total"), wanted)
            self.same(f"tally of {plan}", state.get("tally"), counts[plan])
            in_order = [event_id for event_id, _, _ in record.events("add", plan)]
            self.same(f"the order in {plan}", state.get("seen"), in_order)
            added = sorted(data["number"] for _, _, data in record.events("added", plan))
            self.same(f"events of {plan}", added, list(range(1, counts[plan] + 1)))
        self.same(
            "the ledger",
            (ledger.get("grand"), ledger.get("count")),
            (sum(sums.values()), len(self.adds)),
        )
        self.same("the user's count", ledger.get("user", 0), self.written)
        moved = (ledger.get("moves", 0), len(record.events("moved")))
        self.same("the user's transactions", moved, (self.moved, self.moved))


class Fans(Workload):
    """Tasks that are handled concurrently, and joined once."""

    name = "fans"
    groups = ("fan",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.width = stage.dice.randint(2, 5)

    def register(self, group: str, agent: Agent) -> None:
        stage, width = self.stage, self.width

        async def open_fan(event: Event, context: HandlerContext) -> None:
            for number in range(width):
                await context.bus.publish("fan.task", REQUESTS, number)
                await stage.pause()

        async def task(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            await stage.pause()
            await state.append("results", event.data, blind=True)
            if await state.join("all", expect=width):
                await stage.pause()
                await context.bus.publish("fan.joined", FACTS)
                await state.complete()

        agent.on_event("fan.asked")(open_fan)
        agent.on_event("fan.task", ordered=False)(task)

    async def drive(self, context: PlatformContext) -> None:
        for number in range(self.stage.size):
            await context.bus.publish("fan.asked", REQUESTS, plan_id=self.stage.plan(number))
            await self.stage.pause()

    def judge(self, record: Record) -> None:
        for number in range(self.stage.size):
            plan = self.stage.plan(number)
            self.same(f"joins of {plan}", len(record.events("fan.joined", plan)), 1)
            self.same(f"tasks of {plan}", len(record.events("fan.task", plan)), self.width)
            self.same(
                f"results of {plan}",
                sorted(record.state(plan).get("results", [])),
                list(range(self.width)),
            )
