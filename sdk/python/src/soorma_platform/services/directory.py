"""The registry as HTTP shows it: agents and event definitions, with times for people."""

from __future__ import annotations

import msgspec

from soorma_common.names import Owner
from soorma_common.registry import (
    AgentFilter,
    AgentInfo,
    AgentPage,
    Announcement,
    Capability,
    EventDefinition,
    EventInfo,
    EventPage,
    InstanceInfo,
)
from soorma_common.times import time_of
from soorma_platform.engine.registry import AnnounceAgent, DefineEvent
from soorma_platform.engine.rows.registry import InstanceRow
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.registry import AgentState, DefinitionState


class Directory:
    """The agents and event definitions of a record."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = store.registry

    async def announce(
        self, owner: Owner, name: str, instance: str, announcement: Announcement
    ) -> AgentInfo:
        """Records a running instance of an agent, and what the agent is from now on.

        Raises LimitExceeded past a limit.
        """
        await self._store.transact(
            AnnounceAgent(owner, name, instance, announcement), durable=False
        )
        found = await self._rows.agent(owner, name)
        assert found is not None  # noqa: S101 - it was announced a moment ago
        return _agent_info(found)

    async def heartbeat(self, owner: Owner, name: str, instance: str) -> InstanceInfo | None:
        """Records a sign of life of an instance; returns None if it is unknown or has expired."""
        found = await self._rows.heartbeat(owner, name, instance)
        return None if found is None else _instance_info(found)

    async def deregister(self, owner: Owner, name: str, instance: str) -> bool:
        """Removes an instance at once; returns False if none of that name is alive."""
        return await self._rows.deregister(owner, name, instance)

    async def agents(
        self, tenant_id: str, filters: AgentFilter, after: int, limit: int
    ) -> AgentPage:
        """Finds agents that are alive and serve the tenant, from behind `after`."""
        found = await self._rows.agents(tenant_id, filters, after, limit)
        return AgentPage([_agent_info(one) for one in found.agents], found.next)

    async def agent(self, tenant_id: str, name: str) -> AgentInfo | None:
        """Finds the agent of that name that serves the tenant.

        The tenant's own goes before one that serves all.
        """
        found = await self._rows.agent(tenant_id, name)
        return None if found is None else _agent_info(found)

    async def define(self, owner: Owner, definition: EventDefinition) -> EventInfo:
        """Adds a version of an event type, once.

        Raises DefinitionConflict if it exists with other content.
        """
        made = await self._store.transact(DefineEvent(owner, definition))
        found = await self._rows.definition(owner, made.type, made.version)
        return _event_info(found or DefinitionState(made, [made.version]))

    async def undefine(self, owner: Owner, event_type: str, version: int) -> bool:
        """Removes a version of an event type; returns False if there is none."""
        return await self._rows.undefine(owner, event_type, version)

    async def definition(
        self, owner: Owner, event_type: str, version: int | None
    ) -> EventInfo | None:
        """Finds a version of an event type, or its newest.

        A type of the tenant's own hides one of all tenants.
        """
        found = await self._rows.definition(owner, event_type, version)
        return None if found is None else _event_info(found)

    async def definitions(
        self, owner: Owner, event_type: str | None, topic: str | None, after: str, limit: int
    ) -> EventPage:
        """Lists event types by name from behind `after`, each in its newest version."""
        found = await self._rows.definitions(owner, event_type, topic, after, limit)
        return EventPage([_event_info(one) for one in found.definitions], found.next)


def _agent_info(found: AgentState) -> AgentInfo:
    row = found.agent
    announcement = row.announcement
    return AgentInfo(
        name=row.name,
        tenant_id=row.tenant_id or None,
        description=announcement.description,
        capabilities=[
            Capability(one) if isinstance(one, str) else one for one in announcement.capabilities
        ],
        events_consumed=announcement.events_consumed,
        events_produced=announcement.events_produced,
        announced_at=time_of(row.announced_at),
        instances=[_instance_info(one) for one in found.instances],
    )


def _instance_info(row: InstanceRow) -> InstanceInfo:
    times = (time_of(row.announced_at), time_of(row.heard_at), time_of(row.expires_at))
    return InstanceInfo(row.instance, *times, row.ttl / 1000)


def _event_info(found: DefinitionState) -> EventInfo:
    row = found.definition
    return EventInfo(
        type=row.type,
        version=row.version,
        tenant_id=row.tenant_id or None,
        topic=row.topic,
        description=row.description,
        schema=msgspec.json.decode(row.schema),
        check=row.mode,
        defined_at=time_of(row.defined_at),
        versions=found.versions,
    )
