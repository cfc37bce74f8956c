"""The audit of memories, a part of the memory client."""

from __future__ import annotations

import msgspec

from soorma.awaits import awaited
from soorma.memory.calls import MemoryCalls
from soorma_common.audit import MemoryAudit
from soorma_common.errors import InvalidRequest

_audit = msgspec.json.Decoder(MemoryAudit)


@awaited
class AuditCalls(MemoryCalls):
    """The audit, a part of `MemoryClient`."""

    async def audit(
        self,
        *,
        everybody: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> MemoryAudit:
        """Counts what memories hold, and how clean they are, for one user.

        With `everybody`, for all users of the tenant, without the names of sources; not in a
        handler, which acts for one user. A transaction's own changes are not counted. It looks at
        200,000 memories at most, and `is_whole` says whether that was all.
        """
        scope = self.scope(tenant_id, user_id)
        path = "/v1/memory/audit"
        if not everybody:
            return await self._caller.get("memory", path, scope, _audit)
        if self.collects:
            raise InvalidRequest("a handler acts for one user, and audits the memories of that one")
        return await self._caller.get("memory", path, None, _audit, tenant_id=scope.tenant_id)
