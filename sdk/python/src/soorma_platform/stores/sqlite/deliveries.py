"""Groups and deliveries as rows: what the store's methods of the same names do inside a transaction.

Each takes the connection and the time, an uptime where it is a number; those that change something are run by the
writer.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import apsw
import msgspec

from soorma_common.delivery import RecordedStep, Subscription
from soorma_common.errors import Conflict
from soorma_common.names import Scope
from soorma_common.times import rfc3339
from soorma_platform.engine.deliveries import verdict
from soorma_platform.engine.life import Letter, check_replay, is_unwanted
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows import Notice
from soorma_platform.engine.suspects import short_lease
from soorma_platform.stores.protocol import (
    SNAPSHOT_BYTES,
    SNAPSHOT_KEYS,
    Claimed,
    DeadLetterInfo,
    GroupInfo,
    GroupStanding,
    Membership,
    Offer,
    ReplicaInfo,
    SubscriptionInfo,
)
from soorma_platform.stores.sqlite import taking
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.overview import standings
from soorma_platform.stores.sqlite.taking import Cursor
from soorma_platform.stores.sqlite.transactions import delivery, live_entries, one, plan_row, rows_of

KEEP_REPLAYS = 15 * 60_000
UNTAKEN_SECONDS = 600
"""How long an event that no group took waits for the first that subscribes."""


def subscribe(
    connection: apsw.Connection, moment: Moment, tenant_id: str, group: str, subscriptions: list[Subscription]
) -> Membership:
    """Makes or refreshes a group. What is new in it is joining: `join` brings it to an end."""
    now = moment.uptime
    group_id = one(connection, "upsert_group", (tenant_id, group, moment.wall))[0]
    own: dict[int, Subscription] = {}
    for wanted in subscriptions:
        policy = msgspec.json.encode(wanted.retry).decode()
        kept = (wanted.type, wanted.topic, wanted.ordered, policy, moment.wall, now, wanted.ended_plans)
        values = (group_id, *kept)
        own[one(connection, "upsert_subscription", values)[0]] = wanted
    return Membership(group_id, own, patterns(connection, group_id))


def join(
    connection: apsw.Connection, now: int, tenant_id: str, membership: Membership, place: Cursor | None
) -> Cursor | None:
    """One step in which what is new in a group takes recent events that nobody took; from where to go on then.

    None once it has taken all. What is published meanwhile waits behind it.
    """
    ids = rows_of(connection, "joining_subscriptions", (membership.group_id,))
    new = {id_: membership.own[id_] for (id_,) in ids if id_ in membership.own}
    since = Cursor(now - UNTAKEN_SECONDS * 1000, 0)
    joining = taking.Joining(membership.group_id, tenant_id, new)
    return taking.take(connection, joining, now, max(since, place or since)) if new else None


def patterns(connection: apsw.Connection, group_id: int) -> dict[int, tuple[str, str]]:
    """(type, topic) of a group's subscriptions, by id."""
    return {row[0]: (row[1], row[2]) for row in rows_of(connection, "group_subscriptions", (group_id,))}


def claim(connection: apsw.Connection, moment: Moment, offer: Offer, most: int) -> list[Claimed]:
    """Puts ready deliveries into a replica's hands, one subscription after the other."""
    now = moment.uptime
    limit = min(offer.credit, most)
    if limit <= 0 or not _is_heard_of(connection, now, offer):
        return []
    claimed: list[Claimed] = []
    for subscription_id in offer.subscription_ids:
        if (left := limit - len(claimed)) <= 0:
            break
        rows = sorted(
            rows_of(connection, "claim", (subscription_id, now, *lease_ends(now, offer.lease), offer.replica, left))
        )
        claimed += [_claimed(connection, moment, offer, row) for row in rows]
    return claimed


def newest_suspect(connection: apsw.Connection, now: int, offer: Offer) -> int | None:
    """The suspect to test next: what began last before a crash is the likelier culprit. None if none is ready."""
    places = ((subscription, now) for subscription in offer.subscription_ids)
    found = [row for place in places if (row := one(connection, "newest_suspect", place))]
    return max(found)[1] if found else None


