"""Requirements for the recorded steps of a delivery in a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import pytest
from record import ALICE, Record

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced, LimitExceeded
from soorma_common.names import All
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.steps import RecordStep
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.deliveries import Claimed

AT_ONCE = RetryPolicy(first_delay=0, jitter=0)


async def keep(record: Record, claimed: Claimed, name: str, occurrence: int, text: str) -> None:
    await record.store.transact(
        RecordStep(ALICE, claimed.fence, name, occurrence, text, limits=record.limits)
    )


def told(claimed: Claimed) -> dict[tuple[str, int], str]:
    return {(step.name, step.occurrence): bytes(step.result).decode() for step in claimed.steps}


class StepsSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("steps.recorded")
    async def test_a_later_attempt_is_told_what_was_recorded(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e", "p")
        (first,) = await record.claim(member)
        assert first.steps == []
        await keep(record, first, "pay", 1, '{"id":7}')
        await keep(record, first, "pay", 2, "null")
        await keep(record, first, "mail", 1, '"\u00fc"')
        await record.fail(first)
        (second,) = await record.claim(member)
        assert told(second) == {("pay", 1): '{"id":7}', ("pay", 2): "null", ("mail", 1): '"\u00fc"'}

    @pytest.mark.behaviour("steps.of-group-and-event")
    async def test_steps_belong_to_a_group_and_an_event(self, record: Record) -> None:
        one = await record.subscribe("one", Subscription("e", retry=AT_ONCE))
        two = await record.subscribe("two", Subscription("e", retry=AT_ONCE))
        await record.publish("e", "p")
        await record.publish("e", "q")
        first, other_event = await record.claim(one)
        await keep(record, first, "pay", 1, "1")
        for claimed in (first, other_event):
            await record.fail(claimed)
        assert [told(claimed) for claimed in await record.claim(one)] == [{("pay", 1): "1"}, {}]
        assert [told(claimed) for claimed in await record.claim(two)] == [{}, {}]

    @pytest.mark.behaviour("steps.first-stands")
    async def test_the_first_result_stands(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e")
        (claimed,) = await record.claim(member)
        await keep(record, claimed, "pay", 1, "1")
        await keep(record, claimed, "pay", 1, "2")
        await record.fail(claimed)
        (again,) = await record.claim(member)
        assert told(again) == {("pay", 1): "1"}

    @pytest.mark.behaviour("steps.fenced")
    async def test_an_old_fence_records_nothing(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e")
        (stale,) = await record.claim(member, lease=1)
        record.clock.advance(2)
        (fresh,) = await record.claim(member)
        with pytest.raises(Fenced):
            await keep(record, stale, "pay", 1, "1")
        await record.settle(fresh)
        with pytest.raises(Fenced):
            await keep(record, fresh, "pay", 1, "1")

    @pytest.mark.behaviour("steps.survive")
    async def test_steps_survive_a_restart_and_a_replay(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_attempts=1)))
        await record.publish("e")
        (claimed,) = await record.claim(member)
        await keep(record, claimed, "pay", 1, "1")
        await record.fail(claimed)
        await record.reopen()
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        await record.replay(All.TENANTS, letter.id)
        (again,) = await record.claim(member)
        assert (again.attempt, told(again)) == (1, {("pay", 1): "1"})

    @pytest.mark.behaviour("steps.retention")
    async def test_steps_go_with_their_event(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=AT_ONCE))
        await record.publish("e", id="1")
        (claimed,) = await record.claim(member)
        await keep(record, claimed, "pay", 1, "1")
        await record.settle(claimed)
        kept = Retention(events=100)
        await record.sweep(kept)
        assert await self.count_rows(record.store, "steps") == 1, "within the retention of events"
        record.clock.advance(101)
        await record.sweep(kept)
        assert await self.count_rows(record.store, "steps") == 0

    @pytest.mark.behaviour("steps.limits")
    async def test_steps_are_limited(self, make_record: Callable[..., Awaitable[Record]]) -> None:
        record = await make_record(step_bytes=11, delivery_steps=2, delivery_step_bytes=12)
        member = await record.subscribe("g", "e")
        await record.publish("e")
        (claimed,) = await record.claim(member)
        tried = [
            ("a", '"1234567890"', "step_bytes"),
            ("b", "12345678", None),
            ("c", "12345", "delivery_step_bytes"),
            ("c", "1", None),
            ("d", "1", "delivery_steps"),
        ]
        for name, text, limit in tried:
            if limit is None:
                await keep(record, claimed, name, 1, text)
            else:
                with pytest.raises(LimitExceeded) as refused:
                    await keep(record, claimed, name, 1, text)
                assert refused.value.limit == limit
        assert await self.count_rows(record.store, "steps") == 2
