"""Rows of the registry: agents with their instances, and event definitions."""

from __future__ import annotations

import msgspec

from soorma_common.registry import Announcement, Mode
from soorma_platform.engine.commands import Need


class AgentRow(msgspec.Struct):
    """An agent as announced last; `tenant_id` is empty if it serves all tenants."""

    id: int
    tenant_id: str
    name: str
    announced_at: int
    announcement: Announcement


class InstanceRow(msgspec.Struct):
    """A running process of an agent.

    It `expires_at` an uptime, `ttl` ms after its last sign of life.
    """

    instance: str
    announced_at: int
    heard_at: int
    expires_at: int
    ttl: int


class DefinitionRow(msgspec.Struct):
    """A version of an event type; `tenant_id` is empty if it applies to all tenants.

    The schema is JSON text.
    """

    type: str
    version: int
    tenant_id: str
    topic: str
    description: str
    schema: str
    mode: Mode | None
    defined_at: int


class AgentNeed(Need):
    """An agent about to be announced, by an instance."""

    name: str
    instance: str


class AgentFound(msgspec.Struct):
    """The agent as it was announced before, and how many there are."""

    before: AgentRow | None = None
    agents: int = 0
    """of the same owner; counted if this one is new"""
    others: int = 0
    """other instances of it that run"""


class Announced(msgspec.Struct):
    """An announcement of an instance; `is_new` if it differs from the one before."""

    name: str
    instance: str
    announcement: Announcement
    at: int
    expires_at: int
    ttl: int
    is_new: bool


class DefinitionNeed(Need):
    """A version of an event type that is about to be defined."""

    type: str
    version: int


class DefinitionFound(msgspec.Struct):
    """The version as it was defined before, and how many there are of the same owner."""

    before: DefinitionRow | None = None
    count: int = 0
