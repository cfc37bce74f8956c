"""A workload of procedures: skills that handlers read and propose, and how their plans end."""

from __future__ import annotations

from simulator.stage import REQUESTS, Record, Stage, Workload, on
from soorma import Agent, PlatformContext
from soorma.context import HandlerContext
from soorma_common.events import Event


class Practices(Workload):
    """Handlers that do as a skill says and propose another, beside a user who activates."""

    name = "practices"
    groups = ("apprentice",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.asked: dict[str, bool] = {}
        """by plan, whether it is to succeed"""
        self.skill = f"{stage.prefix}-skill"
        self.draft = f"{stage.prefix}-draft"
        self.activated = 0

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def practise(event: Event, context: HandlerContext) -> None:
            memory, state = context.memory, on(context, event)
            skill = await memory.get_procedure(self.skill)
            await stage.pause()
            await state.set("did", skill.content)
            await memory.store_procedure(self.draft, f"As of {event.plan_id}.")
            await stage.pause()
            await (state.complete() if event.data else state.fail("as it was told"))

        agent.on_event("skill.wanted", REQUESTS)(practise)

    async def drive(self, context: PlatformContext) -> None:
        stage, memory = self.stage, context.memory
        await memory.store_procedure(self.skill, f"The way of {stage.prefix}.")
        for number in range(3 * stage.size):
            await stage.pause()
            plan, succeeds = stage.plan(number), stage.dice.random() < 0.5
            self.asked[plan] = succeeds
            await context.bus.publish("skill.wanted", REQUESTS, succeeds, plan_id=plan)
            if stage.dice.random() < 0.3:
                # One way and back: what is active afterwards is what was before.
                await memory.store_procedure(self.skill, f"Another way, the {number}th.")
                await memory.roll_back_procedure(self.skill)
                self.activated += 1

    def judge(self, record: Record) -> None:
        wanted = [sum(self.asked.values()), len(self.asked) - sum(self.asked.values())]
        versions = self._versions(record, self.skill)
        counted = [sum(row[place] for row in versions) for place in (2, 3)]
        self.same("outcomes", counted, wanted)
        self.same("versions", len(versions), 1 + self.activated)
        self.same("active", [row[1] for row in versions if row[4]], [1])
        drafts = self._versions(record, self.draft)
        self.same("proposals", sorted(row[0] for row in drafts),
                  sorted(f"As of {plan}." for plan in self.asked))  # fmt: skip
        self.same("their numbers", [row[1] for row in drafts], [*range(1, len(drafts) + 1)])
        self.same("active proposals", [row for row in drafts if row[4]], [])
        for plan, succeeds in self.asked.items():
            self.same(f"the end of {plan}", record.status(plan),
                      "completed" if succeeds else "failed")  # fmt: skip
        mine = f"{self.stage.prefix}-%"
        left = record.rows("SELECT count(*) FROM procedure_uses WHERE plan_id LIKE ?", mine)
        self.same("uses of plans that have ended", left, [(0,)])

    def _versions(self, record: Record, name: str) -> list[tuple[str, int, int, int, int]]:
        return record.rows(
            "SELECT p.content, v.version, v.succeeded, v.failed, p.closed_at = 1 << 62"
            " FROM procedures r JOIN procedure_versions v ON v.procedure = r.number"
            " JOIN passages p ON p.number = v.passage WHERE r.name = ? ORDER BY v.version",
            name,
        )
