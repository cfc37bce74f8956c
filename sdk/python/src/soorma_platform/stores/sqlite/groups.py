"""Groups: their members, their subscriptions, and what waits for them."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

import apsw
import msgspec

from soorma_common.delivery import Subscription
from soorma_common.names import Owner, Scope
from soorma_platform.engine.rows.audit_log import Author
from soorma_platform.engine.rows.groups import (
    Cursor,
    GroupFound,
    GroupJoined,
    GroupNeed,
    Joined,
    KnownSubscription,
    Taken,
    UntakenFound,
    UntakenNeed,
    UntakenRow,
)
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports.groups import (
    EndedSubscription,
    GroupRow,
    GroupState,
    LetterState,
    Pattern,
    Replica,
    ReplicaRow,
    SubscriptionState,
    Survey,
)
from soorma_platform.stores.sqlite import deaths, subscriptions
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.overview import standings
from soorma_platform.stores.sqlite.owners import among, kept
from soorma_platform.stores.sqlite.prefetch import Prefetches
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing


class _AsideCount(NamedTuple):
    subscription_id: int
    waiting: int


_known = Select("known_subscriptions", KnownSubscription)
_untaken = Select("untaken", UntakenRow)
_untaken_of_type = Select("untaken_of_type", UntakenRow)
_groups = Select("groups", GroupRow)
_subscriptions = Select("group_subscription_rows", SubscriptionState)
_replicas = Select("group_replicas", ReplicaRow)
_aside = Select("aside_by_subscription", _AsideCount)
_dead_letters = Select("dead_letters", LetterState)
_upsert_subscription = Mutation(
    "upsert_subscription", "group_id", "seen_at", "seen_uptime", Subscription
)
_insert_replica = Mutation(
    "insert_replica", "group_id", "process", "connected_at", "heard_at", Replica
)


class SqliteGroups:
    """The port of groups."""

    def __init__(self, connections: Connections, prefetches: Prefetches) -> None:
        self._connections = connections
        self._prefetches = prefetches

    async def join(self, group_id: int, replica: Replica, running: Collection[str] = ()) -> bool:
        def job(connection: apsw.Connection) -> tuple[bool, Notice | None]:
            now, process = self._connections.clock.read(), replica.process
            agent = (process, replica.instance, group_id)
            if process and value(connection, "is_outdated", *agent, replica.connection):
                return False, None
            _insert_replica.run(
                connection, group_id, process or replica.id, now.wall, now.uptime, replica
            )
            self._prefetches.heard(replica.id)
            if not process:
                return True, None
            came_back = (process, replica.instance, replica.id)
            return True, Notice(
                groups=deaths.rejoin(connection, now.uptime, group_id, came_back, running)
            )

        is_current: bool = await self._connections.writer.run(job, durable=False)
        return is_current

    async def drain(self, replica: str) -> None:
        await self._connections.change(
            lambda tx: execute(tx, "drain_replica", replica), durable=False
        )

    async def leave(self, replica: str) -> None:
        def job(connection: apsw.Connection) -> tuple[None, Notice]:
            freed = deaths.free(connection, self._connections.uptime(), replica, deaths.CLOSED)
            execute(connection, "remove_replica", replica)
            self._prefetches.suspect(freed.suspected)
            return None, Notice(groups=freed.groups)

        await self._connections.writer.run(job)

    async def survey(self, group_id: int) -> Survey:
        def job(connection: apsw.Connection) -> tuple[Survey, Notice]:
            return self._prefetches.survey(connection, group_id), Notice(groups={group_id})

        found: Survey = await self._connections.writer.run(job, durable=False)
        return found

    async def unsubscribe(
        self,
        owner: Owner,
        group: str,
        event_type: str,
        topic: str,
        *,
        drop: bool,
        author: Author,
    ) -> EndedSubscription | None:
        subscription = (among(owner), group, event_type, topic)
        found = await self._connections.change(
            lambda tx: subscriptions.ending(tx, subscription, drop=drop)
        )
        if found is None:
            return None
        if found.subscription in self._prefetches.served(found.group):
            return EndedSubscription(0, is_served=True)
        while not found.is_over:
            step = partial(self._end_some, before=found, author=author)
            found = await self._connections.writer.run(step)
        return EndedSubscription(found.removed, is_served=False)

    def _end_some(
        self, connection: apsw.Connection, before: subscriptions.SubscriptionEnd, author: Author
    ) -> tuple[subscriptions.SubscriptionEnd, Notice]:
        return subscriptions.end_some(connection, self._connections.clock.read(), before, author)

    async def seen(self, subscription_ids: builtins.list[int]) -> None:
        now, ids = self._connections.clock.read(), msgspec.json.encode(subscription_ids).decode()
        await self._connections.change(
            lambda tx: execute(tx, "see_subscriptions", ids, now.wall, now.uptime), durable=False
        )

    async def patterns(self, group_id: int) -> builtins.list[Pattern]:
        with self._connections.reads() as connection:
            return subscriptions.patterns.all(connection, group_id)

    async def list(self, owner: Owner) -> builtins.list[GroupState]:
        return await self._connections.overview.look(partial(self._states, owner=owner))

    def _states(self, connection: apsw.Connection, owner: Owner) -> builtins.list[GroupState]:
        now = self._connections.clock.read()
        found = standings(connection, now.uptime)
        set_aside = {row.subscription_id: row.waiting for row in _aside.all(connection)}
        states = []
        for group in _groups.all(connection, among(owner)):
            known = _subscriptions.all(connection, group.id)
            for one in known:
                one.is_served = self._prefetches.is_served(group.id, one.id)
                one.set_aside = set_aside.get(one.id, 0)
            replicas = _replicas.all(connection, group.id)
            states.append(GroupState(group, found[group.id], known, replicas, now.wall))
        return states

    async def dead_letters(
        self, owner: Owner, group: str | None, after: int, limit: int
    ) -> builtins.list[LetterState]:
        return await self._connections.overview.look(
            lambda connection: _dead_letters.all(connection, after, group, among(owner), limit)
        )


def load(loading: Loading, need: GroupNeed) -> None:
    """Loads a group with its subscriptions."""
    found = loading.found.part(GroupFound)
    found.id = value(loading.connection, "group_id", _tenant(loading.whose), need.name)
    if found.id is not None:
        found.subscriptions = _known.all(loading.connection, found.id)


def load_untaken(loading: Loading, need: UntakenNeed) -> None:
    """Loads events that no group took, in the order of their cursors."""
    connection, group = loading.connection, loading.found.part(GroupFound)
    old = {(one.type, one.topic) for one in group.subscriptions if not one.joining}
    kinds = {one.type for one in need.subscriptions if (one.type, one.topic) not in old}
    if not kinds:
        return
    since = Cursor(loading.moment.uptime - need.within, 0)
    found = loading.found.part(UntakenFound)
    found.events, found.is_all = _untaken_from(
        connection, max(since, need.after or since), kinds, need
    )
    if group.id is not None:
        lanes = {row.lane for row in found.events if row.lane is not None}
        found.busy = {lane for lane in lanes if value(connection, "lane_is_busy", group.id, lane)}


def _untaken_from(
    connection: apsw.Connection, start: Cursor, kinds: set[str], need: UntakenNeed
) -> tuple[list[UntakenRow], bool]:
    if "*" in kinds:
        rows = _untaken.all(connection, *start, need.limit)
        return rows, len(rows) < need.limit
    most = max(need.limit // len(kinds), need.least)
    found = [_untaken_of_type.all(connection, *start, most, kind) for kind in kinds]
    rows = sorted((row for of_kind in found for row in of_kind), key=_cursor)
    # Behind these, there may be others.
    if cut := [of_kind[-1].cursor for of_kind in found if len(of_kind) == most]:
        end = min(cut)
        return [row for row in rows if row.cursor <= end], False
    return rows, True


def _cursor(row: UntakenRow) -> Cursor:
    return row.cursor


def join(writing: Writing, row: GroupJoined) -> None:
    """Creates or refreshes a group with subscriptions. A new subscription is joining."""
    connection = writing.connection
    row.id = value(connection, "upsert_group", _tenant(writing.whose), row.name, row.at)
    row.ids = {
        (one.type, one.topic): _upsert_subscription.value(
            connection, row.id, row.at, row.uptime, one
        )
        for one in row.subscriptions
    }


def take(writing: Writing, row: Taken) -> None:
    """Delivers an event that no group took."""
    subscription = row.group.ids[row.by.type, row.by.topic]
    delivery = (row.group.id, subscription, row.position, row.lane, row.ready_at)
    execute(writing.connection, "insert_taken", *delivery)
    execute(writing.connection, "mark_taken", row.position)
    writing.notice.groups.add(row.group.id)


def end_joining(writing: Writing, row: Joined) -> None:
    """Lets subscriptions receive what is published from now on."""
    for one in row.subscriptions:
        execute(writing.connection, "joined", row.group.ids[one.type, one.topic])


def _tenant(whose: Scope | Owner) -> str:
    assert not isinstance(whose, Scope)  # noqa: S101 - whoever made the command has seen to it
    return kept(whose)


LOADERS: dict[type[Any], Any] = {GroupNeed: load, UntakenNeed: load_untaken}
WRITERS: dict[type[Any], Any] = {GroupJoined: join, Taken: take, Joined: end_joining}
