"""Plans: loaded and written for commands, and read through the port."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from typing import Any, NamedTuple

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.deliveries import InHand
from soorma_platform.engine.rows.plans import (
    EntryRow,
    HiddenKeys,
    HistoryRow,
    LoadedPlan,
    PlanChange,
    PlanRow,
    PlansFound,
    PlansNeed,
)
from soorma_platform.stores.ports.plans import HistoryPage, KeyAt, KeysAt
from soorma_platform.stores.sqlite import events, procedural, revisions, sagas
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.history import text_size
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

LARGE = 16 * 1024
"""Characters from which a value is stored once, in the history.

For a smaller one, the lookup there costs more than it saves.
"""
IN_BASES = -1
"""Stands for the seq of a value that is not in a history row, but in the bases."""


_FAR = 1 << 62


class _Life(NamedTuple):
    """The ids under which the rows of a plan are stored."""

    plan: int | None
    incarnation: int


class _Held(NamedTuple):
    """The place of a value: here, or in the history row `seq` of its revision."""

    value: str
    seq: int | None


_plan = Select("plan", PlanRow)
_entry = Select("entry", EntryRow)
_hidden = Select("hidden_entries", HiddenKeys)
_live_entries = Select("live_entries", EntryRow)
_live_entry = Select("live_entry", EntryRow)
_live_plans = Select("live_plans", PlanRow)
_history = Select("history", HistoryRow)
_actions = Select("actions", HistoryRow)
_insert_plan = Mutation("insert_plan", Scope, PlanRow)
_update_plan = Mutation("update_plan", PlanRow)
_count_change = Mutation("count_change", PlanRow)
_put_entry = Mutation("put_entry", _Life, _Held, EntryRow)
_insert_history = Mutation("insert_history", _Life, HistoryRow)
_add_chore = Mutation("add_chore", "kind", "plan", "incarnation", "position", "timer")


def load(loading: Loading, need: PlansNeed) -> None:
    """Loads plans, new ones if they were never written, with the keys that are needed."""
    connection, moment, scope = loading.connection, loading.moment, loading.scope
    states, of_delivery = loading.found.part(PlansFound).states, loading.found.part(InHand).plan
    for plan_id, keys in need.keys.items():
        if of_delivery is not None and of_delivery.plan_id == plan_id:
            row = of_delivery  # the same object: a decision changes one only
        else:
            row = plan_row(connection, scope, plan_id, moment.wall)
        state = states[plan_id] = state_of(
            connection, row, keys, moment, is_counted=plan_id in need.counted
        )
        for prefix, count in need.lines.get(plan_id, {}).items():
            rows = live_entries(connection, row, moment.wall, count, prefix)
            state.entries.update((one.key, one) for one in rows)
        if plan_id in need.closing:
            state.log_end = events.bounds_of(connection).end
            state.last_timer = value(connection, "last_timer")
        if (fork := need.forks.get(plan_id)) is not None:
            source, revision = fork
            state.origin = revisions.origin(
                connection, plan_row(connection, scope, source, moment.wall), revision
            )


def plan_row(connection: apsw.Connection, scope: Scope, plan_id: str, now: int) -> PlanRow:
    """Returns the plan's row, a new one of revision 0 if it was never written."""
    return _plan.one(connection, scope.tenant_id, scope.user_id, plan_id) or PlanRow(
        plan_id, now, now
    )


def state_of(
    connection: apsw.Connection,
    row: PlanRow,
    keys: Collection[str],
    moment: Moment,
    *,
    is_counted: bool = False,
) -> LoadedPlan:
    """Returns a plan with those of the keys that are stored, and what of it has expired."""
    state = LoadedPlan(row, {}, [])
    if row.id is None:
        return state
    life, now = (row.id, row.incarnation), moment.wall
    for key in keys:
        if found := _entry.one(connection, *life, key):
            state.entries[key] = found
    if moment.is_settled:
        for key in values(connection, "expired_keys_of_plan", *life, now):
            if key not in state.entries and (found := _entry.one(connection, *life, key)):
                state.entries[key] = found
            state.expired.append(key)
    elif row.keys and (hidden := _hidden.one(connection, *life, now)):
        state.hidden = hidden
    if is_counted:
        state.live_keys = value(connection, "count_live_entries", *life, now)
    return state


