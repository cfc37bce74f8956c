"""The port of the audit of actions, for reading. Commands write it, with what they change.

The audit of memories, which counts them, is another thing: `stores/ports/audit.py`.
"""

from __future__ import annotations

from typing import Protocol

from soorma_common.identity import AuditAction
from soorma_common.names import Owner
from soorma_platform.engine.rows.audit_log import AuditLogRow


class AuditLogStore(Protocol):
    """Who has done what."""

    async def list(
        self, owner: Owner, action: AuditAction | None, before: int, limit: int
    ) -> list[AuditLogRow]:
        """Lists rows by id, the last first, those below `before`: of a tenant, or all there are."""
        ...

    async def remove_old(self, before: int, limit: int) -> bool:
        """Removes rows of before a time in ms, up to a number; True if more may be left."""
        ...
