"""Attempts of handlers, stepped from await to await, so that an agent can die at any of them.

These count as awaits:

- each call of the handler's context (`state.get`, `bus.publish`, …), whether it has to wait or not;
- each other call to the platform, such as those of `context.immediate`;
- anything else that suspends the handler, such as `asyncio.sleep`;
- at the end, two of the SDK: sending the commit (or the failure), and waiting for its response.

Awaits inside a call do not count, so the count is the same each time. An agent that dies at a call
dies before the call has done anything; at the last await, the commit is on its way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from soorma.runtime.attempts import in_hand
from soorma.runtime.handlers import Handler
from soorma_common.events import Event

T = TypeVar("T")


class Trace:
    """The awaits of one attempt, the first that fits; read it when the attempt is over."""

    restart = False

    def __init__(self, event_type: str | None = None) -> None:
        self.awaits: list[str] = []
        self.event_type = event_type
        self.event: Event | None = None

    def takes(self, event: Event) -> bool:
        """Traces an attempt at this event if it is the first that fits; returns True if so."""
        if self.event is not None or self.event_type not in (None, event.type):
            return False
        self.event = event
        return True

    def reach(self, what: str) -> bool:
        """Records an await; True if the agent dies at it."""
        self.awaits.append(what)
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.awaits}>"


class Crash(Trace):
    """The death of an agent at await number `at_await` (from 1) of one attempt.

    With `restart` the agent is started again at once. Afterwards, `happened` is True if the agent
    died; if not, the attempt had only `awaits`.
    """

    def __init__(
        self, at_await: int, event_type: str | None = None, *, restart: bool = False
    ) -> None:
        super().__init__(event_type)
        self.at_await = at_await
        self.restart = restart
        self.happened = False

    def reach(self, what: str) -> bool:
        """Records an await; True if the agent dies at it."""
        super().reach(what)
        self.happened = self.happened or len(self.awaits) == self.at_await
        return self.happened


class Attempt:
    """A run of a handler on an event; once it is dead, no line of it runs any more."""

    def __init__(
        self,
        handler: Handler,
        event: Event,
        trace: Trace,
        die: Callable[[bool], None],
        never: Callable[[], Awaitable[Any]],
    ) -> None:
        self.event = event
        self.is_dead = False
        self.task = in_hand.get()
        self._handler = handler
        self._trace = trace
        self._die = die
        self._never = never
        self._is_plain = not handler.is_async

    @property
    def name(self) -> str:
        """The description of the attempt in messages."""
        function = getattr(self._handler.function, "__qualname__", repr(self._handler.function))
        return (
            f"handler {function!r} on event {self.event.type!r} {self.event.id} (plan "
            f"{self.event.plan_id})"
        )

    async def run(
        self, work: Coroutine[Any, Any, None], graveyard: set[Coroutine[Any, Any, Any]]
    ) -> None:
        """Steps the handler to its end, or to its death, when its coroutine goes to `graveyard`."""
        if self.task is not None:
            _attempts[self.task] = self
        await _Stepped(work, self, graveyard)

    def suspends(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Records that the handler is suspended; True if the agent has died there.

        A plain `def` waits in its thread, which does not count.
        """
        if self.is_dead or self._is_plain or _inside.get():
            return self.is_dead
        return self.dies_at(f"wait in {_place(coroutine)}")

    async def reach(self, what: str) -> None:
        """Records an await; never returns if the agent dies at it."""
        if self.dies_at(what):
            await self.never()

    def dies_at(self, what: str) -> bool:
        """Records an await; True if the agent has died at it."""
        # tasks that outlive their handler are not part of the attempt
        is_over = self.task is None or self.task.done()
        if not (self.is_dead or is_over) and self._trace.reach(what):
            self._die(self._trace.restart)
        return self.is_dead

    async def never(self) -> None:
        """Waits for ever."""
        await self._never()


_attempts: WeakKeyDictionary[asyncio.Task[None], Attempt] = WeakKeyDictionary()
_inside: ContextVar[bool] = ContextVar("soorma_testing_inside", default=False)


def current() -> Attempt | None:
    """Returns the attempt that the calling code belongs to, if any."""
    task = in_hand.get()
    return None if task is None else _attempts.get(task)


async def counted(what: str, call: Coroutine[Any, Any, T]) -> T:
    """Awaits a call that counts as one await, whatever it awaits inside."""
    attempt = current()
    if attempt is None or _inside.get():
        return await call
    if attempt.dies_at(what):
        call.close()
        await attempt.never()
    return await uncounted(call)


async def uncounted(call: Coroutine[Any, Any, T]) -> T:
    """Awaits a call that does not count."""
    before = _inside.get()
    _inside.set(True)
    try:
        return await call
    finally:
        _inside.set(before)


class _Stepped:
    """A running coroutine, intercepted at each suspension."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        attempt: Attempt,
        graveyard: set[Coroutine[Any, Any, Any]],
    ) -> None:
        self._coroutine = coroutine
        self._attempt = attempt
        self._graveyard = graveyard

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield from self._steps()
        finally:
            if self._attempt.is_dead:
                # otherwise it would be closed now, and its `finally` blocks would run
                self._graveyard.add(self._coroutine)

    def _steps(self) -> Generator[Any, Any, None]:
        attempt = self._attempt
        thrown: BaseException | None = None
        while True:
            try:
                awaited = (
                    self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
                )
            except StopIteration:
                return
            if attempt.suspends(self._coroutine):
                yield from attempt.never().__await__()
            thrown = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - the coroutine gets it
                thrown = error
            if attempt.is_dead:
                if thrown is not None:
                    raise thrown
                yield from attempt.never().__await__()


def _place(coroutine: Any) -> str:
    """Returns the function and line at which the handler waits."""
    while inspect.iscoroutine(coroutine) and (frame := coroutine.cr_frame) is not None:
        if not frame.f_globals.get("__name__", "").startswith(
            ("soorma.runtime.", "soorma.callables", "asyncio.")
        ):
            return f"{frame.f_code.co_name}, line {frame.f_lineno}"
        coroutine = coroutine.cr_await
    return "an unknown place"
