"""Fair shares: a busy tenant leaves room for others."""

from __future__ import annotations

import asyncio
import time

from soorma_common.names import All, Owner

SHARE = 16
"""What a tenant has under way at a time while others are there."""
SHARED_SECONDS = 1.0
"""Seconds for which another tenant counts as there."""
MOST_KNOWN = 10_000


class Shares:
    """The shares of tenants in one kind of work, such as requests.

    As long as one tenant is alone, it has as much under way as it likes. While others are there,
    each has SHARE at a time, and the rest of it waits before it costs anything: what another tenant
    asks for is not behind it.
    """

    def __init__(self) -> None:
        self._last: Owner | None = None
        self._shared_until = 0.0
        self._shares: dict[Owner, asyncio.Semaphore] = {}

    def of(self, owner: Owner) -> asyncio.Semaphore | None:
        """Returns what to hold during work for a tenant; None while it is there alone.

        Whoever acts for all tenants waits for none.
        """
        if owner is All.TENANTS:
            return None
        now = time.monotonic()
        if owner != self._last:
            if self._last is not None:
                self._shared_until = now + SHARED_SECONDS
            self._last = owner
        if now >= self._shared_until:
            return None
        found = self._shares.get(owner)
        if found is None:
            if len(self._shares) >= MOST_KNOWN:
                # Those in use are kept by who uses them: for a moment, their tenants have two.
                self._shares.clear()
            found = self._shares[owner] = asyncio.Semaphore(SHARE)
        return found
