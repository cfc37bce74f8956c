"""The port of API keys. Commands change them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Protocol

from soorma_common.names import Owner
from soorma_platform.engine.rows.keys import KeyRow
from soorma_platform.stores.ports.blocks import BlockStore


class KeyStore(Protocol):
    """API keys, of a tenant or of all."""

    @property
    def blocks(self) -> BlockStore:
        """Blocked tokens."""
        ...

    def now(self) -> int:
        """Returns the wall clock's time in ms, by which keys expire."""
        ...

    async def find(self, owner: Owner, key_id: str) -> KeyRow | None:
        """Returns a key of an owner; None if there is none."""
        ...

    async def list(self, owner: Owner, after: int, limit: int) -> list[KeyRow]:
        """Returns the keys of an owner by their last change, those after a change."""
        ...

    async def changed(self, after: int, limit: int) -> builtins.list[KeyRow]:
        """Returns the keys that were created or changed after a change, in order."""
        ...

    async def note_use(self, used: Mapping[str, int]) -> None:
        """Notes when keys were last used, in ms of the wall clock; not durable."""
        ...

    async def remove_old(self, before: int) -> None:
        """Removes keys that have expired, or were revoked, before a time in ms."""
        ...
