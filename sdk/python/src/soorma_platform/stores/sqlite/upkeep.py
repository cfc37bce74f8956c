"""Sweeping in bounded steps: what has expired, was cleaned up or is past its retention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby
from typing import Any
from uuid import uuid4

import apsw

from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.times import rfc3339
from soorma_platform.engine import life
from soorma_platform.engine.commits import expire, needs_of_expiry, needs_of_purge, purge
from soorma_platform.engine.history import replay
from soorma_platform.engine.plans import ROW_OVERHEAD
from soorma_platform.engine.rows import Decision, HistoryRow, Needs, Notice, Snapshot
from soorma_platform.logs import Log
from soorma_platform.stores.protocol import CONNECTED_SECONDS, Retention
from soorma_platform.stores.sqlite import registry, transactions
from soorma_platform.stores.sqlite.clock import RecordClock
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.offers import Offers
from soorma_platform.stores.sqlite.transactions import one, page_of, rows_of
from soorma_platform.stores.sqlite.writer import Writer

Transact = Callable[[Needs, Callable[[Snapshot], Decision]], Awaitable[Decision]]
STEP = 500
"""Rows one step may touch: small enough that nobody waits for it."""

STEP_BYTES = 2 * 1024 * 1024
"""of texts that one step may touch"""

_FAR = 1 << 62
_ARGUMENT = 4

log = Log("soorma.upkeep")


class Upkeep:
    """Sweeps in turns; remembers how far it has read the log, and of what it has warned."""

    def __init__(self, transact: Transact, writer: Writer, clock: RecordClock, offers: Offers) -> None:
        self._transact = transact
        self._writer = writer
        self._clock = clock
        self._offers = offers
        self._log_cursor = 0
        self._warned: set[int] = set()
        self._plan_cursor = 0

    async def step(self, limits: Limits, retention: Retention) -> bool:
        """One bounded step of each kind of sweeping; True if any of them may have more to do."""
        now = self._clock.read()
        uptime = now.uptime
        more = now.is_settled and await self._expire(now.wall, limits)
        more |= await self._purge(uptime - round(retention.plans * 1000), limits)
        await self._report_stalled(uptime - limits.plan_idle_seconds * 1000, limits)

        def sweep(connection: apsw.Connection) -> tuple[bool, Notice | None]:
            groups: set[int] = set()
            self._clock.keep_if_old(connection)
            again = _chores(connection, limits, uptime, groups)
            again |= _changed(connection, "sweep_answers", (uptime, STEP)) >= STEP
            again |= registry.sweep(connection, uptime, STEP)
            again |= self._sweep_log(connection, uptime - round(retention.events * 1000))
            again |= self._sweep_subscriptions(connection, uptime, round(retention.groups * 1000), groups)
            return again, Notice(groups=groups)

        return bool(await self._writer.run(sweep)) or more

    async def _expire(self, now: int, limits: Limits) -> bool:
        def due(connection: apsw.Connection) -> tuple[Any, None]:
            keys = rows_of(connection, "expired_keys", (now, STEP))
            plans = rows_of(connection, "expired_plans", (now, STEP))
            return (keys, plans), None

        keys, plans = await self._writer.run(due)
        by_plan: dict[tuple[Scope, str], set[str]] = defaultdict(set)
        for tenant_id, user_id, plan_id, key in keys:
            by_plan[Scope(tenant_id, user_id), plan_id].add(key)
        for tenant_id, user_id, plan_id in plans:
            by_plan[Scope(tenant_id, user_id), plan_id] = set()
        for (scope, plan_id), names in by_plan.items():
            needs = needs_of_expiry(scope, plan_id, names)
            await self._transact(needs, partial(expire, plan_id, names, limits=limits))
        return len(keys) >= STEP or len(plans) >= STEP

    async def _purge(self, before: int, limits: Limits) -> bool:
        ended = await self._read("ended_plans", (before, STEP))
        for tenant_id, user_id, plan_id in ended:
            needs = needs_of_purge(Scope(tenant_id, user_id), plan_id)
            await self._transact(needs, partial(purge, plan_id, before, limits=limits))
        return len(ended) >= STEP

    async def _report_stalled(self, before: int, limits: Limits) -> None:
        """Looks at some plans in each step, and so at all of them in turn."""
        cursor, self._plan_cursor = self._plan_cursor, self._plan_cursor + STEP
        for tenant_id, user_id, plan_id, revision in await self._read(
            "idle_plans", (cursor, self._plan_cursor, before)
        ):
            scope, event_id = Scope(tenant_id, user_id), str(uuid4())
            report = life.Report(scope, plan_id, revision, event_id)
            decide = partial(life.stalled, report, limits=limits)
            needs = life.needs_of_stalled(scope, plan_id, event_id)
            await self._transact(needs, decide)
            log.warning("plan stalled, nothing is in flight and it is not at its end", tenant_id=tenant_id,
                        user_id=user_id, plan_id=plan_id, revision=revision)  # fmt: skip
        if self._plan_cursor >= (await self._read("last_plan", ()))[0][0]:
            self._plan_cursor = 0

    async def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self._writer.run(
            lambda connection: (rows_of(connection, query, values), None), durable=False
        )
        return found

    def _sweep_log(self, connection: apsw.Connection, before: int) -> bool:
        oldest = rows_of(connection, "oldest_events", (self._log_cursor, STEP))
        past = [row for row in oldest if row[1] < before]
        removable = [position for position, _, is_free in past if is_free]
        for position in removable:
            connection.execute(SQL["remove_event"], (position,))
            connection.execute(SQL["remove_steps"], (position,))
        if removable:
            connection.execute(SQL["set_log_horizon"], (removable[-1],))
        at_end = len(past) < STEP
        self._log_cursor = 0 if at_end else past[-1][0]
        return not at_end

    def _sweep_subscriptions(self, connection: apsw.Connection, now: int, kept: int, groups: set[int]) -> bool:
        again = False
        served, seen_since = self._offers.all_served(), now - round(1000 * CONNECTED_SECONDS)
        for row in rows_of(connection, "stale_subscriptions", (now - kept * 6 // 7,)):
            subscription_id, group_id, group, tenant_id, kind, topic, seen_at, seen_uptime = row
            if subscription_id in served and seen_uptime >= seen_since:
                continue
            about = {"group": group, "tenant": tenant_id or None, "type": kind, "topic": topic}
            if seen_uptime >= now - kept:
                if subscription_id not in self._warned:
                    self._warned.add(subscription_id)
                    log.warning("subscription unused, soon to be removed", unseen_since=rfc3339(seen_at), **about)
            elif _abandon(connection, subscription_id, now):
                connection.execute(SQL["remove_subscription"], (subscription_id, now - kept))
                connection.execute(SQL["remove_empty_group"], (group_id,))
                log.warning(
                    "subscription removed, with all that waited for it",
                    unseen_since=rfc3339(seen_at),
                    **about,
                )
            else:
                again = True
            groups.add(group_id)
        return again


def _abandon(connection: apsw.Connection, subscription_id: int, now: int) -> bool:
    """Drops deliveries and dead letters nobody will take; lanes they were in go on. True when none is left."""
    connection.execute(SQL["abandon_dead_letters"], (subscription_id,))
    rows = rows_of(connection, "abandoned_deliveries", (subscription_id, STEP))
    _remove_deliveries(connection, rows, now)
    return len(rows) < STEP


def _chores(connection: apsw.Connection, limits: Limits, now: int, groups: set[int]) -> bool:
    for kind, plan, incarnation, position, timer in rows_of(connection, "chores", (1,)):
        if kind == "trim":
            done = _trim(connection, plan, incarnation, limits)
        else:
            done = _sweep_incarnation(connection, plan, incarnation)
        if kind == "purge":
            done &= _sweep_past(connection, plan, (position, timer), now, groups)
        if done:
            connection.execute(SQL["remove_chore"], (kind, plan, incarnation))
        return True
    return False


def _sweep_past(connection: apsw.Connection, plan: int, bounds: tuple[int, int], now: int, groups: set[int]) -> bool:
    """What waits of a purged plan's past; its events have a retention of their own. Lanes go on with what is newer."""
    position, timer = bounds
    swept = [
        _changed(connection, "sweep_plan_timers", (plan, timer, STEP)),
        _changed(connection, "sweep_plan_dead_letters", (plan, position, STEP)),
    ]
    rows = rows_of(connection, "plan_deliveries", (plan, position, STEP))
    _remove_deliveries(connection, rows, now)
    groups.update(group_id for _, group_id, _ in rows)
    return max(*swept, len(rows)) < STEP


