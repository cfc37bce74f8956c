"""Upkeep of memories: what is idle is found in bounded steps."""

from __future__ import annotations

from soorma_platform.stores.ports.memory_life import QuietRow
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.statements import Select

_quiet = Select("quiet_sessions", QuietRow)


class SqliteMemoryLife:
    """The port of upkeep of memories."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def quiet(self, before: int, limit: int) -> list[QuietRow]:
        with self._connections.reads() as connection:
            return _quiet.all(connection, before, limit)
