"""Upkeep of the record: data no longer needed is found and removed in bounded steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import apsw

from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports.groups import CONNECTED_SECONDS
from soorma_platform.stores.ports.upkeep import ChoreRow, DueRow, EndedRow, IdleRow, StaleRow
from soorma_platform.stores.sqlite import registry
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.prefetch import Prefetches
from soorma_platform.stores.sqlite.statements import Select, execute, value, values

T = TypeVar("T")

BEAT_SECONDS = 10.0
"""Seconds without a change after which an empty one is made: readiness is a write that succeeds."""
MOST_LOOKS = 3
"""How often pages are gone through to overwrite what was removed, while others write to them."""
STEP_BYTES = 2 * 1024 * 1024
"""Bytes of text that one step may touch."""


class _Swept(NamedTuple):
    """A delivery to be removed."""

    id: int
    group_id: int
    lane: str | None


class _Old(NamedTuple):
    """An event of the log; `is_free` if it has neither deliveries nor dead letters."""

    position: int
    at: int
    is_free: bool


_due_keys = Select("expired_keys", DueRow)
_due_plans = Select("expired_plans", DueRow)
_ended = Select("ended_plans", EndedRow)
_idle = Select("idle_plans", IdleRow)
_chores = Select("chores", ChoreRow)
_stale = Select("stale_subscriptions", StaleRow)
_abandoned = Select("abandoned_deliveries", _Swept)
_of_plan = Select("plan_deliveries", _Swept)
_oldest = Select("oldest_events", _Old)


class SqliteUpkeep:
    """The port of upkeep."""

    def __init__(
        self, connections: Connections, prefetches: Prefetches, silent: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._prefetches = prefetches
        self._silent = silent
        self._erasing = 0
        """how often the pages were gone through since something was removed"""

    async def begin(self) -> Moment:
        clock = self._connections.clock
        if self._silent() > BEAT_SECONDS:
            await self._connections.change(
                lambda connection: execute(connection, "beat"), durable=False
            )
        await self._connections.change(clock.keep_if_old, durable=False)
        return clock.read()

    async def expired(self, wall: int, limit: int) -> list[DueRow]:
        return await self._find(
            lambda tx: _due_keys.all(tx, wall, limit) + _due_plans.all(tx, wall, limit)
        )

    async def ended(self, before: int, limit: int) -> list[EndedRow]:
        return await self._find(lambda tx: _ended.all(tx, before, limit))

    async def idle(self, after: int, until: int, before: int) -> list[IdleRow]:
        return await self._find(lambda tx: _idle.all(tx, after, until, before))

    async def last_plan(self) -> int:
        return await self._find(lambda tx: int(value(tx, "last_plan")))

    async def chore(self) -> ChoreRow | None:
        return await self._find(lambda tx: _chores.one(tx, 1))

    async def sweep(self, chore: ChoreRow, limit: int) -> bool:
        def job(connection: apsw.Connection) -> tuple[bool, Notice]:
            notice = Notice(groups=set())
            is_done = chore.kind == "trim" or _sweep_incarnation(connection, chore, limit)
            if chore.kind == "purge":
                is_done &= _sweep_past(connection, chore, limit, self._connections.uptime(), notice)
            if is_done:
                execute(connection, "remove_chore", chore.kind, chore.plan, chore.incarnation)
            return not is_done, notice

        more: bool = await self._connections.writer.run(job)
        return more

    async def sweep_responses(self, limit: int) -> bool:
        def job(connection: apsw.Connection) -> bool:
            uptime = self._connections.uptime()
            more = _changed(connection, "sweep_answers", uptime, limit) >= limit
            return more | registry.sweep(connection, uptime, limit)

        return await self._connections.change(job)

    async def sweep_log(self, after: int, before: int, limit: int) -> int | None:
        def job(connection: apsw.Connection) -> int | None:
            old = [row for row in _oldest.all(connection, after, limit) if row.at < before]
            removable = [row.position for row in old if row.is_free]
            for position in removable:
                execute(connection, "remove_event", position)
                execute(connection, "remove_steps", position)
            if removable:
                execute(connection, "set_log_horizon", max(removable))
            return None if len(old) < limit else old[-1].position

        return await self._connections.change(job)

    async def erase(self) -> None:
        with self._connections.reads() as connection:
            last = value(connection, "last_erasure")
        self._connections.erasure.note_waiting(is_waiting=last is not None)
        if last is None or not await self._erased():
            return
        self._erasing += 1
        # Rows that were written meanwhile were moved, perhaps: one more look, at the next step.
        if not self._connections.erasure.was_undisturbed and self._erasing < MOST_LOOKS:
            return
        self._erasing = 0
        await self._connections.change(
            lambda connection: execute(connection, "end_erasures", last), durable=False
        )
        self._connections.erasure.note_waiting(is_waiting=False)

    async def _erased(self) -> bool:
        """Empties the log, and overwrites what the pages still hold of what was removed."""
        erasure = self._connections.erasure
        erasure.begin()
        try:
            if not await self._connections.overview.empty_log():
                return False
            found = await asyncio.to_thread(erasure.find)
            return await erasure.overwrite(found)
        finally:
            erasure.end()

    async def stale(self, before: int) -> list[StaleRow]:
        served = self._prefetches.all_served()
        seen_since = self._connections.uptime() - round(1000 * CONNECTED_SECONDS)
        rows = await self._find(lambda tx: _stale.all(tx, before))
        return [row for row in rows if row.id not in served or row.seen_uptime < seen_since]

    async def remove(self, subscription: StaleRow, before: int, limit: int) -> bool:
        def job(connection: apsw.Connection) -> tuple[bool, Notice]:
            execute(connection, "abandon_dead_letters", subscription.id)
            rows = _abandoned.all(connection, subscription.id, limit)
            _remove_deliveries(connection, rows, self._connections.uptime())
            if is_last := len(rows) < limit:
                execute(connection, "remove_subscription", subscription.id, before)
                execute(connection, "remove_empty_group", subscription.group_id)
            return not is_last, Notice(groups={subscription.group_id})

        more: bool = await self._connections.writer.run(job)
        return more

    async def _find(self, look: Callable[[apsw.Connection], T]) -> T:
        """Runs a query in turn with the changes: it misses none that this process made before."""
        return await self._connections.change(look, durable=False)


def _sweep_past(
    connection: apsw.Connection, chore: ChoreRow, limit: int, now: int, notice: Notice
) -> bool:
    """Removes timers, dead letters and deliveries of a purged plan's past; True once all are gone.

    Its events have a retention of their own. Lanes go on with what is newer.
    """
    swept = [
        _changed(connection, "sweep_plan_timers", chore.plan, chore.timer, limit),
        _changed(connection, "sweep_plan_dead_letters", chore.plan, chore.position, limit),
    ]
    rows = _of_plan.all(connection, chore.plan, chore.position, limit)
    _remove_deliveries(connection, rows, now)
    notice.groups.update(row.group_id for row in rows)
    return max(*swept, len(rows)) < limit


def _remove_deliveries(connection: apsw.Connection, rows: list[_Swept], now: int) -> None:
    for row in rows:
        execute(connection, "remove_delivery", row.id)
    for group_id, lane in {(row.group_id, row.lane) for row in rows if row.lane is not None}:
        execute(connection, "lead_next", group_id, lane, now)


def _sweep_incarnation(connection: apsw.Connection, chore: ChoreRow, limit: int) -> bool:
    is_done = True
    for what in ("entries", "history", "bases", "compensations"):
        sizes = values(connection, f"sizes_of_{what}", chore.plan, chore.incarnation, limit)
        count = _lightest(sizes)
        execute(connection, f"sweep_{what}", chore.plan, chore.incarnation, count)
        is_done &= count == len(sizes) < limit
    return is_done


def _lightest(sizes: list[int | None]) -> int:
    """Returns how many rows of these sizes are removed at once: one at least, if there are any."""
    total = 0
    for count, size in enumerate(sizes, 1):
        total += size or 0
        if total > STEP_BYTES:
            return count
    return len(sizes)


def _changed(connection: apsw.Connection, query: str, *parameters: int) -> int:
    before = connection.total_changes()
    execute(connection, query, *parameters)
    return connection.total_changes() - before
