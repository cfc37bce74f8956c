"""The port of upkeep of memories: what is idle or has aged is found in bounded steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from soorma_common.names import Scope


class QuietRow(NamedTuple):
    """A session in which nothing was said for a time, which was not reported."""

    scope: Scope
    session_id: str


class AgedRow(NamedTuple):
    """A memory that is older than it is to get; the scope is that of who has stored it."""

    scope: Scope
    number: int


class Ages(NamedTuple):
    """Which memories are too old.

    Those of a `kind` of collection that have not changed since `before` (ms), or with `closed`
    those that were closed before.
    """

    kind: int
    before: int
    closed: bool = False


class MemoryLifeStore(Protocol):
    """Finds memories whose time has come. Commands change them."""

    async def quiet(self, before: int, limit: int) -> list[QuietRow]:
        """Finds sessions in which nothing was said since the uptime `before`, the oldest first."""
        ...

    async def aged(self, ages: Ages, after: int, until: int, limit: int) -> list[AgedRow]:
        """Finds memories that are too old, in rows (after, until] of the collections."""
        ...

    async def users(self, tenant_id: str, after: str, limit: int) -> list[str]:
        """Returns users of a tenant who have stored anything, in the order of their ids."""
        ...

    async def last_collection(self) -> int:
        """Returns the number of the last row of the collections."""
        ...
