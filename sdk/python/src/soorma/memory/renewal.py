"""Renewal of claims and tickets: a thread renews them for as long as this process lives."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import msgspec
from msgspec.structs import replace

from soorma.transport.headers import scope_headers
from soorma.transport.http import JSON, Transport
from soorma_common.errors import Unavailable
from soorma_common.memory import Commit, Committed, PlanCommit
from soorma_common.names import Scope
from soorma_common.operations import MOST_PLACES_AT_ONCE, Acquire

LEASE_SECONDS = 10.0
"""Seconds for which a process that has died keeps its places and tickets."""
RENEW_SECONDS = LEASE_SECONDS / 4
PATH = "/v1/memory/commit"

Found: TypeAlias = dict[str, Any] | None
"""The platform's response for a holder: its `place` with a `revision`, its `ticket`, or None."""
Hear: TypeAlias = Callable[[Found], None]
log = logging.getLogger("soorma.memory")
_committed = msgspec.json.Decoder(Committed)
_renewers: WeakKeyDictionary[Transport, PlaceRenewer] = WeakKeyDictionary()
_making = threading.Lock()


@dataclass
class Kept:
    """A holder's place or ticket, and the callback that is told what each renewal has found."""

    scope: Scope
    plan_id: str
    asked: Acquire
    hear: Hear
    loop: asyncio.AbstractEventLoop
    transport: Transport
    renewed_at: float

    def tell(self, found: Found) -> None:
        """Calls `hear` in the event loop that made the request."""
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self.hear, found)


class PlaceRenewer:
    """The renewer of one transport's places and tickets; its thread lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, transport: Transport) -> PlaceRenewer:
        """Returns the keeper of this transport."""
        with _making:
            if (keeper := _renewers.get(transport)) is None:
                keeper = _renewers[transport] = cls()
            return keeper

    def keep(
        self, transport: Transport, scope: Scope, plan_id: str, asked: Acquire, hear: Hear
    ) -> None:
        """Starts renewing a holder's place or ticket; `hear` gets each result in the event loop."""
        loop = asyncio.get_running_loop()

        with self._lock:
            self._kept[asked.holder] = Kept(
                scope, plan_id, asked, hear, loop, transport, time.monotonic()
            )
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="soorma-claims", daemon=True)
                self._thread.start()

    def drop(self, holder: str) -> None:
        """Stops renewing the holder's place or ticket."""
        with self._lock:
            self._kept.pop(holder, None)

    async def renew(self, lease: float = LEASE_SECONDS) -> None:
        """Renews everything now, for `lease` seconds."""
        for (scope, _), kept, body in self._requests(lease):
            status, answer = await kept[0].transport.request(
                "memory", "POST", PATH, _headers(scope), body
            )
            if status == 200:
                self._take(kept, answer)

    def _run(self) -> None:
        while self._goes_on(wait=RENEW_SECONDS):
            for (scope, plan_id), kept, body in self._requests(LEASE_SECONDS):
                try:
                    answer = kept[0].transport.request_blocking(
                        "memory", PATH, body, _headers(scope)
                    )
                except Unavailable as error:
                    log.warning("claims of plan %s could not be renewed: %s", plan_id, error)
                    self._lapse(kept)
                else:
                    self._take(kept, answer)

    def _goes_on(self, wait: float) -> bool:
        time.sleep(wait)
        with self._lock:
            self._kept = {
                holder: one for holder, one in self._kept.items() if not one.loop.is_closed()
            }
            if not self._kept:
                self._thread = None
            return bool(self._kept)

    def _requests(self, lease: float) -> Iterator[tuple[tuple[Scope, str], list[Kept], bytes]]:
        with self._lock:
            everything = list(self._kept.values())
        places: dict[tuple[Scope, str], list[Kept]] = {}
        for one in everything:
            places.setdefault((one.scope, one.plan_id), []).append(one)
        for place, kept in places.items():
            most = max(1, MOST_PLACES_AT_ONCE // max(one.asked.places for one in kept))
            for start in range(0, len(kept), most):
                some = kept[start : start + most]
                operations: list[Any] = [
                    replace(one.asked, renew=True, ttl=None, lease=lease) for one in some
                ]
                yield place, some, msgspec.json.encode(Commit([PlanCommit(place[1], operations)]))

    def _take(self, kept: list[Kept], answer: bytes) -> None:
        results = _committed.decode(answer).plans[0].results
        for one, result in zip(kept, results, strict=True):
            found = msgspec.json.decode(result)
            one.renewed_at = time.monotonic()
            if found is None:
                self.drop(one.asked.holder)
            one.tell(found)

    def _lapse(self, kept: list[Kept]) -> None:
        """Drops what was not renewed for two leases, and tells its holder that it is lost."""
        for one in kept:
            if time.monotonic() - one.renewed_at > 2 * LEASE_SECONDS:
                self.drop(one.asked.holder)
                one.tell(None)


def _headers(scope: Scope) -> dict[str, str]:
    return {**scope_headers(scope), "Content-Type": JSON}
