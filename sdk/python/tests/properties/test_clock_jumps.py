"""Any behaviour of the machine's clock: nothing goes before it is due, and nothing due stays."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clocks_suite import HOUR, MONTH, SETTLING, STEADY, WEEK, _delay, _fire, _set
from empty_record import open_sqlite
from hypothesis import given
from hypothesis import strategies as st
from record import ALICE, ALL, LEASE, MISSING, Clock, Record, put

from soorma_common.delivery import Subscription
from soorma_common.limits import Limits
from soorma_common.names import All
from soorma_common.operations import Complete
from soorma_platform.clock import JUMP_SECONDS
from soorma_platform.stores.sqlite import SqliteStore

TTL, DELAY = 2 * HOUR, 8 * HOUR
SLACK = 0.1
TIMES = st.sampled_from([1.0, 59.0, 601.0, HOUR, 9 * HOUR, WEEK, MONTH]) | st.floats(0, 2 * MONTH)
HAPPENS = st.one_of(
    st.tuples(st.just("run"), TIMES),
    st.tuples(st.just("jump"), TIMES, st.sampled_from([-1, 1])),
    st.tuples(st.just("sleep"), TIMES),
    st.tuples(st.just("restart"), TIMES),
    st.tuples(st.just("restart"), TIMES, st.sampled_from([-1, 1])),
)


class Run:
    """A record with something of each kind, and the time that each should last."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.passed = self.ran = 0.0
        self.agreed_since = -SETTLING
        self.may_be_gone = self.must_be_gone = False

    async def begin(self) -> None:
        record = self.record
        await record.subscribe("unused", "e")
        self.group = await record.subscribe("used", Subscription("fails", retry=STEADY))
        await record.publish("fails", "p", id="fails")
        (failed,) = await record.claim(self.group)
        await record.fail(failed)
        await record.publish("e", "p", id="waits")
        await record.do("ended", put("k", 1), Complete())
        await record.do("p", put("short", 1, ttl=TTL), put("stays", 1))
        await _set(record, _delay("delayed", DELAY))
        self.expires_at = record.clock.wall() + TTL

    async def happen(self, what: str, seconds: float, sign: int = 0) -> None:
        clock, record = self.record.clock, self.record
        if abs(seconds - JUMP_SECONDS) <= SLACK:
            seconds += 2 * SLACK  # rounding would decide whether it is a jump
        match what:
            case "run":
                clock.advance(seconds)
                self.ran += seconds
            case "jump":
                clock.jump(sign * seconds)
            case "sleep":
                clock.sleep(seconds)
            case "restart":
                await record.close()
                clock.advance(seconds)
                clock.jump(sign * seconds)
                await record.open()
        self.passed += seconds if what != "jump" else 0
        is_jump = what == "sleep" or (sign and what != "run")
        if is_jump and seconds > JUMP_SECONDS - SLACK:
            self.agreed_since = self.ran
        await record.store.groups.seen(list(self.group.own))
        settled = self.ran - self.agreed_since
        if clock.wall() >= self.expires_at - SLACK and settled >= SETTLING - SLACK:
            self.may_be_gone = True
        await record.sweep()
        self.fired = await _fire(record)
        if clock.wall() >= self.expires_at + SLACK and settled > SETTLING + SLACK:
            self.must_be_gone = True

    async def judge(self) -> None:
        record, clock = self.record, self.record.clock
        groups = {group.name for group in await record.groups(All.TENANTS)}
        if self._is_clear(self.ran, WEEK):
            assert groups == ({"unused", "used"} if self.ran < WEEK else {"used"})
        if self._is_clear(self.ran, MONTH):
            assert await record.state("ended") == ({"k": 1} if self.ran < MONTH else {})
        if self._is_clear(self.passed, DELAY):
            waits = [
                timer.event_id for timer in await record.store.timers.list(ALICE, None, 0, ALL)
            ]
            assert waits == ([] if self.passed >= DELAY else ["delayed"])
        if not self._is_clear(clock.wall(), self.expires_at):
            return
        is_over = clock.wall() >= self.expires_at
        kept = MISSING if is_over or self.must_be_gone else 1
        if is_over or self.must_be_gone or not self.may_be_gone:
            assert await record.get("p", "short") == kept
        assert (await record.revision("p") == 1) or self.may_be_gone

    def _is_clear(self, time: float, bound: float) -> bool:
        """True if rounding makes no difference."""
        return abs(time - bound) > SLACK

    async def finish(self) -> None:
        """Checks that a failed event is handled after its backoff, however the clock stands."""
        # SLACK: a record keeps its time in whole milliseconds, also over a restart.
        self.record.clock.advance(max(0.0, 10 - self.ran) + SLACK)
        handled = await self.record.work_off(self.group)
        assert handled == ["fails"]


async def _carry_out(folder: str, happenings: list[tuple[Any, ...]]) -> None:
    async def opener(on_commit: Callable[..., None], **given: Any) -> SqliteStore:
        return await open_sqlite(Path(folder) / "record.db", on_commit, **given)

    record = Record(opener, Limits(), LEASE, Clock())
    await record.open()
    try:
        run = Run(record)
        await run.begin()
        for happening in happenings:
            await run.happen(*happening)
            await run.judge()
        await run.finish()
    finally:
        await record.close()


@pytest.mark.behaviour("clocks.waiting", "clocks.keeping", "clocks.sweeping-waits", "timers.clocks")
@given(st.lists(HAPPENS, min_size=1, max_size=10))
def test_nothing_goes_before_its_time_and_nothing_due_stays(
    happenings: list[tuple[Any, ...]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_carry_out(folder, happenings))
