"""The port of the audit: counts of memories."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_common.names import Owner


class AuditRow(msgspec.Struct):
    """Memories of a kind (as of collections) that have trust and source in common; times in ms."""

    kind: int
    trust: str
    source: str | None
    passages: int
    """those that are open"""
    closed: int
    stated: int
    restated: int
    recalled: int
    alike: int
    derived: int
    public: int
    proposed: int
    bytes: int
    oldest: int
    newest: int


class AuditCounts(msgspec.Struct):
    """What is counted apart from the passages."""

    sessions: int
    procedures: int
    parts: int
    unembedded: int
    looked_at: int
    """passages of any kind, also of others in what is public"""


class AuditStore(Protocol):
    """Counts of what memories hold."""

    async def count(
        self, owner: Owner, user_id: str | None, limit: int
    ) -> tuple[list[AuditRow], AuditCounts]:
        """Counts what a user has stored, or all users of a tenant, or of all: up to a limit each.

        It takes long, so it neither runs on the loop nor holds up a change.
        """
        ...
