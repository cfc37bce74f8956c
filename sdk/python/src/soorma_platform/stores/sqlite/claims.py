"""Claims: deliveries are given to agents, kept by them, and taken back.

Each function takes the connection and the time, an uptime if it is a number, and is run by the
writer.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.deliveries import DeliveryRow
from soorma_platform.engine.rows.fences import BYTES, LONGEST_MS, hashed
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.suspects import short_lease
from soorma_platform.stores.ports.deliveries import SNAPSHOT_BYTES, SNAPSHOT_KEYS, Claimed, Prefetch
from soorma_platform.stores.sqlite import plans, steps
from soorma_platform.stores.sqlite.deliveries import delivery
from soorma_platform.stores.sqlite.statements import Select, execute, value


class _Taken(NamedTuple):
    """A delivery that was just claimed."""

    id: int
    attempt: int
    subscription_id: int
    position: int
    ready_at: int


class _ClaimedEvent(NamedTuple):
    """The event of a delivery, and its group."""

    group_id: int
    has_steps: bool
    tenant_id: str
    user_id: str
    plan_id: str | None
    envelope: str
    type: str
    outlives: bool


class _Suspect(NamedTuple):
    position: int
    id: int


_claim = Select("claim", _Taken)
_claim_suspect = Select("claim_suspect", _Taken)
_claimed_event = Select("claimed_event", _ClaimedEvent)
_newest_suspect = Select("newest_suspect", _Suspect)


def claim(
    connection: apsw.Connection, moment: Moment, prefetch: Prefetch, most: int
) -> list[Claimed]:
    """Claims ready deliveries for a replica, one subscription after the other."""
    now = moment.uptime
    limit = min(prefetch.room, most)
    if limit <= 0 or not _is_heard_of(connection, now, prefetch):
        return []
    claimed: list[Claimed] = []
    for subscription_id in prefetch.subscription_ids:
        if (left := limit - len(claimed)) <= 0:
            break
        ends = lease_ends(now, prefetch.lease)
        taker = (prefetch.replica, left, prefetch.family)
        rows = sorted(_claim.all(connection, subscription_id, now, *ends, *taker))
        claimed += [_claimed(connection, moment, prefetch, row) for row in rows]
    return claimed


def newest_suspect(connection: apsw.Connection, now: int, prefetch: Prefetch) -> int | None:
    """Returns the id of the suspect to test next; None if none is ready.

    What began last before a crash is the likelier culprit.
    """
    rows = (
        _newest_suspect.one(connection, subscription, now)
        for subscription in prefetch.subscription_ids
    )
    return max((row for row in rows if row), default=_Suspect(0, 0)).id or None


def claim_suspect(connection: apsw.Connection, moment: Moment, prefetch: Prefetch) -> list[Claimed]:
    """Claims one suspect for a replica that has nothing in hand."""
    now = moment.uptime
    if prefetch.room <= 0 or not _is_heard_of(connection, now, prefetch):
        return []
    chosen = newest_suspect(connection, now, prefetch)
    if chosen is None:
        return []
    taker = (prefetch.replica, prefetch.family)
    row = _claim_suspect.one(connection, chosen, *lease_ends(now, prefetch.lease), *taker, now)
    if row is None:
        return []
    taken = _claimed(connection, moment, prefetch, row)
    taken.suspect = delivery(connection, taken.fence)
    return [taken]


def _is_heard_of(connection: apsw.Connection, now: int, prefetch: Prefetch) -> bool:
    lease = round(prefetch.lease * 1000)
    return value(connection, "is_heard_of", prefetch.replica, now - lease * 2 // 3) is not None


def lease_ends(now: int, lease: float) -> tuple[int, int]:
    """Returns the ends, in ms, of a lease of so many seconds and of a shortened one.

    The latter is for an event with which a process went silent.
    """
    return now + (whole := round(lease * 1000)), now + short_lease(whole)


def _claimed(
    connection: apsw.Connection, moment: Moment, prefetch: Prefetch, row: _Taken
) -> Claimed:
    event = _claimed_event.one(connection, row.subscription_id, row.position)
    assert event is not None  # noqa: S101 - a delivery has one
    fence = secrets.token_hex(BYTES)
    execute(connection, "set_fence", hashed(fence), row.id)
    taken = Claimed(
        fence=fence,
        attempt=row.attempt,
        group_id=event.group_id,
        subscription_id=row.subscription_id,
        position=row.position,
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        plan_id=event.plan_id,
        envelope=event.envelope,
        type=event.type,
        at=moment.wall,
        lease=min((row.ready_at - moment.uptime) / 1000, prefetch.lease),
        steps=steps.recorded(connection, event.group_id, row.position) if event.has_steps else [],
        outlives=event.outlives,
    )
    _add_plan(connection, moment.wall, taken)
    return taken


def _add_plan(connection: apsw.Connection, now: int, taken: Claimed) -> None:
    """Adds the plan, and its keys if they are few and small."""
    if taken.plan_id is None:
        return
    plan = taken.plan = plans.plan_row(
        connection, Scope(taken.tenant_id, taken.user_id), taken.plan_id, now
    )
    if plan.size <= SNAPSHOT_BYTES and plan.keys <= SNAPSHOT_KEYS:
        taken.entries = plans.live_entries(connection, plan, now, SNAPSHOT_KEYS)


def renew(
    connection: apsw.Connection,
    moment: Moment,
    replica: str,
    fences: list[str],
    ends: tuple[int, int],
    family: str | None,
) -> list[str]:
    """Prolongs leases to their `lease_ends`; returns the fences still valid.

    Prolongs the replica's place in the registry too.
    """
    execute(connection, "hear_replica", moment.uptime, replica)
    execute(connection, "hear_agent", moment.wall, moment.uptime, replica)
    execute(connection, "renew_on_the_way", replica, *ends, LONGEST_MS)
    how = (*ends, family, LONGEST_MS, moment.uptime)
    return [fence for fence in fences if value(connection, "renew", hashed(fence), *how)]


def resume(
    connection: apsw.Connection,
    fences: list[str],
    now: int,
    until: int,
    replica: str,
    family: str | None,
    group_id: int | None,
) -> list[Claimed]:
    """Leaves deliveries with an agent that is back; returns those with valid fences."""
    how = (until, replica, family, group_id, LONGEST_MS, now)
    kept = [fence for fence in fences if value(connection, "resume", hashed(fence), *how)]
    return [_resumed(fence, row) for fence in kept if (row := delivery(connection, fence))]


def _resumed(fence: str, row: DeliveryRow) -> Claimed:
    return Claimed(
        fence=fence,
        attempt=row.attempt,
        group_id=row.group_id,
        subscription_id=row.subscription_id,
        position=row.position,
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        plan_id=row.plan_id,
        envelope=row.envelope,
        type=row.type,
        suspect=row if row.is_suspect else None,
    )


def release(connection: apsw.Connection, now: int, fences: list[str]) -> Notice:
    """Makes deliveries with valid fences ready at once, as if they had not been claimed.

    The notice names their groups.
    """
    notice = Notice(groups=set())
    for fence in fences:
        if row := delivery(connection, fence):
            notice.groups.add(row.group_id)
            execute(connection, "release_delivery", hashed(fence), now)
    return notice
