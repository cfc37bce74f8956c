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
"""How long an agent that is still starting may take to end: nothing is in its hands yet that could
be lost."""


class Signals:
    """While this is entered, the first signal sets `stop`, on the loop, and from then on signals do what they do.

    An agent whose event loop does not react, as code blocks it, ends by that signal after
    `patience` seconds; while it is starting, after one. Whether the loop reacts, `reacts` tells.
    """

    def __init__(self, stop: asyncio.Event, patience: float) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._is_starting = True
        self._reacted = threading.Event()
        self._before: dict[int, Any] = {}

    def started(self) -> None:
        """From now on the agent may have events in hand, which take their time."""
        self._is_starting = False

    def reacts(self) -> None:
        """The agent has seen that it is to stop."""
        self._reacted.set()

    def __enter__(self) -> Self:
        # Handlers of Python's own, not the loop's: those run although the loop is blocked, between
        # two lines.
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
        for each in (
            SIGNALS
        ):  # the system ends the process at the next one, even where C code holds the interpreter
            signal.signal(each, signal.SIG_DFL)
        self._loop.call_soon_threadsafe(self._stop.set)
        seconds = STARTING_SECONDS if self._is_starting else self._patience
        threading.Thread(
            target=self._insist, args=(number, seconds), name="soorma-signal", daemon=True
        ).start()

    def _insist(self, number: int, seconds: float) -> None:
        # Logged here: the thread that a signal interrupts may hold the lock of the log.
        name = signal.Signals(number).name
        log.info("%s: the agent ends when its handlers have; another signal ends it at once", name)
        if not self._reacted.wait(seconds):
            os.kill(os.getpid(), number)
