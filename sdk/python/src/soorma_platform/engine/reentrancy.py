"""Refusal of requests that only handlers waiting for their response could respond to.

A handler that waits for a response occupies a place: in the lane of its plan, and among the events
that its agent handles at once. An agent never responds to a request while such handlers occupy all
its places.
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
"""The longest chain of requests followed back.

Each link leads from a request to the one that its sender is handling.
"""


def check_answerable(request: Envelope, scope: Scope, found: Snapshot) -> None:
    """Raises ReentrantRequest if all groups that take a request wait for its response."""
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
    """Returns the handler that occupies all places of a group, and how.

    Returns None if a place is free, now or later.
    """
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
