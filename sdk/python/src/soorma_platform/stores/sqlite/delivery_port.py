"""The port of deliveries: claims, leases and holders, for connected agents."""

from __future__ import annotations

from contextlib import AbstractContextManager

import apsw

from soorma_platform.engine.rows.deliveries import HolderRow
from soorma_platform.engine.rows.fences import hashed
from soorma_platform.stores.ports.deliveries import Claimed, Prefetch
from soorma_platform.stores.sqlite import claims
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.prefetch import NEVER, Prefetches
from soorma_platform.stores.sqlite.statements import Select, value

_holder = Select("holder", HolderRow)


class SqliteDeliveries:
    """The port of deliveries."""

    def __init__(self, connections: Connections, prefetches: Prefetches) -> None:
        self._connections = connections
        self._prefetches = prefetches

    def prefetching(self, prefetch: Prefetch) -> AbstractContextManager[None]:
        return self._prefetches.prefetching(prefetch)

    async def claim(self, prefetch: Prefetch) -> None:
        def job(_: apsw.Connection) -> tuple[None, None]:
            self._prefetches.request(prefetch)
            return None, None

        await self._connections.writer.run(job, durable=False, brief=True)

    async def next_ready(self, subscription_ids: list[int]) -> float | None:
        queries = (
            ("next_ready", "next_suspect") if self._prefetches.has_suspects else ("next_ready",)
        )
        connection = self._connections.reading
        with self._connections.failures:
            times = [value(connection, query, id_) for id_ in subscription_ids for query in queries]
        earliest = min((at for at in times if at is not None), default=NEVER)
        earliest = min(earliest, self._prefetches.next_lapse)
        return None if earliest == NEVER else (earliest - self._connections.uptime()) / 1000

    async def renew(
        self, replica: str, fences: list[str], lease: float, family: str | None = None
    ) -> list[str]:
        def job(connection: apsw.Connection) -> list[str]:
            moment = self._connections.clock.read()
            ends = claims.lease_ends(moment.uptime, lease)
            self._prefetches.lease_until(min(ends))
            self._prefetches.heard(replica)
            return claims.renew(connection, moment, replica, fences, ends, family)

        return await self._connections.change(job, durable=False)

    async def resume(
        self,
        fences: list[str],
        lease: float,
        replica: str,
        family: str | None = None,
        group_id: int | None = None,
    ) -> list[Claimed]:
        def job(connection: apsw.Connection) -> list[Claimed]:
            now = self._connections.uptime()
            self._prefetches.lease_until(until := now + round(lease * 1000))
            return claims.resume(connection, fences, now, until, replica, family, group_id)

        return await self._connections.change(job, durable=False)

    async def release(self, fences: list[str]) -> None:
        await self._connections.writer.run(
            lambda tx: (None, claims.release(tx, self._connections.uptime(), fences))
        )

    async def holder(self, fence: str) -> HolderRow | None:
        with self._connections.reads() as connection:
            return _holder.one(connection, hashed(fence))
