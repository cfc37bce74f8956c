"""Replicas that end: what they had in hand is free again, and has died with them unless they were draining."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import apsw
import msgspec

from soorma_platform.engine.suspects import FIRST_PAUSE, LONGEST_PAUSE, short_lease
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.transactions import one, rows_of

CLOSED, SILENT = 1, 2
"""How a process has died, as far as can be known: its connection was closed, or a lease ran out."""
REASONS = {
    CLOSED: "its process died, or lost its connection",
    SILENT: "its process gave no sign of life for a lease",
}
FORMER = ""
"""Stands for the replicas of an earlier run of the platform, whose ends nobody has seen."""


class Freed(NamedTuple):
    """What was taken out of a replica's hands."""

    fences: list[str]
    groups: set[int]
    suspected: set[int]
    """groups that have suspects now"""
    is_silent: bool = False
    """whether the replica is connected and was not heard of for the shortest of its leases"""


def free(connection: apsw.Connection, now: int, replica: str, how: int, lapsed: int | None = None) -> Freed:
    """Takes from a replica all that it has in hand, or only what had `lapsed` at a time. Times in ms."""
    row = None if replica == FORMER else one(connection, "replica", (replica,))
    if row is None or row[2]:
        rows = rows_of(connection, "free", (now, replica, lapsed))
    else:
        instance, process, _, _ = row
        is_alone = one(connection, "others_in_hand", (process,))[0] == 1
        about = (how, process, instance, is_alone, REASONS[how], FIRST_PAUSE, LONGEST_PAUSE)
        rows = rows_of(connection, "die", (now, replica, lapsed, *about))
    return Freed(
        [fence for _, fence, _ in rows],
        {group for group, _, _ in rows},
        {group for group, _, is_suspect in rows if is_suspect},
    )


def lapse(connection: apsw.Connection, now: int, lease: int) -> dict[str, Freed]:
    """Frees what leases have run out of, by replica. One that was not heard of for a lease loses all that it has."""
    freed = {}
    for (replica,) in rows_of(connection, "lapsed_replicas", (now,)):
        row = None if replica == FORMER else one(connection, "replica", (replica,))
        if row is None:
            freed[replica] = free(connection, now, replica, SILENT, now)
        else:
            since = now - row[3]
            found = free(connection, now, replica, SILENT, None if since >= lease else now)
            freed[replica] = found._replace(is_silent=since >= short_lease(lease))
    return freed


def rejoin(
    connection: apsw.Connection, now: int, group_id: int, agent: tuple[str, str, str], running: Collection[str]
) -> set[int]:
    """Gives others what an agent that is back has not received; `agent` is its process, instance and replica.

    Returns the groups for which there is something to do.
    """
    names = msgspec.json.encode(list(running)).decode()
    rows = rows_of(connection, "return_unreceived", (now, *agent, names, group_id))
    connection.execute(SQL["forget_former_replicas"], (*agent, group_id))
    return {group for (group,) in rows}
