"""Requirements for a subscription that begins with many events to take."""

from __future__ import annotations

import asyncio

import pytest
from record import Record, event, ids

from soorma_common.delivery import Subscription

MANY = 700
"""More than one step takes."""
LANES = 7


def _published(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


class JoiningSuite:
    """Groups that join late."""

    async def _publish(
        self, record: Record, first: int, last: int, kinds: tuple[str, ...] = ("a", "b", "c")
    ) -> None:
        for start in range(first, last, 100):
            events = [
                event(kinds[number % len(kinds)], f"p{number % LANES}", id=str(number))
                for number in range(start, min(start + 100, last))
            ]
            await record.commit(events=events)

    async def _work_off_in_order(self, record: Record, group: str, *types: str) -> list[str]:
        member = await record.subscribe(group, *types)
        done: list[str] = []
        while claimed := await record.claim(member):
            done += ids(claimed)
            for one in claimed:
                await record.settle(one)
        return done

    @pytest.mark.behaviour("store.bounded-joining", "groups.start-order", "lanes.in-order")
    @pytest.mark.parametrize(
        "types", [("a", "b", "c"), ("*",), ("b", "*"), ("a", "b", "c", "x", "y", "z")]
    )
    async def test_all_that_waits_is_taken_in_the_order_of_the_lanes(
        self, record: Record, types: tuple[str, ...]
    ) -> None:
        await self._publish(record, 0, MANY)
        done = await self._work_off_in_order(record, "late", *types)
        assert sorted(done, key=int) == _published(0, MANY)
        for lane in range(LANES):
            assert (own := [int(one) for one in done if int(one) % LANES == lane]) == sorted(own)

    @pytest.mark.behaviour("store.bounded-joining")
    async def test_what_is_published_meanwhile_comes_behind(self, record: Record) -> None:
        await self._publish(record, 0, MANY)
        joining = asyncio.create_task(record.subscribe("late", "a", "b", "c"))
        await asyncio.sleep(0)
        await self._publish(record, MANY, MANY + 200)
        await joining
        done = await self._work_off_in_order(record, "late", "a", "b", "c")
        assert sorted(done, key=int) == _published(0, MANY + 200)
        for lane in range(LANES):
            assert (own := [int(one) for one in done if int(one) % LANES == lane]) == sorted(own)

    @pytest.mark.behaviour("store.bounded-joining")
    async def test_others_write_while_a_group_joins(self, record: Record) -> None:
        await self._publish(record, 0, MANY)
        joining = asyncio.create_task(record.subscribe("late", "*"))
        between = 0
        while not joining.done():
            await record.publish("other", topic="plan-events")
            between += not joining.done()
        assert between, "a change of another had its turn between the steps"

    @pytest.mark.behaviour("store.bounded-joining")
    async def test_a_join_that_was_cut_short_is_taken_up(self, record: Record) -> None:
        await self._publish(record, 0, MANY)
        joining = asyncio.create_task(record.subscribe("late", "a", "b", "c"))
        await record.publish("other", topic="plan-events")
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        await record.close()
        await record.open()
        done = await self._work_off_in_order(record, "late", "a", "b", "c")
        assert sorted(done, key=int) == _published(0, MANY)

    @pytest.mark.behaviour("store.bounded-joining")
    async def test_a_new_type_of_a_known_group_joins_too(self, record: Record) -> None:
        await record.subscribe("known", "a")
        await self._publish(record, 0, MANY)
        wanted = [Subscription("a"), Subscription("b")]
        await record.subscribe("known", *wanted)
        done = await self._work_off_in_order(record, "known", "a", "b")
        assert sorted(done, key=int) == [one for one in _published(0, MANY) if int(one) % 3 != 2]
