"""API keys: loaded and written for commands, listed and followed."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import apsw

from soorma_common.names import All, Owner
from soorma_platform.engine.rows.keys import (
    ApiKeyFound,
    ApiKeyNeed,
    ChangedKey,
    CredentialFound,
    CredentialNeed,
    KeyRow,
    Validity,
)
from soorma_platform.stores.sqlite.blocks import SqliteBlocks
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_one = Select("key", KeyRow)
_of = Select("keys_of", KeyRow)
_changed = Select("keys_changed", KeyRow)
_validity = Select("key_validity", Validity)
_put = Mutation("put_key", "change", KeyRow)


def load(loading: Loading, need: ApiKeyNeed) -> None:
    """Loads a key, and how many keys a tenant has."""
    found = loading.found.part(ApiKeyFound)
    found.row = _one.one(loading.connection, need.id)
    found.count = value(loading.connection, "count_keys", need.tenant_id)


_not_revoked: WeakKeyDictionary[apsw.Connection, dict[str, Validity]] = WeakKeyDictionary()
"""Validities that each commit would read anew, by the connection that writes.

Only its own process writes to the record, so what `put` has not removed is still so. None that is
revoked is kept: the transaction that revokes it may yet be rolled back.
"""


def load_credential(loading: Loading, need: CredentialNeed) -> None:
    """Loads the validity of the key by which a change was requested."""
    found, connection = loading.found.part(CredentialFound), loading.connection
    known = _not_revoked.get(connection)
    if known is None:
        known = _not_revoked[connection] = {}
    found.is_asked, found.validity = True, known.get(need.id)
    if found.validity is None:
        found.validity = _validity.one(connection, need.id)
        if found.validity is not None and found.validity.revoked_at is None:
            known[need.id] = found.validity


def put(writing: Writing, changed: ChangedKey) -> None:
    """Creates or changes a key."""
    _not_revoked.get(writing.connection, {}).pop(changed.row.id, None)
    change = value(writing.connection, "last_key_change") + 1
    _put.run(writing.connection, change, changed.row)
    writing.notice.keys = True


class SqliteKeys:
    """The port of keys, and that of blocked tokens."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.blocks = SqliteBlocks(connections)

    def now(self) -> int:
        return self._connections.now()

    async def find(self, owner: Owner, key_id: str) -> KeyRow | None:
        with self._connections.reads() as connection:
            row = _one.one(connection, key_id)
        return None if row is None or owner not in (All.TENANTS, row.tenant_id) else row

    async def list(self, owner: Owner, after: int, limit: int) -> builtins.list[KeyRow]:
        if owner is All.TENANTS:
            return await self.changed(after, limit)
        with self._connections.reads() as connection:
            return _of.all(connection, owner, after, limit)

    async def changed(self, after: int, limit: int) -> builtins.list[KeyRow]:
        with self._connections.reads() as connection:
            return _changed.all(connection, after, limit)

    async def note_use(self, used: Mapping[str, int]) -> None:
        def job(connection: apsw.Connection) -> None:
            for key_id, at in used.items():
                execute(connection, "note_key_use", key_id, at)

        await self._connections.change(job, durable=False)

    async def remove_old(self, before: int) -> None:
        await self._connections.change(
            lambda connection: execute(connection, "remove_old_keys", before)
        )


LOADERS: dict[type[Any], Any] = {ApiKeyNeed: load, CredentialNeed: load_credential}
WRITERS: dict[type[Any], Any] = {ChangedKey: put}
