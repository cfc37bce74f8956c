"""Ends of replicas: their deliveries are freed, with a death unless the replica was draining."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import apsw
import msgspec

from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.fences import LONGEST_MS, hashed
from soorma_platform.engine.suspects import FIRST_PAUSE, LONGEST_PAUSE, short_lease
from soorma_platform.stores.sqlite.statements import Select, execute, value, values

CLOSED, SILENT = 1, 2
"""Kinds of death of a process, as far as is known: its connection closed, or a lease expired."""
REASONS = {
    CLOSED: "its process died, or lost its connection",
    SILENT: "its process gave no sign of life for a lease",
}
FORMER = ""
"""Stands for the replicas of an earlier run of the platform, whose ends nobody saw."""


class _Replica(NamedTuple):
    instance: str
    process: str
    draining: bool
    heard_at: int


class _FreedDelivery(NamedTuple):
    """A delivery that was taken from a replica."""

    group_id: int
    fence: str
    is_suspect: bool


_replica = Select("replica", _Replica)
_free = Select("free", _FreedDelivery)
_die = Select("die", _FreedDelivery)


class Freed(NamedTuple):
    """The deliveries that were taken from a replica."""

    fences: list[str]
    groups: set[int]
    suspected: set[int]
    """groups that have suspects now"""
    is_silent: bool = False
    """true if the replica is connected, and was silent for the shortest of its leases"""


def spare(connection: apsw.Connection, now: Moment, lease: float) -> None:
    """Forgets the replicas of an earlier platform, whose agents have a lease to come back."""
    execute(connection, "spare_leases", now.uptime + round(lease * 1000))
    execute(connection, "forget_replicas")


def free(
    connection: apsw.Connection, now: int, replica: str, how: int, lapsed: int | None = None
) -> Freed:
    """Takes from a replica all that it has in hand, or only leases that expired by `lapsed`.

    Times are in ms.
    """
    row = None if replica == FORMER else _replica.one(connection, replica)
    if row is None or row.draining:
        rows = _free.all(connection, now, replica, lapsed)
    else:
        is_alone = value(connection, "others_in_hand", row.process) == 1
        about = (how, row.process, row.instance, is_alone, REASONS[how], FIRST_PAUSE, LONGEST_PAUSE)
        rows = _die.all(connection, now, replica, lapsed, *about)
    return Freed(
        [row.fence for row in rows],
        {row.group_id for row in rows},
        {row.group_id for row in rows if row.is_suspect},
    )


def lapse(connection: apsw.Connection, now: int, lease: int) -> dict[str, Freed]:
    """Frees deliveries whose leases have expired, by replica.

    A replica that was silent for a full lease loses all that it has.
    """
    freed = {}
    for replica in values(connection, "lapsed_replicas", now):
        row = None if replica == FORMER else _replica.one(connection, replica)
        if row is None:
            freed[replica] = free(connection, now, replica, SILENT, now)
        else:
            since = now - row.heard_at
            found = free(connection, now, replica, SILENT, None if since >= lease else now)
            freed[replica] = found._replace(is_silent=since >= short_lease(lease))
    if freed:  # until another has the delivery, a late commit counts, but not for ever
        execute(connection, "end_fences", now - LONGEST_MS)
    return freed


def rejoin(
    connection: apsw.Connection,
    now: int,
    group_id: int,
    agent: tuple[str, str, str],
    running: Collection[str],
) -> set[int]:
    """Releases deliveries that an agent that is back has not received; returns their groups.

    `agent` is its process, instance and replica; `running` are the fences that it has.
    """
    names = msgspec.json.encode([hashed(fence) for fence in running]).decode()
    groups = values(connection, "return_unreceived", now, *agent, names, group_id)
    execute(connection, "forget_former_replicas", *agent, group_id)
    return set(groups)