def _remove_deliveries(connection: apsw.Connection, rows: list[tuple[int, int, str | None]], now: int) -> None:
    for delivery_id, _, _ in rows:
        connection.execute(SQL["remove_delivery"], (delivery_id,))
    for group_id, lane in {(group_id, lane) for _, group_id, lane in rows if lane is not None}:
        connection.execute(SQL["lead_next"], (group_id, lane, now))


def _sweep_incarnation(connection: apsw.Connection, plan: int, incarnation: int) -> bool:
    is_done = True
    for what in ("entries", "history", "bases", "compensations"):
        count, is_all = _lightest(rows_of(connection, f"sizes_of_{what}", (plan, incarnation, STEP)))
        connection.execute(SQL[f"sweep_{what}"], (plan, incarnation, count))
        is_done &= is_all
    return is_done


def _lightest(sizes: list[tuple[int | None]]) -> tuple[int, bool]:
    """How many rows of these sizes are removed at once, one at least, and whether these are all."""
    total = 0
    for count, (size,) in enumerate(sizes, 1):
        total += size or 0
        if total > STEP_BYTES:
            return count, False
    return len(sizes), len(sizes) < STEP


def _trim(connection: apsw.Connection, plan: int, incarnation: int, limits: Limits) -> bool:
    """Folds the oldest revisions of a history into the values they lead to; True when it is within its limits."""
    row = one(connection, "plan_by_id", (plan,))
    if row is None or row[0] != incarnation:
        return True
    _, revision, horizon, size = row
    surplus = max(revision - horizon - limits.history_revisions, 0)
    until, rows, freed = _surplus(connection, (plan, incarnation), horizon + surplus, size - limits.history_bytes)
    if until <= horizon:
        return True
    for key, value in _fold(connection, (plan, incarnation), rows).items():
        if value is None:
            connection.execute(SQL["remove_base"], (plan, incarnation, key))
        else:
            connection.execute(SQL["put_base"], (plan, incarnation, key, value))
    connection.execute(SQL["trim_history"], (plan, incarnation, until))
    connection.execute(SQL["raise_horizon"], (until, freed, plan))
    return False


