"""Runs of handlers.

Each has its own task: whatever cancels that task cancels nothing of the agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from soorma.runtime import process_forks

STUBBORN_SECONDS = 5.0
"""Seconds that a cancelled handler may take to clean up; then it is left behind."""

log = logging.getLogger("soorma.agent")


class TookTooLong(TimeoutError):
    """The error of an attempt that exceeded the handler's timeout."""


class Run:
    """One run of a handler; `ended` returns how it ended, or that it was left behind.

    A handler that is cancelled by its own code, by a library or by code that cancels all tasks, or
    that raises SystemExit, ends like any other: with an exception that fails its attempt. `timeout`
    is in seconds.
    """

    def __init__(self, work: Coroutine[Any, Any, None], timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._is_late = False
        self._work = work
        self._over: asyncio.Future[BaseException | None] = loop.create_future()
        self._task = loop.create_task(self._follow())
        self._timer = None if timeout is None else loop.call_later(timeout, self._expire)

    async def ended(self) -> BaseException | None:
        """Returns what the handler raised, None if it returned.

        Cancelling this ends the handler.
        """
        try:
            error = await self._over
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if error is None or not self._is_late or isinstance(error, TookTooLong):
            return error
        late = TookTooLong(f"the handler took longer than its timeout allows: {self._timeout:g} s")
        late.__cause__ = error
        return late

    async def _follow(self) -> None:
        """Runs the handler and reports how it ended.

        Nothing is raised from here: asyncio would end the process.
        """
        error: BaseException | None = None
        try:
            await self._work
        except BaseException as raised:  # noqa: BLE001 - a handler may end in any way
            error = raised
        process_forks.end_child()
        if not self._over.done():
            self._over.set_result(error)

    def _expire(self) -> None:
        self._is_late = True
        self._task.cancel()
        self._timer = asyncio.get_running_loop().call_later(STUBBORN_SECONDS, self._leave_behind)

    def _leave_behind(self) -> None:
        if not self._over.done():
            self._over.set_result(
                TookTooLong(
                    f"the handler took longer than its timeout allows, {self._timeout:g} s, and "
                    "goes on although it "
                    "was cancelled: what catches CancelledError must raise it again"
                )
            )

    async def _end(self) -> None:
        """Cancels the handler and waits until it has cleaned up, for STUBBORN_SECONDS at most."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STUBBORN_SECONDS)
        if not self._task.done():
            log.error(
                "a handler goes on although it was cancelled; what catches CancelledError must "
                "raise it again"
            )
        self._work.close()  # it may not have begun
