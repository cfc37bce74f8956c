"""Requirements for a plan's life in a store.

Timers, its end, what undoes its work, its purge, and its standstill.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
import pytest
from record import ALICE, Record, event, ids, part, put, raw

from soorma_common.delivery import Subscription
from soorma_common.errors import EventIdConflict, LimitExceeded, PlanCancelled, PlanEnded
from soorma_common.events import Timer
from soorma_common.json_text import decode
from soorma_common.memory import Commit
from soorma_common.names import All, Scope
from soorma_common.operations import (
    Cancel,
    Cleanup,
    Compensate,
    Complete,
    Deadline,
    ExpirePlan,
    Fail,
)
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.checks import check_commit
from soorma_platform.engine.commits import ApplyCommit
from soorma_platform.engine.deliveries import DiscardDelivery
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.timers import FireTimer
from soorma_platform.stores.ports.deliveries import Claimed

AT_ONCE = RetryPolicy(first_delay=0, jitter=0)
DAY = 86_400


async def commit(record: Record, made: Commit, scope: Scope = ALICE) -> Any:
    """Makes a commit the way the service does."""
    list(check_commit(made, record.limits))
    command = ApplyCommit(scope, made, "f", limits=record.limits)
    command.prepare(lambda: str(uuid4()))
    return (await record.store.transact(command)).committed


async def do(record: Record, plan: str, *operations: Any, fence: str | None = None) -> Any:
    return await commit(record, Commit([part(plan, *operations)], fence=fence))


async def fire(record: Record) -> list[str]:
    """Fires what is due; returns the ids of the events that were published."""
    due = await record.store.timers.due(100)
    return [
        timer.event_id for timer in due if await record.store.transact(FireTimer(timer)) is not None
    ]


async def types(record: Record) -> list[str]:
    return [entry.type for entry in await record.log()]


async def settle(record: Record, claimed: Claimed, *operations: Any) -> Any:
    made = Commit(
        [part(claimed.plan_id or "p", *operations)] if operations else [], fence=claimed.fence
    )
    return await commit(record, made, Scope(claimed.tenant_id, claimed.user_id))


def later(kind: str, delay: float, *, id: str | None = None, plan: str | None = None) -> Timer:  # noqa: A002
    return Timer(event(kind, plan, id=id), delay)


class LifeSuite:
    # timers

    @pytest.mark.behaviour("timers.once")
    async def test_a_timer_publishes_its_event_when_it_is_due(self, record: Record) -> None:
        await commit(record, Commit(timers=[later("late", 10, id="l"), later("soon", 5, id="s")]))
        assert await record.log() == []
        assert await record.store.timers.next_due() == pytest.approx(5)
        assert await fire(record) == []
        record.clock.advance(5)
        assert await fire(record) == ["s"]
        record.clock.advance(5)
        assert await fire(record) == ["l"]
        assert await fire(record) == []
        assert (await types(record), await record.store.timers.next_due()) == (
            ["soon", "late"],
            None,
        )

    @pytest.mark.behaviour("timers.survive")
    async def test_a_timer_at_a_time_survives_a_restart(self, record: Record) -> None:
        at = record.clock.wall() + 60
        when = msgspec.to_builtins(
            __import__("datetime").datetime.fromtimestamp(at, __import__("datetime").UTC)
        )
        await commit(record, Commit(timers=[Timer(event("e", "p", id="1"), at=when)]))
        await record.reopen()
        record.clock.advance(59)
        assert await fire(record) == []
        record.clock.advance(2)
        assert await fire(record) == ["1"]
        (entry,) = await record.log()
        assert decode(entry.envelope)["plan_id"] == "p"

    @pytest.mark.behaviour("timers.once")
    async def test_a_timer_fires_once_whoever_fires_it(self, record: Record) -> None:
        await commit(record, Commit(timers=[later("e", 1, id="1")]))
        record.clock.advance(1)
        (due,) = await record.store.timers.due(10)
        for _ in range(2):
            await record.store.transact(FireTimer(due))
        assert await types(record) == ["e"]

    @pytest.mark.behaviour("timers.same-id")
    async def test_an_event_that_waits_cannot_be_published_meanwhile(self, record: Record) -> None:
        await commit(record, Commit(timers=[later("e", 1, id="1")]))
        for kind in ("e", "other"):
            with pytest.raises(EventIdConflict, match="cancel that first"):
                await commit(record, Commit(events=[event(kind, id="1")]))
        done = await commit(record, Commit(events=[event("other", id="1")], cancels=["1"]))
        assert (done.cancelled, await types(record)) == (["1"], ["other"])
        record.clock.advance(1)
        assert await fire(record) == []

    @pytest.mark.behaviour("timers.size")
    async def test_what_was_accepted_can_be_published(self, make_record: Any) -> None:
        """An event grows by what the log adds to it: its time, source and correlation."""
        record = await make_record(event_bytes=1_000)
        for what in ("timer", "compensation"):
            accepted = 0
            for size in range(700, 1_000):
                big = event("e", "p", id=f"{what}-{size}", data="x" * size)
                made = (
                    Commit(timers=[Timer(big, 1)])
                    if what == "timer"
                    else Commit([part("p", Compensate(big))])
                )
                try:
                    await commit(record, made)
                except LimitExceeded:
                    break
                accepted += 1
            assert 0 < accepted < 300
        record.clock.advance(1)
        fired = 0
        while some := await fire(record):
            fired += len(some)
        assert await record.store.timers.list(ALICE, None, 0, 9) == []
        await do(record, "p", Fail())
        assert (await types(record)).count("e") == fired + 1, "the last and largest"

    @pytest.mark.behaviour("timers.same-id")
    async def test_setting_a_timer_again_does_nothing(self, record: Record) -> None:
        for _ in range(2):
            await commit(record, Commit(timers=[later("e", 1, id="1")]))
        assert len(await record.store.timers.list(ALICE, None, 0, 9)) == 1
        with pytest.raises(EventIdConflict):
            await commit(record, Commit(timers=[later("other", 1, id="1")]))
        with pytest.raises(EventIdConflict):
            await commit(record, Commit(timers=[later("e", 5, id="1")]))
        record.clock.advance(1)
        assert await fire(record) == ["1"]
        await commit(record, Commit(timers=[later("e", 1, id="1")]))
        assert await record.store.timers.list(ALICE, None, 0, 9) == [], "it has fired"

    @pytest.mark.behaviour("timers.cancel")
    async def test_a_cancelled_timer_never_fires(self, record: Record) -> None:
        await commit(record, Commit(timers=[later("e", 1, id="1"), later("e", 1, id="2")]))
        assert (await commit(record, Commit(cancels=["1", "unknown"]))).cancelled == ["1"]
        assert (await commit(record, Commit(cancels=["1"]))).cancelled == []
        bob = Scope(ALICE.tenant_id, "bob")
        assert (await commit(record, Commit(cancels=["2"]), bob)).cancelled == [], "of another user"
        record.clock.advance(1)
        assert await fire(record) == ["2"]

    @pytest.mark.behaviour("timers.of-the-commit")
    async def test_a_refused_commit_sets_no_timer(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        made = Commit([part("p", put("k", 2, expected_revision=7))], timers=[later("e", 1)])
        with pytest.raises(Exception, match="revision"):
            await commit(record, made)
        assert await record.store.timers.list(ALICE, None, 0, 9) == []

    @pytest.mark.behaviour("timers.deadline")
    async def test_a_deadline_is_taken_back_by_the_end_of_its_plan(self, record: Record) -> None:
        for plan in ("done", "late"):
            await do(record, plan, Deadline(later("plan.timed_out", 10)))
        await do(record, "done", Complete())
        record.clock.advance(10)
        await fire(record)
        told = [(entry.type, decode(entry.envelope)["plan_id"]) for entry in await record.log()]
        assert told == [("plan.completed", "done"), ("plan.timed_out", "late")]

    @pytest.mark.behaviour("timers.deadline")
    @pytest.mark.parametrize("what", ["cleaned up", "expired"])
    async def test_a_deadline_is_of_one_life_of_its_plan(self, record: Record, what: str) -> None:
        await do(record, "p", Deadline(later("plan.timed_out", 10)))
        await do(record, "p", Cleanup() if what == "cleaned up" else ExpirePlan(1))
        record.clock.advance(5)
        await do(record, "p", put("k", 1))
        record.clock.advance(5)
        assert await fire(record) == []

    # the end

    @pytest.mark.behaviour("plans.end-once")
    @pytest.mark.parametrize(
        ("ending", "status", "outcome"),
        [
            (Complete(raw({"n": 1})), "completed", {"n": 1}),
            (Fail("no"), "failed", "no"),
            (Cancel(), "cancelled", ""),
        ],
    )
    async def test_a_plan_ends_once_and_an_event_tells(
        self, record: Record, ending: Any, status: str, outcome: Any
    ) -> None:
        member = await record.subscribe("g", f"plan.{status}")
        await do(record, "p", put("k", 1))
        await do(record, "p", ending)
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.status, decode(row.outcome or "null"), row.revision) == (status, outcome, 2)
        (told,) = await record.claim(member)
        assert decode(told.envelope)["data"]["status"] == status
        for again in (Complete(), Fail("late"), Cancel()):
            with pytest.raises(PlanEnded):
                await do(record, "p", again)
        assert await record.get("p", "k") == 1, "its state is still there"
        assert [plan.plan_id for plan in await record.store.plans.list(ALICE, "", 9, status)] == [
            "p"
        ]
        assert await record.store.plans.list(ALICE, "", 9, "active") == []

    @pytest.mark.behaviour("plans.new-life")
    async def test_a_cleanup_begins_a_new_life(self, record: Record) -> None:
        await do(record, "p", Complete())
        await do(record, "p", Cleanup())
        await do(record, "p", put("k", 1))
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.status, row.ended_at, row.revision) == ("active", None, 3)

    @pytest.mark.behaviour("plans.cancel")
    async def test_a_cancelled_plan_takes_no_commit_of_its_handlers(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        for _ in range(2):
            await record.publish("e", "p")
        (running,) = await record.claim(member)
        record.clock.advance(1)
        await do(record, "p", Cancel("enough"))
        with pytest.raises(PlanCancelled):
            await settle(record, running, put("k", 1))
        assert await record.state("p") == {}
        await record.store.transact(DiscardDelivery(ALICE, running.fence))
        assert [one.plan_id for one in await record.claim(member)] == ["p"], (
            "the next, for the platform to drop"
        )

    @pytest.mark.behaviour("plans.cancel")
    async def test_a_cancel_drops_what_was_published_before_it_and_nothing_else(
        self, record: Record
    ) -> None:
        """Independent of the clock, and of what becomes of the plan afterwards."""
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE, ordered=False))
        before = await record.publish("e", "p")
        await commit(record, Commit(timers=[later("e", 1, id="timed", plan="p")]))
        made = Commit([part("p", Cancel())], events=[event("e", "p", id="with")])
        await commit(record, made)
        await do(record, "p", Cleanup())
        await record.publish("e", "p", id="after")
        record.clock.advance(1)
        assert await fire(record) == [], "it was set before the cancel"
        for claimed in sorted(await record.claim(member), key=lambda one: one.position):
            if claimed.position == 1:
                with pytest.raises(PlanCancelled):
                    await settle(record, claimed, put(before, 1))
            else:
                await settle(record, claimed, put(decode(claimed.envelope)["id"], 1))
        assert set(await record.state("p")) == {"with", "after"}

    @pytest.mark.behaviour("plans.cancel")
    async def test_a_dead_letter_of_a_cancelled_plan_is_not_replayed(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_attempts=1)))
        await record.publish("e", "p")
        (claimed,) = await record.claim(member)
        await record.fail(claimed)
        await do(record, "p", Cancel())
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        with pytest.raises(PlanEnded, match="publish it anew"):
            await record.replay(All.TENANTS, letter.id)
        assert len(await record.dead_letters(All.TENANTS, None, 0, 9)) == 1

    @pytest.mark.behaviour("plans.cancel")
    async def test_a_failure_in_a_cancelled_plan_is_not_tried_again(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e", "p")
        (running,) = await record.claim(member)
        record.clock.advance(1)
        await do(record, "p", Cancel())
        await record.fail(running)
        assert await record.claim(member) == []
        assert await record.dead_letters(All.TENANTS, None, 0, 9) == []

    # sagas

    @pytest.mark.behaviour("sagas.reverse-order")
    async def test_a_failed_plan_is_undone_in_reverse_order_one_by_one(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "undo")
        for name in "abc":
            await do(record, "p", put(name, 1), Compensate(event("undo", id=name)))
        assert await record.claim(member) == []
        await do(record, "p", Fail("no"))
        order = []
        while claimed := await record.claim(member):
            assert len(claimed) == 1
            order += ids(claimed)
            await settle(record, claimed[0], put(f"un{order[-1]}", 1))
        assert order == ["c", "b", "a"]
        assert await types(record) == ["plan.failed", "undo", "undo", "undo"]

    @pytest.mark.behaviour("sagas.all-groups")
    async def test_the_next_waits_for_all_groups_of_the_one_before(self, record: Record) -> None:
        one, two = await record.subscribe("one", "undo"), await record.subscribe("two", "undo")
        await do(record, "p", Compensate(event("undo", id="a")), Compensate(event("undo", id="b")))
        await do(record, "p", Fail("no"))
        (first,), (second,) = await record.claim(one), await record.claim(two)
        assert ids([first, second]) == ["b", "b"]
        await settle(record, first)
        assert await record.claim(one) == []
        await settle(record, second)
        assert ids(await record.claim(one)) == ["a"]

    @pytest.mark.behaviour("lanes.in-order", "sagas.all-groups")
    async def test_a_compensation_takes_its_place_in_the_lane(self, record: Record) -> None:
        """Whichever handler did the one before: that one takes events of a plan in any order."""
        any_order = await record.subscribe("any order", Subscription("undo b", ordered=False))
        in_order = await record.subscribe("in order", "undo a", "plan.failed")
        await do(
            record, "p", Compensate(event("undo a", id="a")), Compensate(event("undo b", id="b"))
        )
        await do(record, "p", Fail("no"))
        (undo,), (told,) = await record.claim(any_order), await record.claim(in_order)
        await settle(record, undo)
        assert await types(record) == ["plan.failed", "undo b", "undo a"]
        assert await record.claim(in_order) == [], "it waits behind what is in hand"
        await settle(record, told)
        assert ids(await record.claim(in_order)) == ["a"]

    @pytest.mark.behaviour("sagas.all-groups")
    async def test_a_compensation_that_was_given_up_holds_up_the_rest(self, record: Record) -> None:
        once = RetryPolicy(max_attempts=1)
        one, two = [
            await record.subscribe(name, Subscription("undo", retry=once))
            for name in ("one", "two")
        ]
        await do(record, "p", Compensate(event("undo", id="a")), Compensate(event("undo", id="b")))
        await do(record, "p", Fail("no"))
        (first,), (second,) = await record.claim(one), await record.claim(two)
        await record.fail(first)
        await settle(record, second)
        assert (await record.claim(one), await record.claim(two)) == ([], [])
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        await record.replay(All.TENANTS, letter.id)
        (again,) = await record.claim(one)
        await settle(record, again)
        assert ids([*await record.claim(one), *await record.claim(two)]) == ["a", "a"]

    @pytest.mark.behaviour("sagas.only-on-failure")
    async def test_a_plan_that_completes_undoes_nothing(self, record: Record) -> None:
        await do(record, "p", Compensate(event("undo", id="a")))
        await do(record, "p", Complete())
        assert await types(record) == ["plan.completed"]
        with pytest.raises(PlanEnded):
            await do(record, "p", Compensate(event("undo", id="b")))

    @pytest.mark.behaviour("sagas.registered-late")
    async def test_what_is_registered_late_is_undone_too(self, record: Record) -> None:
        member = await record.subscribe("g", "undo", "work")
        await record.publish("work", "q")
        (working,) = await record.claim(member)
        await do(record, "q", Compensate(event("undo", id="a")))
        await do(record, "q", Fail("no"))
        await settle(record, working, put("k", 1), Compensate(event("undo", id="b")))
        order = []
        while claimed := await record.claim(member):
            order += ids(claimed)
            await settle(record, claimed[0])
        assert sorted(order) == ["a", "b"]

    @pytest.mark.behaviour("sagas.limits")
    async def test_compensations_are_limited(self, make_record: Any) -> None:
        record = await make_record(plan_compensations=2)
        await do(record, "p", Compensate(event("undo")), Compensate(event("undo")))
        with pytest.raises(LimitExceeded):
            await do(record, "p", Compensate(event("undo")))

    @pytest.mark.behaviour("sagas.same-id")
    async def test_a_compensation_is_registered_once(self, record: Record) -> None:
        member = await record.subscribe("g", "undo")
        for number in (1, 2, 2, 1):
            await do(record, "p", Compensate(event("undo", id=str(number), data=number)))
        with pytest.raises(EventIdConflict):
            await do(record, "p", Compensate(event("undo", id="2", data="other")))
        await record.publish("undo", "q", id="3")
        await commit(record, Commit(timers=[later("undo", 9, id="4")]))
        for number in ("3", "4"):
            with pytest.raises(EventIdConflict):
                await do(record, "p", Compensate(event("undo", id=number)))
        await do(record, "p", Fail())
        undone = [decode(one.envelope)["data"] for one in await self.undo(record, member)]
        assert undone == [2, 1]

    @pytest.mark.behaviour("sagas.same-id")
    async def test_an_id_that_was_taken_meanwhile_holds_up_nothing(self, record: Record) -> None:
        member = await record.subscribe("g", "undo")
        for number in (1, 2):
            await do(record, "p", Compensate(event("undo", id=str(number), data=number)))
        await record.publish("other", id="2")
        await commit(record, Commit(timers=[later("other", 9, id="1")]))
        await do(record, "p", Fail())
        undone = [decode(one.envelope)["data"] for one in await self.undo(record, member)]
        assert undone == [2, 1]

    async def undo(self, record: Record, member: Any) -> list[Claimed]:
        undone: list[Claimed] = []
        while claimed := await record.claim(member):
            for one in claimed:
                if one.plan_id == "p":
                    undone.append(one)
                await settle(record, one)
        return undone

    # purge and standstill

    @pytest.mark.behaviour("plans.purge")
    async def test_an_ended_plan_is_purged_after_its_retention(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_attempts=1)))
        await record.publish("e", "p")
        (claimed,) = await record.claim(member)
        await record.fail(claimed)
        await do(
            record, "p", put("k", 1), Compensate(event("undo")), Deadline(later("late", 90 * DAY))
        )
        await do(record, "p", Complete(raw("x")))
        kept = Retention(plans=100)
        await record.sweep(kept)
        assert await record.get("p", "k") == 1
        record.clock.advance(101)
        await record.sweep(kept)
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.status, row.outcome, row.live, row.keys) == ("active", None, False, 0)
        assert row.revision > 2, "it never goes back"
        assert await record.store.plans.list(ALICE, "", 9) == []
        assert await record.store.timers.list(ALICE, None, 0, 9) == []
        assert await record.dead_letters(All.TENANTS, None, 0, 9) == []
        for table in ("entries", "bases", "compensations", "timers", "deliveries", "dead_letters"):
            assert await self.count_rows(record.store, table) == 0, table  # type: ignore[attr-defined]
        assert await self.count_rows(record.store, "history") == 1, "that it was purged"  # type: ignore[attr-defined]

    @pytest.mark.behaviour("plans.purge-and-after")
    async def test_a_purge_leaves_the_next_life_alone(self, record: Record) -> None:
        """Nothing of the former life reaches the next, however long the sweeping takes."""
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        kept = Retention(plans=10)
        for number in range(5):
            plan = f"p{number}"
            await record.publish("e", plan, id=f"old-{plan}")
            await commit(record, Commit(timers=[later("e", 20, id=f"old-timer-{plan}", plan=plan)]))
            await do(record, plan, put("k", 1), Complete())
        record.clock.advance(11)
        await record.upkeep(kept)  # the purge is committed; most of the sweeping is still to come
        for number in range(5):
            plan = f"p{number}"
            await record.publish("e", plan, id=f"new-{plan}")
            await commit(record, Commit(timers=[later("e", 9, id=f"new-timer-{plan}", plan=plan)]))
            await do(record, plan, put("k", 2), Deadline(later("e", 9, id=f"new-deadline-{plan}")))
        record.clock.advance(9)
        fired = await fire(record)
        await record.sweep(kept)
        assert sorted(fired) == sorted(
            f"new-{what}-p{number}" for what in ("timer", "deadline") for number in range(5)
        )
        handled = await record.work_off(member)
        assert sorted(handled) == sorted([*fired, *(f"new-p{number}" for number in range(5))])
        assert [await record.get(f"p{number}", "k") for number in range(5)] == [2] * 5

    @pytest.mark.behaviour("plans.stalled")
    async def test_a_failed_plan_whose_work_is_not_undone_is_reported(
        self, make_record: Any
    ) -> None:
        record = await make_record(plan_idle_seconds=100)
        member = await record.subscribe(
            "g", Subscription("undo", retry=RetryPolicy(max_attempts=1))
        )
        await record.publish("begin", "given up")
        await do(record, "given up", Compensate(event("undo")))
        await do(record, "given up", Fail())
        (claimed,) = await record.claim(member)
        await record.fail(claimed)
        await record.publish("begin", "untaken")
        await do(record, "untaken", Compensate(event("nobody's")), Fail())
        await record.publish("begin", "undone")
        await do(record, "undone", Fail())
        record.clock.advance(101)
        for _ in range(2):
            await record.sweep()
        told = [
            decode(entry.envelope) for entry in await record.log() if entry.type == "plan.stalled"
        ]
        assert sorted(one["data"]["plan_id"] for one in told) == ["given up", "untaken"]
        assert len(await record.store.plans.list(ALICE, "", 9, stalled=True)) == 2
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        await record.replay(All.TENANTS, letter.id)
        (again,) = await record.claim(member)
        await settle(record, again)
        assert [
            row.plan_id for row in await record.store.plans.list(ALICE, "", 9, stalled=True)
        ] == ["untaken"]

    @pytest.mark.behaviour("plans.listed")
    async def test_a_plan_with_nothing_but_what_undoes_it_is_there(self, record: Record) -> None:
        await do(record, "a", Compensate(event("undo")))
        await do(record, "b", Deadline(later("late", 9)))
        assert [row.plan_id for row in await record.store.plans.list(ALICE, "", 9)] == ["a", "b"]
        await do(record, "a", Cleanup())
        assert [row.plan_id for row in await record.store.plans.list(ALICE, "", 9)] == ["b"]

    @pytest.mark.behaviour("plans.stalled")
    async def test_a_plan_that_stands_still_is_reported_once(self, make_record: Any) -> None:
        record = await make_record(plan_idle_seconds=100)
        member = await record.subscribe("g", "e")
        await record.publish("e", "stuck")
        await record.publish("e", "waiting")
        await record.publish("e", "timed")
        await record.publish("e", "mortal")
        await do(record, "manual", put("k", 1))
        for claimed in await record.claim(member):
            if claimed.plan_id != "waiting":
                await settle(record, claimed, put("k", 1))
        await do(record, "timed", Deadline(later("late", DAY)))
        await do(record, "mortal", put("k", 1), ExpirePlan(DAY))
        record.clock.advance(99)
        await record.sweep()
        assert "plan.stalled" not in await types(record)
        record.clock.advance(2)
        for _ in range(3):
            await record.sweep()
        told = [
            decode(entry.envelope) for entry in await record.log() if entry.type == "plan.stalled"
        ]
        assert [one["data"]["plan_id"] for one in told] == ["stuck"]
        await do(record, "stuck", put("k", 2))
        record.clock.advance(101)
        await record.sweep()
        assert (await types(record)).count("plan.stalled") == 2, "it moved, and stands still again"
