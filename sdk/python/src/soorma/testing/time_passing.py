"""The passage of time on the platform's clock, with all that the platform does over time."""

from __future__ import annotations

from collections.abc import Mapping

from soorma.agents import Agent
from soorma.memory.renewal import LEASE_SECONDS, PlaceRenewer
from soorma.testing.clock import Clock
from soorma.testing.hosts import Host
from soorma.testing.network import Network
from soorma_platform.assembly import Platform
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.suspects import LEASE_SHARE
from soorma_platform.services.groups import subscribe
from soorma_platform.stores.sqlite.inspection import Inspection


class TimePassing:
    """The passage of time, as if all running agents had been running throughout."""

    def __init__(
        self,
        platform: Platform,
        network: Network,
        hosts: Mapping[Agent, Host],
        record: Inspection,
        clock: Clock,
    ) -> None:
        self._platform = platform
        self._network = network
        self._hosts = hosts
        self._record = record
        self._clock = clock

    async def leap(self, to: int) -> None:
        """Moves time to `to` (ms): renews leases, removes expired data, notifies all readers."""
        settings = self._platform.settings
        seconds = (to - self._clock.milliseconds) / 1000
        # so that even the shorter leases last until then
        await self._renew(LEASE_SHARE * seconds + settings.lease)
        self._clock.milliseconds = to
        await self._renew(settings.lease)
        if seconds >= settings.lease:
            self._announce()
        while await self._platform.upkeep.step():
            pass
        await self._platform.identity.keyring.follow()
        if self._platform.identity.tokens is not None:
            self._platform.identity.tokens.end_invalid()
        self._platform.bus.notify(Notice(groups=self._record.groups(), timers=True))
        self._network.touch()

    async def _renew(self, lease: float) -> None:
        """Renews for each agent that is not frozen what it would have renewed by itself."""
        rows, settings = self._record.outstanding(), self._platform.settings
        for socket in self._network.sockets:
            if socket.is_live and socket.replica and (hello := socket.hello):
                own = (row.family for row in rows if row.replica == socket.replica)
                store = self._platform.store
                socket.fences = set(
                    await store.deliveries.renew(
                        socket.replica, list(socket.fences), lease, next(own, None)
                    )
                )
                await subscribe(store, hello.owner, hello.agent, hello.subscriptions)
        for transport in list(self._network.transports):
            if not transport.is_frozen and not transport.is_dead:
                await PlaceRenewer.of(transport).renew(lease - settings.lease + LEASE_SECONDS)

    def _announce(self) -> None:
        """Announces the agents again: a registry entry cannot be renewed in advance."""
        for host in self._hosts.values():
            if not host.transport.is_frozen:
                host.announce(self._platform.settings.lease)
