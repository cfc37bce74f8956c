"""A flag to wait for with a time limit, made for waits that begin and end with each event."""

from __future__ import annotations

import asyncio


class Wakeup:
    """A flag for one waiter, on the event loop.

    `asyncio.Event` under `asyncio.timeout` does the same with three times the calls.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Sets the flag, and wakes the waiter."""
        self._is_set = True
        _wake(self._waiter)

    def clear(self) -> None:
        """Clears the flag."""
        self._is_set = False

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - it is no cancellation
        """Returns True once the flag is set; False if it is not after `timeout` seconds."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(timeout, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return self._is_set


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
