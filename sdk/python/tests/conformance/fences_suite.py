"""Requirements for fences in a store: who may use one, for how long, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from record import LEASE, Record, ids, part, put

from soorma_common.errors import Fenced
from soorma_platform.engine.rows.fences import hashed

HOUR = 3_600.0
DAY = 24 * HOUR


def files_with(folder: Path, text: str) -> list[str]:
    return [one.name for one in folder.iterdir() if text.encode() in one.read_bytes()]


class FencesSuite:
    @pytest.mark.behaviour("security.fences")
    async def test_the_record_does_not_have_it(self, record: Record, tmp_path: Path) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        await record.publish("e", "q")
        settled, held = await record.claim(member)
        first = await record.settle(settled, part("p", put("k", 1)))
        again = await record.settle(settled, part("p", put("k", 1)))
        assert again == first, "its response is stored under it"
        kept = await record.store.deliveries.renew("r1", [held.fence, settled.fence], LEASE)
        assert kept == [held.fence]
        assert await record.store.deliveries.holder(held.fence) is not None
        await record.close()
        try:
            for one in (settled, held):
                assert files_with(tmp_path, one.fence) == []
        finally:
            await record.open()

    @pytest.mark.behaviour("security.fences")
    async def test_what_the_record_has_is_no_fence(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        forged = replace(one, fence=hashed(one.fence))
        with pytest.raises(Fenced):
            await record.settle(forged, part("p", put("k", 1)))
        assert await record.store.deliveries.holder(forged.fence) is None
        assert await record.store.deliveries.renew("r1", [forged.fence], LEASE) == []
        await record.settle(one)

    @pytest.mark.behaviour("leases.longest")
    async def test_it_ends_after_a_day_however_it_is_renewed(self, record: Record) -> None:
        deliveries = record.store.deliveries
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member, lease=HOUR)
        for _ in range(23):
            record.clock.advance(HOUR)
            assert await deliveries.renew("r1", [one.fence], 2 * HOUR) == [one.fence]
        record.clock.advance(HOUR - 0.001)
        assert await deliveries.renew("r1", [one.fence], 2 * HOUR) == [one.fence]
        assert await record.claim(member, replica="r2") == []
        record.clock.advance(0.001)
        assert await deliveries.renew("r1", [one.fence], 2 * HOUR) == []
        (heir,) = await record.claim(member, replica="r2")
        assert (heir.attempt, ids([heir])) == (2, ["1"])
        with pytest.raises(Fenced):
            await record.settle(one)
        await record.settle(heir)

    @pytest.mark.behaviour("leases.longest")
    async def test_it_ends_even_if_nobody_else_takes_the_event(self, record: Record) -> None:
        deliveries = record.store.deliveries
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member, lease=HOUR)
        record.clock.advance(DAY - HOUR)
        kept = await deliveries.resume([one.fence], 2 * HOUR, "r1", group_id=member.group_id)
        assert [each.fence for each in kept] == [one.fence]
        record.clock.advance(HOUR)
        idle = record.prefetch(member, room=0)
        await deliveries.claim(idle)  # as any connection does once a second
        assert await deliveries.holder(one.fence) is None
        with pytest.raises(Fenced):
            await record.settle(one, part("p", put("k", 1)))
        assert await deliveries.resume([one.fence], HOUR, "r1", group_id=member.group_id) == []
