"""The protocol of a bus: it rings doorbells, and fans the log out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.notices import Notice


def group_bell(group_id: int) -> str:
    """The bell of a group's deliveries."""
    return f"group:{group_id}"


def plan_bell(scope: Scope, plan_id: str) -> str:
    """The bell of a plan's changes."""
    return f"plan:{scope.tenant_id}\0{scope.user_id}\0{plan_id}"


def correlation_bell(scope: Scope, correlation_id: str) -> str:
    """The bell of events of one correlation id."""
    return f"correlation:{scope.tenant_id}\0{scope.user_id}\0{correlation_id}"


TIMER_BELL = "timers"
"""The bell of timers that were set."""


def bells(notice: Notice) -> set[str]:
    """All bells that a commit rings."""
    names = set[str]()
    for group in notice.groups:
        names.add(group_bell(group))
    for scope, plan_id in notice.plans:
        names.add(plan_bell(scope, plan_id))
    if notice.timers:
        names.add(TIMER_BELL)
    for entry in notice.entries:
        names.add(correlation_bell(Scope(entry.tenant_id, entry.user_id), entry.correlation_id))
    return names


class Bell(Protocol):
    """Somebody waiting at a door. A ring between two waits is kept, many are one."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bell is waited at for a time
        """Returns at the next ring, or the last one nobody waited for; False after `timeout` seconds without."""
        ...

    def ring(self) -> None:
        """Wakes this waiter only."""
        ...


class Bus(Protocol):
    """Carries notices of commits to every process of the platform. A lost one costs a poll."""

    def notify(self, notice: Notice) -> None:
        """Rings the bells of a commit and hands its log entries to all subscribers, in the order of commits."""
        ...

    def bell(self, name: str) -> Bell:
        """A bell to wait at, heard from when it is entered."""
        ...

    def subscribe(self, receive: Callable[[list[LogEntry]], None]) -> Callable[[], None]:
        """Hands each commit's log entries to `receive` from now on; returns how to stop that."""
        ...
