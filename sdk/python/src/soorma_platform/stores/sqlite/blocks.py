"""Blocked tokens: loaded and written for commands, listed and followed."""

from __future__ import annotations

import builtins
from typing import Any

from soorma_common.names import All, Owner
from soorma_platform.engine.rows.blocks import (
    BlockFound,
    BlockNeed,
    BlockRow,
    ChangedBlock,
    TokenFound,
    TokenNeed,
)
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_one = Select("block", BlockRow)
_of = Select("blocks_of", BlockRow)
_changed = Select("blocks_changed", BlockRow)
_put = Mutation("put_block", "change", BlockRow)


def load(loading: Loading, need: BlockNeed) -> None:
    """Loads a block, and how many a tenant has."""
    found = loading.found.part(BlockFound)
    found.row = _one.one(loading.connection, need.id)
    found.count = value(loading.connection, "count_blocks", need.tenant_id)


def load_token(loading: Loading, need: TokenNeed) -> None:
    """Loads whether the token by which a change was requested is blocked."""
    found, now = loading.found.part(TokenFound), loading.found.now
    where = (need.issuer, need.tenant_id, now)
    found.expires_at = need.expires_at
    found.is_blocked = bool(
        value(loading.connection, "subject_blocked", need.subject, *where)
        or (need.jti is not None and value(loading.connection, "jti_blocked", need.jti, *where))
    )


def put(writing: Writing, changed: ChangedBlock) -> None:
    """Makes or changes a block."""
    change = value(writing.connection, "last_block_change") + 1
    _put.run(writing.connection, change, changed.row)
    writing.notice.keys = True


class SqliteBlocks:
    """The port of blocked tokens."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def find(self, owner: Owner, block_id: str) -> BlockRow | None:
        with self._connections.reads() as connection:
            row = _one.one(connection, block_id)
        return None if row is None or owner not in (All.TENANTS, row.tenant_id) else row

    async def list(self, owner: Owner, after: int, limit: int) -> builtins.list[BlockRow]:
        if owner is All.TENANTS:
            return await self.changed(after, limit)
        with self._connections.reads() as connection:
            return _of.all(connection, owner, after, limit)

    async def changed(self, after: int, limit: int) -> builtins.list[BlockRow]:
        with self._connections.reads() as connection:
            return _changed.all(connection, after, limit)

    async def remove_old(self, before: int) -> None:
        await self._connections.change(
            lambda connection: execute(connection, "remove_old_blocks", before)
        )


LOADERS: dict[type[Any], Any] = {BlockNeed: load, TokenNeed: load_token}
WRITERS: dict[type[Any], Any] = {ChangedBlock: put}
