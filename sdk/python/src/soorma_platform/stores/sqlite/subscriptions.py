"""Subscriptions that no connected replica of their group serves, and those that are ended.

A delivery of a subscription that nobody serves is set aside, out of its lane, so that it does not
block the lane. When the subscription is served again, the delivery returns to its place in the
lane, in the order of the log. Nothing is set aside while all replicas are away.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import apsw

from soorma_common.names import All
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.audit_log import Author, audit_row
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports.groups import Pattern, Survey, Unserved
from soorma_platform.stores.sqlite import audit_log
from soorma_platform.stores.sqlite.statements import Select, execute, value

STEP = RANGE = 500
"""Rows that one transaction may move."""
GRACE = 5_000
"""Milliseconds in which an agent that lost its connection may come back for its work."""
MOST_COUNTED = 10_000


class _Aside(NamedTuple):
    group_id: int
    aside: str
    """the lane it was in, '' without one"""


class _Back(NamedTuple):
    group_id: int
    lane: str | None
    position: int


class _Waiting(NamedTuple):
    id: int
    lane: str | None


class _Subscription(NamedTuple):
    id: int
    group_id: int


class _Names(NamedTuple):
    tenant_id: str
    name: str
    """of the group"""
    type: str
    topic: str


_set_aside = Select("set_aside", _Aside)
_set_aside_suspects = Select("set_aside_suspects", _Aside)
_take_back = Select("take_back", _Back)
_waiting = Select("waiting_deliveries", _Waiting)
_subscription = Select("find_subscription", _Subscription)
_names = Select("subscription_names", _Names)
patterns = Select("group_subscriptions", Pattern)


def set_aside(connection: apsw.Connection, now: int, subscriptions: Collection[int]) -> bool:
    """Sets aside deliveries that head their lanes and are not served; True if more may be left."""
    left = STEP
    for subscription in subscriptions:
        for query in (_set_aside, _set_aside_suspects):
            while left > 0 and (rows := query.all(connection, subscription, now - GRACE, left)):
                left -= len(rows)
                for row in {row for row in rows if row.aside}:
                    execute(connection, "lead_free_lane", row.group_id, row.aside, now)
    return any(value(connection, "to_set_aside", subscription) for subscription in subscriptions)


def take_back(connection: apsw.Connection, now: int, subscriptions: Collection[int]) -> bool:
    """Puts what was set aside back in its place, the oldest first; True if more may be left."""
    more = False
    for subscription in subscriptions:
        rows = _take_back.all(connection, subscription, now, STEP)
        more |= len(rows) == STEP
        eldest: dict[tuple[int, str], int] = {}
        for row in rows:
            if row.lane is not None:
                key = (row.group_id, row.lane)
                eldest[key] = min(row.position, eldest.get(key, row.position))
        for (group, lane), position in eldest.items():
            execute(connection, "demote", group, lane, position)
            execute(connection, "lead_free_lane", group, lane, now)
    return more


def survey(
    connection: apsw.Connection, now: int, known: Collection[Pattern], served: Collection[int]
) -> tuple[Survey, list[int]]:
    """Sets aside and takes back the deliveries of a group, given what its replicas serve.

    Also returns the ids of the subscriptions that they do not serve.
    """
    unserved = [one.id for one in known if one.id not in served]
    more = take_back(connection, now, served)
    more |= set_aside(connection, now, unserved)
    counts = {id_: value(connection, "count_aside", id_, MOST_COUNTED) for id_ in unserved}
    found = [Unserved(one.type, one.topic, counts[one.id]) for one in known if counts.get(one.id)]
    return Survey(found, more), unserved


class SubscriptionEnd(NamedTuple):
    """A subscription that is being ended, in steps that each look at a range of all deliveries."""

    subscription: int
    group: int
    drop: bool
    cursor: int = 0
    removed: int = 0
    is_over: bool = False


def ending(
    connection: apsw.Connection, names: tuple[str | None, str, str, str], *, drop: bool
) -> SubscriptionEnd | None:
    """Begins to end a subscription; returns None if it does not exist.

    `names` are its tenant (None: any), group, type and topic.
    """
    found = _subscription.one(connection, *names)
    if found is None:
        return None
    return SubscriptionEnd(found.id, found.group_id, drop)


def end_some(
    connection: apsw.Connection, now: Moment, before: SubscriptionEnd, author: Author
) -> tuple[SubscriptionEnd, Notice]:
    """Takes the next step. The last one removes the subscription itself, and says who ended it."""
    rows = _waiting.all(connection, before.subscription, before.cursor, RANGE)
    for row in rows:
        if not before.drop:
            execute(
                connection,
                "give_up_unsubscribed",
                row.id,
                "the subscription was ended by hand",
                now.wall,
            )
        execute(connection, "remove_delivery", row.id)
    for lane in {row.lane for row in rows if row.lane is not None}:
        execute(connection, "lead_free_lane", before.group, lane, now.uptime)
    cursor = before.cursor + RANGE
    is_over = cursor >= value(connection, "last_delivery")
    after = before._replace(cursor=cursor, removed=before.removed + len(rows), is_over=is_over)
    if is_over:
        _note_end(connection, now, after, author)
        execute(
            connection,
            "abandon_dead_letters" if before.drop else "unpark_letters",
            before.subscription,
        )
        execute(connection, "end_subscription", before.subscription)
        execute(connection, "remove_empty_group", before.group)
    return after, Notice(groups={before.group})


def _note_end(
    connection: apsw.Connection, now: Moment, end: SubscriptionEnd, author: Author
) -> None:
    of = _names.one(connection, end.subscription)
    if of is None:  # another request has ended it meanwhile
        return
    row = audit_row(
        "subscription.ended", of.tenant_id or All.TENANTS, author, now.wall, of.name,
        type=of.type, topic=of.topic, waited=end.removed, waiting="drop" if end.drop else "keep",
    )  # fmt: skip
    audit_log.note(connection, row)
