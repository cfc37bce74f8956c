"""What nobody serves: deliveries of types that no connected replica of their group has a handler for.

Such a one is set aside, out of its lane, so that what waits behind it goes on. When its type is served again it takes
its place in the lane, in the order of the log. Nothing is set aside while all replicas are away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import apsw

from soorma_common.errors import Conflict
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows import Notice
from soorma_platform.stores.protocol import Survey, Unserved
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.transactions import one, rows_of

STEP = RANGE = 500
"""Rows that one transaction may move."""
GRACE = 5_000
"""Milliseconds in which an agent that has lost its connection may come back for what it was working on."""
MOST_COUNTED = 10_000


def set_aside(connection: apsw.Connection, now: int, subscriptions: Collection[int]) -> bool:
    """Sets aside what heads a lane in a subscription that nobody serves; True if there may be more."""
    left = STEP
    for subscription in subscriptions:
        for query in ("set_aside", "set_aside_suspects"):
            while left > 0 and (rows := rows_of(connection, query, (subscription, now - GRACE, left))):
                left -= len(rows)
                for group, lane in {(group, lane) for group, lane in rows if lane}:
                    connection.execute(SQL["lead_free_lane"], (group, lane, now))
    return any(one(connection, "to_set_aside", (subscription,)) for subscription in subscriptions)


def take_back(connection: apsw.Connection, now: int, subscriptions: Collection[int]) -> bool:
    """Puts what was set aside into its place again, the eldest first; True if there may be more."""
    more = False
    for subscription in subscriptions:
        rows = rows_of(connection, "take_back", (subscription, now, STEP))
        more |= len(rows) == STEP
        eldest: dict[tuple[int, str], int] = {}
        for group, lane, position in rows:
            if lane is not None:
                eldest[group, lane] = min(position, eldest.get((group, lane), position))
        for (group, lane), position in eldest.items():
            connection.execute(SQL["demote"], (group, lane, position))
            connection.execute(SQL["lead_free_lane"], (group, lane, now))
    return more


def survey(
    connection: apsw.Connection, now: int, known: dict[int, tuple[str, str]], served: Collection[int]
) -> tuple[Survey, list[int]]:
    """Looks over a group whose connected replicas serve some of its subscriptions; also the ids of the others."""
    unserved = [id_ for id_ in known if id_ not in served]
    more = take_back(connection, now, served)
    more |= set_aside(connection, now, unserved)
    counts = {id_: one(connection, "count_aside", (id_, MOST_COUNTED))[0] for id_ in unserved}
    found = [Unserved(*known[id_], count) for id_, count in counts.items() if count]
    return Survey(found, more), unserved


class Ending(NamedTuple):
    """A subscription that is being ended, in steps that each look at a range of all deliveries."""

    subscription: int
    group: int
    drop: bool
    cursor: int = 0
    removed: int = 0
    is_over: bool = False


def ending(
    connection: apsw.Connection,
    place: tuple[str | None, str, str, str],
    served: Callable[[int], Collection[int]],
    drop: bool,
) -> Ending | None:
    """Begins to end a subscription; `place` is a tenant (None: any), group, type and topic. None without such a one."""
    found = one(connection, "find_subscription", place)
    if found is None:
        return None
    subscription, group = found
    if subscription in served(group):
        raise Conflict(
            f"an agent of group {place[1]!r} is connected that handles {place[2]!r}; stop it, or remove the handler "
            "and start it again, before the subscription is ended"
        )
    return Ending(subscription, group, drop)


def end_some(connection: apsw.Connection, now: Moment, before: Ending) -> tuple[Ending, Notice]:
    """The next step. In the last, the subscription itself goes."""
    rows = rows_of(connection, "waiting_deliveries", (before.subscription, before.cursor, RANGE))
    for id_, _ in rows:
        if not before.drop:
            connection.execute(SQL["give_up_unsubscribed"], (id_, "the subscription was ended by hand", now.wall))
        connection.execute(SQL["remove_delivery"], (id_,))
    for lane in {lane for _, lane in rows if lane is not None}:
        connection.execute(SQL["lead_free_lane"], (before.group, lane, now.uptime))
    cursor = before.cursor + RANGE
    is_over = cursor >= one(connection, "last_delivery", ())[0]
    if is_over:
        connection.execute(SQL["abandon_dead_letters" if before.drop else "unpark_letters"], (before.subscription,))
        connection.execute(SQL["end_subscription"], (before.subscription,))
        connection.execute(SQL["remove_empty_group"], (before.group,))
    after = before._replace(cursor=cursor, removed=before.removed + len(rows), is_over=is_over)
    return after, Notice(groups={before.group})
