"""Loading what a decision needs and writing what was decided: rows to and from SQL, no rules."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import apsw
import msgspec

from soorma_common.delivery import RetryPolicy
from soorma_common.events import decode_envelope
from soorma_common.memory import Cause
from soorma_common.names import Scope
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.requests import MOST_LINKS
from soorma_platform.engine.rows import (
    CompensationRow,
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
    Saga,
    Snapshot,
    StoredAnswer,
    SubscriptionRow,
    TimerRow,
    Waiter,
)
from soorma_platform.stores.sqlite.database import SQL

TRIM_REVISIONS = 1_000
"""How far a history may run past its limit before it is trimmed: trimming in strides costs less."""

LARGE = 16 * 1024
"""Characters from which on a value is written once, into the history: below, looking there costs more than it saves."""
IN_BASES = -1
"""Stands for the seq of a value that is no history row's: it is in the bases."""

LARGEST_PAGE = 4 * 1024 * 1024
"""Bytes of text after which a page of rows ends, whatever number of rows was asked for."""

_EVENT = 6
"""column of an event's envelope"""
_POLICY = 11
"""column of a delivery's retry policy"""

_answers = msgspec.json.Decoder(StoredAnswer)
_policy_of = lru_cache(maxsize=1024)(msgspec.json.Decoder(RetryPolicy).decode)
"""A policy checks itself when it is made, and each commit of a handler asks for one of a few."""


def load(connection: apsw.Connection, needs: Needs, now: Moment) -> Snapshot:
    """What the decision has to look at, as it stands inside the transaction."""
    snapshot = Snapshot(now, plans={}, published={}, subscribers={}, busy=set(), timers={}, timers_of={})
    scope = needs.scope
    if needs.fence is not None:
        snapshot.delivery = delivery(connection, needs.fence)
    # A fence that stands has not been answered.
    if needs.answer_key is not None and (snapshot.delivery is None or not needs.settles):
        row = one(connection, "answer", (scope.tenant_id, scope.user_id, needs.answer_key, now.uptime))
        if row is not None:
            snapshot.answer = _answers.decode(row[0])
            return snapshot
    if needs.step is not None and snapshot.delivery is not None:
        _load_step(connection, needs.step, snapshot.delivery, snapshot)
    for plan_id, keys in needs.plans.items():
        state = snapshot.plans[plan_id] = plan_state(connection, scope, plan_id, keys, now, plan_id in needs.counted)
        for prefix, count in needs.lines.get(plan_id, {}).items():
            rows = live_entries(connection, state.row, now.wall, count, prefix)
            state.entries.update((row.key, row) for row in rows)
        if plan_id in needs.closing:
            state.log_end = one(connection, "log_bounds", ())[1]
            state.last_timer = one(connection, "last_timer", ())[0]
    _load_lives(connection, needs, snapshot)
    if needs.events or snapshot.sagas:
        _load_publishing(connection, needs, snapshot)
    if needs.timers:
        _load_timers(connection, needs, snapshot)
    if needs.asked_by is not None:
        _load_waiters(connection, needs.scope, needs.asked_by, snapshot)
    return snapshot


def _load_waiters(connection: apsw.Connection, scope: Scope, asked_by: tuple[str, str], snapshot: Snapshot) -> None:
    """Who waits for a response: the handler that asks, and, where it handles a request itself, who asked that."""
    snapshot.waiters, snapshot.places = [], {}
    for _ in range(MOST_LINKS):
        event_id, agent = asked_by
        snapshot.waiters += [
            Waiter(*row) for row in rows_of(connection, "in_hand_of", (scope.tenant_id, event_id, agent))
        ]
        found = one(connection, "event", (scope.tenant_id, event_id))
        event = decode_envelope(found[_EVENT]) if found else None
        if event is None or event.response_event is None or event.parent_event_id is None:
            break
        asked_by = (event.parent_event_id, event.source or "")
    for waiter in snapshot.waiters:
        snapshot.places[waiter.group_id] = one(connection, "places", (waiter.group_id,))[0]


