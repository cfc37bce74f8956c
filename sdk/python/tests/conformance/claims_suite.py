"""Requirements for deliveries in a store: lanes, claims, leases and fences."""

from __future__ import annotations

import asyncio

import pytest
from record import ALICE, BOB, LEASE, STRANGER, Record, event, ids, increment, part, put, seen

from soorma_common.causes import NOBODY, Cause
from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced, Forbidden, WrongType
from soorma_common.events import Event
from soorma_common.operations import RecordAction
from soorma_platform.stores.ports.deliveries import Claimed
from soorma_platform.work.holders import Held, Holders


class ClaimsSuite:
    """Deliveries and their way to a handler."""

    @pytest.mark.behaviour("events.round-trip", "leases.fence")
    async def test_a_claim_brings_the_event_and_a_fence(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1", data={"x": 1}, scope=BOB)
        (one,) = await record.claim(member)
        assert (one.attempt, one.tenant_id, one.user_id, one.plan_id) == (1, "acme", "bob", "p")
        assert (seen(one).id, seen(one).data) == ("1", {"x": 1})
        assert one.subscription_id in member.own
        holder = await record.store.deliveries.holder(one.fence)
        assert holder is not None
        assert (holder.agent, holder.instance) == ("g", record.INSTANCE)
        assert Event.from_json(holder.envelope).id == "1"
        assert await record.store.deliveries.holder("no fence") is None
        assert await record.claim(member) == []

    @pytest.mark.behaviour("leases.fence")
    async def test_a_fence_leads_to_the_cause_of_what_is_done_under_it(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        holders = Holders(record.store.deliveries)
        assert await holders.cause_of("no fence") == NOBODY
        found = await holders.cause_of(one.fence)
        assert (found.actor, found.instance, found.event_id) == ("g", record.INSTANCE, "1")

    @pytest.mark.behaviour("leases.fence")
    async def test_an_agent_that_has_connected_again_stays_the_holder(self, record: Record) -> None:
        holders = Holders(record.store.deliveries)
        first, second = (Held(Cause(name), ALICE, None) for name in ("first", "second"))
        connections = {cause: (lambda _, cause=cause: cause) for cause in (first, second)}
        holders.add("f", connections[first])
        assert await holders.cause_of("f") == first.cause
        holders.add("f", connections[second])
        holders.remove("f", connections[first])  # its end is noticed late
        assert await holders.cause_of("f") == second.cause
        holders.remove("f", connections[second])
        assert await holders.cause_of("f") == NOBODY

    @pytest.mark.behaviour("lanes.in-order")
    async def test_a_lane_is_handled_one_at_a_time_and_in_order(self, record: Record) -> None:
        member = await record.subscribe("g", "e", "f")
        for number in range(4):
            await record.publish("ef"[number % 2], "p", id=str(number))
        for number in range(4):
            (one,) = await record.claim(member)
            assert seen(one).id == str(number)
            await record.settle(one)
        record.clock.advance(LEASE)
        assert await record.claim(member) == []
        assert await record.store.deliveries.next_ready(list(member.all)) is None

    @pytest.mark.behaviour("lanes.side-by-side", "tenants.lanes")
    async def test_lanes_of_plans_users_and_tenants_run_side_by_side(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        for plan in ("p", "q"):
            for number in range(2):
                await record.publish("e", plan, id=f"{plan}{number}")
        await record.publish("e", "p", id="bob", scope=BOB)
        await record.publish("e", "p", id="stranger", scope=STRANGER)
        assert set(ids(await record.claim(member))) == {"p0", "q0", "bob", "stranger"}

    @pytest.mark.behaviour("lanes.slow-stalls-nobody")
    async def test_groups_do_not_wait_for_each_other(self, record: Record) -> None:
        slow, quick = await record.subscribe("slow", "e"), await record.subscribe("quick", "e")
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        await record.claim(slow)
        assert await record.work_off(quick) == ["0", "1", "2"]

    @pytest.mark.behaviour("lanes.side-by-side")
    async def test_events_without_a_plan_are_lanes_of_their_own(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        for number in range(3):
            await record.publish("e", id=str(number))
        assert set(ids(await record.claim(member))) == {"0", "1", "2"}

    @pytest.mark.behaviour("lanes.unordered")
    async def test_an_unordered_handler_takes_a_plans_events_side_by_side(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("e", ordered=False), "f")
        for kind in "eefef":
            await record.publish(kind, "p")
        assert sorted(str(seen(one).type) for one in await record.claim(member)) == [
            "e",
            "e",
            "e",
            "f",
        ]

    @pytest.mark.behaviour("lanes.max-concurrency")
    async def test_a_claim_takes_no_more_than_its_limit_the_eldest_first(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        for number in range(5):
            await record.publish("e", f"plan {number}", id=str(number))
            record.clock.advance(1)
        assert ids(await record.claim(member, 2)) == ["0", "1"]
        assert ids(await record.claim(member, 2)) == ["2", "3"]
        assert ids(await record.claim(member, 0)) == []

    @pytest.mark.behaviour("groups.handler")
    async def test_a_claim_takes_only_from_the_subscriptions_it_names(self, record: Record) -> None:
        member = await record.subscribe("g", "e", "f")
        await record.publish("e")
        (of_f,) = [id_ for id_, pattern in member.all.items() if pattern == ("f", "*")]
        assert await record.store.deliveries.next_ready([of_f]) is None
        await record.join(member.group_id, "r1", "host", 1)
        prefetch = record.prefetch(member)
        prefetch.subscription_ids = [of_f]
        await record.store.deliveries.claim(prefetch)
        assert prefetch.take() == []
        assert await record.store.deliveries.next_ready(list(member.all)) == 0

    @pytest.mark.behaviour("handlers.all-or-nothing", "handlers.several-plans")
    async def test_a_settling_commit_does_everything_at_once(self, record: Record) -> None:
        member = await record.subscribe("g", "e", "next")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        done = await record.settle(
            one,
            part("p", increment("n"), RecordAction("a")),
            part("q", put("k", 1)),
            events=[event("next", id="2")],
        )
        assert [plan.revision for plan in done.plans] == [1, 1]
        (following,) = await record.claim(member)
        assert (seen(following).id, following.plan_id) == ("2", "p")

    @pytest.mark.behaviour("handlers.refused-commit-keeps-the-event")
    async def test_a_refused_commit_leaves_the_delivery_in_hand(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.do("p", put("text", "x"))
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        with pytest.raises(WrongType):
            await record.settle(one, part("p", increment("text")), events=[event("e")])
        assert await record.claim(member) == []
        assert len(await record.log()) == 1
        await record.settle(one, part("p", increment("n")))
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("lanes.own-events")
    async def test_events_published_in_a_lane_by_its_own_handler_keep_the_order(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="0")
        (one,) = await record.claim(member)
        await record.settle(one, events=[event("e", id="1"), event("e", id="2")])
        await record.publish("e", "p", id="3")
        (one,) = await record.claim(member)
        await record.settle(one, events=[event("e", id="4")])
        assert await record.work_off(member) == ["2", "3", "4"]

    @pytest.mark.behaviour("handlers.other-scope-forbidden", "security.fences")
    async def test_a_commit_in_another_scope_than_its_event_is_refused(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        for scope in (BOB, STRANGER):
            with pytest.raises((Forbidden, Fenced)):
                await record.commit(part("p", put("k", 1)), scope=scope, fence=one.fence)
            assert await record.revision("p", scope) == 0
        await record.settle(one)

    # leases and fences

    @pytest.mark.behaviour("leases.expired")
    async def test_an_expired_lease_gives_the_event_to_the_next(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (first,) = await record.claim(member, lease=10)
        record.clock.advance(9.999)
        assert await record.claim(member) == []
        assert await record.store.deliveries.next_ready(list(member.all)) == pytest.approx(
            0.001, abs=1e-4
        )
        record.clock.advance(0.001)
        (second,) = await record.claim(member, replica="r2")
        assert (second.attempt, seen(second).id) == (2, "1")
        assert second.fence != first.fence

    @pytest.mark.behaviour("leases.fence")
    async def test_a_zombies_commit_is_fenced_and_leaves_nothing(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (zombie,) = await record.claim(member)
        record.clock.advance(LEASE)
        (heir,) = await record.claim(member)
        with pytest.raises(Fenced):
            await record.settle(zombie, part("p", increment("n")), events=[event("late")])
        with pytest.raises(Fenced):
            await record.fail(zombie)
        await record.settle(heir, part("p", increment("n")))
        with pytest.raises(Fenced):
            await record.settle(zombie, part("p", increment("n")))
        assert await record.get("p", "n") == 1
        assert len(await record.log()) == 1

    @pytest.mark.behaviour("leases.expired")
    async def test_a_late_commit_counts_as_long_as_nobody_else_claimed(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        record.clock.advance(10 * LEASE)
        await record.settle(one, part("p", increment("n")))
        assert await record.claim(member) == []

    @pytest.mark.behaviour("leases.first-answer")
    async def test_a_commit_sent_again_gets_its_first_answer(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        await record.publish("e", "p", id="2")
        (one,) = await record.claim(member)

        async def send() -> object:
            return await record.settle(
                one, part("p", increment("n")), events=[event("done", id="3")]
            )

        first = await send()
        (other,) = await record.claim(member)
        await record.settle(other, part("p", increment("n")))
        record.clock.advance(14 * 60)
        await record.sweep()
        assert await send() == first
        assert await record.get("p", "n") == 2
        assert [entry.type for entry in await record.log()].count("done") == 1

    @pytest.mark.behaviour("leases.first-answer")
    async def test_another_commit_under_a_used_fence_is_fenced(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.settle(one, part("p", increment("n")))
        with pytest.raises(Fenced):
            await record.settle(one, part("p", increment("n", 2)))
        with pytest.raises(Fenced):
            await record.fail(one)
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("leases.fence")
    async def test_a_fence_that_never_was(self, record: Record) -> None:
        with pytest.raises(Fenced):
            await record.commit(part("p", put("k", 1)), fence="0" * 32)
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("leases.renewed")
    async def test_renewing_keeps_a_delivery(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "host", 1)
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        for _ in range(10):
            record.clock.advance(LEASE - 1)
            assert await record.store.deliveries.renew("r1", [one.fence, "other"], LEASE) == [
                one.fence
            ]
        assert await record.claim(member) == []
        record.clock.advance(LEASE)
        (heir,) = await record.claim(member, replica="r2")
        assert await record.store.deliveries.renew("r1", [one.fence], LEASE) == []
        await record.settle(heir)
        assert await record.store.deliveries.renew("r2", [heir.fence], LEASE) == []

    @pytest.mark.behaviour("leases.renewed")
    async def test_a_replica_that_is_not_heard_of_gets_nothing(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        prefetch = record.prefetch(member)

        async def claimed() -> list[str]:
            await record.publish("e")
            await record.store.deliveries.claim(prefetch)
            return ids(prefetch.take())

        assert await claimed() == []
        await record.join(member.group_id, "r1", "host", 1)
        record.clock.advance(LEASE * 2 / 3)
        assert len(await claimed()) == 2
        record.clock.advance(0.001)
        assert await claimed() == []
        await record.store.deliveries.renew("r1", [], LEASE)
        assert len(await claimed()) == 2
        await record.store.groups.leave("r1")
        assert await claimed() == []

    @pytest.mark.behaviour("lanes.max-concurrency")
    async def test_a_prefetch_is_filled_once_up_to_its_room(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        prefetches = [record.prefetch(member, 2, replica=name) for name in ("r1", "r2")]
        handled: list[str] = []

        async def taken() -> list[Claimed]:
            found = []
            for prefetch in prefetches:
                await record.store.deliveries.claim(prefetch)
                found.append(prefetch.take())
                assert len(found[-1]) <= 2
            return [one for part_of in found for one in part_of]

        with (
            record.store.deliveries.prefetching(prefetches[0]),
            record.store.deliveries.prefetching(prefetches[1]),
        ):
            for prefetch in prefetches:
                await record.join(member.group_id, prefetch.replica, "host", 2)
            for number in range(5):
                await record.publish("e", f"plan {number % 4}", id=str(number))
            for _ in range(2):
                first = await taken()
                handled += ids(first)
                assert await taken() == [], "none has room"
                for one in first:
                    await record.settle(one)
                for prefetch in prefetches:
                    prefetch.freed += 2
        assert sorted(handled) == ["0", "1", "2", "3", "4"]
        await record.publish("e")
        assert [prefetch.take() for prefetch in prefetches] == [[], []], "they stand no longer"

    @pytest.mark.behaviour("events.round-trip")
    async def test_a_claim_brings_the_plan_and_its_keys_if_they_are_few(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.do("p", put("k", {"x": 1}), put("gone", 1, ttl=5))
        for number in range(101):
            await record.do("many", put(f"k{number}", 1))
        await record.do("large", put("k", "x" * 20_000))
        record.clock.advance(6)
        for plan in ("p", "many", "large", "new", None):
            await record.publish("e", plan)
        found = {one.plan_id: one for one in await record.claim(member)}
        assert [(row.key, row.value, row.revision) for row in found["p"].entries or []] == [
            ("k", '{"x":1}', 1)
        ]
        assert [
            (found[name].plan.revision, found[name].entries) for name in ("many", "large", "new")
        ] == [
            (101, None),
            (1, None),
            (0, []),
        ]
        assert (found[None].plan, found[None].entries) == (None, None)

    @pytest.mark.behaviour("leases.closed-socket")
    async def test_what_a_replica_leaves_is_free_at_once(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "host", 1)
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        record.notices.clear()
        await record.store.groups.leave("r1")
        assert {group for notice in record.notices for group in notice.groups} == {member.group_id}
        assert await record.store.deliveries.next_ready(list(member.all)) == 0
        (heir,) = await record.claim(member, replica="r2")
        assert heir.attempt == 2
        with pytest.raises(Fenced):
            await record.settle(one)

    @pytest.mark.behaviour("leases.closed-socket")
    async def test_what_a_replica_was_just_about_to_get_is_free_at_once(
        self, record: Record
    ) -> None:
        """Its connection ends while the store handles the claim: nobody learns of its fences."""
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "host", 1)
        await record.publish("e", "p", id="1")
        claiming = asyncio.create_task(record.store.deliveries.claim(record.prefetch(member)))
        await asyncio.sleep(0)  # it has asked the store, and waits for the answer
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        await record.store.groups.leave("r1")
        assert ids(await record.claim(member, replica="r2")) == ["1"], (
            "whether the claim came first or not at all"
        )

    @pytest.mark.behaviour("leases.expired")
    async def test_what_a_replica_left_it_may_still_answer_until_claimed(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.store.groups.leave("r1")
        await record.settle(one, part("p", increment("n")))
        assert await record.claim(member) == []
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("leases.reconnect")
    async def test_an_agent_that_reconnects_keeps_what_it_was_doing(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        await record.store.groups.leave("r1")
        (kept,) = await record.store.deliveries.resume([one.fence, "unknown"], LEASE, "r2")
        assert (kept.fence, kept.attempt, seen(kept).id, kept.plan_id) == (one.fence, 1, "1", "p")
        assert await record.claim(member, replica="r3") == []
        record.clock.advance(LEASE)
        (heir,) = await record.claim(member, replica="r3")
        assert await record.store.deliveries.resume([one.fence], LEASE, "r2") == []
        assert heir.attempt == 2

    @pytest.mark.behaviour("leases.reconnect")
    async def test_the_old_connections_end_takes_nothing_from_the_new_one(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member, replica="old")
        await record.store.deliveries.resume([one.fence], LEASE, "new")
        await record.store.groups.leave("old")
        assert await record.claim(member, replica="r3") == []
        await record.settle(one)

    @pytest.mark.behaviour("leases.given-back")
    async def test_what_is_given_back_costs_no_attempt(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        await record.publish("e", "p", id="2")
        (one,) = await record.claim(member)
        await record.store.deliveries.release([one.fence, "unknown"])
        (again,) = await record.claim(member)
        assert (again.attempt, seen(again).id) == (1, "1")
        assert again.fence != one.fence
        with pytest.raises(Fenced):
            await record.settle(one)

    @pytest.mark.behaviour("leases.one-alone")
    async def test_a_claim_is_for_one_alone(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.commit(
            events=[event("e", f"plan {number % 40}", id=str(number)) for number in range(80)]
        )
        claims = await asyncio.gather(
            *(record.claim(member, 3, replica=f"r{number}") for number in range(50))
        )
        everything = [one for claimed in claims for one in claimed]
        assert sorted(ids(everything), key=int) == [str(number) for number in range(40)]
        assert len({one.fence for one in everything}) == 40
        assert all(len(claimed) <= 3 for claimed in claims)

    @pytest.mark.behaviour("history.who")
    async def test_a_fences_commit_names_its_cause(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        cause = Cause(actor="g", event_id="1")
        await record.commit(part("p", put("k", 1)), fence=one.fence, cause=cause)
        _, (row,) = await record.history(ALICE, "p", None, 0, None, 10)
        assert row.cause == cause
