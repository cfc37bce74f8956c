"""The bus of the embedded platform: all waiters are in this process, on one event loop."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Self

from soorma_platform.buses.protocol import bells
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.wakeup import Wakeup


class InProcessBell:
    """A bell for waiters in this process."""

    def __init__(self, name: str, doors: dict[str, deque[InProcessBell]]) -> None:
        self._name = name
        self._doors = doors
        self._rung = Wakeup()

    def __enter__(self) -> Self:
        self._doors[self._name].append(self)
        return self

    def __exit__(self, *failure: object) -> None:
        waiting = self._doors[self._name]
        waiting.remove(self)
        if not waiting:
            del self._doors[self._name]

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bell is waited at for a time
        is_rung = await self._rung.wait(timeout)
        self._rung.clear()
        return is_rung


class InProcessBus:
    """A bus whose bells and readers are all in this process."""

    def __init__(self) -> None:
        self._doors: dict[str, deque[InProcessBell]] = defaultdict(deque)
        self._subscribers: list[Callable[[list[LogEntry]], None]] = []

    def notify(self, notice: Notice) -> None:
        for name in bells(notice):
            if waiting := self._doors.get(name):
                for bell in waiting:
                    bell.ring()
                # The first one woken may take all there is: let it be another each time.
                waiting.rotate()
        if notice.entries:
            for receive in self._subscribers:
                receive(notice.entries)

    def bell(self, name: str) -> InProcessBell:
        return InProcessBell(name, self._doors)

    def subscribe(self, receive: Callable[[list[LogEntry]], None]) -> Callable[[], None]:
        self._subscribers.append(receive)
        return lambda: self._subscribers.remove(receive)
