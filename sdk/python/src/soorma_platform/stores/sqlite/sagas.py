"""Sagas: compensations of plans, and how far failed plans are with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from soorma_common.events import decode_envelope
from soorma_platform.engine.rows.plans import PlanRow, PlansFound
from soorma_platform.engine.rows.sagas import CompensationRow, Saga, SagasFound, SagasNeed
from soorma_platform.stores.sqlite import events
from soorma_platform.stores.sqlite.statements import Mutation, Select, value
from soorma_platform.stores.sqlite.transactions import Loading

_next = Select("next_compensation", CompensationRow)
_under_way = Select("compensation_under_way", CompensationRow)
put = Mutation("put_compensation", "plan", "incarnation", CompensationRow)


def load(loading: Loading, need: SagasNeed) -> None:
    """Loads how far plans are with undoing their work."""
    states = loading.found.part(PlansFound).states
    for plan_id, registered in need.plans.items():
        load_one(loading, states[plan_id].row, registered, need.lanes[plan_id])


def load_one(
    loading: Loading, plan: PlanRow, registered: Collection[str], lane: str | None
) -> None:
    """Loads a plan's saga, and what publishing its next compensation requires.

    `lane` is the plan's.
    """
    connection, life = loading.connection, (plan.id, plan.incarnation)
    following = _next.one(connection, *life)
    texts = {one: value(connection, "registered_compensation", *life, one) for one in registered}
    loading.found.part(SagasFound).of[plan.plan_id] = Saga(
        following,
        _under_way.one(connection, *life),
        value(connection, "count_compensations", *life),
        {event_id: text for event_id, text in texts.items() if text is not None},
    )
    if following is not None:
        event = decode_envelope(following.envelope)
        events.load_known(loading, event.id or "")
        events.load_audience(loading, event.topic, event.type, (lane,) if lane else ())


LOADERS: dict[type[Any], Any] = {SagasNeed: load}
