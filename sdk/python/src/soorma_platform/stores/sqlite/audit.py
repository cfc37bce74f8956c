"""Counts of memories, on the connection of overviews: neither loop nor writer waits."""

from __future__ import annotations

import apsw

from soorma_common.names import All, Owner
from soorma_platform.stores.ports.audit import AuditCounts, AuditRow
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Select

_passages = Select("audit_passages", AuditRow)
_counts = Select("audit_counts", AuditCounts)


class SqliteAudit:
    """The port of the audit."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def count(
        self, owner: Owner, user_id: str | None, limit: int
    ) -> tuple[list[AuditRow], AuditCounts]:
        tenant_id = None if isinstance(owner, All) else owner

        def look(connection: apsw.Connection) -> tuple[list[AuditRow], AuditCounts]:
            rows = _passages.all(connection, tenant_id, user_id, limit)
            counts = _counts.one(connection, tenant_id, user_id, limit)
            return rows, counts or AuditCounts(0, 0, 0, 0, 0)

        return await self._connections.overview.look(look)
