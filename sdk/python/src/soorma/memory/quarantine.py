"""Quarantine, a part of the memory client."""

from __future__ import annotations

import msgspec

from soorma.awaits import awaited
from soorma.memory.calls import MemoryCalls
from soorma_common.errors import InvalidRequest
from soorma_common.names import Scope
from soorma_common.quarantine import (
    Quarantine,
    QuarantineBody,
    Quarantines,
    check_origin,
    check_quarantine,
)

_one = msgspec.json.Decoder(Quarantine)
_all = msgspec.json.Decoder(Quarantines)


@awaited
class QuarantineCalls(MemoryCalls):
    """Quarantine, a part of `MemoryClient`. A handler changes none."""

    async def quarantine(
        self,
        *,
        source: str | None = None,
        agent_id: str | None = None,
        reason: str | None = None,
        all_users: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Quarantine:
        """Puts a source or an agent into quarantine: what comes from it counts for nothing.

        No search, history or listing has it any more, whether it is stored already or comes later,
        nor what is derived from it. What is stored meanwhile replaces nothing. All of it counts
        again after `release`; until then, `list_knowledge(quarantined=True)` shows passages. What a
        passage had replaced before stays replaced. With `all_users`, it holds for the whole tenant.
        """
        body = QuarantineBody(source=source, agent_id=agent_id, reason=reason)
        check_quarantine(body)
        scope = self.scope(tenant_id, user_id)
        sent = msgspec.json.encode(body)
        return await self._changed("POST", scope, {}, sent, all_users=all_users)

    async def release(
        self,
        *,
        source: str | None = None,
        agent_id: str | None = None,
        all_users: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> Quarantine:
        """Ends a quarantine, and returns it; NotFound if there is none.

        One with `all_users` is released with `all_users`.
        """
        check_origin(source, agent_id)
        scope = self.scope(tenant_id, user_id)
        named = {"source": source, "agent_id": agent_id}
        return await self._changed("DELETE", scope, named, None, all_users=all_users)

    async def _changed(
        self,
        method: str,
        scope: Scope,
        query: dict[str, str | None],
        body: bytes | None,
        *,
        all_users: bool,
    ) -> Quarantine:
        if self.collects:
            raise InvalidRequest(
                "a handler changes no quarantine: an application or a person does, outside"
            )
        path, whose, of_tenant = _place(scope, all_users=all_users)
        query = {**query, **of_tenant}
        answer = await self._caller.call(
            "memory", method, path, scope=whose, body=body, query=query, fence=self._memories.fence
        )
        return _one.decode(answer)

    async def list_quarantines(
        self,
        *,
        all_users: bool = False,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> list[Quarantine]:
        """Returns what is in quarantine for a user, the oldest first.

        That of the tenant holds for him, too; with `all_users` it is that alone.
        """
        path, whose, query = _place(self.scope(tenant_id, user_id), all_users=all_users)
        found = await self._caller.get("memory", path, whose, _all, **query)
        return found.quarantines


def _place(scope: Scope, *, all_users: bool) -> tuple[str, Scope | None, dict[str, str]]:
    """Returns the path, the scope and the query of a call about a user, or about his tenant."""
    if all_users:
        return "/v1/memory/tenant/quarantines", None, {"tenant_id": scope.tenant_id}
    return "/v1/memory/quarantines", scope, {}
