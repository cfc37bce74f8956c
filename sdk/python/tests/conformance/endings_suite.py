"""Requirements for a store when plans end: ends decided in the commit, and later events."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import uuid4

import pytest
from depth import seed
from record import ALICE, PARKING, Record, event, ids, part, put, raw

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict, PlanEnded, ReentrantRequest
from soorma_common.events import Timer
from soorma_common.json_text import decode
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import All
from soorma_common.operations import Cancel, Cleanup, Compensate, Complete, Ending, ExpirePlan, Fail
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.commits import ApplyCommit
from soorma_platform.engine.life import is_unwanted
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.timers import FireTimer
from soorma_platform.services.groups import Membership
from soorma_platform.stores.ports.deliveries import Claimed

ENDS: list[Ending] = [Complete(raw(1)), Fail("no"), Cancel("no")]
AT_ONCE = RetryPolicy(first_delay=0, jitter=0)
ONCE = RetryPolicy(max_attempts=1)


def if_active(ending: Ending) -> Ending:
    return type(ending)(if_active=True)


def expecting(plan: str, status: str, *operations: Any) -> PlanCommit:
    return PlanCommit(plan, list(operations), expected_status=status)  # type: ignore[arg-type]


def is_late(claimed: Claimed) -> bool:
    """True if only a handler of events of ended plans takes it."""
    return is_unwanted(claimed, claimed.plan, claimed.group_id, claimed.at)


async def late(record: Record, member: Membership) -> dict[str, bool]:
    """Returns, by event id, which claimed events are too late for handlers that take no such."""
    claimed = await record.claim(member)
    return dict(zip(ids(claimed), [is_late(one) for one in claimed], strict=True))


class EndingsSuite:
    # decided in the commit

    @pytest.mark.behaviour("plans.if-active")
    @pytest.mark.parametrize("first", ENDS, ids=lambda one: type(one).__name__)
    @pytest.mark.parametrize("second", ENDS, ids=lambda one: type(one).__name__)
    async def test_an_end_if_active_says_whether_it_was_one(
        self, record: Record, first: Ending, second: Ending
    ) -> None:
        assert await record.do("p", first) == [True]
        revision = await record.revision("p")
        assert await record.do("p", if_active(second)) == [False]
        assert await record.revision("p") == revision, "nothing was changed"
        assert len(await record.log()) == 1
        with pytest.raises(PlanEnded):
            await record.do("p", second)

    @pytest.mark.behaviour("plans.if-active")
    async def test_a_cascade_ends_those_that_are_active(self, record: Record) -> None:
        await record.do("b", Complete())
        done = await record.commit(
            *(part(plan, Cancel(if_active=True)) for plan in "abc"), events=[event("done")]
        )
        assert [decode(bytes(one.results[0])) for one in done.plans] == [True, False, True]
        rows = [(await record.store.plans.get(ALICE, plan, set())).row.status for plan in "abc"]
        assert rows == ["cancelled", "completed", "cancelled"]
        assert [entry.type for entry in await record.log()][1:] == [
            "done",
            "plan.cancelled",
            "plan.cancelled",
        ]

    @pytest.mark.behaviour("plans.if-active")
    async def test_only_the_first_end_of_a_commit_is_one(self, record: Record) -> None:
        assert await record.do("p", Cancel(if_active=True), Fail(if_active=True)) == [True, False]
        assert await record.do("p", Cleanup(), Fail(if_active=True)) == [0, True]

    @pytest.mark.behaviour("plans.status-read")
    async def test_a_commit_relies_on_a_status(self, record: Record) -> None:
        async def stands(status: str) -> None:
            for other in ("missing", "active", "completed", "failed", "cancelled"):
                made = expecting("p", other, put("k", 1))
                if other == status:
                    await record.commit(expecting("p", other), part("q", put("k", 1)))
                    continue
                with pytest.raises(Conflict, match=f"plan 'p' is {status}, not {other}") as refused:
                    await record.commit(part("q", put("never", 1)), made)
                assert (refused.value.current_status, refused.value.expected_status) == (
                    status,
                    other,
                )

        await stands("missing")
        await record.do("p", put("k", 1))
        await stands("active")
        for ending, status in zip(ENDS, ("completed", "failed", "cancelled"), strict=True):
            await record.do("p", ending)
            await stands(status)
            await record.do("p", Cleanup())
            await stands("missing")
            await record.do("p", put("k", 1))
        await record.do("p", ExpirePlan(5))
        await stands("active")
        record.clock.advance(6)
        await stands("missing")
        assert "never" not in await record.state("q")

    @pytest.mark.behaviour("plans.status-read")
    async def test_other_changes_do_not_touch_the_status(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        for number in range(3):
            await record.do("p", put("k", number), Compensate(event("undo")))
            await record.commit(expecting("p", "active", put("l", number)))

    # events of plans that have ended

    @pytest.mark.behaviour("plans.late-events")
    @pytest.mark.parametrize("ending", ENDS, ids=lambda one: type(one).__name__)
    async def test_what_is_published_after_the_end_is_late(
        self, record: Record, ending: Ending
    ) -> None:
        member = await record.subscribe("g", Subscription("*", ordered=False))
        made = Commit([part("p", ending)], events=[event("with", "p", id="with")])
        await record.commit(*made.plans, events=made.events)
        await record.publish("after", "p", id="after")
        await record.publish("after", "other", id="other")
        found = await late(record, member)
        (told,) = found.keys() - {"with", "after", "other"}
        assert found == {"with": False, "after": True, "other": False, told: False}

    @pytest.mark.behaviour("plans.late-events")
    async def test_who_sees_what_came_before_a_completion_is_not_up_to_speed(
        self, record: Record
    ) -> None:
        """The group that completes a plan is through with it; others get all that came before."""
        ending, other = [
            await record.subscribe(name, Subscription("e", ordered=False))
            for name in ("ending", "other")
        ]
        for number in "123":
            await record.publish("e", "p", id=number)
        (first,) = await record.claim(ending, 1)
        await record.settle(first, part("p", Complete()))
        assert await late(record, ending) == {"2": True, "3": True}
        assert await late(record, other) == {"1": False, "2": False, "3": False}

    @pytest.mark.behaviour("plans.late-events")
    @pytest.mark.parametrize("ending", ENDS[:2], ids=["completed", "failed"])
    async def test_who_sees_which_event_is_up_to_the_log_alone(
        self, record: Record, ending: Ending
    ) -> None:
        """However fast the groups are, the same events are not late, for the log is the same."""
        dice = Random(f"{seed()} late events")
        for number in range(40):
            wanted = Subscription(f"e{number}", ordered=dice.random() < 0.5)
            groups = {
                name: await record.subscribe(f"{name} {number}", wanted)
                for name in ("ending", "other")
            }
            handled: dict[str, list[str]] = {name: [] for name in groups}
            last, plan = dice.randrange(6), f"p{number}"
            moves = ["publish"] * 8 + ["ending"] * 10 + ["other"] * 10
            dice.shuffle(moves)
            published = 0
            for move in (*moves, *(["ending"] * 10), *(["other"] * 10)):
                if move == "publish":
                    await record.publish(f"e{number}", plan, id=f"{plan} {published}")
                    published += 1
                    continue
                for claimed in await record.claim(groups[move], 1):
                    is_last = move == "ending" and len(handled[move]) == last
                    if is_late(claimed):
                        await record.settle(claimed)
                        continue
                    handled[move] += ids([claimed])
                    await record.settle(claimed, *([part(plan, type(ending)())] if is_last else []))
            row = (await record.store.plans.get(ALICE, plan, set())).row
            before = [
                one["id"]
                for entry in await record.log_page(0, 1_000_000)
                if entry.type == f"e{number}" and entry.position <= row.end_position
                for one in [decode(entry.envelope)]
            ]
            assert handled["ending"] == [f"{plan} {n}" for n in range(last + 1)]
            if isinstance(ending, Complete):
                assert handled["other"] == before
            else:
                assert handled["other"] == before[: len(handled["other"])]

    @pytest.mark.behaviour("plans.late-events")
    @pytest.mark.parametrize(
        ("ending", "dropped"), [(Complete(), False), (Fail(), True)], ids=["completed", "failed"]
    )
    async def test_an_end_from_outside(self, record: Record, ending: Ending, dropped: bool) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="before")
        await record.do("p", ending)
        assert await late(record, member) == {"before": dropped}

    @pytest.mark.behaviour("plans.late-events")
    async def test_compensations_and_what_follows_from_them_are_not_late(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "undo", "refund")
        await record.do("p", Compensate(event("undo", id="a")))
        await record.do("p", Fail())
        (undo,) = await record.claim(member)
        assert not is_late(undo)
        again = Timer(event("refund", "p", id="later"), 5)
        await record.settle(undo, events=[event("refund", "p", id="refund")])
        (refund,) = await record.claim(member)
        assert (ids([refund]), is_late(refund)) == (["refund"], False)
        await self.set_timer(record, refund, again)
        await record.publish("refund", "p", id="by hand")
        record.clock.advance(6)
        await self.fire(record)
        assert await late(record, member) == {"by hand": True}
        (by_hand,) = [
            one for one in await self.claimed_again(record, member) if ids([one]) == ["by hand"]
        ]
        await record.settle(by_hand)
        assert await late(record, member) == {"later": False}

    async def claimed_again(self, record: Record, member: Membership) -> list[Claimed]:
        record.clock.advance(31)  # the lease
        return await record.claim(member)

    async def set_timer(self, record: Record, claimed: Claimed, timer: Timer) -> None:
        command = ApplyCommit(
            ALICE, Commit(timers=[timer], fence=claimed.fence), "f", limits=record.limits
        )
        command.prepare(lambda: str(uuid4()))
        await record.store.transact(command)

    async def fire(self, record: Record) -> list[str]:
        due = await record.store.timers.due(9)
        return [
            topic
            for timer in due
            if (topic := await record.store.transact(FireTimer(timer))) is not None
        ]

    @pytest.mark.behaviour("plans.late-events")
    async def test_a_timer_that_was_set_with_the_end_is_handled_and_an_earlier_one_is_late(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("*", ordered=False))
        await record.publish("go", "p", id="go")
        (go,) = await record.claim(member)
        await self.set_timer(record, go, Timer(event("e", "p", id="early"), 5))
        made = Commit([part("p", Complete())], timers=[Timer(event("e", "p", id="with"), 5)])
        command = ApplyCommit(ALICE, made, "f", limits=record.limits)
        command.prepare(lambda: "told")
        await record.store.transact(command)
        record.clock.advance(6)
        await self.fire(record)
        assert await late(record, member) == {"told": False, "early": True, "with": False}

    @pytest.mark.behaviour("plans.late-events")
    async def test_what_a_handler_of_late_events_publishes_is_handled(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("ask", ended_plans=True), "answer")
        await record.do("p", Complete())
        await record.publish("ask", "p", id="ask")
        (ask,) = await record.claim(member)
        await record.settle(
            ask, events=[event("answer", "p", id="answer"), event("answer", "q", id="q")]
        )
        assert await late(record, member) == {"answer": False, "q": False}

    @pytest.mark.behaviour("plans.late-events")
    async def test_work_in_hand_at_the_end_starts_no_more(self, record: Record) -> None:
        worker, other = (
            await record.subscribe("worker", "work"),
            await record.subscribe("other", "done"),
        )
        await record.publish("work", "p")
        (work,) = await record.claim(worker)
        await record.do("p", Complete())
        await record.settle(work, part("p", put("k", 1)), events=[event("done", "p", id="done")])
        assert await record.get("p", "k") == 1, "it is not refused"
        assert await late(record, other) == {"done": True}

    @pytest.mark.behaviour("plans.late-events")
    @pytest.mark.parametrize("how", ["cleanup", "purge", "expiry"])
    async def test_a_new_life_is_not_late(self, record: Record, how: str) -> None:
        member = await record.subscribe("g", "e")
        await record.do("p", put("k", 1), *([ExpirePlan(5)] if how == "expiry" else []))
        await record.do("p", Complete())
        if how == "cleanup":
            await record.do("p", Cleanup())
        elif how == "purge":
            record.clock.advance(101)
            await record.sweep(Retention(plans=100))
        else:
            record.clock.advance(6)
        await record.publish("e", "p", id="new")
        assert await late(record, member) == {"new": False}

    @pytest.mark.behaviour("plans.late-events")
    async def test_an_event_that_is_tried_again_after_the_plan_has_failed_is_late(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e", "p", id="1")
        (claimed,) = await record.claim(member)
        await record.fail(claimed)
        await record.do("p", Fail())
        assert await late(record, member) == {"1": True}

    @pytest.mark.behaviour("plans.late-replay")
    async def test_a_dead_letter_that_would_be_dropped_is_not_replayed(
        self, record: Record
    ) -> None:
        wanted = [Subscription("e", retry=ONCE), Subscription("f", retry=ONCE, ended_plans=True)]
        member = await record.subscribe("g", *wanted)
        for kind in "ef":
            await record.publish(kind, "p", id=kind)
            (claimed,) = await record.claim(member)
            await record.fail(claimed)
        await record.do("p", Fail())
        letters = {
            letter.type: letter.id for letter in await record.dead_letters(All.TENANTS, None, 0, 9)
        }
        with pytest.raises(
            PlanEnded, match="plan 'p', which is failed: its handler takes no events"
        ):
            await record.replay(All.TENANTS, letters["e"])
        assert await record.replay(All.TENANTS, letters["f"])
        assert ids(await record.claim(member)) == ["f"]

    # given up with the plan

    @pytest.mark.behaviour("plans.fail-and-give-up")
    async def test_an_event_is_given_up_and_fails_its_plan_in_one_transaction(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("*", retry=PARKING))
        await record.do("p", Compensate(event("undo", id="undo")))
        await record.publish("e", "p", id="1")
        await record.publish("e", "p", id="2")
        (claimed,) = await record.claim(member)
        before = len(record.notices)
        await record.fail(claimed, "no use", reject=True, fail_plan=True, ending_id="ending")
        assert len(record.notices) == before + 1, "one transaction"
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.status, decode(row.outcome or "")) == ("failed", "no use")
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert (letter.event_id, letter.reason, letter.parked) == ("1", "no use", False)
        told = [decode(entry.envelope) for entry in await record.log()][2:]
        assert [one["type"] for one in told] == ["plan.failed", "undo", "event.dead_lettered"]
        assert (told[0]["source"], told[0]["parent_event_id"], told[0]["data"]["reason"]) == (
            "g",
            "1",
            "no use",
        )
        found = []
        while claims := await record.claim(member):
            found += [(one, is_late(claimed)) for claimed in claims for one in ids([claimed])]
            for claimed in claims:
                await record.settle(claimed)
        assert found == [("2", True), ("ending", False), ("undo", False), (told[2]["id"], False)]

    @pytest.mark.behaviour("plans.fail-and-give-up")
    @pytest.mark.parametrize("how", ["ended", "no plan", "not given up"])
    async def test_where_there_is_no_plan_to_fail(self, record: Record, how: str) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e", None if how == "no plan" else "p")
        (claimed,) = await record.claim(member)
        if how == "ended":
            await record.do("p", Complete())
        await record.fail(claimed, reject=how != "not given up", fail_plan=True, ending_id="ending")
        assert "plan.failed" not in [entry.type for entry in await record.log()]
        assert len(await record.dead_letters(All.TENANTS, None, 0, 9)) == (how != "not given up")

    # requests

    async def ask(
        self, record: Record, kind: str, plan: str | None, parent: str | None, agent: str
    ) -> str:
        asked = event(kind, plan, parent_event_id=parent, source=agent, response_event="told")
        command = ApplyCommit(
            ALICE, Commit(events=[asked]), "f", limits=record.limits, awaited=True
        )
        command.prepare(lambda: str(uuid4()))
        done = await record.store.transact(command)
        return done.committed.events[0]

    @pytest.mark.behaviour("requests.reentrant")
    async def test_a_request_to_the_own_lane_is_refused_and_not_published(
        self, record: Record
    ) -> None:
        member = await record.subscribe("a", "go", "ask")
        go = await record.publish("go", "p")
        assert len(await record.claim(member)) == 1
        await record.join(member.group_id, "r1", "host", 8)
        with pytest.raises(
            ReentrantRequest, match=r"'a' takes it, but waits for it itself, in its handler of 'go'"
        ):
            await self.ask(record, "ask", "p", go, "a")
        assert [entry.type for entry in await record.log()] == ["go"]
        await self.ask(record, "ask", "other plan", go, "a")
        await self.ask(record, "ask", "p", go, "b")
        await record.subscribe("c", "ask")
        await self.ask(record, "ask", "p", go, "a")

    @pytest.mark.behaviour("requests.reentrant")
    @pytest.mark.parametrize("length", [2, 3, 5])
    async def test_a_ring_of_requests_is_refused_where_it_closes(
        self, record: Record, length: int
    ) -> None:
        members = [await record.subscribe(f"a{n}", f"ask{n}") for n in range(length)]
        asked = await record.publish("ask0", "p", response_event="told")
        for n in range(length):
            (claimed,) = await record.claim(members[n], 1, replica=f"r{n}")
            assert ids([claimed]) == [asked]
            if n + 1 < length:
                asked = await self.ask(record, f"ask{n + 1}", "p", asked, f"a{n}")
        for n in range(length):
            with pytest.raises(ReentrantRequest, match=f"'a{n}'"):
                await self.ask(record, f"ask{n}", "p", asked, f"a{length - 1}")

    @pytest.mark.behaviour("requests.reentrant")
    async def test_a_request_to_the_only_place_of_an_agent_is_refused(self, record: Record) -> None:
        member = await record.subscribe(
            "a", *(Subscription(kind, ordered=False) for kind in ("go", "ask"))
        )
        go = await record.publish("go")
        assert len(await record.claim(member)) == 1, "by a replica that handles one event at once"
        with pytest.raises(ReentrantRequest, match="max_concurrency=1"):
            await self.ask(record, "ask", None, go, "a")
        await record.join(member.group_id, "another", "host", 1)
        await self.ask(record, "ask", None, go, "a")

    @pytest.mark.behaviour("requests.reentrant")
    async def test_a_request_whose_asker_has_ended_waits_for_nobody(self, record: Record) -> None:
        member = await record.subscribe("a", "go", "ask")
        go = await record.publish("go", "p")
        (claimed,) = await record.claim(member)
        await record.settle(claimed)
        await self.ask(record, "ask", "p", go, "a")

    @pytest.mark.behaviour("requests.ended-plan")
    async def test_a_request_whose_asker_waits_is_handled_though_the_plan_has_ended(
        self, record: Record
    ) -> None:
        member = await record.subscribe("a", Subscription("ask", ordered=False))
        await record.do("p", Complete())
        asked = await self.ask(record, "ask", "p", None, "someone")
        await record.publish("ask", "p", id="not awaited", response_event="told")
        assert await late(record, member) == {asked: False, "not awaited": True}
