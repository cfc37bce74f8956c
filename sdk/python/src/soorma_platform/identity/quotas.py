"""Quotas: how much each tenant may ask of the platform a second, and hold at a time."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from soorma_common.errors import InvalidRequest, TooManyRequests
from soorma_common.limits import LARGEST_BODY

LARGEST_QUOTA = 10**15
BURST_SECONDS = 1.0
"""Seconds of a quota that may be used at once, after as long without use."""
LONGEST_PROMISE = 60.0
"""Seconds beyond which nobody is told to wait."""
_ROUNDING = 1e-6
"""Seconds that the sum of many small parts may be off."""
BODY_UNIT = 64 * 1024
"""Bytes of a body that count as one request more."""
MOST_UNITS = LARGEST_BODY // BODY_UNIT
MOST_KNOWN = 10_000
"""Tenants after which those are forgotten that have used nothing lately."""


class Quotas(msgspec.Struct, frozen=True):
    """The quotas of each tenant; 0 is no limit.

    `requests` and `events` are per second, whoever sends or publishes them. A request with a large
    body counts as several, one for each 64 KiB. `connections` are streams, sockets and requests
    that wait. `plans` are those that are there, `stored_bytes` their keys, histories and memories.
    """

    requests: int = 0
    events: int = 0
    connections: int = 0
    plans: int = 0
    stored_bytes: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= LARGEST_QUOTA:
                raise InvalidRequest(
                    f"SOORMA_QUOTA_{name.upper()} must be a whole number from 0 on; 0: no limit"
                )


def units_of(length: bytes) -> int:
    """Returns how many requests one counts as, by the length of its body, as its header says it.

    A body that is larger than any may be is refused, and counts as the largest: nobody uses up the
    quota of hours with a number that he only writes down.
    """
    if len(length) < len(str(BODY_UNIT)):
        return 1
    if len(length) > len(str(LARGEST_BODY)):
        return 1 + MOST_UNITS
    return 1 + min(int(length) // BODY_UNIT, MOST_UNITS)


class _Use(NamedTuple):
    """The use of a rate by a tenant; times in seconds.

    At `paid_at` all that was used is paid for. Whoever is refused next is promised a time behind
    `promised_at`.
    """

    paid_at: float
    promised_at: float


class Rate:
    """A number per second for each tenant: a token bucket, kept as the time when it is full again.

    What exceeds the bucket by one request is granted, and paid for by those that come next: a batch
    larger than the bucket would never be granted otherwise. Those who are refused are told
    different times, one behind the other, so that each finds room if all wait as they are told.
    """

    def __init__(self, limit: str, per_second: int) -> None:
        self._limit = limit
        self._per_second = per_second
        self._uses: dict[str, _Use] = {}

    def take(self, tenant_id: str, count: int, now: float) -> None:
        """Grants `count` to a tenant; raises TooManyRequests, with the time to wait, instead."""
        if not self._per_second:
            return
        use = self._uses.get(tenant_id) or _Use(now, now)
        paid_at = max(use.paid_at, now)
        if paid_at - now < BURST_SECONDS - _ROUNDING:
            self._note(tenant_id, _Use(paid_at + count / self._per_second, use.promised_at), now)
            return
        free_at = max(paid_at - BURST_SECONDS, use.promised_at) + 1 / self._per_second
        promised_at = min(free_at, now + LONGEST_PROMISE)
        self._note(tenant_id, _Use(paid_at, promised_at), now)
        raise TooManyRequests(
            f"the tenant has used up its {self._per_second:,} {self._limit} a second; try again in "
            f"{promised_at - now:.2f} s",
            limit=self._limit,
            maximum=self._per_second,
            retry_after=round(promised_at - now, 3),
        )

    def charge(self, tenant_id: str, count: int, now: float) -> None:
        """Adds what is known only when it is done: those that come next pay for it."""
        if self._per_second and count:
            use = self._uses.get(tenant_id) or _Use(now, now)
            paid_at = max(use.paid_at, now) + count / self._per_second
            self._note(tenant_id, _Use(paid_at, use.promised_at), now)

    def _note(self, tenant_id: str, use: _Use, now: float) -> None:
        if len(self._uses) >= MOST_KNOWN and tenant_id not in self._uses:
            self._uses = {name: one for name, one in self._uses.items() if max(one) > now}
        self._uses[tenant_id] = use


class Cap:
    """What each tenant holds at a time, such as connections."""

    def __init__(self, limit: str, most: int) -> None:
        self._limit = limit
        self._most = most
        self._counts: dict[str, int] = {}

    def take(self, tenant_id: str) -> None:
        """Adds one; raises TooManyRequests if the tenant has as many as it may."""
        count = self._counts.get(tenant_id, 0)
        if self._most and count >= self._most:
            raise TooManyRequests(
                f"the tenant has {count:,} {self._limit}, as many as it may; end one, or wait "
                "until one ends",
                limit=self._limit,
                maximum=self._most,
                retry_after=None,
            )
        self._counts[tenant_id] = count + 1

    def give_back(self, tenant_id: str) -> None:
        """Removes one."""
        count = self._counts[tenant_id] - 1
        if count:
            self._counts[tenant_id] = count
        else:
            del self._counts[tenant_id]
