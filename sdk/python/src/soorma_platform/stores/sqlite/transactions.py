"""Loading what a decision needs and writing what was decided: rows to and from SQL, no rules."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from soorma_common.delivery import RetryPolicy
from soorma_common.memory import Cause
from soorma_common.names import Scope
from soorma_platform.engine.rows import (
    Decision,
    DeliveryRow,
    EntryRow,
    EventRow,
    HistoryRow,
    LogEntry,
    Needs,
    Notice,
    PlanChange,
    PlanRow,
    PlanState,
    Snapshot,
    StoredAnswer,
    SubscriptionRow,
)
from soorma_platform.stores.sqlite.database import SQL

TRIM_REVISIONS = 1_000
"""How far a history may run past its limit before it is trimmed: trimming in strides costs less."""

LARGEST_PAGE = 4 * 1024 * 1024
"""Bytes of text after which a page of rows ends, whatever number of rows was asked for."""

_answers = msgspec.json.Decoder(StoredAnswer)
_policies = msgspec.json.Decoder(RetryPolicy)


def load(connection: apsw.Connection, needs: Needs, now: int) -> Snapshot:
    """What the decision has to look at, as it stands inside the transaction."""
    snapshot = Snapshot(now, plans={}, published={}, subscribers={}, busy=set())
    scope = needs.scope
    if needs.answer_key is not None:
        row = one(connection, "answer", (scope.tenant_id, scope.user_id, needs.answer_key, now))
        if row is not None:
            snapshot.answer = _answers.decode(row[0])
            return snapshot
    if needs.fence is not None:
        snapshot.delivery = delivery(connection, needs.fence)
    for plan_id, keys in needs.plans.items():
        snapshot.plans[plan_id] = plan_state(connection, scope, plan_id, keys, now, plan_id in needs.counted)
    if needs.events:
        _load_publishing(connection, needs, snapshot)
    return snapshot


def _load_publishing(connection: apsw.Connection, needs: Needs, snapshot: Snapshot) -> None:
    tenant = needs.scope.tenant_id
    groups: set[int] = set()
    for event_id, topic, kind in needs.events:
        if found := one(connection, "fingerprint", (tenant, event_id)):
            snapshot.published[event_id] = found[0]
        if (topic, kind) not in snapshot.subscribers:
            rows = [SubscriptionRow(*row) for row in connection.execute(SQL["subscribers"], (kind, topic, tenant))]
            snapshot.subscribers[topic, kind] = rows
            groups.update(row.group_id for row in rows)
    lanes = set(needs.lanes)
    if snapshot.delivery and snapshot.delivery.lane:
        lanes.add(snapshot.delivery.lane)
    for group in groups:
        for lane in lanes:
            if one(connection, "lane_is_busy", (group, lane)):
                snapshot.busy.add((group, lane))


def plan_state(
    connection: apsw.Connection, scope: Scope, plan_id: str, keys: set[str], now: int, counted: bool = False
) -> PlanState:
    """The plan's row (a new one, of revision 0, if it was never written) and those of the asked keys."""
    row = plan_row(connection, scope, plan_id, now)
    state = PlanState(row, {}, [])
    if row.id is not None:
        for key in keys:
            if found := one(connection, "entry", (row.id, row.incarnation, key)):
                state.entries[key] = EntryRow(*found)
        for found in rows_of(connection, "expired_entries", (now, row.id, row.incarnation)):
            state.entries.setdefault(found[0], EntryRow(*found))
            state.expired.append(found[0])
        if counted:
            state.live_keys = one(connection, "count_live_entries", (row.id, row.incarnation, now))[0]
    return state


def plan_row(connection: apsw.Connection, scope: Scope, plan_id: str, now: int) -> PlanRow:
    """The plan's row, a new one of revision 0 if it was never written."""
    found = one(connection, "plan", (scope.tenant_id, scope.user_id, plan_id))
    if found is None:
        return PlanRow(plan_id, now, now)
    return to_plan(plan_id, *found)


def to_plan(plan_id: str, *columns: Any) -> PlanRow:
    """A plan of its columns in the order of the queries."""
    (
        id_,
        revision,
        incarnation,
        live,
        keys,
        size,
        actions,
        horizon,
        history_size,
        created,
        updated,
        expires,
    ) = columns
    return PlanRow(
        plan_id, created, updated, id_, revision, incarnation, bool(live), keys, size, actions, horizon, history_size,
        expires,
    )  # fmt: skip


def to_history(row: tuple[Any, ...]) -> HistoryRow:
    """A history row of its columns in the order of the queries."""
    revision, seq, op, key, argument, at, actor, instance, event_id, correlation_id, trace_id, action = row
    cause = Cause(actor, instance, event_id, correlation_id, trace_id)
    return HistoryRow(revision, seq, op, key, argument, at, cause, action)


def delivery(connection: apsw.Connection, fence: str) -> DeliveryRow | None:
    """The delivery under a fence, with its event and who waits behind it."""
    row = one(connection, "delivery", (fence,))
    if row is None:
        return None
    columns: list[Any] = list(row)
    columns[-3] = _policies.decode(columns[-3])
    return DeliveryRow(*columns)


