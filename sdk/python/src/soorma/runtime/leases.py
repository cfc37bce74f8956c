"""Lease renewal in a thread, so that a handler that blocks the event loop keeps its event."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import msgspec

from soorma.transport.http import JSON, Transport
from soorma_common.errors import Fenced, Unavailable

ASK_AGAIN_SECONDS = 1.0
"""Seconds between checks whether a delivery is still ours, while the platform is unreachable."""

log = logging.getLogger("soorma.agent")


class LeaseKeeper:
    """The renewer of fences, three times per lease or reservation.

    It reports the fences whose deliveries were given to another agent.
    """

    def __init__(self, transport: Transport, lost: Callable[[list[str]], None]) -> None:
        self._transport = transport
        self._lost = lost
        self._lock = threading.Lock()
        self._fences: dict[str, float] = {}
        """when each was last known to be ours"""
        self._short: dict[str, float] = {}
        """seconds of leases that are shorter than the others"""
        self._abandoned: set[str] = set()
        self._reserved: dict[str, float] = {}
        """seconds that a handler's reservation lasts without a renewal"""
        self._replica = ""
        self._lease = 30.0
        self._answered_at = self._current_at = 0.0
        """times of the last renewal and of the last one in time; a frozen process renews late"""
        self._stopped = threading.Event()
        self._sooner = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, replica: str, lease_seconds: float) -> None:
        """Starts, or continues under the name of a new replica after a reconnection."""
        self._replica, self._lease = replica, lease_seconds
        self._answered_at = self._current_at = self.now()
        self._begin()

    def hold(self, fence: str, lease_seconds: float | None = None) -> None:
        """Renews this fence from now on; its lease may be shorter than those of the others.

        It counts as ours since the last renewal that was not late: it may have waited here since.
        """
        with self._lock:
            self._fences[fence] = self._current_at
            if lease_seconds is not None:
                self._short[fence] = lease_seconds
        if lease_seconds is not None:
            self._sooner.set()

    def drop(self, fence: str) -> None:
        """Stops renewing this fence."""
        with self._lock:
            self._remove(fence)

    def _remove(self, fence: str) -> None:
        for known in (self._fences, self._short, self._reserved):
            known.pop(fence, None)

    def reserve(self, fence: str, seconds: float) -> None:
        """Notes that its handler has reserved keys, for `seconds` without a renewal."""
        with self._lock:
            if fence in self._fences:
                self._reserved[fence] = seconds
        self._sooner.set()

    def abandon(self, fence: str) -> None:
        """Names this fence in one more renewal, then no longer.

        A fence that an agent has never named counts as still on its way.
        """
        with self._lock:
            self._abandoned.add(fence)

    async def confirm(self, fence: str) -> None:
        """Returns if the fence is ours, else raises Fenced.

        If it was last confirmed more than a lease ago, asks the platform until it responds.
        """
        lease = self._short.get(fence, self._lease)
        while (known := self._fences.get(fence)) is not None and self.now() - known > lease:
            asked_at = self.now()
            try:
                status, answer = await self._transport.request(
                    "events",
                    "POST",
                    "/v1/events/renew",
                    {"Content-Type": JSON},
                    self._body([fence]),
                )
            except Unavailable:
                status, answer = 503, b""
            if status == 200:
                self._take(asked_at, [fence], answer)
            else:
                await asyncio.sleep(ASK_AGAIN_SECONDS)
        if known is None:
            raise Fenced(
                "this delivery was given to another agent, or was settled: no effect of a step is "
                "begun"
            )

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self._sooner.set()

    def now(self) -> float:
        """The time of a monotonic clock, in seconds."""
        return time.monotonic()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="soorma-leases", daemon=True)
            self._thread.start()

    @property
    def _interval(self) -> float:
        """Seconds from one renewal to the next."""
        with self._lock:
            return min([self._lease, *self._short.values(), *self._reserved.values()]) / 3

    def _waits(self, since: float) -> bool:
        """Waits until the next renewal is due, sooner if one becomes urgent; False if stopped."""
        while not self._stopped.is_set() and (left := since + self._interval - self.now()) > 0:
            due = self.now() + left
            self._sooner.wait(left)
            self._sooner.clear()
            self._tell_late(self.now() - due)
        return not self._stopped.is_set()

    def _tell_late(self, seconds: float) -> None:
        """Warns that this thread is late for a renewal, which may be why a lease is lost."""
        if seconds > self._interval:
            log.warning(
                "leases are renewed %.1f s late: a call kept the interpreter to itself (a regular "
                "expression, or C "
                "code that holds its lock), or the process or the machine stood still. An event "
                "without a renewal for "
                "%.0f s goes to another process; run such a call in a process of its own",
                seconds, self._lease,
            )  # fmt: skip

    def _run(self) -> None:
        began = self.now()
        while self._waits(began):
            began, fences = self.now(), self._named()
            try:
                answer = self._transport.request_blocking(
                    "events", "/v1/events/renew", self._body(fences)
                )
            except Unavailable as error:
                log.warning("leases could not be renewed: %s", error)
                continue
            self._renewed(began, fences, answer)

    def _named(self) -> list[str]:
        with self._lock:
            return sorted(self._fences.keys() | self._abandoned)

    def _body(self, fences: list[str]) -> bytes:
        return msgspec.json.encode({"replica": self._replica, "fences": fences})

    def _renewed(self, began: float, fences: list[str], answer: bytes) -> None:
        """Processes the response to a renewal of all fences."""
        if began - self._answered_at <= self._lease:
            self._current_at = began
        self._answered_at = began
        self._abandoned.difference_update(fences)
        self._take(began, fences, answer)

    def _take(self, began: float, fences: list[str], answer: bytes) -> None:
        kept = set(msgspec.json.decode(answer)["kept"])
        with self._lock:
            ours = [fence for fence in fences if fence in self._fences]
            gone = [fence for fence in ours if fence not in kept]
            self._fences.update((fence, began) for fence in ours if fence in kept)
            for fence in gone:
                self._remove(fence)
        if gone:
            self._lost(gone)
