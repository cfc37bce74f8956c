"""An agent's handlers: which function takes which events, and under which rules."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from soorma.callables import check_callable, finish, is_async, name_of
from soorma.context import HandlerContext
from soorma.memory.transactions import Isolation
from soorma.runtime.threads import Threads
from soorma_common.delivery import Subscription
from soorma_common.errors import InvalidRequest
from soorma_common.events import Event
from soorma_common.retry import RetryPolicy

HandlerFunction = Callable[[Event, HandlerContext], Awaitable[None] | None]


@dataclass(frozen=True)
class Handler:
    """A function and its subscription, with the timeout (seconds) and isolation of an attempt."""

    function: HandlerFunction
    subscription: Subscription
    timeout: float | None
    isolation: Isolation
    is_async: bool = field(init=False)
    """true if it runs on the event loop; a plain function gets a thread, so that it may block"""

    def __post_init__(self) -> None:
        """Raises InvalidRequest if the function cannot be called as a handler."""
        check_callable(self.function, "a handler", "event", "context")
        object.__setattr__(self, "is_async", is_async(self.function))

    async def __call__(self, event: Event, context: HandlerContext, threads: Threads) -> None:
        """Runs the function to its end; a plain one in one of `threads`."""
        function = self.function
        if self.is_async:
            outcome = function(event, context)
        else:
            outcome = await threads.run(partial(copy_context().run, function, event, context))
        value = await finish(outcome, f"handler {name_of(function)!r}")
        if value is not None:
            raise InvalidRequest(
                f"handler {name_of(function)!r} returned a {type(value).__name__}: what a handler "
                "returns goes "
                "nowhere. Answer a request with context.bus.respond(event, …), publish what others "
                "are to hear, keep "
                "the rest in the state"
            )


class Handlers:
    """The handlers of one agent, by type and topic."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}

    def add(self, handler: Handler, *, replace: bool = False) -> None:
        """Adds a handler; InvalidRequest if its type and topic already have one.

        With `replace`, a function that is redefined, as in a notebook, replaces its former version.
        """
        wanted = handler.subscription
        place = (wanted.type, wanted.topic)
        if place in self._handlers and not (
            replace and _is_anew(self._handlers[place].function, handler.function)
        ):
            other = self._handlers[place].function
            raise InvalidRequest(
                f"event {wanted.type!r} on topic {wanted.topic!r} has the handler "
                f"{name_of(other)!r} already; "
                "an event has one handler in an agent",
            )
        self._handlers[place] = handler

    def __getitem__(self, subscription: Subscription) -> Handler:
        return self._handlers[subscription.type, subscription.topic]

    def __len__(self) -> int:
        return len(self._handlers)

    @property
    def subscriptions(self) -> list[Subscription]:
        """The subscriptions of all handlers."""
        return [handler.subscription for handler in self._handlers.values()]


def _is_anew(before: HandlerFunction, now: HandlerFunction) -> bool:
    """True if a function of a notebook or console, in no file, is redefined under its name."""
    name = getattr(now, "__qualname__", "<locals>")
    if (
        "<locals>" in name
        or name != getattr(before, "__qualname__", None)
        or before.__module__ != now.__module__
    ):
        return False
    places = [getattr(inspect.unwrap(each), "__code__", None) for each in (before, now)]
    return all(place is not None and not Path(place.co_filename).is_file() for place in places)


def check_retry(retry: object) -> None:
    """Raises InvalidRequest unless it is a RetryPolicy, or None."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InvalidRequest(
            f"retry= is a RetryPolicy, as RetryPolicy(max_attempts=3), not {retry!r}"
        )


def subscription(
    event_type: str,
    topic: str | None,
    *,
    ordered: bool,
    retry: RetryPolicy | None,
    ended_plans: bool = False,
) -> Subscription:
    """The subscription of a handler; without a topic, it is to the type on any topic."""
    return Subscription(event_type, topic or "*", ordered, retry or RetryPolicy(), ended_plans)