def _load_lives(connection: apsw.Connection, needs: Needs, snapshot: Snapshot) -> None:
    """The plan of the delivery in hand, and how far plans that have failed, or may, are with undoing their work."""
    for plan_id, registered in needs.sagas.items():
        snapshot.sagas[plan_id] = _saga(connection, snapshot.plans[plan_id].row, registered)
    row = snapshot.delivery
    if row is None or row.plan_id is None:
        return
    state = snapshot.plans.get(row.plan_id)
    plan = state.row if state else plan_row(connection, needs.scope, row.plan_id, snapshot.now)
    snapshot.delivery_plan = plan
    if plan.status == "failed":
        if row.plan_id not in snapshot.sagas:
            snapshot.sagas[row.plan_id] = _saga(connection, plan)
        snapshot.other_deliveries = one(connection, "other_deliveries", (row.position, row.id))[0]


def _saga(connection: apsw.Connection, plan: PlanRow, registered: Collection[str] = ()) -> Saga:
    place = (plan.id, plan.incarnation)
    following, under_way = (
        CompensationRow(*row) if (row := one(connection, query, place)) else None
        for query in ("next_compensation", "compensation_under_way")
    )
    known = {
        event_id: row[0]
        for event_id in registered
        if (row := one(connection, "registered_compensation", (*place, event_id)))
    }
    return Saga(following, under_way, one(connection, "count_compensations", place)[0], known)


def _load_timers(connection: apsw.Connection, needs: Needs, snapshot: Snapshot) -> None:
    scope = needs.scope
    for event_id in needs.timers:
        _load_known(connection, scope.tenant_id, event_id, snapshot)
    for plan_id in needs.timed_plans:
        count = one(connection, "count_timers", (scope.tenant_id, scope.user_id, plan_id))
        snapshot.timers_of[plan_id] = count[0]


def to_timer(columns: tuple[Any, ...]) -> TimerRow:
    """A timer of its columns in the order of the queries."""
    id_, event_id, tenant_id, user_id, plan_id, due, incarnation, asked, fingerprint, envelope, *kind = columns
    scope = Scope(tenant_id, user_id)
    place = (event_id, scope, plan_id)
    return TimerRow(*place, due, incarnation, asked, fingerprint, envelope, id_, *map(bool, kind))


def _load_step(connection: apsw.Connection, step: tuple[str, int], row: DeliveryRow, snapshot: Snapshot) -> None:
    place = (row.group_id, row.position)
    found = one(connection, "step", (*place, *step))
    snapshot.recorded = found[0] if found else None
    snapshot.steps_so_far = one(connection, "steps_so_far", place)


def _load_publishing(connection: apsw.Connection, needs: Needs, snapshot: Snapshot) -> None:
    tenant = needs.scope.tenant_id
    groups: set[int] = set()
    undoing = [decode_envelope(saga.following.envelope) for saga in snapshot.sagas.values() if saga.following]
    events = [*needs.events, *((event.id or "", event.topic, event.type) for event in undoing)]
    for event_id, topic, kind in events:
        _load_known(connection, tenant, event_id, snapshot)
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


def _load_known(connection: apsw.Connection, tenant_id: str, event_id: str, snapshot: Snapshot) -> None:
    """What an event id stands for already: mostly nothing."""
    place = (tenant_id, event_id)
    if (known := one(connection, "known_event", place)) is None:
        return
    (fingerprint,) = known
    if fingerprint is None:
        snapshot.timers[event_id] = to_timer(one(connection, "timer", place))
    else:
        snapshot.published[event_id] = fingerprint


def plan_state(
    connection: apsw.Connection, scope: Scope, plan_id: str, keys: set[str], now: Moment, counted: bool = False
) -> PlanState:
    """The plan's row (a new one, of revision 0, if it was never written) and those of the asked keys."""
    row = plan_row(connection, scope, plan_id, now.wall)
    state = PlanState(row, {}, [])
    if row.id is not None:
        for key in keys:
            if found := one(connection, "entry", (row.id, row.incarnation, key)):
                state.entries[key] = EntryRow(*found)
        if now.is_settled:
            for (key,) in rows_of(connection, "expired_keys_of_plan", (row.id, row.incarnation, now.wall)):
                if key not in state.entries:
                    state.entries[key] = EntryRow(*one(connection, "entry", (row.id, row.incarnation, key)))
                state.expired.append(key)
        elif row.keys:
            state.hidden = one(connection, "hidden_entries", (row.id, row.incarnation, now.wall))
        if counted:
            state.live_keys = one(connection, "count_live_entries", (row.id, row.incarnation, now.wall))[0]
    return state


