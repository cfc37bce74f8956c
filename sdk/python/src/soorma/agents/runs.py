"""Runs of handlers: each ends in some way, or is left behind, whatever it does with its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from soorma.agents import forks

STUBBORN_SECONDS = 5.0
"""How long a handler may go on after it was cancelled, to clean up; then it is left behind."""


class TookTooLong(TimeoutError):
    """An attempt was not over within the handler's own timeout."""


class Run:
    """One run of a handler, in this task, which awaits `ended`.

    A handler that is cancelled by its own code, by a library or by somebody who cancels all tasks, and one that raises
    SystemExit, ends like any other: with an exception that fails its attempt. `timeout` is in seconds. A handler that
    goes on although its time is over keeps its task: it `is_left` then, and `leave` is called with the reason.
    """

    def __init__(self, task: asyncio.Task[Any], timeout: float | None, leave: Callable[[TookTooLong], None]) -> None:
        self._loop = task.get_loop()
        self._timeout = timeout
        self._leave = leave
        self._is_late = False
        self.is_left = False
        self._task = task
        self._timer = None if timeout is None else self._loop.call_later(timeout, self._expire)

    async def ended(self, work: Coroutine[Any, Any, None]) -> BaseException | None:
        """Returns what the handler raised, None if it returned. Nothing that it raises gets further than here."""
        error: BaseException | None = None
        try:
            await work
        except BaseException as raised:
            if issubclass(type(raised), GeneratorExit) and asyncio.current_task(self._loop) is not self._task:
                raise  # no end of the handler's: its task is thrown away, with the event loop
            error = raised
        if self._timer is not None:
            self._timer.cancel()
        forks.end_child()
        if error is None or not self._is_late or isinstance(error, TookTooLong):
            return error
        late = TookTooLong(f"the handler took longer than its timeout allows: {self._timeout:g} s")
        late.__cause__ = error
        return late

    def _expire(self) -> None:
        self._is_late = True
        self._task.cancel()
        self._timer = self._loop.call_later(STUBBORN_SECONDS, self._leave_behind)

    def _leave_behind(self) -> None:
        self.is_left = True
        self._leave(
            TookTooLong(
                f"the handler took longer than its timeout allows, {self._timeout:g} s, and goes on although it "
                "was cancelled: what catches CancelledError must raise it again"
            )
        )


async def forget_cancellation(task: asyncio.Task[Any]) -> None:
    """Forgets that somebody cancelled this task, as a handler's own code may do with all tasks that it finds."""
    while task.cancelling():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # one that was asked for in the last step comes with the next
        task.uncancel()
