"""Workloads of later events and outside effects: timers, deadlines and steps."""

from __future__ import annotations

import asyncio

from simulator.stage import FACTS, REQUESTS, Record, Stage, Workload, on
from soorma import Agent, PlatformContext
from soorma.context import HandlerContext
from soorma_common.events import Event


class Timers(Workload):
    """Alarms that fire once or are cancelled, and deadlines that hold while a plan is active."""

    name = "timers"
    groups = ("clock",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stopped: set[str] = set()

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def wind(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            await state.set("wound", event.data)
            await context.bus.publish(
                "alarm", FACTS, delay=event.data["delay"], event_id=f"{event.plan_id} alarm"
            )
            await stage.pause()
            await state.deadline(event.data["deadline"], event_type="too.late", topic=FACTS)

        async def ring(event: Event, context: HandlerContext) -> None:
            await stage.pause()
            await on(context, event).increment("rung")

        async def late(event: Event, context: HandlerContext) -> None:
            await on(context, event).increment("late")

        async def stop(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            await context.bus.cancel(f"{event.plan_id} alarm")
            await stage.pause()
            await state.complete()

        for kind, function in {"wind": wind, "alarm": ring, "too.late": late, "stop": stop}.items():
            # one may ring while the plan is being stopped
            agent.on_event(kind, ended_plans=True)(function)

    async def drive(self, context: PlatformContext) -> None:
        dice = self.stage.dice
        for number in range(self.stage.size):
            plan = self.stage.plan(number)
            data = {
                "delay": round(dice.uniform(0.1, 4), 3),
                "deadline": round(dice.uniform(0.1, 4), 3),
            }
            await context.bus.publish("wind", REQUESTS, data, plan_id=plan)
            await self.stage.pause()
            if dice.random() < 0.6:
                await asyncio.sleep(dice.uniform(0, 2))
                self.stopped.add(plan)
                await context.bus.publish("stop", REQUESTS, plan_id=plan)

    def judge(self, record: Record) -> None:
        for number in range(self.stage.size):
            plan = self.stage.plan(number)
            alarms, late = record.events("alarm", plan), record.events("too.late", plan)
            state = record.state(plan)
            self.same(f"handled alarms of {plan}", state.get("rung", 0), len(alarms))
            self.same(f"handled deadlines of {plan}", state.get("late", 0), len(late))
            read_at = self.stage.machine.clocks.read_at
            wound, _ = read_at[self._at(record, plan, "wound")]
            for events, after in ((alarms, "delay"), (late, "deadline")):
                due = wound + state["wound"][after] - 0.001  # times are kept in ms
                early = [read_at[at] for _, at, _ in events if read_at[at][1] < due]
                self.same(f"{after} of {plan} before its time", early, [])
                if plan not in self.stopped:
                    self.same(f"{after} of {plan}", len(events), 1)
                    continue
                ended_at = record.rows("SELECT ended_at FROM plans WHERE plan_id = ?", plan)[0][0]
                late_ones = [at for _, at, _ in events if read_at[at][0] > read_at[ended_at][1]]
                self.same(f"{after} of {plan} after its end", late_ones, [])
                self.same(f"{after} of {plan}, times", len(events) <= 1, True)

    def _at(self, record: Record, plan: str, key: str) -> int:
        sql = (
            "SELECT h.at FROM history h JOIN plans p ON p.id = h.plan WHERE p.plan_id = ? AND "
            "h.key = ?"
        )
        return int(record.rows(sql, plan, key)[0][0])


class Payments(Workload):
    """Steps with an effect outside, in handlers that then fail, and some that outlast a lease."""

    name = "payments"
    groups = ("payer",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.charged: list[tuple[str, str, int, int]] = []
        """(event, step, attempt, receipt): what no crash takes back"""

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def pay(event: Event, context: HandlerContext) -> None:
            state = on(context, event)
            receipts = []
            for name in ("charge", "tell"):

                async def charge(step: str = name) -> int:
                    await stage.pause()
                    receipt = len(self.charged)
                    self.charged.append((str(event.id), step, context.attempt, receipt))
                    await stage.pause()
                    return receipt

                receipts.append(await context.step(name, charge))
                if stage.dice.random() < 0.1:
                    raise ValueError("after the step")
                await asyncio.sleep(event.data["takes"])
            await state.set("receipts", receipts)
            await context.bus.publish("paid", FACTS, receipts)

        agent.on_event("pay")(pay)

    async def drive(self, context: PlatformContext) -> None:
        dice = self.stage.dice
        for number in range(self.stage.size):
            takes = (
                dice.uniform(1, 1.5) * self.stage.machine.settings.lease
                if dice.random() < 0.2
                else 0.01
            )
            await context.bus.publish(
                "pay", REQUESTS, {"takes": takes}, plan_id=self.stage.plan(number)
            )
            await self.stage.pause()

    def judge(self, record: Record) -> None:
        for number in range(self.stage.size):
            plan = self.stage.plan(number)
            recorded = record.rows(
                "SELECT e.event_id, s.name, s.result FROM steps s JOIN events e ON e.position = "
                "s.position"
                " WHERE e.plan_id = ? ORDER BY s.name",
                plan,
            )
            results = [int(text) for _, _, text in recorded]
            self.same(f"receipts of {plan}", record.state(plan).get("receipts"), results)
            self.same(
                f"payments of {plan}",
                [data for _, _, data in record.events("paid", plan)],
                [results],
            )
            for event_id, name, text in recorded:
                self._judge_step(event_id, name, int(text))

    def _judge_step(self, event_id: str, name: str, receipt: int) -> None:
        """Checks that the recorded result has an effect, which no attempt begun later repeated."""
        effects = [
            (attempt, made)
            for event, step, attempt, made in self.charged
            if (event, step) == (event_id, name)
        ]
        by = [attempt for attempt, made in effects if made == receipt]
        self.same(f"who recorded {name} of {event_id}", len(by), 1)
        if self.stage.machine.power_was_cut:
            # Claims are not flushed (ADR 2): a power cut undoes one, and attempts are counted anew.
            return
        again = [attempt for attempt, _ in effects if by and attempt > by[0]]
        self.same(f"{name} of {event_id} after its recording", again, [])
