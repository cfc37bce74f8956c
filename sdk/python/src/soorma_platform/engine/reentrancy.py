"""Requests whose sender waits: one that only those could respond to who wait for it themselves is refused.

A handler that waits for a response keeps its place: in the lane of its plan, and among the events
that its agent handles at once. An agent that is asked while such handlers keep all its places never
responds.
"""

from __future__ import annotations

from soorma_common.errors import ReentrantRequest
from soorma_common.events import Envelope
from soorma_common.names import Scope
from soorma_platform.engine.commands import Snapshot
from soorma_platform.engine.publishing import lane_of, one_per_group
from soorma_platform.engine.rows.deliveries import Waiter, WaitersFound
from soorma_platform.engine.rows.events import Audience, KnownIds, SubscriptionRow

MOST_LINKS = 32
"""Requests that are followed back: from one to the handler that sent it, to the request which that
one handles."""


def check_answerable(request: Envelope, scope: Scope, found: Snapshot) -> None:
    """Raises ReentrantRequest where all who take a request wait for its response themselves."""
    waiters = found.part(WaitersFound)
    if not waiters.found or (request.id or "") in found.part(KnownIds).published:
        return
    lane = lane_of(scope, request.plan_id)
    takers = one_per_group(found.part(Audience).subscribers[request.topic, request.type])
    kept = [_kept(taker, lane, waiters) for taker in takers]
    if not kept or not all(kept):
        return
    (waiter, how) = next(one for one in kept if one)
    raise ReentrantRequest(
        f"request {request.type!r} would never get its response: {waiter.group!r} takes it, but "
        "waits for it itself, "
        f"in its handler of {waiter.type!r} (event {waiter.event_id}), and {how} meanwhile. Call "
        "what it would do as a "
        "function, let another agent take it, or publish it without waiting and handle its "
        "response event",
        group=waiter.group,
        event_id=waiter.event_id,
    )


def _kept(
    taker: SubscriptionRow, lane: str | None, waiters: WaitersFound
) -> tuple[Waiter, str] | None:
    """Who keeps all the places that a group could respond from, and how; None where one is free, now or later."""
    own = [waiter for waiter in waiters.found if waiter.group_id == taker.group_id]
    for waiter in own:
        if lane is not None and taker.ordered and waiter.lane == lane:
            return waiter, "handles no other event of the plan"
    places = waiters.places.get(taker.group_id, 0)
    return (
        (own[0], f"has no place for another event (max_concurrency={places})")
        if 0 < places <= len(own)
        else None
    )
