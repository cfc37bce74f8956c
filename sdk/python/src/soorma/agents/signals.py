"""SIGINT and SIGTERM of a running agent: the first ends it in order, the second at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

log = logging.getLogger("soorma.agent")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STARTING_SECONDS = 1.0
"""Seconds that an agent which is still starting may take to end: it has nothing to lose yet."""


class Signals:
    """A context in which the first signal sets `stop` on the loop; later ones act by default.

    If code blocks the event loop, so that it does not react, the signal ends the agent after
    `patience` seconds, or after one while it is starting. The agent calls `reacts` when it has
    reacted.
    """

    def __init__(self, stop: asyncio.Event, patience: float) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._is_starting = True
        self._reacted = threading.Event()
        self._before: dict[int, Any] = {}

    def started(self) -> None:
        """Notes that the agent may be handling events from now on, which take their time."""
        self._is_starting = False

    def reacts(self) -> None:
        """Notes that the agent is stopping."""
        self._reacted.set()

    def __enter__(self) -> Self:
        # Python's own handlers, not the loop's: they run, between two lines, even if it is blocked.
        self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reacted.set()
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        # The system ends the process at the next one, even if C code holds the interpreter.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._loop.call_soon_threadsafe(self._stop.set)
        seconds = STARTING_SECONDS if self._is_starting else self._patience
        threading.Thread(
            target=self._insist, args=(number, seconds), name="soorma-signal", daemon=True
        ).start()

    def _insist(self, number: int, seconds: float) -> None:
        # Logged in this thread: the interrupted one may hold the lock of the log.
        name = signal.Signals(number).name
        log.info("%s: the agent ends when its handlers have; another signal ends it at once", name)
        if not self._reacted.wait(seconds):
            os.kill(os.getpid(), number)