def live_entries(
    connection: apsw.Connection,
    plan: PlanRow,
    now: int,
    limit: int,
    prefix: str = "",
    after: str = "",
) -> list[EntryRow]:
    """Returns a plan's live keys above `after`, in order; none if the plan has expired."""
    if plan.id is None or is_over(plan.expires_at, now):
        return []
    bounds = (prefix, behind(prefix)) if prefix else (None, None)
    return _live_entries.all(connection, plan.id, plan.incarnation, after, *bounds, now, limit)


def is_over(expires_at: int | None, now: int) -> bool:
    """True if a time to live is over."""
    return expires_at is not None and expires_at <= now


def behind(prefix: str) -> str:
    """Returns a text that sorts after all that begin with the prefix."""
    return prefix + "\U0010ffff" * 256


def write(writing: Writing, change: PlanChange) -> None:
    """Writes what a command has changed in a plan."""
    connection, row = writing.connection, change.row
    writing.notice.plans.append((writing.scope, row.plan_id))
    if row.id is None:
        row.id = _insert_plan.value(connection, writing.scope, row)
    elif change.lives_on:
        _count_change.run(connection, row)
    else:
        _update_plan.run(connection, row)
    life = _Life(row.id, row.incarnation)
    if change.cleared or change.is_overgrown:
        _add_chores(connection, change)
    if change.cleared:
        procedural.end_uses(connection, writing.scope, row.plan_id)
    for key in change.removals:
        execute(connection, "remove_entry", *life, key)
    if change.puts:
        _put_entry.many(
            connection, [(life, _held(entry, change), entry) for entry in change.puts.values()]
        )
    for key, text in change.bases.items():
        execute(connection, "put_base", *life, key, text)
    for undo in change.compensations:
        sagas.put.run(connection, *life, undo)
    if change.history:
        _insert_history.many(connection, [(life, done) for done in change.history])


def _add_chores(connection: apsw.Connection, change: PlanChange) -> None:
    row = change.row
    kind = "purge" if change.purged else "sweep"
    bounds = (row.past_position, row.past_timer) if change.purged else (0, 0)
    for incarnation in change.cleared:
        _add_chore.run(connection, kind, row.id, incarnation, *bounds)
    if change.is_overgrown:
        _add_chore.run(connection, "trim", row.id, row.incarnation, 0, 0)


def _held(entry: EntryRow, change: PlanChange) -> _Held:
    seq = _written_elsewhere(entry, change) if len(entry.value) >= LARGE else None
    return _Held(entry.value if seq is None else "", seq)


def _written_elsewhere(entry: EntryRow, change: PlanChange) -> int | None:
    """Returns the seq of the history row with which this change writes the value.

    IN_BASES if it is in the bases; None if no other row has it.
    """
    if entry.revision != change.row.revision:
        return None
    if change.bases.get(entry.key) == entry.value:
        return IN_BASES
    rows = (done for done in reversed(change.history) if done.key == entry.key)
    last = next(rows, None)
    return (
        last.seq if last is not None and last.op == "set" and last.argument == entry.value else None
    )


