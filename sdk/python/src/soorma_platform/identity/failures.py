"""Failed attempts at the door: counted by address, and logged once a minute.

They are never counted by key: whoever guesses at a key, or repeats one that was revoked, must not
keep its rightful holder out. For the same reason a valid credential is accepted from any address,
whatever else comes from there. A secret of 256 bits is not found by trying; what a limit saves is
the log, and the operator's sight of who tries.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter

from soorma_common.errors import TooManyAttempts, Unauthorized
from soorma_platform.logs import Log

DEFAULT_ATTEMPTS = 60
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000
"""Addresses that are counted one by one; those beyond are counted together, and not limited."""
_NETWORK_BITS = 64
"""Of an IPv6 address: a client has that whole network, and could use another address each time."""

log = Log("soorma.door")


class FailedAttempts:
    """Attempts without a valid credential, by address, in windows of a minute.

    A window begins with an attempt, and ends with a line of the log; the first attempt after a
    quiet minute has a line at once. While nobody fails, nothing is logged and no timer runs.
    """

    def __init__(self, most: int = DEFAULT_ATTEMPTS) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._ends_at = 0.0
        self._logged_at = -WINDOW_SECONDS

    def noted(self, address: str, error: Unauthorized) -> Unauthorized:
        """Counts an attempt; returns the error that its sender gets.

        That is TooManyAttempts, with the reason of the first, once its address had too many.
        """
        loop = asyncio.get_running_loop()
        if not self._counts:
            self._ends_at = loop.time() + WINDOW_SECONDS
            loop.call_at(self._ends_at, self._end)
            if loop.time() - self._logged_at >= WINDOW_SECONDS:
                self._logged_at = loop.time()
                log.warning(
                    "an attempt without a valid credential; those that follow are counted for a "
                    "minute",
                    address=address,
                    reason=error.message,
                )
        origin = _origin_of(address)
        if origin not in self._counts and len(self._counts) >= MOST_ADDRESSES:
            self._others += 1
            return error
        self._counts[origin] += 1
        if self._counts[origin] <= self._most:
            return error
        seconds = max(self._ends_at - loop.time(), 0.0)
        return TooManyAttempts(
            f"{error.message}. More than {self._most:,} attempts without a valid credential came "
            f"from {origin} within a minute, which is over in {seconds:.0f} s. A valid one is "
            "accepted at any time",
            retry_after=round(seconds, 3),
        )

    def _end(self) -> None:
        """Logs the window that is over, and begins the next with the next attempt."""
        counts, others = self._counts, self._others
        self._counts, self._others = Counter(), 0
        total = counts.total() + others
        if self._logged_at < self._ends_at - WINDOW_SECONDS or total > 1:
            self._logged_at = self._ends_at
            (address, most), *_ = counts.most_common(1)
            log.warning(
                "attempts without a valid credential in the last minute",
                attempts=total,
                addresses=len(counts),
                most_from=address,
                most=most,
                refused=sum(max(count - self._most, 0) for count in counts.values()),
            )


def _origin_of(address: str) -> str:
    """Returns what an address is counted as: itself, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, _NETWORK_BITS), strict=False))