def _surplus(
    connection: apsw.Connection, place: tuple[int, int], until: int, excess: int
) -> tuple[int, list[HistoryRow], int]:
    """About STEP of the oldest rows, of whole revisions: those up to `until`, and more that free no more than `excess`.

    Returns the revision that the history is trimmed to by them, the rows, and the bytes they free.
    """
    rows = _oldest(connection, place)
    taken: list[HistoryRow] = []
    freed = 0
    for revision, of_revision in groupby(rows, key=lambda row: row.revision):
        group = list(of_revision)
        size = sum(ROW_OVERHEAD + len((row.argument or "").encode()) for row in group)
        if revision > until and freed + size > excess:
            return max(until, taken[-1].revision if taken else 0), taken, freed
        taken += group
        freed += size
    return (taken[-1].revision if taken else 0), taken, freed


def _oldest(connection: apsw.Connection, place: tuple[int, int]) -> list[HistoryRow]:
    rows, more = page_of(connection, "oldest_history", (*place, _FAR, STEP), _ARGUMENT, STEP_BYTES)
    if more or len(rows) == STEP:
        last = rows[-1][0]
        rows = [row for row in rows if row[0] < last] or rows_of(connection, "oldest_history", (*place, last, -1))
    return [transactions.to_history(row) for row in rows]


def _fold(connection: apsw.Connection, place: tuple[int, int], rows: list[HistoryRow]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for row in rows:
        if row.key is None:
            continue
        if row.key not in values:
            base = one(connection, "base", (*place, row.key))
            values[row.key] = base[0] if base else None
        values[row.key] = replay(row, values[row.key])
    return values


def _changed(connection: apsw.Connection, query: str, values: tuple[Any, ...]) -> int:
    before = connection.total_changes()
    connection.execute(SQL[query], values)
    return connection.total_changes() - before
