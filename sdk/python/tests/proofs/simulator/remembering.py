"""Workloads of memories: passages that are stored, replaced and forgotten, and what was said."""

from __future__ import annotations

from collections import Counter

import msgspec

from simulator.stage import REQUESTS, Record, Stage, Workload, on
from soorma import Agent, PlatformContext
from soorma.context import HandlerContext
from soorma_common.events import Event


class Memories(Workload):
    """Handlers that remember in their commits, beside a user who stores and forgets."""

    name = "memories"
    groups = ("librarian",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.asked: dict[str, tuple[str, int]] = {}
        self.kept: set[str] = set()
        self.forgotten: set[str] = set()
        self.logged = self.reports = 0

    def register(self, group: str, agent: Agent) -> None:
        stage = self.stage

        async def file(event: Event, context: HandlerContext) -> None:
            memory, number, name = context.memory, event.data, _word(str(event.plan_id))
            await memory.store_knowledge(f"Draft of {stage.prefix} by {event.id}.")
            passage_id = await memory.store_knowledge(
                f"Number n{number} is the latest of {name}.",
                external_id=f"{event.plan_id}-latest",
            )
            await stage.pause()
            # One passage for all events of a plan: each states it once more.
            await memory.store_knowledge(f"There are numbers of {event.plan_id}.")
            await memory.log_interaction(None, "assistant", f"Filed {number} as {event.id}.",
                                         session_id=event.plan_id)  # fmt: skip
            hits = await memory.search_knowledge(f"the latest of {name}", limit=1)
            found = [hit.id for hit in hits if hit.content.startswith(f"Number n{number} ")]
            await stage.pause()
            await on(context, event).append("found", found == [passage_id], blind=True)
            for hit in await memory.search_knowledge(
                f"draft of {stage.prefix} by {event.id}", limit=1
            ):
                if event.id in hit.content:
                    await memory.delete_knowledge(hit.id)

        async def note(event: Event, context: HandlerContext) -> None:
            await stage.pause()
            await context.memory.store_knowledge(_report(event.data))

        agent.on_event("number.asked", REQUESTS)(file)
        agent.on_event("session.idle", "system-events")(note)

    async def drive(self, context: PlatformContext) -> None:
        stage, memory = self.stage, context.memory
        for number in range(3 * stage.size):
            await stage.pause()
            plan = stage.plan(stage.dice.randrange(2))
            event_id = await context.bus.publish("number.asked", REQUESTS, number, plan_id=plan)
            self.asked[event_id] = (plan, number)
            text = f"The user of {stage.prefix} stored {number}."
            passage_id = await memory.store_knowledge(text)
            if stage.dice.random() < 0.5:
                self.same("whether it was there", await memory.delete_knowledge(passage_id), True)
                self.forgotten.add(text)
            else:
                self.kept.add(text)
            if stage.dice.random() < 0.5:
                await memory.log_interaction("user", "user", text, session_id=stage.prefix)
                self.logged += 1

    def judge(self, record: Record) -> None:
        stage = self.stage
        rows = record.rows(
            "SELECT content, stated, closed_at < 1 << 62, id FROM passages"
            " WHERE number NOT IN (SELECT passage FROM interactions)"
            " AND number NOT IN (SELECT passage FROM procedure_versions)"
        )
        texts = Counter(text for text, _, is_closed, _ in rows if not is_closed)
        for text in self.kept:
            self.same(f"passages {text!r}", texts[text], 1)
        for text in self.forgotten:
            self.same(f"passages {text!r}", texts[text], 0)
        drafts = [text for text in texts if text.startswith(f"Draft of {stage.prefix} ")]
        self.same("drafts", drafts, [])
        by_plan: dict[str, list[int]] = {}
        in_order = {event_id: place for place, (event_id, _, _) in
                    enumerate(record.events("number.asked"))}  # fmt: skip
        for event_id in sorted(self.asked, key=in_order.__getitem__):
            plan, number = self.asked[event_id]
            by_plan.setdefault(plan, []).append(number)
        for plan, numbers in by_plan.items():
            self._judge_plan(record, plan, numbers, rows)
        self.same("what the user said", self._said(record, stage.prefix), self.logged)
        self._judge_reports(record, {str(text): count for text, count, _, _ in rows})
        self._judge_index(record)

    def _judge_reports(self, record: Record, stated: dict[str, int]) -> None:
        """Notes reports of idle sessions that are missing, repeated, or handled twice."""
        last: dict[str, int] = {}
        for _, _, data in record.events("session.idle"):
            session, newest = data["session_id"], data["newest"]
            before = last.get(session, 0)
            self.same(f"the report before that of {newest}", data["previous"], before)
            self.same(f"what is new in report {newest}", newest > before, True)
            self.same(f"statements of {data}", stated.get(_report(data)), 1)
            last[session] = newest
            self.reports += 1

    def _judge_plan(
        self, record: Record, plan: str, numbers: list[int], rows: list[tuple[object, ...]]
    ) -> None:
        latest = f"is the latest of {_word(plan)}."
        current = [text for text, _, is_closed, _ in rows
                   if str(text).endswith(latest) and not is_closed]  # fmt: skip
        self.same(f"the latest of {plan}", current, [f"Number n{numbers[-1]} {latest}"])
        versions = [text for text, _, _, _ in rows if str(text).endswith(latest)]
        self.same(f"versions of {plan}", len(versions), len(numbers))
        stated = [count for text, count, _, _ in rows if text == f"There are numbers of {plan}."]
        self.same(f"statements of {plan}", stated, [len(numbers)])
        self.same(f"what was said of {plan}", self._said(record, plan), len(numbers))
        found = record.state(plan).get("found")
        self.same(f"own passages found in {plan}", found, [True] * len(numbers))

    def _said(self, record: Record, session_id: str) -> int:
        rows = record.rows(
            "SELECT s.interactions, count(i.passage) FROM sessions s"
            " LEFT JOIN interactions i ON i.session = s.number WHERE s.session_id = ?",
            session_id,
        )
        counted, there = rows[0]
        self.same(f"the count of session {session_id}", counted or 0, there)
        return int(there)

    def _judge_index(self, record: Record) -> None:
        """Notes parts without a passage, passages without parts, and counts that are wrong."""
        orphans = record.rows(
            "SELECT count(*) FROM passage_parts WHERE terms IS NOT NULL"
            " AND passage NOT IN (SELECT number FROM passages)"
        )
        bare = record.rows(
            "SELECT count(*) FROM passages WHERE number NOT IN"
            " (SELECT passage FROM passage_parts WHERE terms IS NOT NULL)"
        )
        wrong = record.rows(
            "SELECT count(*) FROM collections c WHERE c.parts <> (SELECT count(*)"
            " FROM passage_parts p WHERE p.collection = c.id AND p.terms IS NOT NULL)"
        )
        lost = record.rows(
            "SELECT count(*) FROM restatements WHERE passage NOT IN (SELECT number FROM passages)"
        )
        found = [rows[0][0] for rows in (orphans, bare, wrong, lost)]
        self.same("what is wrong with the index", msgspec.json.encode(found), b"[0,0,0,0]")


def _report(data: dict[str, object]) -> str:
    return f"Quiet at q{data['newest']}, which {_word(str(data['session_id']))}y shows."


def _word(plan_id: str) -> str:
    """Returns the name of a plan as a single word, so that no other passage has the same words."""
    return plan_id.replace("-", "x")