class SqlitePlans:
    """The port of plans."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def entry(self, scope: Scope, plan_id: str, key: str) -> EntryRow | None:
        connections = self._connections
        with connections.failures:
            return _live_entry.one(
                connections.reading, scope.tenant_id, scope.user_id, plan_id, key, connections.now()
            )

    async def get(self, scope: Scope, plan_id: str, keys: set[str]) -> LoadedPlan:
        now = self._connections.clock.read()
        with self._connections.reads(together=True) as connection:
            state = state_of(connection, plan_row(connection, scope, plan_id, now.wall), keys, now)
        if is_over(state.row.expires_at, now.wall):
            state.entries.clear()
            state.row.live = False
        state.entries = {
            key: row for key, row in state.entries.items() if not is_over(row.expires_at, now.wall)
        }
        return state

    async def entries(
        self, scope: Scope, plan_id: str, prefix: str, after: str, limit: int
    ) -> tuple[PlanRow, builtins.list[EntryRow]]:
        now = self._connections.now()
        with self._connections.reads(together=True) as connection:
            plan = plan_row(connection, scope, plan_id, now)
            return plan, live_entries(connection, plan, now, limit, prefix, after)

    async def list(
        self,
        scope: Scope,
        after: str,
        limit: int,
        status: str | None = None,
        *,
        stalled: bool = False,
    ) -> builtins.list[PlanRow]:
        parameters = (
            scope.tenant_id,
            scope.user_id,
            after,
            self._connections.now(),
            status,
            stalled,
            limit,
        )
        return await self._connections.overview.look(
            lambda connection: _live_plans.all(connection, *parameters)
        )

    async def history(
        self,
        scope: Scope,
        plan_id: str,
        key: str | None,
        after: int | None,
        until: int | None,
        limit: int,
    ) -> HistoryPage:
        now = self._connections.now()

        def look(connection: apsw.Connection) -> HistoryPage:
            plan = plan_row(connection, scope, plan_id, now)
            kept = plan.horizon - 1 if revisions.is_fork(connection, plan) else plan.horizon
            start = kept if after is None else after
            rows = _whole_revisions(
                connection, plan, key, (start, _FAR if until is None else until), limit
            )
            return HistoryPage(plan, start, rows)

        if key is not None:  # its changes may lie far apart
            return await self._connections.overview.look(look)
        with self._connections.reads(together=True) as connection:
            return look(connection)

    async def actions(
        self, scope: Scope, plan_id: str, after: int, limit: int
    ) -> builtins.list[HistoryRow]:
        now = self._connections.now()
        with self._connections.reads(together=True) as connection:
            plan = plan_row(connection, scope, plan_id, now)
            if is_over(plan.expires_at, now):
                return []
            return _actions.all(connection, plan.id, plan.incarnation, after, limit)

    async def value_at(
        self, scope: Scope, plan_id: str, key: str, revision: int, seq: int
    ) -> KeyAt:
        now = self._connections.now()

        def look(connection: apsw.Connection) -> KeyAt:
            plan = plan_row(connection, scope, plan_id, now)
            entry = _entry.one(connection, plan.id, plan.incarnation, key)
            if entry is not None and entry.revision < revision:
                return KeyAt(plan, entry, None)  # it was not written since
            return KeyAt(plan, None, revisions.key_at(connection, plan, revision, seq, key))

        # The key's last change may lie many revisions back.
        return await self._connections.overview.look(look)

    async def keys_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
    ) -> KeysAt:
        now = self._connections.now()
        least, below = (prefix, behind(prefix)) if prefix else (None, None)

        def look(connection: apsw.Connection) -> KeysAt:
            plan = plan_row(connection, scope, plan_id, now)
            found = revisions.keys_at(
                connection, plan, revision, revisions.Range(after, least, below, limit)
            )
            return KeysAt(plan, found.entries, found.pasts, found.following)

        return await self._connections.overview.look(look)


def _whole_revisions(
    connection: apsw.Connection, plan: PlanRow, key: str | None, bounds: tuple[int, int], limit: int
) -> list[HistoryRow]:
    """Returns about `limit` rows, without splitting a revision."""
    life = (plan.id, plan.incarnation)
    rows, more = _history.page(connection, *life, *bounds, key, limit, size=text_size)
    if more or len(rows) == limit:
        last = rows[-1].revision
        rows = [row for row in rows if row.revision < last]
        if not rows:
            rows = _history.all(connection, *life, last - 1, last, key, -1)
    return rows


LOADERS: dict[type[Any], Any] = {PlansNeed: load}
WRITERS: dict[type[Any], Any] = {PlanChange: write}
