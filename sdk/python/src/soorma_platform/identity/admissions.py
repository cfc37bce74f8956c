"""The tasks that were admitted with each credential, so that they end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T", bound=Hashable)

NOT_VALID = "the credential is not valid any more"
"""The message of the cancellation."""


class Admissions(Generic[T]):
    """Running requests, streams and sockets, by the credential that has admitted them."""

    def __init__(self) -> None:
        self._tasks: dict[T, WeakSet[asyncio.Task[Any]]] = {}

    def add(self, credential: T) -> None:
        """Notes the running task as admitted with a credential."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - each request has one
        there = self._tasks.get(credential)
        if there is None:
            there = self._tasks[credential] = WeakSet()
        there.add(task)

    def end(self, is_valid: Callable[[T], bool]) -> None:
        """Cancels the tasks of each credential that is not valid any more.

        Each only once: it may take a while to end in order, and must not be cancelled meanwhile.
        """
        for credential, tasks in list(self._tasks.items()):
            if not is_valid(credential):
                del self._tasks[credential]
                for task in list(tasks):
                    task.cancel(NOT_VALID)
            elif not tasks:
                del self._tasks[credential]
