"""An agent's handlers: which function takes which events, and under which rules."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from soorma.context import HandlerContext
from soorma.transaction import Isolation
from soorma_common.delivery import RetryPolicy, Subscription
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event

HandlerFunction = Callable[[Event, HandlerContext], Any]


class TookTooLong(TimeoutError):
    """An attempt was not over within the handler's own timeout."""


@dataclass(frozen=True)
class Handler:
    """A function, what it subscribes to, and how long (seconds) and how isolated one attempt runs."""

    function: HandlerFunction
    subscription: Subscription
    timeout: float | None
    isolation: Isolation

    async def __call__(self, event: Event, context: HandlerContext, threads: Executor) -> None:
        """Runs the function; a plain `def` in one of `threads`, so that it may block."""
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                if inspect.iscoroutinefunction(self.function):
                    await self.function(event, context)
                else:
                    call = partial(copy_context().run, self.function, event, context)
                    await asyncio.get_running_loop().run_in_executor(threads, call)
        except TimeoutError as error:
            if limit.expired():
                raise TookTooLong(f"the handler took longer than its timeout allows: {self.timeout:g} s") from error
            raise


Runner = Callable[[Handler, Event, HandlerContext, Executor], Awaitable[None]]
"""What runs a handler on an event."""


async def run_handler(handler: Handler, event: Event, context: HandlerContext, threads: Executor) -> None:
    """Runs a handler, and nothing else: what agents do outside tests."""
    await handler(event, context, threads)


class Handlers:
    """The handlers of one agent, by type and topic."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}

    def add(self, handler: Handler, *, replace: bool = False) -> None:
        """Takes a handler; InvalidRequest if its type and topic have another one already.

        With `replace`, a function that is defined anew takes the place of its former self, as in a notebook.
        """
        wanted = handler.subscription
        place = (wanted.type, wanted.topic)
        if place in self._handlers and not (replace and _is_anew(self._handlers[place].function, handler.function)):
            other = self._handlers[place].function
            raise InvalidRequest(
                f"event {wanted.type!r} on topic {wanted.topic!r} has the handler {other.__qualname__!r} already; "
                "an event has one handler in an agent",
            )
        self._handlers[place] = handler

    def __getitem__(self, subscription: Subscription) -> Handler:
        return self._handlers[subscription.type, subscription.topic]

    def __len__(self) -> int:
        return len(self._handlers)

    @property
    def subscriptions(self) -> list[Subscription]:
        """What the agent subscribes to."""
        return [handler.subscription for handler in self._handlers.values()]


def _is_anew(before: HandlerFunction, now: HandlerFunction) -> bool:
    """Whether a function is another one defined again: of one name, and not at two places of one file."""
    names = [(getattr(each, "__module__", None), getattr(each, "__qualname__", None)) for each in (before, now)]
    if names[0] != names[1] or names[0][1] is None:
        return False
    places = [getattr(inspect.unwrap(each), "__code__", None) for each in (before, now)]
    a, b = (None if code is None else (code.co_filename, code.co_firstlineno) for code in places)
    return a is None or b is None or a == b or a[0] != b[0] or not Path(a[0]).is_file()


def check_retry(retry: object) -> None:
    """InvalidRequest unless it is a RetryPolicy, or None."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InvalidRequest(f"retry= is a RetryPolicy, as RetryPolicy(max_attempts=3), not {retry!r}")


def subscription(event_type: str, topic: str | None, *, ordered: bool, retry: RetryPolicy | None) -> Subscription:
    """The subscription of a handler; without a topic it takes the type from any."""
    return Subscription(event_type, topic or "*", ordered, retry or RetryPolicy())
