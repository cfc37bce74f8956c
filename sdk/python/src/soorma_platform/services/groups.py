"""Groups: agents join them, and HTTP shows them and their dead letters."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict
from soorma_common.groups import DeadLetterInfo, GroupInfo, ReplicaInfo, SubscriptionInfo
from soorma_common.names import Owner
from soorma_common.times import time_of
from soorma_platform.engine.groups import JoinGroup
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author
from soorma_platform.stores.ports.groups import GroupState, GroupStore, LetterState
from soorma_platform.stores.ports.store import Commits


class Membership(msgspec.Struct):
    """A group as a replica joined it: its own subscriptions, and all of the group, by id."""

    group_id: int
    own: dict[int, Subscription]
    all: dict[int, tuple[str, str]]
    """(type, topic) by id"""


async def subscribe(
    store: Commits, owner: Owner, name: str, subscriptions: list[Subscription]
) -> Membership:
    """Creates or refreshes a group; new subscriptions take recent events that no group took."""
    joined = await store.transact(JoinGroup(owner, name, subscriptions))
    while joined.following is not None:  # others have their turns between two steps
        joined = await store.transact(JoinGroup(owner, name, subscriptions, joined.following))
    ids = joined.group.ids
    own = {ids[one.type, one.topic]: one for one in subscriptions}
    return Membership(
        joined.group.id, own, joined.patterns | {id_: pattern for pattern, id_ in ids.items()}
    )


async def unsubscribe(
    groups: GroupStore,
    owner: Owner,
    group: str,
    event_type: str,
    topic: str,
    *,
    drop: bool,
    author: Author = NOBODY_KNOWN,
) -> int | None:
    """Ends a subscription; returns how many events waited for it, None if it does not exist.

    They become dead letters of the group; with `drop`, they are dropped with the dead letters that
    it has. Raises Conflict while a connected agent serves it.
    """
    ended = await groups.unsubscribe(owner, group, event_type, topic, drop=drop, author=author)
    if ended is not None and ended.is_served:
        raise Conflict(
            f"an agent of group {group!r} is connected that handles {event_type!r}; stop it, or "
            "remove the handler "
            "and start it again, before the subscription is ended"
        )
    return None if ended is None else ended.waited


def group_info(state: GroupState) -> GroupInfo:
    """Returns the group as HTTP shows it."""
    group, standing = state.group, state.standing
    oldest = standing.oldest_seconds
    return GroupInfo(
        name=group.name,
        tenant_id=group.tenant_id or None,
        created_at=time_of(group.created_at),
        waiting=standing.events - standing.in_hand,
        ready=standing.ready,
        in_hand=standing.in_hand,
        oldest_at=None if oldest is None else time_of(state.at - round(oldest * 1000)),
        subscriptions=[
            SubscriptionInfo(
                one.type, one.topic, one.ordered, time_of(one.seen_at), one.is_served, one.set_aside
            )
            for one in state.subscriptions
        ],
        replicas=[
            ReplicaInfo(
                _digest(one.id), one.instance, one.max_concurrency, time_of(one.connected_at)
            )
            for one in state.replicas
        ],
    )


def _digest(replica: str) -> str:
    """Returns a digest that tells replicas apart.

    The id itself is a secret: it lets anybody renew leases.
    """
    return blake2b(replica.encode(), digest_size=8).hexdigest()


def dead_letter_info(state: LetterState) -> DeadLetterInfo:
    """Returns the dead letter as HTTP shows it."""
    return DeadLetterInfo(
        id=state.id,
        group=state.group,
        event_id=state.event_id,
        type=state.type,
        topic=state.topic,
        tenant_id=state.tenant_id,
        user_id=state.user_id,
        plan_id=state.plan_id,
        attempts=state.attempts,
        failures=state.failures,
        deaths=state.deaths,
        reason=state.reason,
        at=time_of(state.at),
        parked=state.parked,
        event=msgspec.Raw(state.envelope.encode()),
    )
