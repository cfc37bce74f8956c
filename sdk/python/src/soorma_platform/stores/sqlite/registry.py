"""Agents and event definitions as rows: what the store's methods of these names do inside a transaction.

Each takes the connection and the moment; those that change something are run by the writer. The places of instances
expire by uptime.
`''` as tenant stands for all tenants.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from soorma_common.errors import DefinitionConflict
from soorma_common.registry import (
    MOST_AGENTS,
    MOST_DEFINITIONS,
    MOST_INSTANCES,
    AgentFilter,
    AgentInfo,
    AgentPage,
    Announcement,
    Capability,
    EventDefinition,
    EventInfo,
    EventPage,
    InstanceInfo,
    exceeds,
)
from soorma_common.times import rfc3339
from soorma_platform.engine.moments import Moment
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.transactions import one, page_of, rows_of

SAME_MS = 1_000
"""Within this, a place ends when it was last said to: two looks tell the same, unless the wall clock has jumped."""
_ANNOUNCEMENT = 4
_SCHEMA = 5
_announcements = msgspec.json.Decoder(Announcement)


def announce(
    connection: apsw.Connection, now: Moment, tenant_id: str, name: str, instance: str, announcement: Announcement
) -> AgentInfo:
    """Notes an instance, and that this is what its agent is now."""
    known = one(connection, "agent_announcement", (tenant_id, name))
    if known is None:
        _check_room(connection, "tenant_agents", MOST_AGENTS, "count_agents", (tenant_id,), "the number of agents")
    else:
        values = (known[0], instance, now.uptime)
        what = f"the number of running instances of agent {name!r}"
        _check_room(connection, "agent_instances", MOST_INSTANCES, "count_other_instances", values, what)
    text = msgspec.json.encode(announcement).decode()
    agent = one(connection, "put_agent", (tenant_id, name, now.wall, text))[0]
    if known is None or known[1] != text:
        _put_traits(connection, agent, announcement)
    ttl = round(announcement.ttl * 1000)
    connection.execute(SQL["put_instance"], (agent, instance, now.wall, now.uptime + ttl, ttl))
    return _agent_info(connection, now, (agent, tenant_id, name, now.wall, text))


def _check_room(
    connection: apsw.Connection, limit: str, maximum: int, count: str, values: tuple[Any, ...], what: str
) -> None:
    actual = one(connection, count, values)[0] + 1
    if actual > maximum:
        raise exceeds(limit, maximum, actual, what)


def _put_traits(connection: apsw.Connection, agent: int, announcement: Announcement) -> None:
    connection.execute(SQL["remove_traits"], (agent,))
    capabilities = [one if isinstance(one, str) else one.name for one in announcement.capabilities]
    for kind, names in (
        ("capability", capabilities),
        ("consumes", announcement.events_consumed),
        ("produces", announcement.events_produced),
    ):
        for name in names:
            connection.execute(SQL["add_trait"], (agent, kind, name))


def heartbeat(
    connection: apsw.Connection, now: Moment, tenant_id: str, name: str, instance: str
) -> InstanceInfo | None:
    """The instance lives on; None if it is not, or no longer, known as alive."""
    row = one(connection, "hear_instance", (tenant_id, name, instance, now.wall, now.uptime))
    return _instance_info(now, row) if row else None


def deregister(connection: apsw.Connection, now: Moment, tenant_id: str, name: str, instance: str) -> bool:
    """Forgets an instance, and with its last one the agent; whether it was alive."""
    row = one(connection, "remove_instance", (tenant_id, name, instance, now.uptime))
    if row is None:
        return False
    _remove_if_empty(connection, row[0])
    return bool(row[1])


def sweep(connection: apsw.Connection, uptime: int, step: int) -> bool:
    """Removes up to `step` instances that have expired, and agents left without one; True if there may be more."""
    rows = rows_of(connection, "expired_instances", (uptime, step))
    for agent, instance in rows:
        connection.execute(SQL["sweep_instance"], (agent, instance))
    for agent in {agent for agent, _ in rows}:
        _remove_if_empty(connection, agent)
    return len(rows) >= step


def _remove_if_empty(connection: apsw.Connection, agent: int) -> None:
    if one(connection, "has_instances", (agent,)) is None:
        connection.execute(SQL["remove_traits"], (agent,))
        connection.execute(SQL["remove_agent"], (agent,))


def agents(
    connection: apsw.Connection, now: Moment, tenant_id: str, wanted: AgentFilter, after: int, limit: int
) -> AgentPage:
    """Agents with a living instance that serve the tenant and have all that is asked for."""
    values = (tenant_id, after, *msgspec.structs.astuple(wanted), now.uptime, limit + 1)
    rows, more = page_of(connection, "find_agents", values, _ANNOUNCEMENT)
    page = rows[:limit]
    following = page[-1][0] if more or len(rows) > limit else None
    return AgentPage([_agent_info(connection, now, row) for row in page], following)


def agent(connection: apsw.Connection, now: Moment, tenant_id: str, name: str) -> AgentInfo | None:
    """The agent of that name that serves the tenant, its own before one that serves all."""
    row = one(connection, "agent", (tenant_id, name, now.uptime))
    return _agent_info(connection, now, row) if row else None


def _agent_info(connection: apsw.Connection, now: Moment, row: tuple[Any, ...]) -> AgentInfo:
    agent_id, tenant_id, name, announced_at, text = row
    told = _announcements.decode(text)
    return AgentInfo(
        name=name,
        tenant_id=tenant_id or None,
        description=told.description,
        capabilities=[Capability(one) if isinstance(one, str) else one for one in told.capabilities],
        events_consumed=told.events_consumed,
        events_produced=told.events_produced,
        announced_at=rfc3339(announced_at),
        instances=[
            _instance_info(now, found) for found in rows_of(connection, "live_instances", (agent_id, now.uptime))
        ],
    )


def _instance_info(now: Moment, row: tuple[Any, ...]) -> InstanceInfo:
    instance, announced_at, heard_at, expires_at, ttl = row
    until = now.shown(expires_at)
    if abs(until - heard_at - ttl) < SAME_MS:
        until = heard_at + ttl
    return InstanceInfo(instance, rfc3339(announced_at), rfc3339(heard_at), rfc3339(until), ttl / 1000)


# event definitions


def define(connection: apsw.Connection, now: Moment, tenant_id: str, definition: EventDefinition) -> EventInfo:
    """Adds a version of an event type; the same again changes nothing, other content is refused."""
    schema = msgspec.json.encode(definition.schema).decode()
    place = (tenant_id, definition.type, definition.version)
    wanted = (definition.type, definition.version, tenant_id, definition.topic, definition.description, schema,
              definition.check)  # fmt: skip
    row = one(connection, "exact_definition", place)
    if row is None:
        what = "the number of event definitions"
        _check_room(connection, "tenant_definitions", MOST_DEFINITIONS, "count_definitions", (tenant_id,), what)
        row = (*wanted, now.wall)
        connection.execute(SQL["insert_definition"], row)
    elif row[:-1] != wanted:
        raise DefinitionConflict(
            f"version {definition.version} of event {definition.type!r} is defined already, with other content; "
            "a version is never changed: give the new content a new one",
            event_type=definition.type,
            version=definition.version,
        )
    return _event_info(connection, row)


def undefine(connection: apsw.Connection, tenant_id: str, event_type: str, version: int) -> bool:
    """Removes a version of an event type; False if there is none."""
    return one(connection, "remove_definition", (tenant_id, event_type, version)) is not None


def definition(connection: apsw.Connection, tenant_id: str, event_type: str, version: int | None) -> EventInfo | None:
    """A version of an event type as the tenant sees it, without `version` the newest."""
    row = one(connection, "definition", (tenant_id, event_type, version))
    return _event_info(connection, row) if row else None


def definitions(
    connection: apsw.Connection, tenant_id: str, event_type: str | None, topic: str | None, after: str, limit: int
) -> EventPage:
    """Event types as the tenant sees them, each in its newest version."""
    values = (tenant_id, after, event_type, topic, limit + 1)
    rows, more = page_of(connection, "newest_definitions", values, _SCHEMA)
    page = rows[:limit]
    following = page[-1][0] if more or len(rows) > limit else None
    return EventPage([_event_info(connection, row) for row in page], following)


def _event_info(connection: apsw.Connection, row: tuple[Any, ...]) -> EventInfo:
    event_type, version, tenant_id, topic, description, schema, mode, defined_at = row
    return EventInfo(
        type=event_type,
        version=version,
        tenant_id=tenant_id or None,
        topic=topic,
        description=description,
        schema=msgspec.json.decode(schema),
        check=mode,
        defined_at=rfc3339(defined_at),
        versions=[found for (found,) in rows_of(connection, "definition_versions", (tenant_id, event_type))],
    )
