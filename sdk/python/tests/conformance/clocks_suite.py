"""Requirements for a store when the clock jumps, the machine sleeps or no platform runs.

Nothing happens early.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from record import ALICE, ALL, MISSING, ONCE, Record, event, ids, part, put

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict, Fenced, IdempotencyMismatch, LimitExceeded
from soorma_common.events import Timer
from soorma_common.logs import fields_of
from soorma_common.memory import Commit
from soorma_common.names import All
from soorma_common.operations import Complete, ExpirePlan, RecordAction
from soorma_common.registry import Announcement
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.timers import FireTimer

HOUR, DAY, WEEK, MONTH = 3600.0, 86_400.0, 7 * 86_400.0, 30 * 86_400.0
SETTLING = 600.0
STEADY = RetryPolicy(first_delay=10, factor=1, longest_delay=10, jitter=0)

MakeRecord: TypeAlias = Callable[..., Any]


async def _running(record: Record, by: float) -> None:
    record.clock.jump(by)


async def _for_seconds(record: Record, by: float) -> None:
    record.clock.jump(by)
    await record.sweep()
    record.clock.advance(8)
    await record.sweep()
    record.clock.jump(-by)


async def _restarted(record: Record, by: float) -> None:
    await record.close()
    record.clock.jump(by)
    await record.open()


async def _asleep(record: Record, by: float) -> None:
    """Lets the machine sleep; on waking, the clock is set to a time that may be wrong."""
    record.clock.sleep(100)
    record.clock.jump(by)


JUMPS = {
    "for good": _running,
    "for seconds": _for_seconds,
    "over a restart": _restarted,
    "in its sleep": _asleep,
}
SIZES = {
    f"{name} {way}": sign * size
    for name, size in {"an hour": HOUR, "a week": WEEK + HOUR, "two months": 2 * MONTH}.items()
    for way, sign in {"back": -1, "ahead": 1}.items()
}

any_jump = pytest.mark.parametrize("by", SIZES.values(), ids=SIZES)
whenever = pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)


async def _set(record: Record, *made: Timer) -> None:
    commit = Commit(timers=list(made))
    await record._committer.commit(ALICE, commit, body=repr(made).encode(), key=None)


async def _fire(record: Record) -> list[str]:
    """Fires what is due, as the timekeeper does."""
    record.store.health.look_at_clock()
    due = await record.store.timers.due(100)
    for timer in due:
        await record.store.transact(FireTimer(timer))
    return [timer.event_id for timer in due]


def _delay(event_id: str, seconds: float) -> Timer:
    return Timer(event("alarm", id=event_id), seconds)


def _at(record: Record, event_id: str, seconds: float) -> Timer:
    when = datetime.fromtimestamp(record.clock.wall() + seconds, UTC)
    return Timer(event("alarm", id=event_id), at=when.isoformat())


class ClocksSuite:
    # waiting

    @pytest.mark.behaviour("clocks.waiting")
    @any_jump
    @whenever
    async def test_a_lease_lasts_as_long_as_it_does(
        self, record: Record, jump: Any, by: float
    ) -> None:
        group = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        (held,) = await record.claim(group)
        await jump(record, by)
        await record.sweep()
        assert await record.claim(group, replica="r2") == [], "it is in hand"
        record.clock.advance(31)
        (again,) = await record.claim(group, replica="r2")
        assert again.attempt == 2
        with pytest.raises(Fenced):
            await record.settle(held)

    @pytest.mark.behaviour("clocks.waiting")
    @any_jump
    @whenever
    async def test_a_retry_comes_after_its_backoff(
        self, record: Record, jump: Any, by: float
    ) -> None:
        group = await record.subscribe("g", Subscription("e", retry=STEADY))
        await record.publish("e", "p", id="1")
        (failed,) = await record.claim(group)
        await record.fail(failed)
        before = record.clock.awake()
        await jump(record, by)
        await record.sweep()
        record.clock.advance(9.5 - (record.clock.awake() - before))
        assert await record.claim(group) == []
        record.clock.advance(0.5)
        assert ids(await record.claim(group)) == ["1"]

    @pytest.mark.behaviour("clocks.waiting")
    @any_jump
    async def test_what_is_published_after_a_jump_is_delivered_at_once(
        self, record: Record, by: float
    ) -> None:
        group = await record.subscribe("g", "e")
        await record.publish("e", "p", id="before")
        record.clock.jump(by)
        await record.publish("e", "p", id="after")
        await record.publish("e", id="alone")
        assert sorted(await record.work_off(group)) == ["after", "alone", "before"]

    @pytest.mark.behaviour("clocks.waiting", "timers.clocks")
    @any_jump
    @whenever
    async def test_a_delay_takes_as_long_as_it_does(
        self, record: Record, jump: Any, by: float
    ) -> None:
        await _set(record, _delay("1", 300))
        before = record.clock.since_boot()
        await jump(record, by)
        record.clock.advance(299 - (record.clock.since_boot() - before))
        assert await _fire(record) == []
        assert await record.store.timers.next_due() == pytest.approx(1, abs=0.01)
        record.clock.advance(1)
        assert await _fire(record) == ["1"]
        assert [entry.type for entry in await record.log()] == ["alarm"]

    @pytest.mark.behaviour("timers.clocks")
    @pytest.mark.parametrize("reboot", [False, True])
    async def test_a_delay_counts_the_time_without_a_platform(
        self, record: Record, reboot: bool
    ) -> None:
        await _set(record, _delay("soon", 8 * HOUR), _delay("later", 10 * HOUR))
        await record.close()
        record.clock.advance(9 * HOUR)
        if reboot:
            record.clock.boot = "second"
        await record.open()
        assert await _fire(record) == ["soon"]
        record.clock.sleep(HOUR)
        assert await _fire(record) == ["later"]

    @pytest.mark.behaviour("timers.clocks")
    @pytest.mark.parametrize("by", [-HOUR, HOUR])
    async def test_a_time_is_of_the_wall_clock(self, record: Record, by: float) -> None:
        await _set(record, _at(record, "1", 2 * HOUR))
        record.clock.jump(by)
        record.clock.advance(2 * HOUR - by - 1)
        assert await _fire(record) == []
        record.clock.advance(1)
        assert await _fire(record) == ["1"]

    @pytest.mark.behaviour("timers.clocks")
    async def test_timers_of_both_clocks_fire_in_the_order_they_were_due(
        self, record: Record
    ) -> None:
        record.clock.jump(-HOUR)
        made = [_delay("b", 20), _at(record, "a", 10), _at(record, "d", 40), _delay("c", 30)]
        await _set(record, *made)
        record.clock.advance(50)
        assert [timer.event_id for timer in await record.store.timers.due(3)] == ["a", "b", "c"]
        assert await _fire(record) == ["a", "b", "c", "d"]

    @pytest.mark.behaviour("clocks.waiting")
    @any_jump
    async def test_an_agent_is_as_alive_as_it_was(self, record: Record, by: float) -> None:
        await record.directory.announce("acme", "a", "i1", Announcement(ttl=60))
        record.clock.jump(by)
        await record.sweep()
        found = await record.directory.agent("acme", "a")
        assert found is not None
        left = found.instances[0].expires_at.timestamp() - record.clock.wall()
        assert left == pytest.approx(60, abs=0.01)
        record.clock.advance(30)
        assert await record.directory.heartbeat("acme", "a", "i1")
        record.clock.advance(59)
        assert await record.directory.agent("acme", "a")
        record.clock.advance(1)
        assert await record.directory.agent("acme", "a") is None

    @pytest.mark.behaviour("clocks.waiting")
    async def test_a_clock_that_strays_a_little_is_not_seen(self, record: Record) -> None:
        made = await record.directory.announce("acme", "a", "i1", Announcement(ttl=60))
        for _ in range(5):
            record.clock.jump(0.001)
            assert await record.directory.agent("acme", "a") == made

    # keeping

    @pytest.mark.behaviour("clocks.keeping")
    @any_jump
    @whenever
    async def test_a_jump_removes_nothing(self, record: Record, jump: Any, by: float) -> None:
        group = await record.subscribe("g", "e", Subscription("bad", retry=ONCE))
        await record.publish("bad", "q", id="bad")
        (bad,) = await record.claim(group)
        await record.fail(bad)
        await record.do("ended", put("k", 1), Complete())
        await record.publish("e", "p", id="waits")
        await record.publish("nobody wants it", id="untaken")
        before = len(await record.log())
        await jump(record, by)
        await record.sweep()
        record.clock.advance(400)
        await record.sweep()
        assert [one.name for one in await record.groups(All.TENANTS)] == ["g"]
        assert [one.event_id for one in await record.dead_letters(All.TENANTS, None, 0, ALL)] == [
            "bad"
        ]
        assert await record.state("ended") == {"k": 1}
        assert len(await record.log()) == before
        assert await record.work_off(group) == ["waits"]
        late = await record.subscribe("late", "nobody wants it")
        assert await record.work_off(late) == ["untaken"], "its ten minutes are not over"

    @pytest.mark.behaviour("clocks.keeping")
    @any_jump
    @whenever
    async def test_a_first_answer_is_kept_as_long_as_it_is(
        self, record: Record, jump: Any, by: float
    ) -> None:
        await record.do("p", put("k", 1), key="once", body=b"1")
        await jump(record, by)
        await record.sweep()
        await record.do("p", put("k", 1), key="once", body=b"1")
        assert await record.revision("p") == 1
        with pytest.raises(IdempotencyMismatch):
            await record.do("p", put("k", 2), key="once", body=b"2")
        record.clock.advance(25 * HOUR)
        await record.sweep()
        await record.do("p", put("k", 3), key="once", body=b"3")
        assert await record.get("p", "k") == 3

    @pytest.mark.behaviour("clocks.keeping")
    @any_jump
    async def test_a_plan_is_reported_as_stalled_when_it_has_stood_still(
        self, record: Record, by: float
    ) -> None:
        await record.do("p", put("k", 1), events=[event("e", "p")])
        record.clock.jump(by)
        await record.sweep()
        record.clock.advance(599)
        await record.sweep()
        assert await record.store.plans.list(ALICE, "", 9, stalled=True) == []
        record.clock.advance(2)
        await record.sweep()
        assert [
            row.plan_id for row in await record.store.plans.list(ALICE, "", 9, stalled=True)
        ] == ["p"]

    @pytest.mark.behaviour("clocks.keeping")
    @pytest.mark.parametrize("how", ["stopped", "asleep", "frozen"])
    async def test_what_is_kept_grows_older_while_the_platform_runs(
        self, record: Record, how: str
    ) -> None:
        await record.subscribe("g", "e")
        await record.do("ended", put("k", 1), Complete())
        await record.publish("other", id="1")

        async def pass_by() -> None:
            if how == "stopped":
                await record.close()
                record.clock.advance(2 * MONTH)
                await record.open()
            elif how == "asleep":
                record.clock.sleep(2 * MONTH)
            else:
                record.store.health.look_at_clock()
                record.clock.standstill = 10.0
                record.clock.advance(2 * MONTH)
            await record.sweep()
            record.clock.standstill = float("inf")

        await pass_by()
        record.clock.advance(6 * DAY)
        await pass_by()
        assert [group.name for group in await record.groups(All.TENANTS)] == ["g"]
        assert len(await record.log()) == 2
        record.clock.advance(DAY + 1)
        await record.sweep()
        assert await record.groups(All.TENANTS) == []
        assert await record.store.log.end() == 2
        assert await record.state("ended") == {"k": 1}
        record.clock.advance(23 * DAY)
        await record.sweep()
        assert await record.state("ended") == {}

    @pytest.mark.behaviour("clocks.keeping")
    async def test_what_is_connected_never_ages(self, record: Record) -> None:
        """The services report it each minute, however soon unused groups are to be removed."""
        group, short = await record.subscribe("g", "e"), Retention(groups=1)
        with record.store.deliveries.prefetching(record.prefetch(group)):
            for _ in range(3):
                record.clock.advance(100)
                await record.sweep(short)
                await record.store.groups.seen(list(group.own))
            assert [one.name for one in await record.groups(All.TENANTS)] == ["g"]
            record.clock.advance(181)
            await record.sweep(short)
            assert await record.groups(All.TENANTS) == [], (
                "whoever takes its events now has no subscription of its own"
            )

    @pytest.mark.behaviour("clocks.keeping")
    async def test_a_crash_makes_nothing_of_the_future(self, record: Record) -> None:
        """Events later than the clock's last save must not wait until it gets there again."""
        group = await record.subscribe("g", "e")
        record.clock.advance(9)
        await record.publish("e", id="1")
        record.store._connections.clock.keep = lambda *_, **__: None  # type: ignore[attr-defined]
        await record.reopen()
        assert await record.work_off(group) == ["1"]

    # times to live

    @pytest.mark.behaviour("clocks.sweeping-waits")
    @pytest.mark.parametrize("by", [HOUR, WEEK, MONTH])
    @whenever
    async def test_what_has_expired_comes_back_if_the_clock_does(
        self, record: Record, jump: Any, by: float
    ) -> None:
        await record.do("p", put("short", 1, ttl=900), put("stays", 1))
        await record.do("q", put("k", 1), RecordAction("a"), ExpirePlan(900))
        await jump(record, by)
        await record.sweep()
        if jump is not _for_seconds:
            assert await record.state("p") == {"stays": 1}, "readers go by the wall clock"
            assert await record.state("q") == {}
            await record.do("p", put("other", 1))
            record.clock.advance(300)
            await record.sweep()
            record.clock.jump(-by)
        assert await record.get("p", "short") == 1
        assert await record.state("q") == {"k": 1}
        assert await record.actions("q") == ["a"]

    @pytest.mark.behaviour("clocks.sweeping-waits")
    async def test_what_has_expired_is_removed_when_the_clocks_have_agreed(
        self, record: Record
    ) -> None:
        await record.do("p", put("short", 1, ttl=60), put("stays", 1))
        await record.do("q", put("k", 1), ExpirePlan(60))
        record.clock.jump(HOUR)
        await record.sweep()
        record.clock.advance(SETTLING - 1)
        await record.sweep()
        assert await record.revision("p") == await record.revision("q") == 1
        record.clock.advance(2)
        await record.sweep()
        assert await record.changes("p", 1) == [(2, "expire", "short")]
        assert await record.revision("q") == 2

    @pytest.mark.behaviour("clocks.sweeping-waits")
    async def test_a_key_that_is_written_is_replaced_and_no_other(self, record: Record) -> None:
        await record.do("p", put("a", 1, ttl=60), put("b", 1, ttl=60))
        record.clock.jump(HOUR)
        await record.do("p", put("a", 2))
        record.clock.jump(-HOUR)
        assert await record.state("p") == {"a": 2, "b": 1}

    @pytest.mark.behaviour("clocks.sweeping-waits")
    async def test_relying_on_an_expired_plan_removes_nothing_of_it(self, record: Record) -> None:
        await record.do("p", put("k", 1), ExpirePlan(60))
        record.clock.jump(HOUR)
        with pytest.raises(Conflict):
            await record.commit(part("p", reads={"k": 1}))
        await record.commit(part("p", reads={"k": 0}), part("q", put("k", 1)))
        record.clock.jump(-HOUR)
        assert await record.state("p") == {"k": 1}

    @pytest.mark.behaviour("clocks.sweeping-waits", "limits.room")
    async def test_what_waits_to_be_removed_takes_no_room(self, make_record: MakeRecord) -> None:
        record = await make_record(plan_keys=20, plan_bytes=12_000)
        await record.do("p", *(put(f"k{number}", "x" * 500, ttl=60) for number in range(20)))
        record.clock.jump(HOUR)
        record.store.health.look_at_clock()
        for number in range(20):
            await record.do("p", put(f"l{number}" if number % 2 else f"k{number}", "x" * 500))
        assert len(await record.state("p")) == 20
        with pytest.raises(LimitExceeded):
            await record.do("p", put("one more", 1))
        record.clock.advance(SETTLING + 1)
        await record.sweep()
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.keys, len(await record.state("p"))) == (20, 20)

    @pytest.mark.behaviour("clocks.sweeping-waits")
    async def test_a_restart_does_not_keep_what_has_expired(self, record: Record) -> None:
        await record.do("p", put("k", 1, ttl=60))
        await record.close()
        record.clock.advance(HOUR)
        await record.open()
        await record.sweep()
        assert await record.revision("p") == 2
        await record.do("p", put("k", 1, ttl=60))
        await record.close()
        record.clock.advance(HOUR)
        record.clock.boot = "second"
        await record.open()
        await record.sweep()
        assert await record.revision("p") == 3, "who says that the clock is right?"
        assert await record.get("p", "k") is MISSING
        record.clock.advance(SETTLING + 1)
        await record.sweep()
        assert await record.revision("p") == 4

    # telling

    @pytest.mark.behaviour("clocks.told")
    @any_jump
    async def test_a_jump_is_told_once(
        self, record: Record, caplog: pytest.LogCaptureFixture, by: float
    ) -> None:
        record.clock.jump(by)
        for _ in range(3):
            record.store.health.look_at_clock()
            await record.sweep()
        told = [
            (one.getMessage(), fields_of(one)["seconds"])
            for one in caplog.records
            if one.name == "soorma.clock"
        ]
        ((message, seconds),) = told
        assert seconds == by
        assert ("ahead" if by > 0 else "back") in message
        assert "10 minutes" in message
        standing = record.store.health.clock()
        assert standing.jumps == 1
        assert 0 < standing.settles_in <= SETTLING
        assert (await record.store.health.standing()).clock == standing

    @pytest.mark.behaviour("clocks.told")
    async def test_a_clock_that_is_right_is_not_told_of(
        self, record: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            record.clock.advance(HOUR)
            await record.sweep()
            await record.reopen()
        assert [one for one in caplog.records if one.name == "soorma.clock"] == []
        assert record.store.health.clock() == type(record.store.health.clock())(0, 0)
