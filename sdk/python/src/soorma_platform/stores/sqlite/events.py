"""The log of events: known ids, subscribers, and new entries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import apsw

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import (
    Audience,
    EventRow,
    EventsNeed,
    KnownIds,
    LogEntry,
    NewDelivery,
    SubscriptionRow,
)
from soorma_platform.engine.rows.timers import TimerRow
from soorma_platform.stores.ports.log import LogPage
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

LOG_PAGE = 256 * 1024
"""Bytes of events after which a page of the log ends, so that readers take turns."""


class _Known(NamedTuple):
    fingerprint: str | None


_known = Select("known_event", _Known)
_timer = Select("timer", TimerRow)
_subscribers = Select("subscribers", SubscriptionRow)
_insert = Mutation("insert_event", "taken", EventRow)
_insert_delivery = Mutation("insert_delivery", "position", NewDelivery)

log = Select("log", LogEntry)
event = Select("event", LogEntry)
correlated = Select("correlated", LogEntry)


class Bounds(NamedTuple):
    """The highest position of the log that was removed, and the highest that was assigned."""

    horizon: int
    end: int


bounds = Select("log_bounds", Bounds)


def load(loading: Loading, need: EventsNeed) -> None:
    """Loads what has to be known before events are published."""
    for event_id, topic, kind in need.events:
        load_known(loading, event_id)
        load_audience(loading, topic, kind, need.lanes)


def load_audience(loading: Loading, topic: str, kind: str, lanes: Collection[str]) -> None:
    """Loads the subscribers of a topic and type, and which of these lanes they are busy with."""
    audience, connection = loading.found.part(Audience), loading.connection
    rows = audience.subscribers.get((topic, kind))
    if rows is None:
        rows = _subscribers.all(connection, kind, topic, loading.scope.tenant_id)
        audience.subscribers[topic, kind] = rows
    for row in rows:
        for lane in lanes:
            if (lane_key := (row.group_id, lane)) not in audience.looked_at:
                audience.looked_at.add(lane_key)
                if value(connection, "lane_is_busy", *lane_key):
                    audience.busy.add(lane_key)


def load_known(loading: Loading, event_id: str) -> None:
    """Loads what an event id stands for already: usually nothing."""
    known, key = loading.found.part(KnownIds), (loading.scope.tenant_id, event_id)
    if event_id in known.looked_up:
        return
    known.looked_up.add(event_id)
    found = _known.one(loading.connection, *key)
    if found is None:
        return
    if found.fingerprint is not None:
        known.published[event_id] = found.fingerprint
    elif timer := _timer.one(loading.connection, *key):
        known.timers[event_id] = timer


def write(writing: Writing, row: EventRow) -> None:
    """Adds an event to the log, with its deliveries."""
    connection, notice = writing.connection, writing.notice
    position = _insert.value(connection, bool(row.deliveries), row)
    for delivery in row.deliveries:
        _insert_delivery.run(connection, position, delivery)
        notice.groups.add(delivery.group_id)
    scope = row.scope
    owner = (position, scope.tenant_id, scope.user_id)
    notice.entries.append(LogEntry(*owner, row.topic, row.type, row.correlation_id, row.envelope))


class SqliteLog:
    """The port of the log."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def page(self, after: int, limit: int) -> LogPage:
        with self._connections.reads(together=True) as connection:
            entries, _ = log.page(connection, after, limit, size=_size, most=LOG_PAGE)
            return LogPage(bounds_of(connection).horizon, entries)

    async def end(self) -> int:
        with self._connections.reads() as connection:
            return bounds_of(connection).end

    async def event(self, tenant_id: str, event_id: str) -> LogEntry | None:
        with self._connections.reads() as connection:
            return event.one(connection, tenant_id, event_id)

    async def correlated(
        self, scope: Scope, correlation_id: str, after: int, limit: int
    ) -> list[LogEntry]:
        parameters = (correlation_id, after, scope.tenant_id, scope.user_id, limit)
        with self._connections.reads() as connection:
            entries, _ = correlated.page(connection, *parameters, size=_size)
            return entries


def bounds_of(connection: apsw.Connection) -> Bounds:
    """Returns the bounds of the log."""
    return bounds.one(connection) or Bounds(0, 0)


def _size(entry: LogEntry) -> int:
    return len(entry.envelope)


LOADERS: dict[type[Any], Any] = {EventsNeed: load}
WRITERS: dict[type[Any], Any] = {EventRow: write}
