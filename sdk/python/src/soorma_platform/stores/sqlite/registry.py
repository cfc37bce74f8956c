"""The store's port of the registry: agents and event definitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import apsw
import msgspec

from soorma_common.names import Owner, Scope
from soorma_common.registry import AgentFilter
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.registry import (
    AgentFound,
    AgentNeed,
    AgentRow,
    Announced,
    DefinitionFound,
    DefinitionNeed,
    DefinitionRow,
    InstanceRow,
)
from soorma_platform.stores.ports.registry import (
    AgentsSeen,
    AgentState,
    DefinitionsSeen,
    DefinitionState,
)
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.owners import kept
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

SAME_MS = 1_000


class _Removed(NamedTuple):
    agent: int
    was_alive: bool


class _Expired(NamedTuple):
    agent: int
    instance: str


_before = Select("agent_announcement", AgentRow)
_agents = Select("find_agents", AgentRow)
_agent = Select("agent", AgentRow)
_instances = Select("live_instances", InstanceRow)
_heard = Select("hear_instance", InstanceRow)
_removed = Select("remove_instance", _Removed)
_expired = Select("expired_instances", _Expired)
_exact = Select("exact_definition", DefinitionRow)
_definition = Select("definition", DefinitionRow)
_definitions = Select("newest_definitions", DefinitionRow)
_put_agent = Mutation("put_agent", "tenant_id", Announced)
_put_instance = Mutation("put_instance", "agent", Announced)
_insert_definition = Mutation("insert_definition", DefinitionRow)


class SqliteRegistry:
    """The port of the registry."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def heartbeat(self, owner: Owner, name: str, instance: str) -> InstanceRow | None:
        connections = self._connections

        def job(connection: apsw.Connection) -> InstanceRow | None:
            moment = connections.clock.read()
            row = _heard.one(connection, kept(owner), name, instance, moment.wall, moment.uptime)
            return row and _seen(row, moment.to_wall)

        return await connections.change(job, durable=False)

    async def deregister(self, owner: Owner, name: str, instance: str) -> bool:
        def job(connection: apsw.Connection) -> bool:
            row = _removed.one(connection, kept(owner), name, instance, self._connections.uptime())
            if row is None:
                return False
            _remove_if_empty(connection, row.agent)
            return row.was_alive

        return await self._connections.change(job)

    async def agents(
        self, tenant_id: str, filters: AgentFilter, after: int, limit: int
    ) -> AgentsSeen:
        now = self._connections.clock.read()

        def look(connection: apsw.Connection) -> AgentsSeen:
            parameters = (
                tenant_id,
                after,
                *msgspec.structs.astuple(filters),
                now.uptime,
                limit + 1,
            )
            rows, more = _agents.page(connection, *parameters, size=_announcement_size)
            page = rows[:limit]
            following = page[-1].id if more or len(rows) > limit else None
            return AgentsSeen([_state(connection, row, now) for row in page], following)

        return await self._connections.overview.look(look)

    async def agent(self, owner: Owner, name: str) -> AgentState | None:
        with self._connections.reads(together=True) as connection:
            now = self._connections.clock.read()
            row = _agent.one(connection, kept(owner), name, now.uptime)
            return None if row is None else _state(connection, row, now)

    async def undefine(self, owner: Owner, event_type: str, version: int) -> bool:
        return await self._connections.change(
            lambda tx: value(tx, "remove_definition", kept(owner), event_type, version) is not None
        )

    async def definition(
        self, owner: Owner, event_type: str, version: int | None
    ) -> DefinitionState | None:
        with self._connections.reads(together=True) as connection:
            row = _definition.one(connection, kept(owner), event_type, version)
            return None if row is None else _defined(connection, row)

    async def definitions(
        self, owner: Owner, event_type: str | None, topic: str | None, after: str, limit: int
    ) -> DefinitionsSeen:
        def look(connection: apsw.Connection) -> DefinitionsSeen:
            parameters = (kept(owner), after, event_type, topic, limit + 1)
            rows, more = _definitions.page(connection, *parameters, size=_schema_size)
            page = rows[:limit]
            following = page[-1].type if more or len(rows) > limit else None
            return DefinitionsSeen([_defined(connection, row) for row in page], following)

        return await self._connections.overview.look(look)


