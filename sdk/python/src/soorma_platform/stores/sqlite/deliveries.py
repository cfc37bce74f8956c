"""Deliveries: events in the hands of agents, or on the way there.

Functions that change something are run by the writer.
"""

from __future__ import annotations

from typing import Any

import apsw

from soorma_common.events import decode_envelope
from soorma_common.names import Scope
from soorma_platform.engine.rows.deliveries import (
    DeadLetterRow,
    DeliveryNeed,
    DeliveryRow,
    FenceFound,
    FenceNeed,
    InHand,
    Retried,
    Settled,
    Waiter,
    WaitersFound,
    WaitersNeed,
)
from soorma_platform.engine.rows.fences import hashed
from soorma_platform.stores.sqlite import events, plans, sagas
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_delivery = Select("delivery", DeliveryRow)
_scope_in_hand = Select("scope_in_hand", Scope)
_waiters = Select("in_hand_of", Waiter)
_insert_dead_letter = Mutation("insert_dead_letter", DeliveryRow, DeadLetterRow)


def delivery(connection: apsw.Connection, fence: str) -> DeliveryRow | None:
    """Returns the delivery under a fence, with its event and the next one in its lane."""
    return _delivery.one(connection, hashed(fence))


def load(loading: Loading, need: DeliveryNeed) -> None:
    """Loads the delivery in hand with its plan and, if the plan has failed, with its saga."""
    connection, in_hand = loading.connection, loading.found.part(InHand)
    row = in_hand.delivery = delivery(connection, need.fence)
    if row is None or row.plan_id is None:
        return
    scope = Scope(row.tenant_id, row.user_id)
    plan = in_hand.plan = plans.plan_row(connection, scope, row.plan_id, loading.moment.wall)
    if plan.status == "failed":
        sagas.load_one(loading, plan, (), row.plan_lane)
        in_hand.others = value(connection, "other_deliveries", row.position, row.id)


def load_fence(loading: Loading, need: FenceNeed) -> None:
    """Loads for whom the holder of a fence acts: a fraction of the whole delivery."""
    scope = _scope_in_hand.one(loading.connection, hashed(need.fence))
    loading.found.part(FenceFound).scope = scope


def load_waiters(loading: Loading, need: WaitersNeed) -> None:
    """Loads the handlers that wait for a response, link by link.

    The one that makes the request and, if that handles a request itself, the one that made that,
    and so on.
    """
    connection, tenant_id = loading.connection, loading.scope.tenant_id
    waiters, event_id, agent = loading.found.part(WaitersFound), need.event_id, need.agent
    for _ in range(need.links):
        waiters.found += _waiters.all(connection, tenant_id, event_id, agent)
        found = events.event.one(connection, tenant_id, event_id)
        event = decode_envelope(found.envelope) if found else None
        if event is None or event.response_event is None or event.parent_event_id is None:
            break
        event_id, agent = event.parent_event_id, event.source or ""
    for waiter in waiters.found:
        waiters.places[waiter.group_id] = value(connection, "places", waiter.group_id)


def settle(writing: Writing, row: Settled) -> None:
    """Removes a delivery; the next of its lane becomes ready."""
    execute(writing.connection, "remove_delivery", row.delivery.id)
    if row.delivery.next_in_lane is not None:
        execute(writing.connection, "lead_lane", row.at, row.delivery.next_in_lane)
        writing.notice.groups.add(row.delivery.group_id)


def retry(writing: Writing, row: Retried) -> None:
    """Makes a delivery ready again, later."""
    failed, is_failed = row.delivery, not row.is_deferred
    execute(
        writing.connection,
        "retry_delivery",
        row.ready_at,
        row.reason,
        is_failed,
        row.is_deferred,
        failed.id,
    )
    if failed.is_suspect and is_failed:
        _exonerate(writing.connection, failed)
    writing.notice.groups.add(failed.group_id)


def give_up(writing: Writing, row: DeadLetterRow) -> None:
    """Makes a delivery a dead letter."""
    connection, dead = writing.connection, row.delivery
    _insert_dead_letter.run(connection, dead, row)
    if dead.is_suspect:
        _exonerate(connection, dead)
        writing.notice.groups.add(dead.group_id)
    if row.parked:
        execute(connection, "park_delivery", row.reason, dead.id)


def _exonerate(connection: apsw.Connection, culprit: DeliveryRow) -> None:
    """Clears those that died with a suspect that failed alone: they run side by side again."""
    if culprit.cohort is not None:
        execute(connection, "exonerate", culprit.group_id, culprit.cohort, culprit.id)


LOADERS: dict[type[Any], Any] = {
    DeliveryNeed: load,
    FenceNeed: load_fence,
    WaitersNeed: load_waiters,
}
WRITERS: dict[type[Any], Any] = {Settled: settle, Retried: retry, DeadLetterRow: give_up}
