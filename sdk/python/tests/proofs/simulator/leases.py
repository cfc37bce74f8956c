"""Leases in the simulation: renewed as `soorma.agents.leases` does, by a task, as there are no threads."""

from __future__ import annotations

import asyncio

import msgspec

from soorma.agents.leases import LeaseKeeper
from soorma_common.errors import Unavailable


class SimulatedLeases(LeaseKeeper):
    """Renews the fences in hand three times per lease."""

    _renewing: asyncio.Task[None] | None = None

    def start(self, replica: str, lease_seconds: float) -> None:
        """See `LeaseKeeper.start`."""
        self._replica, self._lease = replica, lease_seconds
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    def stop(self) -> None:
        """See `LeaseKeeper.stop`."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            fences = sorted(self._fences | self._abandoned)
            body = msgspec.json.encode({"replica": self._replica, "fences": fences})
            headers = {"Content-Type": "application/json"}
            try:
                async with asyncio.timeout(3.0):
                    status, answer = await self._transport.request("events", "POST", "/v1/events/renew", headers, body)
            except (Unavailable, TimeoutError):
                continue
            if status != 200:
                continue
            kept = set(msgspec.json.decode(answer)["kept"])
            self._abandoned.difference_update(fences)
            if gone := [fence for fence in fences if fence not in kept and fence in self._fences]:
                self._lost(gone)
