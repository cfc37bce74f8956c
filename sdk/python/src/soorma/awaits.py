"""Detection of SDK calls in a handler whose `await` was forgotten.

Such a call has had no effect. Python only warns about it, and the handler would be committed
without it; here, the attempt fails with an error that names the call.
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
"""Number of calls at which those that have begun are removed, so that the list stays short."""

_calls: ContextVar[list[CoroutineType[Any, Any, Any]] | None] = ContextVar(
    "soorma_calls", default=None
)


def watch_calls() -> list[CoroutineType[Any, Any, Any]]:
    """Returns a list of the calls made from here on, in this task and in those that it starts."""
    calls: list[CoroutineType[Any, Any, Any]] = []
    _calls.set(calls)
    return calls


def unawaited(calls: list[CoroutineType[Any, Any, Any]]) -> list[str]:
    """Closes the calls that have not begun, so that they never will, and returns their names."""
    # Nearly all have ended and have no frame any more; the full check costs five times as much.
    missed = [call for call in calls if call.cr_frame is not None and _is_unbegun(call)]
    for call in missed:
        call.close()
    return [name_of(call) for call in missed]


def _is_unbegun(call: CoroutineType[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(call) == inspect.CORO_CREATED


def awaited(cls: type[T]) -> type[T]:
    """Decorates a class so that its public `async def` methods record the calls of a handler."""
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
        # The mark of a coroutine function in Python 3.11.
        call._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return call
