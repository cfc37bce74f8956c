"""The registry's rules: limits on its contents, and versions that never change."""

from __future__ import annotations

import msgspec

from soorma_common.errors import DefinitionConflict
from soorma_common.names import All, Owner
from soorma_common.registry import (
    MOST_AGENTS,
    MOST_DEFINITIONS,
    MOST_INSTANCES,
    Announcement,
    EventDefinition,
    exceeds,
)
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.registry import (
    AgentFound,
    AgentNeed,
    Announced,
    DefinitionFound,
    DefinitionNeed,
    DefinitionRow,
)


class AnnounceAgent:
    """The announcement of a running instance, which describes its agent from now on.

    `decide` raises LimitExceeded past a limit on agents or instances.
    """

    def __init__(self, owner: Owner, name: str, instance: str, announcement: Announcement) -> None:
        self.scope = owner
        self._name = name
        self._instance = instance
        self._announcement = announcement

    def needs(self) -> list[Need]:
        return [AgentNeed(self._name, self._instance)]

    def decide(self, found: Snapshot) -> Decision[None]:
        agent, announcement = found.part(AgentFound), self._announcement
        if agent.before is None:
            _check_room("tenant_agents", MOST_AGENTS, agent.agents, "the number of agents")
        else:
            what = f"the number of running instances of agent {self._name!r}"
            _check_room("agent_instances", MOST_INSTANCES, agent.others, what)
        ttl = round(announcement.ttl * 1000)
        is_new = agent.before is None or agent.before.announcement != announcement
        announced = (self._name, self._instance, announcement)
        return Decision(None, [Announced(*announced, found.now, found.uptime + ttl, ttl, is_new)])


class DefineEvent:
    """The definition of a version of an event type.

    `decide` raises DefinitionConflict if the version exists with other content, LimitExceeded past
    the limit on definitions.
    """

    def __init__(self, owner: Owner, definition: EventDefinition) -> None:
        self.scope = owner
        self._definition = definition

    def needs(self) -> list[Need]:
        return [DefinitionNeed(self._definition.type, self._definition.version)]

    def decide(self, found: Snapshot) -> Decision[DefinitionRow]:
        definition, defined = self._definition, found.part(DefinitionFound)
        row = DefinitionRow(
            type=definition.type,
            version=definition.version,
            tenant_id="" if self.scope is All.TENANTS else self.scope,
            topic=definition.topic,
            description=definition.description,
            schema=msgspec.json.encode(definition.schema).decode(),
            mode=definition.check,
            defined_at=found.now,
        )
        before = defined.before
        if before is None:
            _check_room(
                "tenant_definitions",
                MOST_DEFINITIONS,
                defined.count,
                "the number of event definitions",
            )
            return Decision(row, [row])
        row.defined_at = before.defined_at
        if row != before:
            raise DefinitionConflict(
                f"version {definition.version} of event {definition.type!r} is defined already, "
                "with other content; "
                "a version is never changed: give the new content a new one",
                event_type=definition.type,
                version=definition.version,
            )
        return Decision(before)


def _check_room(limit: str, maximum: int, count: int, what: str) -> None:
    if count + 1 > maximum:
        raise exceeds(limit, maximum, count + 1, what)