def plan_row(connection: apsw.Connection, scope: Scope, plan_id: str, now: int) -> PlanRow:
    """The plan's row, a new one of revision 0 if it was never written."""
    found = one(connection, "plan", (scope.tenant_id, scope.user_id, plan_id))
    if found is None:
        return PlanRow(plan_id, now, now)
    return to_plan(found)


def live_entries(
    connection: apsw.Connection, plan: PlanRow, now: int, limit: int, prefix: str = "", after: str = ""
) -> list[EntryRow]:
    """A plan's live keys in order, from behind `after`; none, if the plan itself has expired."""
    if plan.id is None or is_over(plan.expires_at, now):
        return []
    bounds = (prefix, behind(prefix)) if prefix else (None, None)
    rows = connection.execute(SQL["live_entries"], (plan.id, plan.incarnation, after, *bounds, now, limit))
    return [EntryRow(*row) for row in rows]


def is_over(expires_at: int | None, now: int) -> bool:
    """Whether a time to live is over."""
    return expires_at is not None and expires_at <= now


def behind(prefix: str) -> str:
    """A text that sorts behind all that begin with the prefix."""
    return prefix + "\U0010ffff" * 256


def to_plan(row: tuple[Any, ...]) -> PlanRow:
    """A plan of its columns in the order of the queries."""
    plan = PlanRow(*row)
    plan.live = plan.live == 1
    return plan


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
    columns[_POLICY] = _policy_of(columns[_POLICY])
    return DeliveryRow(*columns)


def write(connection: apsw.Connection, needs: Needs, decision: Decision, history_limits: tuple[int, int]) -> Notice:
    """Writes a decision; returns whom it concerns."""
    notice = Notice(plans=[], groups=set(), entries=[])
    for change in decision.plans:
        _write_plan(connection, needs.scope, change, history_limits)
        notice.plans.append((needs.scope, change.row.plan_id))
    if decision.settled or decision.retried or decision.dead_letter:
        _write_delivery(connection, decision, notice)
    for event in decision.events:
        _write_event(connection, event, notice)
    if (step := decision.step) is not None:
        values = (step.group_id, step.position, step.name, step.occurrence, step.at, step.result)
        connection.execute(SQL["insert_step"], values)
    if decision.timers or decision.unset:
        _write_timers(connection, decision, notice)
    if decision.answer is not None:
        text = msgspec.json.encode(decision.answer).decode()
        key = (needs.scope.tenant_id, needs.scope.user_id, decision.answer.key)
        connection.execute(SQL["put_answer"], (*key, decision.answer.expires_at, text))
    return notice


def _write_timers(connection: apsw.Connection, decision: Decision, notice: Notice) -> None:
    for timer in decision.timers:
        place = (timer.event_id, timer.scope.tenant_id, timer.scope.user_id, timer.plan_id)
        values = (
            *place, timer.due_at, timer.incarnation, timer.asked, timer.fingerprint, timer.envelope, timer.is_delay,
            timer.outlives,
        )  # fmt: skip
        connection.execute(SQL["insert_timer"], values)
    for timer_id in decision.unset:
        connection.execute(SQL["remove_timer"], (timer_id,))
    notice.timers = bool(decision.timers)


def _write_plan(connection: apsw.Connection, scope: Scope, change: PlanChange, history_limits: tuple[int, int]) -> None:
    row = change.row
    if row.id is not None and change.lives_on:
        counts = (row.revision, row.keys, row.size, row.actions, row.history_size, row.updated_at, row.updated_uptime)
        connection.execute(SQL["count_change"], (*counts, row.id))
    else:
        _write_row(connection, scope, row)
    place = (row.id, row.incarnation)
    bounds = (row.past_position, row.past_timer) if change.purged else (0, 0)
    for incarnation in change.cleared:
        connection.execute(SQL["add_chore"], ("purge" if change.purged else "sweep", row.id, incarnation, *bounds))
    for key in change.removals:
        connection.execute(SQL["remove_entry"], (*place, key))
    puts = []
    for entry in change.puts.values():
        seq = _written_elsewhere(entry, change) if len(entry.value) >= LARGE else None
        held = (entry.value if seq is None else "", seq)
        puts.append((*place, entry.key, *held, entry.revision, entry.updated_at, entry.expires_at))
    if puts:
        connection.executemany(SQL["put_entry"], puts)
    for key, value in change.bases.items():
        connection.execute(SQL["put_base"], (*place, key, value))
    for undo in change.compensations:
        place_of = (*place, undo.seq, undo.event_id, undo.state, undo.envelope)
        connection.execute(SQL["put_compensation"], place_of)
    if not change.history:
        return
    connection.executemany(SQL["insert_history"], [(*place, *_history_values(past)) for past in change.history])
    revisions, size = history_limits
    kept = row.revision - row.horizon
    if (kept > revisions + TRIM_REVISIONS and kept % TRIM_REVISIONS == 0) or row.history_size > size * 5 // 4:
        connection.execute(SQL["add_chore"], ("trim", *place, 0, 0))


