"""The conformance suite of buses: each bus runs it in a class that inherits `BusSuite`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from empty_record import open_sqlite
from record import ALICE, BOB, LEASE, STRANGER, Clock, Record, event, part, put

from soorma_common.errors import HistoryGone
from soorma_common.limits import Limits
from soorma_platform.buses.protocol import Bus, correlation_bell, group_bell, plan_bell
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.services.log import Filter, LogReader
from soorma_platform.stores.sqlite import SqliteStore

SOON = 20.0
"""Seconds within which news must come; a failing test waits that long."""
NOTHING = 0.05
"""Seconds after which no news is taken for none."""


def entry(position: int, **given: Any) -> LogEntry:
    """An entry of the log."""
    known = {
        "tenant_id": "acme",
        "user_id": "alice",
        "topic": "plan-events",
        "type": "e",
        "correlation_id": "c",
    }
    return LogEntry(position=position, envelope="{}", **{**known, **given})


async def read(reader: LogReader, count: int) -> list[int]:
    """Returns the positions of the next `count` events, and of any that come with the last one."""
    found: list[int] = []
    async with asyncio.timeout(SOON):
        while len(found) < count:
            found += [one.position for one in await reader.next(SOON)]
    return found


async def go_live(record: Record, reader: LogReader, kind: str = "wanted") -> int:
    """Publishes an event of type `kind` to bring a reader up to live news; returns its position."""
    waiting = asyncio.create_task(reader.next(SOON))
    for _ in range(10):
        await asyncio.sleep(0)
    await record.publish(kind)
    (marker,) = await waiting
    return marker.position


class BusSuite(ABC):
    """The requirements of the doorbell and the fan-out.

    A subclass says how its bus is opened.
    """

    @abstractmethod
    def open_bus(self) -> AbstractAsyncContextManager[Bus]:
        """Opens a bus."""

    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        """An open bus."""
        async with self.open_bus() as opened:
            yield opened

    @pytest.fixture
    async def record(self, bus: Bus, tmp_path: Path) -> AsyncIterator[Record]:
        """A record that notifies the bus of its commits."""

        async def opener(on_commit: Callable[[Notice], None], **given: Any) -> SqliteStore:
            def tell(notice: Notice) -> None:
                on_commit(notice)
                bus.notify(notice)

            return await open_sqlite(tmp_path / "record.db", tell, **given)

        made = Record(partial(opener), Limits(), LEASE, Clock())
        await made.open()
        yield made
        await made.close()

    # bells

    @pytest.mark.behaviour("readers.woken")
    async def test_a_commit_rings_the_bells_it_concerns_and_no_others(self, bus: Bus) -> None:
        names = {
            "plan": plan_bell(ALICE, "p"), "group": group_bell(7),
            "correlation": correlation_bell(ALICE, "c"),
            "other plan": plan_bell(ALICE, "q"), "other user": plan_bell(BOB, "p"),
            "other group": group_bell(8), "other tenant": correlation_bell(STRANGER, "c"),
            "other correlation": correlation_bell(ALICE, "d"),
        }  # fmt: skip
        for name, bell_name in names.items():
            with bus.bell(bell_name) as bell:
                bus.notify(Notice(plans=[(ALICE, "p")], groups={7}, entries=[entry(1)]))
                concerned = name in ("plan", "group", "correlation")
                assert await bell.wait(SOON if concerned else NOTHING) is concerned, name

    @pytest.mark.behaviour("readers.woken")
    async def test_a_ring_between_two_waits_is_kept_and_many_are_one(self, bus: Bus) -> None:
        with bus.bell("group:7") as bell:
            for _ in range(3):
                bus.notify(Notice(groups={7}))
            assert await bell.wait(SOON)
            assert not await bell.wait(NOTHING)
            bus.notify(Notice(groups={7}))
            assert await bell.wait(SOON)

    @pytest.mark.behaviour("readers.woken")
    async def test_a_waiter_is_woken(self, bus: Bus) -> None:
        with bus.bell("group:7") as bell:
            waiting = asyncio.create_task(bell.wait(SOON))
            await asyncio.sleep(0)
            bus.notify(Notice(groups={7}))
            assert await waiting

    @pytest.mark.behaviour("readers.woken")
    async def test_all_at_a_door_are_woken_and_a_ring_of_ones_own_wakes_one(self, bus: Bus) -> None:
        with bus.bell("group:7") as first, bus.bell("group:7") as second:
            bus.notify(Notice(groups={7}))
            assert [await first.wait(SOON), await second.wait(SOON)] == [True, True]
            first.ring()
            assert [await first.wait(SOON), await second.wait(NOTHING)] == [True, False]

    @pytest.mark.behaviour("readers.woken")
    async def test_a_bell_is_heard_from_only_while_it_is_entered(self, bus: Bus) -> None:
        bell = bus.bell("group:7")
        bus.notify(Notice(groups={7}))
        with bell:
            assert not await bell.wait(NOTHING)
        with bus.bell("group:7") as other:
            bus.notify(Notice(groups={7}))
            assert await other.wait(SOON)
        assert not await bell.wait(NOTHING)

    # fan-out

    @pytest.mark.behaviour("events.in-order")
    async def test_entries_reach_all_subscribers_in_the_order_of_commits(self, bus: Bus) -> None:
        first: list[int] = []
        second: list[int] = []
        done = asyncio.Event()

        def receive(entries: list[LogEntry]) -> None:
            second.extend(one.position for one in entries)
            if 20 in second:
                done.set()

        stop = bus.subscribe(lambda entries: first.extend(one.position for one in entries))
        bus.subscribe(receive)
        for number in range(1, 11):
            bus.notify(Notice(entries=[entry(2 * number - 1), entry(2 * number)]))
            bus.notify(Notice(groups={number}))
        await asyncio.wait_for(done.wait(), SOON)
        assert first == second == list(range(1, 21))
        stop()
        done.clear()
        bus.notify(Notice(entries=[entry(20)]))
        await asyncio.wait_for(done.wait(), SOON)
        assert len(first) == 20

    # readers of the log

    @pytest.mark.behaviour("readers.resumes")
    async def test_a_reader_catches_up_and_goes_live_without_a_gap_or_a_double(
        self, bus: Bus, record: Record
    ) -> None:
        await record.commit(events=[event("e") for _ in range(700)])
        with LogReader(record.store.log, bus, Filter(), 0) as reader:
            publishing = asyncio.create_task(self._publish(record, 50))
            found = await read(reader, 750)
            await publishing
            found += await self._live(record, reader, 50)
        assert found == list(range(1, 801))

    @staticmethod
    async def _publish(record: Record, count: int) -> None:
        for _ in range(count):
            await record.publish("e")

    async def _live(self, record: Record, reader: LogReader, count: int) -> list[int]:
        found: list[int] = []
        for _ in range(count):
            await record.publish("e")
            found += await read(reader, 1)
        return found

    @pytest.mark.behaviour("readers.stream")
    async def test_a_reader_begins_where_it_says(self, bus: Bus, record: Record) -> None:
        await self._publish(record, 5)
        with LogReader(record.store.log, bus, Filter(), 3) as reader:
            assert await read(reader, 2) == [4, 5]
            assert reader.position == 5
            assert await reader.next(NOTHING) == []

    @pytest.mark.behaviour("readers.stream")
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (Filter(), [1, 2, 3, 4, 5, 6]),
            (Filter(owner="acme"), [1, 2, 3, 4, 6]),
            (Filter(owner="acme", user_id="alice"), [1, 2, 3, 6]),
            (Filter(topics=frozenset({"plan-events"})), [2]),
            (Filter(types=frozenset({"e", "g"})), [1, 2, 4, 5, 6]),
            (Filter(correlation_id="c", owner="acme"), [3, 4]),
        ],
    )
    @pytest.mark.parametrize("live", [True, False])
    async def test_a_reader_gets_what_it_wants(
        self, bus: Bus, record: Record, wanted: Filter, expected: list[int], live: bool
    ) -> None:
        with LogReader(record.store.log, bus, wanted, 0) as reader:
            reading = asyncio.create_task(read(reader, len(expected)))
            for _ in range(10 if live else 0):
                await asyncio.sleep(0)
            await record.publish("e")
            await record.publish("e", topic="plan-events")
            await record.publish("f", correlation_id="c")
            await record.publish("e", correlation_id="c", scope=BOB)
            await record.publish("e", correlation_id="c", scope=STRANGER)
            await record.publish("g")
            assert await reading == expected
            assert await reader.next(NOTHING) == []

    @pytest.mark.behaviour("readers.slow")
    @pytest.mark.parametrize("count", [3, 40])
    async def test_a_slow_reader_misses_nothing_and_gets_nothing_twice(
        self, bus: Bus, record: Record, count: int
    ) -> None:
        """A megabyte per event: what waits for a slow reader must not be kept in memory."""
        with LogReader(record.store.log, bus, Filter(types=frozenset({"wanted"})), 0) as reader:
            assert await go_live(record, reader) == 1
            for _ in range(count):
                await record.commit(
                    events=[event("wanted", data="x" * 500_000), event("other"), event("wanted")]
                )
            found = await read(reader, 2 * count)
            await record.publish("wanted")
            found += await read(reader, 1)
            found += [one.position for one in await reader.next(NOTHING)]
            found += [await go_live(record, reader)]
        last = 3 * count + 1
        assert found == [n for n in range(2, last + 1) if n % 3 != 0] + [last + 1, last + 2]

    @pytest.mark.behaviour("readers.lost-news")
    async def test_lost_news_is_found_in_the_store(
        self, bus: Bus, record: Record, tmp_path: Path
    ) -> None:
        class Deaf:
            def subscribe(self, receive: Callable[[list[LogEntry]], None]) -> Callable[[], None]:
                return lambda: None

        with LogReader(record.store.log, Deaf(), Filter(), 0) as reader:  # type: ignore[arg-type]
            assert await reader.next(NOTHING) == []
            await self._publish(record, 2)
            found: list[int] = []
            async with asyncio.timeout(SOON):
                while len(found) < 2:
                    found += [one.position for one in await reader.next(NOTHING)]
        assert found == [1, 2]

    @pytest.mark.behaviour("readers.lost-news")
    async def test_a_hole_in_the_news_is_filled_from_the_store(
        self, bus: Bus, record: Record
    ) -> None:
        class Forgetful:
            def __init__(self) -> None:
                self.count = 0

            def subscribe(self, receive: Callable[[list[LogEntry]], None]) -> Callable[[], None]:
                def sometimes(entries: list[LogEntry]) -> None:
                    self.count += 1
                    if self.count % 3:
                        receive(entries)

                return bus.subscribe(sometimes)

        with LogReader(record.store.log, Forgetful(), Filter(), 0) as reader:  # type: ignore[arg-type]
            found = [await go_live(record, reader)]
            await self._publish(record, 20)
            async with asyncio.timeout(SOON):
                while len(found) < 21:
                    found += [one.position for one in await reader.next(NOTHING)]
        assert found == list(range(1, 22))

    @pytest.mark.behaviour("readers.horizon")
    async def test_a_reader_from_before_the_horizon_is_told(self, bus: Bus, record: Record) -> None:
        await self._publish(record, 3)
        record.clock.advance(100)
        await record.publish("new")
        await record.sweep(Retention(events=50))
        with (
            LogReader(record.store.log, bus, Filter(), 0) as reader,
            pytest.raises(HistoryGone) as gone,
        ):
            await reader.next(NOTHING)
        with LogReader(record.store.log, bus, Filter(), gone.value.details["horizon"]) as reader:
            assert await read(reader, 1) == [4]

    @pytest.mark.behaviour("readers.woken")
    async def test_commits_without_events_wake_no_reader(self, bus: Bus, record: Record) -> None:
        with LogReader(record.store.log, bus, Filter(), 0) as reader:
            await record.commit(part("p", put("k", 1)))
            assert await reader.next(NOTHING) == []
            assert reader.position == 0