def _state(connection: apsw.Connection, row: AgentRow, now: Moment) -> AgentState:
    return AgentState(
        row, [_seen(one, now.to_wall) for one in _instances.all(connection, row.id, now.uptime)]
    )


def _seen(row: InstanceRow, to_wall: Callable[[int], int]) -> InstanceRow:
    """Returns the instance with its expiry by the wall clock, as users see it.

    Within SAME_MS, that is the one stated last: two reads return the same, unless the wall clock
    has jumped.
    """
    until, said = to_wall(row.expires_at), row.heard_at + row.ttl
    row.expires_at = said if abs(until - said) < SAME_MS else until
    return row


def _defined(connection: apsw.Connection, row: DefinitionRow) -> DefinitionState:
    return DefinitionState(row, values(connection, "definition_versions", row.tenant_id, row.type))


def _announcement_size(row: AgentRow) -> int:
    return len(msgspec.json.encode(row.announcement))


def _schema_size(row: DefinitionRow) -> int:
    return len(row.schema)


def load_agent(loading: Loading, need: AgentNeed) -> None:
    """Loads the agent as it was announced before."""
    connection, found, tenant_id = (
        loading.connection,
        loading.found.part(AgentFound),
        _tenant(loading.whose),
    )
    found.before = _before.one(connection, tenant_id, need.name)
    if found.before is None:
        found.agents = value(connection, "count_agents", tenant_id)
    else:
        other = (found.before.id, need.instance, loading.moment.uptime)
        found.others = value(connection, "count_other_instances", *other)


def load_definition(loading: Loading, need: DefinitionNeed) -> None:
    """Loads the version as it was defined before."""
    connection, found, tenant_id = (
        loading.connection,
        loading.found.part(DefinitionFound),
        _tenant(loading.whose),
    )
    found.before = _exact.one(connection, tenant_id, need.type, need.version)
    if found.before is None:
        found.count = value(connection, "count_definitions", tenant_id)


def announce(writing: Writing, row: Announced) -> None:
    """Records an instance, and what its agent is now."""
    connection = writing.connection
    agent = _put_agent.value(connection, _tenant(writing.whose), row)
    if row.is_new:
        _put_traits(connection, agent, row)
    _put_instance.run(connection, agent, row)


def _put_traits(connection: apsw.Connection, agent: int, row: Announced) -> None:
    execute(connection, "remove_traits", agent)
    announcement = row.announcement
    capabilities = [one if isinstance(one, str) else one.name for one in announcement.capabilities]
    for kind, names in (
        ("capability", capabilities),
        ("consumes", announcement.events_consumed),
        ("produces", announcement.events_produced),
    ):
        for name in names:
            execute(connection, "add_trait", agent, kind, name)


def define(writing: Writing, row: DefinitionRow) -> None:
    """Adds a version of an event type."""
    _insert_definition.run(writing.connection, row)


def sweep(connection: apsw.Connection, uptime: int, step: int) -> bool:
    """Removes up to `step` expired instances, and agents without any; True if more may be left."""
    rows = _expired.all(connection, uptime, step)
    for row in rows:
        execute(connection, "sweep_instance", row.agent, row.instance)
    for agent in {row.agent for row in rows}:
        _remove_if_empty(connection, agent)
    return len(rows) >= step


def _remove_if_empty(connection: apsw.Connection, agent: int) -> None:
    if value(connection, "has_instances", agent) is None:
        execute(connection, "remove_traits", agent)
        execute(connection, "remove_agent", agent)


def _tenant(whose: Scope | Owner) -> str:
    assert not isinstance(whose, Scope)  # noqa: S101 - whoever made the command has seen to it
    return kept(whose)


LOADERS: dict[type[Any], Any] = {AgentNeed: load_agent, DefinitionNeed: load_definition}
WRITERS: dict[type[Any], Any] = {Announced: announce, DefinitionRow: define}
