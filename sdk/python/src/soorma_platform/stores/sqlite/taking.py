"""How new subscriptions take the events that nobody took: in steps, so that no transaction is long."""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw

from soorma_common.delivery import Subscription
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.transactions import one, rows_of

STEP = 500
"""Events that are looked at in one transaction."""
STEP_BYTES = 2 * 1024 * 1024
"""of events that are marked as taken in one, for which they are written anew"""
LEAST = 8
"""of each type, where there are many"""


class Cursor(NamedTuple):
    """Up to where it was looked: the time and position of an event."""

    at: int
    position: int


class Joining:
    """What joins a group: its new subscriptions by id. `tenant_id` is '' where the group serves all."""

    def __init__(self, group_id: int, tenant_id: str, subscriptions: dict[int, Subscription]) -> None:
        self.group_id = group_id
        self.subscriptions = subscriptions
        self._tenant_id = tenant_id
        self._by_pattern = {(one.type, one.topic): (id_, one) for id_, one in subscriptions.items()}

    def taker(self, kind: str, topic: str, tenant_id: str) -> tuple[int, Subscription] | None:
        """Who takes such an event: one that names its type before one that does not."""
        if self._tenant_id not in ("", tenant_id):
            return None
        patterns = ((kind, topic), (kind, "*"), ("*", topic), ("*", "*"))
        return next((found for pattern in patterns if (found := self._by_pattern.get(pattern))), None)


def take(connection: apsw.Connection, joining: Joining, now: int, start: Cursor) -> Cursor | None:
    """Takes the eldest that wait behind a place. Where to go on from; None once all have joined.

    In the order of the log, whichever subscription takes an event: it is the order of their lanes.
    """
    rows, is_all = _waiting(connection, joining, start)
    size = 0
    for number, (at, position, lane, kind, topic, tenant_id, length) in enumerate(rows, 1):
        if taker := joining.taker(kind, topic, tenant_id):
            _take_one(connection, joining.group_id, taker, now, (position, lane))
            size += length
        if size > STEP_BYTES and number < len(rows):
            return Cursor(at, position)
    if not is_all:
        return Cursor(*rows[-1][:2])
    for subscription_id in joining.subscriptions:
        connection.execute(SQL["joined"], (subscription_id,))
    return None


def _waiting(connection: apsw.Connection, joining: Joining, start: Cursor) -> tuple[list[tuple[Any, ...]], bool]:
    """The next events that may be wanted, in order, and whether there are no others."""
    kinds = {wanted.type for wanted in joining.subscriptions.values()}
    if "*" in kinds:
        rows = rows_of(connection, "untaken", (*start, STEP))
        return rows, len(rows) < STEP
    most = max(STEP // len(kinds), LEAST)
    found = [rows_of(connection, "untaken_of_type", (*start, most, kind)) for kind in kinds]
    rows = sorted(row for of_kind in found for row in of_kind)
    if cut := [of_kind[-1][:2] for of_kind in found if len(of_kind) == most]:  # behind these there may be others
        end = min(cut)
        return [row for row in rows if row[:2] <= end], False
    return rows, True


def _take_one(
    connection: apsw.Connection,
    group_id: int,
    taker: tuple[int, Subscription],
    now: int,
    place: tuple[int, str | None],
) -> None:
    """The eldest of a lane leads it, unless the lane was there before."""
    (subscription_id, wanted), (position, lane) = taker, place
    lane = lane if wanted.ordered else None
    is_behind = lane is not None and one(connection, "lane_is_busy", (group_id, lane))
    values = (group_id, subscription_id, position, lane, None if is_behind else now)
    connection.execute(SQL["insert_taken"], values)
    connection.execute(SQL["mark_taken"], (position,))
