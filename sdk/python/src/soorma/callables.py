"""Functions supplied by an author: checked when registered, called, and awaited to a value.

A function may be `async def`, plain, decorated, a partial, a lambda or an object with `__call__`.
Only a call shows whether there is something to await, so its result is awaited until it is a value.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any

from soorma_common.errors import InvalidRequest


def check_callable(function: object, what: str, *arguments: str) -> None:
    """Raises InvalidRequest unless `function` accepts these arguments and is no generator.

    `what` names it in the message, as "a handler" or "a start-up hook". A signature that Python
    cannot determine, as of some built-in functions, is not checked.
    """
    if not callable(function):
        raise InvalidRequest(f"{what} is a function of ({', '.join(arguments)}), not {function!r}")
    if is_generator(function):
        raise InvalidRequest(
            f"{name_of(function)} is a generator, and {what} is not: nobody would iterate over it. "
            "Replace `yield` by `return`, or by a call for each value"
        )
    try:
        # The outermost signature counts: a decorator may pass on other arguments than it takes.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        given = f"with ({', '.join(arguments)})" if arguments else "without arguments"
        raise InvalidRequest(
            f"{name_of(function)}{signature} cannot be called as {what}, which is called {given}: "
            f"{error}"
        ) from error


def is_async(function: object) -> bool:
    """True if `function` is a coroutine function, as far as its definition shows."""
    return any(
        inspect.iscoroutinefunction(one)
        or asyncio.iscoroutinefunction(one)  # marked as one by a decorator
        for one in _callees(function)
    )


def is_generator(function: object) -> bool:
    """True if `function` is a plain or async generator function, as far as its definition shows."""
    return any(
        inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one)
        for one in _callees(function)
    )


def name_of(function: object) -> str:
    """Returns the name under which an author knows the function."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name)


async def finish(outcome: object, what: str) -> Any:
    """Awaits the outcome of a call until it is a value, and returns that.

    Raises InvalidRequest for a generator or a context manager, which the author expected to run,
    but nobody runs. `what` names the function in the message.
    """
    while outcome is not None and inspect.isawaitable(outcome):
        outcome = await outcome
    if outcome is None:  # nearly always; the checks below cost ten times as much
        return None
    if inspect.isgenerator(outcome) or inspect.isasyncgen(outcome):
        raise InvalidRequest(
            f"{what} returned a generator, of which nothing runs: nobody iterates over it"
        )
    if isinstance(outcome, AbstractContextManager | AbstractAsyncContextManager) and not _is_value(
        outcome
    ):
        raise InvalidRequest(
            f"{what} returned a context manager, which nobody enters: use it inside, with `with` "
            "or `async with`"
        )
    return outcome


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function on the event loop, awaits its outcome, and returns the value."""
    return await finish(function(*arguments), name_of(function))


def _callees(function: object) -> tuple[object, ...]:
    """Returns what is actually called: a partial's function, or an object's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return (function,)
    return (function, getattr(type(function), "__call__", None))  # noqa: B004 - the method itself


def _is_value(outcome: object) -> bool:
    """True if a context manager is also a value, such as an open file or connection."""
    return not type(outcome).__module__.startswith("contextlib")
