"""The port of the registry: agents and event definitions. Announcing and defining are commands."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_common.names import Owner
from soorma_common.registry import AgentFilter
from soorma_platform.engine.rows.registry import AgentRow, DefinitionRow, InstanceRow


class AgentState(msgspec.Struct):
    """An agent with its running instances, which expire by the wall clock here, as users see it."""

    agent: AgentRow
    instances: list[InstanceRow]


class AgentsSeen(msgspec.Struct):
    """Agents in the order of their first announcement; there are more after row `next`."""

    agents: list[AgentState]
    next: int | None


class DefinitionState(msgspec.Struct):
    """A version of an event type, and the numbers of all its versions."""

    definition: DefinitionRow
    versions: list[int]


class DefinitionsSeen(msgspec.Struct):
    """Event types by name, each in its newest version; there are more after `next`."""

    definitions: list[DefinitionState]
    next: str | None


class RegistryStore(Protocol):
    """Live agents and event definitions, of a tenant or of all."""

    async def heartbeat(self, owner: Owner, name: str, instance: str) -> InstanceRow | None:
        """Notes a sign of life of the instance; None if it is unknown or has expired."""
        ...

    async def deregister(self, owner: Owner, name: str, instance: str) -> bool:
        """Forgets an instance at once; False if no such instance is alive."""
        ...

    async def agents(
        self, tenant_id: str, filters: AgentFilter, after: int, limit: int
    ) -> AgentsSeen:
        """Finds agents with a live instance that serve the tenant, after row `after`."""
        ...

    async def agent(self, owner: Owner, name: str) -> AgentState | None:
        """Finds the agent of that name that serves a tenant, its own before one that serves all."""
        ...

    async def undefine(self, owner: Owner, event_type: str, version: int) -> bool:
        """Removes a version of an event type; False if there is none."""
        ...

    async def definition(
        self, owner: Owner, event_type: str, version: int | None
    ) -> DefinitionState | None:
        """Finds a version of an event type, or its newest.

        A tenant's own type hides that of all tenants.
        """
        ...

    async def definitions(
        self, owner: Owner, event_type: str | None, topic: str | None, after: str, limit: int
    ) -> DefinitionsSeen:
        """Lists event types by name, those after `after`, each in its newest version."""
        ...
