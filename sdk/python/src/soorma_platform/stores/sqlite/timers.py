"""Timers: events to be published later."""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

from soorma_common.names import Scope
from soorma_platform.engine.rows.timers import TimerCounts, TimerGone, TimerRow, TimersNeed
from soorma_platform.stores.sqlite import events
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_due = Select("due_timers", TimerRow)
_of_user = Select("timers", TimerRow)
_insert = Mutation("insert_timer", TimerRow)
_remove = Mutation("remove_timer", TimerGone)


class _NextDue(NamedTuple):
    """The times at which the next timers are due, by the steady clock and by the wall clock."""

    delayed: int | None
    timed: int | None


_next_due = Select("next_timer", _NextDue)


class SqliteTimers:
    """The port of timers."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def due(self, limit: int) -> builtins.list[TimerRow]:
        now = self._connections.clock.read()
        with self._connections.reads() as connection:
            delayed = _due.all(connection, True, now.steady, limit)
            timed = _due.all(connection, False, now.wall, limit)
        return sorted([*delayed, *timed], key=lambda timer: (timer.left(now), timer.id))[:limit]

    async def next_due(self) -> float | None:
        with self._connections.reads() as connection:
            found = _next_due.one(connection)
        now = self._connections.clock.read()
        times = ((found.delayed, now.steady), (found.timed, now.wall)) if found else ()
        left = [at - time for at, time in times if at is not None]
        return min(left) / 1000 if left else None

    async def list(
        self, scope: Scope, plan_id: str | None, after: int, limit: int
    ) -> builtins.list[TimerRow]:
        parameters = (scope.tenant_id, scope.user_id, after, plan_id, limit)
        return await self._connections.overview.look(
            lambda connection: _of_user.all(connection, *parameters)
        )


def load(loading: Loading, need: TimersNeed) -> None:
    """Loads what the ids stand for, and how many timers the plans have."""
    scope, counts = loading.scope, loading.found.part(TimerCounts).of
    for event_id in need.ids:
        events.load_known(loading, event_id)
    for plan_id in need.plans:
        counts[plan_id] = value(
            loading.connection, "count_timers", scope.tenant_id, scope.user_id, plan_id
        )


def insert(writing: Writing, row: TimerRow) -> None:
    """Sets a timer."""
    _insert.run(writing.connection, row)
    writing.notice.timers = True


def remove(writing: Writing, row: TimerGone) -> None:
    """Removes a timer."""
    _remove.run(writing.connection, row)


LOADERS: dict[type[Any], Any] = {TimersNeed: load}
WRITERS: dict[type[Any], Any] = {TimerRow: insert, TimerGone: remove}
