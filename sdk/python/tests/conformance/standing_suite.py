"""Requirements for the figures of a store: what waits for each group, and for how long."""

from __future__ import annotations

import pytest
from record import ONCE, PARKING, Record, put

from soorma_common.delivery import Subscription
from soorma_common.errors import Unavailable
from soorma_common.names import All
from soorma_platform.engine.retention import Retention
from soorma_platform.stores.ports.health import GroupStanding


async def standing(record: Record, group: str = "g") -> GroupStanding:
    """Returns the standing of the one group of that name."""
    (found,) = [one for one in (await record.store.health.standing()).groups if one.name == group]
    return found


def lanes(found: GroupStanding) -> tuple[int, int, int, int]:
    """Returns its lanes: ready, delayed, in hand, parked."""
    return found.ready, found.delayed, found.in_hand, found.parked


class StandingSuite:
    """Figures for those who watch a platform."""

    @pytest.mark.behaviour("metrics.waiting")
    async def test_nothing_waits_in_a_new_record(self, record: Record) -> None:
        found = await record.store.health.standing()
        assert (found.groups, found.log_end, found.log_horizon) == ([], 0, 0)
        assert all(size >= 0 for size in found.sizes.values())

    @pytest.mark.behaviour("metrics.waiting")
    async def test_a_group_that_has_done_everything(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        assert await standing(record) == GroupStanding(
            member.group_id, "g", 0, 0, 0, 0, 0, 0, 0, None
        )

    @pytest.mark.behaviour("metrics.waiting")
    async def test_each_lane_is_in_one_state(self, record: Record) -> None:
        member = await record.subscribe(
            "g", "e", Subscription("once", retry=ONCE), Subscription("park", retry=PARKING)
        )
        for plan in ("failed", "held", "free", "alone"):
            await record.publish("e", plan)
        await record.publish("e", "held")
        for one in await record.claim(member):
            if one.plan_id == "failed":
                await record.fail(one, after=60)
            elif one.plan_id != "held":
                await record.store.deliveries.release([one.fence])
        await record.publish("once", "gone")
        await record.publish("park", "parked")
        await record.publish("park", "parked")
        for kind in ("once", "park"):
            (wanted,) = [
                id_ for id_, subscription in member.own.items() if subscription.type == kind
            ]
            prefetch = record.prefetch(member, 1)
            prefetch.subscription_ids = [wanted]
            await record.store.deliveries.claim(prefetch)
            (one,) = prefetch.take()
            await record.fail(one)
        found = await standing(record)
        assert lanes(found) == (2, 1, 1, 1)
        assert (found.events, found.dead_letters) == (4 + 1 + 2, 2)

    @pytest.mark.behaviour("metrics.waiting")
    async def test_a_lane_is_ready_when_its_backoff_or_its_lease_is_over(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "failed")
        (one,) = await record.claim(member)
        await record.fail(one, after=60)
        await record.publish("e", "held")
        await record.claim(member, lease=30)
        assert lanes(await standing(record)) == (0, 1, 1, 0)
        record.clock.advance(30)
        assert lanes(await standing(record)) == (1, 1, 0, 0)
        record.clock.advance(30)
        assert lanes(await standing(record)) == (2, 0, 0, 0)

    @pytest.mark.behaviour("metrics.waiting")
    async def test_what_a_replica_leaves_is_ready(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.join(member.group_id, "r1", "i", 1)
        await record.publish("e", "p")
        await record.claim(member)
        found = await standing(record)
        assert (lanes(found), found.replicas) == ((0, 0, 1, 0), 1)
        await record.store.groups.leave("r1")
        found = await standing(record)
        assert (lanes(found), found.replicas) == ((1, 0, 0, 0), 0)

    @pytest.mark.behaviour("metrics.waiting")
    async def test_the_age_is_that_of_the_oldest_event(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        record.clock.advance(5)
        await record.publish("e", "q")
        record.clock.advance(2.5)
        assert (await standing(record)).oldest_seconds == pytest.approx(7.5)
        (one,) = await record.claim(member, 1)
        assert (await standing(record)).oldest_seconds == pytest.approx(7.5)
        await record.settle(one)
        assert (await standing(record)).oldest_seconds == pytest.approx(2.5)

    @pytest.mark.behaviour("metrics.waiting")
    async def test_groups_are_told_apart(self, record: Record) -> None:
        await record.subscribe("g", "e")
        await record.subscribe("g", "other", tenant="t")
        await record.subscribe("h", "e", "f")
        for kind in ("e", "e", "f"):
            await record.publish(kind)
        found = (await record.store.health.standing()).groups
        assert sorted((one.name, one.events) for one in found) == [("g", 0), ("g", 2), ("h", 3)]

    @pytest.mark.behaviour("metrics.waiting")
    async def test_the_log_and_its_horizon(self, record: Record) -> None:
        for _ in range(3):
            await record.publish("e")
        assert (await record.store.health.standing()).log_end == 3
        record.clock.advance(10)
        await record.sweep(Retention(events=5))
        found = await record.store.health.standing()
        assert (found.log_end, found.log_horizon) == (3, 3)

    @pytest.mark.behaviour("metrics.counted")
    async def test_transactions_are_counted(self, record: Record) -> None:
        before = (await record.store.health.standing()).batches
        counted, changes = sum(before.counts), before.total
        for n in range(5):
            await record.do("p", put("k", n))
        after = await record.store.health.standing()
        assert (sum(after.batches.counts), after.batches.total) == (counted + 5, changes + 5)
        assert sum(after.seconds.counts) == sum(after.batches.counts)

    @pytest.mark.behaviour("metrics.waiting", "groups.looked-at")
    async def test_the_groups_that_are_listed_agree(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        for plan in ("p", "p", "q"):
            await record.publish("e", plan)
        await record.claim(member, 1)
        found, (listed,) = await standing(record), await record.groups(All.TENANTS)
        assert (listed.waiting, listed.ready, listed.in_hand) == (2, 1, 1)
        assert (found.events - found.in_hand, found.ready, found.in_hand) == (2, 1, 1)

    @pytest.mark.behaviour("outage.store")
    async def test_a_closed_record_does_not_tell(self, record: Record) -> None:
        await record.store.health.standing()
        await record.close()
        with pytest.raises(Unavailable):
            await record.store.health.standing()
        await record.open()
