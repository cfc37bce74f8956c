"""Upkeep of memories: what is idle or has aged is found in bounded steps."""

from __future__ import annotations

from soorma_platform.stores.ports.memory_life import AgedRow, Ages, QuietRow
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Select, value, values

_quiet = Select("quiet_sessions", QuietRow)
_aged = Select("aged_memories", AgedRow)
_closed = Select("long_closed_memories", AgedRow)


class SqliteMemoryLife:
    """The port of upkeep of memories."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def quiet(self, before: int, limit: int) -> list[QuietRow]:
        with self._connections.reads() as connection:
            return _quiet.all(connection, before, limit)

    async def aged(self, ages: Ages, after: int, until: int, limit: int) -> list[AgedRow]:
        query = _closed if ages.closed else _aged
        with self._connections.reads() as connection:
            return query.all(connection, after, until, ages.kind, ages.before, limit)

    async def users(self, tenant_id: str, after: str, limit: int) -> list[str]:
        return await self._connections.overview.look(
            lambda connection: values(connection, "users_of_tenant", tenant_id, after, limit)
        )

    async def last_collection(self) -> int:
        with self._connections.reads() as connection:
            return int(value(connection, "last_collection"))
