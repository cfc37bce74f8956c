"""Renewing leases from a thread of its own, so that a handler that blocks the event loop keeps its event."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from soorma.transport import Transport
from soorma_common.errors import Unavailable

log = logging.getLogger("soorma.agent")


class LeaseKeeper:
    """Renews the fences in hand three times per lease, and tells which have gone to somebody else."""

    def __init__(self, transport: Transport, lost: Callable[[list[str]], None]) -> None:
        self._transport = transport
        self._lost = lost
        self._lock = threading.Lock()
        self._fences: set[str] = set()
        self._abandoned: set[str] = set()
        self._replica = ""
        self._lease = 30.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, replica: str, lease_seconds: float) -> None:
        """Begins, or goes on under a new replica's name after a reconnection."""
        self._replica, self._lease = replica, lease_seconds
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="soorma-leases", daemon=True)
            self._thread.start()

    def hold(self, fence: str) -> None:
        """From now on this fence is renewed."""
        with self._lock:
            self._fences.add(fence)

    def drop(self, fence: str) -> None:
        """It is no longer."""
        with self._lock:
            self._fences.discard(fence)

    def abandon(self, fence: str) -> None:
        """It is named once more and then no longer: what an agent has never named counts as still on its way."""
        with self._lock:
            self._abandoned.add(fence)

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._lease / 3):
            with self._lock:
                fences = sorted(self._fences | self._abandoned)
            try:
                body = msgspec.json.encode({"replica": self._replica, "fences": fences})
                answer = self._transport.request_blocking("events", "/v1/events/renew", body)
            except Unavailable as error:
                log.warning("leases could not be renewed: %s", error)
                continue
            kept = set(msgspec.json.decode(answer)["kept"])
            with self._lock:
                self._abandoned.difference_update(fences)
                gone = [fence for fence in fences if fence not in kept and fence in self._fences]
            if gone:
                self._lost(gone)
