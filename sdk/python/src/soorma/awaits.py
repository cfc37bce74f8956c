"""Calls of the SDK in a handler whose `await` was forgotten: nothing of them has happened, and the author is told.

Python only warns of a coroutine that was never awaited, and the handler would be committed without
it.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import CoroutineType
from typing import Any, TypeVar

from soorma.callables import name_of

T = TypeVar("T")

_SOME = 64
"""Calls of a handler after which those that have begun are forgotten, so that a long one keeps
few."""

_calls: ContextVar[list[CoroutineType[Any, Any, Any]] | None] = ContextVar(
    "soorma_calls", default=None
)


def watch_calls() -> list[CoroutineType[Any, Any, Any]]:
    """Begins a list of the calls that are made from here on, in this task and in those that it starts."""
    calls: list[CoroutineType[Any, Any, Any]] = []
    _calls.set(calls)
    return calls


def unawaited(calls: list[CoroutineType[Any, Any, Any]]) -> list[str]:
    """Returns the names of the calls that have not begun, and closes them, so that they never will."""
    # Nearly all have ended, and have no frame any more: to ask for more than that costs five times
    # as much.
    missed = [call for call in calls if call.cr_frame is not None and _is_unbegun(call)]
    for call in missed:
        call.close()
    return [name_of(call) for call in missed]


def _is_unbegun(call: CoroutineType[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(call) == inspect.CORO_CREATED


def awaited(cls: type[T]) -> type[T]:
    """Decorates a class: its public `async def` methods note each call that a handler makes."""
    for name, function in list(vars(cls).items()):
        if inspect.iscoroutinefunction(function) and not name.startswith("_"):
            setattr(cls, name, _noting(function))
    return cls


def _noting(
    function: Callable[..., CoroutineType[Any, Any, Any]],
) -> Callable[..., CoroutineType[Any, Any, Any]]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> CoroutineType[Any, Any, Any]:
        made = function(*arguments, **options)
        if (calls := _calls.get()) is not None:
            if len(calls) >= _SOME:
                calls[:] = [one for one in calls if _is_unbegun(one)]
            calls.append(made)
        return made

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(call)
    else:
        # What Python 3.11 marks a coroutine function with.
        call._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return call