def _history_values(past: HistoryRow) -> tuple[Any, ...]:
    why = past.cause
    return (
        past.revision, past.seq, past.op, past.key, past.at, past.action,
        why.actor, why.instance, why.event_id, why.correlation_id, why.trace_id, past.argument,
    )  # fmt: skip


def _written_elsewhere(entry: EntryRow, change: PlanChange) -> int | None:
    """The seq of the history row by which this change writes the value, or IN_BASES; None if no other row has it."""
    if entry.revision != change.row.revision:
        return None
    if change.bases.get(entry.key) == entry.value:
        return IN_BASES
    rows = (past for past in reversed(change.history) if past.key == entry.key)
    last = next(rows, None)
    return last.seq if last is not None and last.op == "set" and last.argument == entry.value else None


def _write_row(connection: apsw.Connection, scope: Scope, row: PlanRow) -> None:
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
    life = (
        row.expires_at, row.status, row.ended_at, row.outcome, row.stalled,
        row.arranged, row.past_position, row.past_timer, row.updated_uptime, row.ended_uptime,
        row.end_position, row.ended_by,
    )  # fmt: skip
    if row.id is None:
        where = (scope.tenant_id, scope.user_id, row.plan_id)
        created = (*where, *state, row.created_at, row.updated_at, *life)
        row.id = one(connection, "insert_plan", created)[0]
    else:
        connection.execute(SQL["update_plan"], (*state, row.updated_at, *life, row.id))


def _write_delivery(connection: apsw.Connection, decision: Decision, notice: Notice) -> None:
    if decision.retried is not None:
        row, ready_at, reason = decision.retried
        failed = not decision.deferred
        connection.execute(SQL["retry_delivery"], (ready_at, reason, failed, not failed, row.id))
        if row.is_suspect and failed:
            _exonerate(connection, row)
        notice.groups.add(row.group_id)
    if (dead := decision.dead_letter) is not None:
        row = dead.delivery
        place = (row.group_id, row.subscription_id, row.position, row.lane)
        values = (*place, row.attempt, row.failures, row.deaths, dead.reason, dead.at, dead.parked)
        connection.execute(SQL["insert_dead_letter"], values)
        if row.is_suspect:
            _exonerate(connection, row)
            notice.groups.add(row.group_id)
        if dead.parked:
            connection.execute(SQL["park_delivery"], (dead.reason, row.id))
    if decision.settled is not None:
        connection.execute(SQL["remove_delivery"], (decision.settled.id,))
    for delivery_id, ready_at in decision.ready:  # of the group that has settled one
        connection.execute(SQL["lead_lane"], (ready_at, delivery_id))
        if decision.settled is not None:
            notice.groups.add(decision.settled.group_id)


def _exonerate(connection: apsw.Connection, culprit: DeliveryRow) -> None:
    """A suspect has failed alone: those that died with it run side by side again."""
    if culprit.cohort is not None:
        connection.execute(SQL["exonerate"], (culprit.group_id, culprit.cohort, culprit.id))


def _write_event(connection: apsw.Connection, event: EventRow, notice: Notice) -> None:
    scope = event.scope
    values = (
        scope.tenant_id, scope.user_id, event.event_id, event.plan_id, event.lane, event.topic, event.type,
        event.correlation_id, event.at, bool(event.deliveries), event.fingerprint, event.envelope,
        event.outlives,
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
    connection: apsw.Connection, name: str, values: tuple[Any, ...], text_column: int, most: int = LARGEST_PAGE
) -> tuple[list[tuple[Any, ...]], bool]:
    """Rows of a named query until `most` bytes of a text column are reached, and whether there were more."""
    cursor = connection.execute(SQL[name], values)
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        if size > most:
            cursor.close()
            return rows, True
        rows.append(row)
        size += len(row[text_column] or "")
    return rows, False


def rows_of(connection: apsw.Connection, name: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """All rows of a named query."""
    return connection.execute(SQL[name], values).fetchall()
