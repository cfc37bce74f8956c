"""What all calls of a memory client rest on: its configuration, its connections, and its scope."""

from __future__ import annotations

from soorma.config import ClientConfig
from soorma.memory.memories import Memories
from soorma.memory.plans import Plans
from soorma.transport.calls import Caller
from soorma_common.names import Scope


class MemoryCalls:
    """The base of a memory client: plans and memories of the platform, or of a transaction."""

    _config: ClientConfig
    _caller: Caller
    _plans: Plans
    _memories: Memories

    @property
    def collects(self) -> bool:
        """True in a handler or transaction: changes are collected and committed together."""
        return self._plans.collects

    def scope(self, tenant_id: str | None = None, user_id: str | None = None) -> Scope:
        """Returns the scope of a call with these ids.

        In a handler, raises Forbidden unless it is the scope of its event.
        """
        scope = self._config.scope(tenant_id, user_id)
        self._plans.check(scope)
        return scope
