"""The audit of actions: written with what it tells of, listed, and removed once it is old."""

from __future__ import annotations

import builtins
from typing import Any

import apsw

from soorma_common.identity import AuditAction
from soorma_common.names import All, Owner
from soorma_platform.engine.rows.audit_log import AuditLogRow
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute
from soorma_platform.stores.sqlite.transactions import Writing

_all = Select("audit_log", AuditLogRow)
_of_action = Select("audit_log_of_action", AuditLogRow)
_of_tenant = Select("audit_log_of_tenant", AuditLogRow)
_of_both = Select("audit_log_of_tenant_and_action", AuditLogRow)
_insert = Mutation("insert_audit_row", AuditLogRow)


def insert(writing: Writing, row: AuditLogRow) -> None:
    """Writes a row, in the transaction of what it tells of."""
    note(writing.connection, row)


def note(connection: apsw.Connection, row: AuditLogRow) -> None:
    """Writes a row of what no command does."""
    _insert.run(connection, row)


class SqliteAuditLog:
    """The port of the audit of actions."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def list(
        self, owner: Owner, action: AuditAction | None, before: int, limit: int
    ) -> builtins.list[AuditLogRow]:
        # A statement for each choice: one with `OR ? IS NULL` would use no index.
        with self._connections.reads() as connection:
            if owner is All.TENANTS:
                if action is None:
                    return _all.all(connection, before, limit)
                return _of_action.all(connection, action, before, limit)
            if action is None:
                return _of_tenant.all(connection, owner, before, limit)
            return _of_both.all(connection, owner, action, before, limit)

    async def remove_old(self, before: int, limit: int) -> bool:
        def job(connection: apsw.Connection) -> bool:
            changes = connection.total_changes()
            execute(connection, "remove_old_audit_rows", before, limit)
            return connection.total_changes() - changes >= limit

        return await self._connections.change(job)


LOADERS: dict[type[Any], Any] = {}
WRITERS: dict[type[Any], Any] = {AuditLogRow: insert}
