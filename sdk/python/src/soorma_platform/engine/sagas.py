"""Sagas: compensations of a failed plan, published in reverse order, one after the other."""

from __future__ import annotations

import hashlib

import msgspec

from soorma_common.errors import EventIdConflict
from soorma_common.events import decode_envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_platform.engine.commands import Snapshot, Writes
from soorma_platform.engine.publishing import filled, publish
from soorma_platform.engine.rows.deliveries import DeliveryRow, InHand
from soorma_platform.engine.rows.events import KnownIds
from soorma_platform.engine.rows.plans import PlanChange, PlanRow
from soorma_platform.engine.rows.sagas import DONE, PUBLISHED, CompensationRow, Saga, SagasFound


def register(change: PlanChange, found: Snapshot, limits: Limits) -> None:
    """Checks the compensations that a commit registers, and drops those registered before.

    It must be possible to publish them later, so LimitExceeded and EventIdConflict are raised now.
    """
    saga, fresh = found.part(SagasFound).of[change.row.plan_id], []
    known = dict(saga.known)
    for new in change.compensations:
        before = known.get(new.event_id)
        if before == new.envelope:
            continue
        if before is not None or _is_taken(new, found):
            raise EventIdConflict(
                f"an event with the id {new.event_id!r} and other content, or for another purpose, "
                "is there already; "
                "give this compensation its own id",
                event_id=new.event_id,
            )
        filled(decode_envelope(new.envelope), found.now, limits)
        known[new.event_id] = new.envelope
        fresh.append(new)
    change.compensations = fresh
    limits.check(
        "plan_compensations", saga.count + len(fresh), "the number of the plan's compensations"
    )


def _is_taken(new: CompensationRow, found: Snapshot) -> bool:
    known = found.part(KnownIds)
    return new.event_id in known.published or new.event_id in known.timers


def go_on(
    writes: Writes, plan: PlanRow, new: list[CompensationRow], scope: Scope, found: Snapshot
) -> list[CompensationRow]:
    """Publishes the next compensation of a failed plan, unless one is under way.

    `new` are those that this commit registers: the last of them comes first. Returns the
    compensations whose state has changed.
    """
    sagas = found.part(SagasFound).of
    saga = sagas.get(plan.plan_id) or Saga(None, None)
    following = new[-1] if new else saga.following
    if saga.under_way is not None or following is None:
        return []
    event = decode_envelope(following.envelope)
    if _is_taken(following, found):  # since it was registered: publish it under another id
        following.event_id = event.id = _own_id(scope, plan, following)
    if row := publish(event, scope, found, limits=None, outlives=True):
        writes.append(row)
    following.state = PUBLISHED
    sagas[plan.plan_id] = Saga(None, following, saga.count)
    return [following]


def _own_id(scope: Scope, plan: PlanRow, row: CompensationRow) -> str:
    identity = (scope.tenant_id, scope.user_id, plan.plan_id, plan.incarnation, row.seq)
    return hashlib.blake2b(msgspec.json.encode(identity), digest_size=16).hexdigest()


def on_settled(writes: Writes, delivery: DeliveryRow, found: Snapshot) -> list[CompensationRow]:
    """Publishes the next compensation if this delivery was the last of the one under way.

    Returns the compensations whose state has changed.
    """
    in_hand, sagas = found.part(InHand), found.part(SagasFound).of
    plan = in_hand.plan
    saga = sagas.get(plan.plan_id) if plan is not None else None
    if (
        plan is None
        or saga is None
        or saga.under_way is None
        or saga.under_way.event_id != delivery.event_id
    ):
        return []
    if in_hand.others:
        return []
    done = saga.under_way
    done.state = DONE
    sagas[plan.plan_id] = Saga(saga.following, None, saga.count)
    scope = Scope(delivery.tenant_id, delivery.user_id)
    return [done, *go_on(writes, plan, [], scope, found)]
