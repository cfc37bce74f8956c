"""Leases in the simulation: renewed as in `soorma.runtime.leases`, but by a task, not a thread."""

from __future__ import annotations

import asyncio

from soorma.runtime.leases import LeaseKeeper
from soorma_common.errors import Unavailable


class SimulatedLeases(LeaseKeeper):
    """Renews the fences in hand three times per lease, or per reservation."""

    _renewing: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()

    def now(self) -> float:
        """Returns the time of the simulation."""
        return asyncio.get_running_loop().time()

    def _begin(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        began = self.now()
        while True:
            while (left := began + self._interval - self.now()) > 0:  # noqa: ASYNC110 - by sleeping
                await asyncio.sleep(min(left, 1.0))  # something may be reserved meanwhile
            began, fences = self.now(), self._named()
            headers = {"Content-Type": "application/json"}
            try:
                async with asyncio.timeout(3.0):
                    status, answer = await self._transport.request(
                        "events", "POST", "/v1/events/renew", headers, self._body(fences)
                    )
            except (Unavailable, TimeoutError):
                continue
            if status == 200:
                self._renewed(began, fences, answer)
