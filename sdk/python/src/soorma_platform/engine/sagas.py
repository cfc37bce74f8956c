"""Sagas: what undoes the work of a failed plan is published in reverse order, one when the one before is done."""

from __future__ import annotations

from soorma_common.events import decode_envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_platform.engine.publishing import publish
from soorma_platform.engine.rows import DONE, PUBLISHED, CompensationRow, Decision, DeliveryRow, Saga, Snapshot


def go_on(
    decision: Decision, plan_id: str, new: list[CompensationRow], scope: Scope, snapshot: Snapshot, limits: Limits
) -> list[CompensationRow]:
    """Publishes the next compensation of a failed plan, unless one is under way; those whose state is new.

    `new` are those that this commit registers: the last of them comes first.
    """
    saga = snapshot.sagas.get(plan_id) or Saga(None, None)
    following = new[-1] if new else saga.following
    if saga.under_way is not None or following is None:
        return []
    if row := publish(decode_envelope(following.envelope), scope, snapshot, limits):
        decision.events.append(row)
    following.state = PUBLISHED
    snapshot.sagas[plan_id] = Saga(None, following, saga.count)
    return [following]


def on_settled(decision: Decision, delivery: DeliveryRow, snapshot: Snapshot, limits: Limits) -> list[CompensationRow]:
    """The delivery is over: if it was the last of a compensation, that is done, and the next is published."""
    plan_id = delivery.plan_id
    saga = snapshot.sagas.get(plan_id) if plan_id is not None else None
    if plan_id is None or saga is None or saga.under_way is None or saga.under_way.event_id != delivery.event_id:
        return []
    if snapshot.other_deliveries:
        return []
    done = saga.under_way
    done.state = DONE
    snapshot.sagas[plan_id] = Saga(saga.following, None, saga.count)
    scope = Scope(delivery.tenant_id, delivery.user_id)
    return [done, *go_on(decision, plan_id, [], scope, snapshot, limits)]