def write(connection: apsw.Connection, needs: Needs, decision: Decision, history_limits: tuple[int, int]) -> Notice:
    """Writes a decision; returns whom it concerns."""
    notice = Notice(plans=[], groups=set(), entries=[])
    for change in decision.plans:
        _write_plan(connection, needs.scope, change, history_limits)
        notice.plans.append((needs.scope, change.row.plan_id))
    _write_delivery(connection, decision, notice)
    for event in decision.events:
        _write_event(connection, event, notice)
    if decision.answer is not None:
        text = msgspec.json.encode(decision.answer).decode()
        key = (needs.scope.tenant_id, needs.scope.user_id, decision.answer.key)
        connection.execute(SQL["put_answer"], (*key, decision.answer.expires_at, text))
    return notice


def _write_plan(connection: apsw.Connection, scope: Scope, change: PlanChange, history_limits: tuple[int, int]) -> None:
    row = change.row
    state = (
        row.revision,
        row.incarnation,
        row.live,
        row.keys,
        row.size,
        row.actions,
        row.horizon,
        row.history_size,
    )
    if row.id is None:
        where = (scope.tenant_id, scope.user_id, row.plan_id)
        created = (*where, *state, row.created_at, row.updated_at, row.expires_at)
        row.id = one(connection, "insert_plan", created)[0]
    else:
        connection.execute(SQL["update_plan"], (*state, row.updated_at, row.expires_at, row.id))
    place = (row.id, row.incarnation)
    for incarnation in change.cleared:
        connection.execute(SQL["add_chore"], ("sweep", row.id, incarnation))
    for key in change.removals:
        connection.execute(SQL["remove_entry"], (*place, key))
    for entry in change.puts.values():
        stored = (*place, entry.key, entry.value, entry.revision, entry.updated_at, entry.expires_at)
        connection.execute(SQL["put_entry"], stored)
    for past in change.history:
        why = past.cause
        values = (
            *place, past.revision, past.seq, past.op, past.key, past.at, past.action,
            why.actor, why.instance, why.event_id, why.correlation_id, why.trace_id, past.argument,
        )  # fmt: skip
        connection.execute(SQL["insert_history"], values)
    revisions, size = history_limits
    kept = row.revision - row.horizon
    if (kept > revisions + TRIM_REVISIONS and kept % TRIM_REVISIONS == 0) or row.history_size > size * 5 // 4:
        connection.execute(SQL["add_chore"], ("trim", *place))


def _write_delivery(connection: apsw.Connection, decision: Decision, notice: Notice) -> None:
    if decision.retried is not None:
        row, ready_at, reason = decision.retried
        connection.execute(SQL["retry_delivery"], (ready_at, reason, row.id))
        notice.groups.add(row.group_id)
    if (dead := decision.dead_letter) is not None:
        row = dead.delivery
        place = (row.group_id, row.subscription_id, row.position, row.lane)
        values = (*place, row.attempt, dead.reason, dead.at, dead.parked)
        connection.execute(SQL["insert_dead_letter"], values)
        if dead.parked:
            connection.execute(SQL["park_delivery"], (dead.reason, row.id))
    if decision.settled is not None:
        connection.execute(SQL["remove_delivery"], (decision.settled.id,))
        notice.groups.add(decision.settled.group_id)
    for delivery_id, ready_at in decision.ready:
        connection.execute(SQL["lead_lane"], (ready_at, delivery_id))


def _write_event(connection: apsw.Connection, event: EventRow, notice: Notice) -> None:
    scope = event.scope
    values = (
        scope.tenant_id, scope.user_id, event.event_id, event.plan_id, event.lane, event.topic, event.type,
        event.correlation_id, event.at, bool(event.deliveries), event.fingerprint, event.envelope,
    )  # fmt: skip
    position = one(connection, "insert_event", values)[0]
    for new in event.deliveries:
        connection.execute(
            SQL["insert_delivery"], (new.group_id, new.subscription_id, position, new.lane, new.ready_at)
        )
        notice.groups.add(new.group_id)
    notice.entries.append(
        LogEntry(
            position,
            scope.tenant_id,
            scope.user_id,
            event.topic,
            event.type,
            event.correlation_id,
            event.envelope,
        )
    )


def one(connection: apsw.Connection, name: str, values: tuple[Any, ...]) -> Any:
    """The first row of a named query, None if there is none."""
    cursor = connection.execute(SQL[name], values)
    row = cursor.fetchone()
    cursor.close()
    return row


def page_of(
    connection: apsw.Connection, name: str, values: tuple[Any, ...], text_column: int
) -> tuple[list[tuple[Any, ...]], bool]:
    """Rows of a named query until LARGEST_PAGE bytes of a text column are reached, and whether there were more."""
    cursor = connection.execute(SQL[name], values)
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        if size > LARGEST_PAGE:
            cursor.close()
            return rows, True
        rows.append(row)
        size += len(row[text_column] or "")
    return rows, False


def rows_of(connection: apsw.Connection, name: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """All rows of a named query."""
    return connection.execute(SQL[name], values).fetchall()
