"""The port of blocked tokens. Commands change them."""

from __future__ import annotations

import builtins
from typing import Protocol

from soorma_common.names import Owner
from soorma_platform.engine.rows.blocks import BlockRow


class BlockStore(Protocol):
    """Blocks of tokens, of a tenant or of all."""

    async def find(self, owner: Owner, block_id: str) -> BlockRow | None:
        """Returns a block of an owner; None if there is none."""
        ...

    async def list(self, owner: Owner, after: int, limit: int) -> list[BlockRow]:
        """Returns the blocks of an owner by their last change, those after a change."""
        ...

    async def changed(self, after: int, limit: int) -> builtins.list[BlockRow]:
        """Returns the blocks that were made or changed after a change, in order."""
        ...

    async def remove_old(self, before: int) -> None:
        """Removes blocks that have expired, or were lifted, before a time in ms."""
        ...
