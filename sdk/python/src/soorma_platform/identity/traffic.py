"""Traffic: each tenant gets its share of the platform, and no more than its quota."""

from __future__ import annotations

import asyncio
import time

from soorma_common.errors import TooManyRequests, Unauthorized
from soorma_common.identity import DELIVERIES
from soorma_common.names import All, Owner
from soorma_platform.identity.credentials import TokenCredential
from soorma_platform.identity.door import Entrance, Principal
from soorma_platform.identity.failures import FailedAttempts
from soorma_platform.identity.quotas import BODY_UNIT, Cap, Quotas, Rate, units_of
from soorma_platform.identity.shares import Shares
from soorma_platform.metrics import DoorMeters


class Traffic:
    """The quotas and shares of tenants, and the failed attempts of everybody."""

    def __init__(
        self,
        quotas: Quotas | None = None,
        meters: DoorMeters | None = None,
        failures: FailedAttempts | None = None,
    ) -> None:
        quotas = quotas or Quotas()
        self.quotas = quotas
        self._meters = meters or DoorMeters()
        self._failures = failures or FailedAttempts()
        self._request_rate = Rate("requests", quotas.requests)
        self._event_rate = Rate("events", quotas.events)
        self._connections = Cap("connections", quotas.connections)
        self.requests, self.commits = Shares(), Shares()

    def admit(self, principal: Principal, entrance: Entrance, length: bytes | None) -> None:
        """Counts a request, and a connection if it lasts, against the quotas of its tenant.

        `length` is that of its body, as its header says it. Raises TooManyRequests if a quota is
        used up. Whoever acts for all tenants has none. Taking deliveries and keeping them is no
        request: an agent that could not renew its leases would lose what it has done.
        """
        if (credential := principal.credential) is not None:
            is_token = isinstance(credential, TokenCredential)
            self._meters.used.add("token" if is_token else "key")
        tenant_id = principal.owner
        if tenant_id is All.TENANTS:
            return
        try:
            if entrance.scope != DELIVERIES:
                units = 1 if length is None else units_of(length)
                self._request_rate.take(tenant_id, units, time.monotonic())
            if entrance.lasts:
                self._connections.take(tenant_id)
                task = asyncio.current_task()
                assert task is not None  # noqa: S101 - each request has one
                task.add_done_callback(lambda _: self._connections.give_back(tenant_id))
        except TooManyRequests as error:
            self._meters.too_many.add(error.limit)
            raise

    def received(self, owner: Owner, size: int) -> None:
        """Counts a body whose length no header had said."""
        if owner is not All.TENANTS:
            self._request_rate.charge(owner, size // BODY_UNIT, time.monotonic())

    def publish(self, tenant_id: str, count: int) -> None:
        """Counts events; raises TooManyRequests if the tenant has published too many."""
        try:
            self._event_rate.take(tenant_id, count, time.monotonic())
        except TooManyRequests as error:
            self._meters.too_many.add(error.limit)
            raise

    def refused(self, address: str, error: Unauthorized) -> Unauthorized:
        """Counts a failed attempt; returns the error that its sender gets."""
        self._meters.unauthorized.add()
        return self._failures.noted(address, error)
