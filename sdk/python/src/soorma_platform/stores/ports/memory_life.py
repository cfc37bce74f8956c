"""The port of upkeep of memories: what is idle is found in bounded steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from soorma_common.names import Scope


class QuietRow(NamedTuple):
    """A session in which nothing was said for a time, which was not reported."""

    scope: Scope
    session_id: str


class MemoryLifeStore(Protocol):
    """Finds memories whose time has come. Commands change them."""

    async def quiet(self, before: int, limit: int) -> list[QuietRow]:
        """Finds sessions in which nothing was said since the uptime `before`, the oldest first."""
        ...