def claim_suspect(connection: apsw.Connection, moment: Moment, offer: Offer) -> list[Claimed]:
    """Puts one suspect into the empty hands of a replica; with the verdict, if it has died of it often enough."""
    now = moment.uptime
    if offer.credit <= 0 or not _is_heard_of(connection, now, offer):
        return []
    chosen = newest_suspect(connection, now, offer)
    if chosen is None:
        return []
    row = one(connection, "claim_suspect", (chosen, *lease_ends(now, offer.lease), offer.replica))
    taken = _claimed(connection, moment, offer, row)
    taken.is_suspect = True
    if found := delivery(connection, taken.fence):
        taken.verdict = verdict(found)
    return [taken]


def _is_heard_of(connection: apsw.Connection, now: int, offer: Offer) -> bool:
    lease = round(offer.lease * 1000)
    return one(connection, "is_heard_of", (offer.replica, now - lease * 2 // 3)) is not None


def lease_ends(now: int, lease: float) -> tuple[int, int]:
    """When a lease of so many seconds ends, and when it does for an event with which a process went silent; in ms."""
    return now + (whole := round(lease * 1000)), now + short_lease(whole)


def _claimed(connection: apsw.Connection, moment: Moment, offer: Offer, row: tuple[Any, ...]) -> Claimed:
    _, fence, attempt, subscription, position, until = row
    group_id, has_steps, *event, outlives = one(connection, "claimed_event", (subscription, position))
    taken = Claimed(fence, attempt, subscription, position, *event)
    taken.outlives = outlives == 1
    taken.lease = min((until - moment.uptime) / 1000, offer.lease)
    taken.steps = recorded(connection, group_id, position) if has_steps else []
    _add_plan(connection, moment.wall, taken, group_id)
    return taken


def _add_plan(connection: apsw.Connection, now: int, taken: Claimed, group_id: int) -> None:
    """The plan goes along, and its keys if they are few."""
    if taken.plan_id is None:
        return
    plan = taken.plan = plan_row(connection, Scope(taken.tenant_id, taken.user_id), taken.plan_id, now)
    taken.is_late = is_unwanted(taken, plan, group_id, now)
    taken.status = plan.life(now)
    if plan.size <= SNAPSHOT_BYTES and plan.keys <= SNAPSHOT_KEYS:
        taken.entries = live_entries(connection, plan, now, SNAPSHOT_KEYS)


def recorded(connection: apsw.Connection, group_id: int, position: int) -> list[RecordedStep]:
    """The steps that earlier attempts of a delivery have recorded."""
    rows = rows_of(connection, "steps", (group_id, position))
    return [RecordedStep(name, occurrence, msgspec.Raw(text.encode())) for name, occurrence, text in rows]


def renew(
    connection: apsw.Connection, moment: Moment, replica: str, fences: list[str], ends: tuple[int, int]
) -> list[str]:
    """Prolongs leases to their `lease_ends`, and the replica's place in the registry; the fences that still stand."""
    connection.execute(SQL["hear_replica"], (moment.uptime, replica))
    connection.execute(SQL["hear_agent"], (moment.wall, moment.uptime, replica))
    connection.execute(SQL["renew_on_the_way"], (replica, *ends))
    return [fence for fence in fences if one(connection, "renew", (fence, *ends))]


def resume(connection: apsw.Connection, fences: list[str], until: int, replica: str) -> list[Claimed]:
    """Leaves deliveries with an agent that is back; those whose fences still stand."""
    kept = []
    for fence in fences:
        if one(connection, "resume", (fence, until, replica)) and (row := delivery(connection, fence)):
            place = (row.position, row.tenant_id, row.user_id, row.plan_id, row.envelope, row.type)
            kept.append(Claimed(fence, row.attempt, row.subscription_id, *place, is_suspect=row.is_suspect))
    return kept


def give_back(connection: apsw.Connection, now: int, fences: list[str]) -> Notice:
    """Makes deliveries that still stand ready at once, as if they had not been claimed; tells their groups."""
    notice = Notice(groups=set())
    for fence in fences:
        if row := delivery(connection, fence):
            notice.groups.add(row.group_id)
            connection.execute(SQL["give_back"], (fence, now))
    return notice


def replay(
    connection: apsw.Connection, moment: Moment, tenant_id: str | None, dead_letter: int, key: str | None
) -> Notice | None:
    """Delivers a dead letter again, under a key once; None if there is none of that id."""
    now = moment.uptime
    answer = (
        "",
        "",
        f"replay:{tenant_id or ''}:{dead_letter}:{key}",
    )  # of no tenant and no user, whose names are never empty
    if key is not None and one(connection, "answer", (*answer, now)):
        return Notice()
    row = one(connection, "dead_letter", (dead_letter, tenant_id))
    if row is None:
        return None
    group_id, _, position, lane, parked, *scope, plan_id, kind, outlives, ended_plans = row
    if plan_id is not None:
        plan = plan_row(connection, Scope(*scope), plan_id, moment.wall)
        letter = Letter(kind, position, bool(outlives))
        check_replay(dead_letter, letter, plan, group_id, moment.wall, takes_ended=bool(ended_plans))
    subscription = one(connection, "stands_in", (dead_letter,))
    if subscription is None:
        raise Conflict(
            f"dead letter {dead_letter} cannot be replayed: its group has no subscription to {kind!r} any more; start "
            "an agent that handles it, then replay it"
        )
    if key is not None:
        connection.execute(SQL["put_answer"], (*answer, now + KEEP_REPLAYS, "{}"))
    connection.execute(SQL["remove_dead_letter"], (dead_letter,))
    if parked:
        connection.execute(SQL["unpark"], (now, position, group_id))
    else:
        connection.execute(SQL["replay_delivery"], (group_id, subscription[0], position, lane, now))
    return Notice(groups={group_id})


def groups(
    connection: apsw.Connection, now: Moment, tenant_id: str | None, is_served: Callable[[int, int], bool]
) -> list[GroupInfo]:
    """The groups that serve a tenant (None: all), with what waits for them."""
    found = standings(connection, now.uptime)
    aside = dict(rows_of(connection, "aside_by_subscription", ()))
    made = []
    for row in rows_of(connection, "groups", (tenant_id,)):
        subscriptions = [
            SubscriptionInfo(kind, topic, bool(ordered), rfc3339(seen), is_served(row[0], id_), aside.get(id_, 0))
            for id_, kind, topic, ordered, seen in rows_of(connection, "group_subscription_rows", (row[0],))
        ]
        made.append(_group_info(connection, now, found[row[0]], row, subscriptions))
    return made


def _group_info(
    connection: apsw.Connection,
    now: Moment,
    standing: GroupStanding,
    row: tuple[Any, ...],
    subscriptions: list[SubscriptionInfo],
) -> GroupInfo:
    group_id, tenant_id, name, created_at = row
    oldest = standing.oldest_seconds
    return GroupInfo(
        name,
        tenant_id or None,
        rfc3339(created_at),
        standing.events - standing.in_hand,
        standing.ready,
        standing.in_hand,
        None if oldest is None else rfc3339(now.wall - round(oldest * 1000)),
        subscriptions,
        [
            ReplicaInfo(_shown(replica), instance, most, rfc3339(at))
            for replica, instance, most, at in rows_of(connection, "group_replicas", (group_id,))
        ],
    )


def _shown(replica: str) -> str:
    """Tells one replica from another, and is not its name: whoever knows that renews its leases."""
    return blake2b(replica.encode(), digest_size=8).hexdigest()


def dead_letter_info(row: tuple[Any, ...]) -> DeadLetterInfo:
    """A dead letter of its columns in the order of the query."""
    number, group, event_id, kind, topic, tenant_id, user_id, plan_id, attempts, *told = row
    failures, deaths, reason, at, parked, envelope = told
    return DeadLetterInfo(
        id=number,
        group=group,
        event_id=event_id,
        type=kind,
        topic=topic,
        tenant_id=tenant_id,
        user_id=user_id,
        plan_id=plan_id,
        attempts=attempts,
        failures=failures,
        deaths=deaths,
        reason=reason,
        at=rfc3339(at),
        parked=bool(parked),
        event=msgspec.Raw(envelope.encode()),
    )
