"""The protocol of a bus, which rings bells and fans the log out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.notices import Notice


def group_bell(group_id: int) -> str:
    """Returns the bell of a group's deliveries."""
    return f"group:{group_id}"


def plan_bell(scope: Scope, plan_id: str) -> str:
    """Returns the bell of a plan's changes."""
    return f"plan:{scope.tenant_id}\0{scope.user_id}\0{plan_id}"


def correlation_bell(scope: Scope, correlation_id: str) -> str:
    """Returns the bell of events of one correlation id."""
    return f"correlation:{scope.tenant_id}\0{scope.user_id}\0{correlation_id}"


TIMER_BELL = "timers"
"""The bell of newly set timers."""
MEMORY_BELL = "memories"
"""The bell of newly stored passages."""
KEY_BELL = "keys"
"""The bell of created, rotated and revoked keys, and of blocked tokens."""


def bells(notice: Notice) -> set[str]:
    """Returns all bells that a commit rings."""
    names: set[str] = set()
    for group in notice.groups:
        names.add(group_bell(group))
    for scope, plan_id in notice.plans:
        names.add(plan_bell(scope, plan_id))
    if notice.timers:
        names.add(TIMER_BELL)
    if notice.memories:
        names.add(MEMORY_BELL)
    if notice.keys:
        names.add(KEY_BELL)
    for entry in notice.entries:
        names.add(correlation_bell(Scope(entry.tenant_id, entry.user_id), entry.correlation_id))
    return names


class Bell(Protocol):
    """A place to wait for rings. Rings between two waits are kept, as one."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bell is waited at for a time
        """Returns True at the next ring, or at once for one kept; False after `timeout` seconds."""
        ...

    def ring(self) -> None:
        """Wakes this waiter only."""
        ...


class Bus(Protocol):
    """The carrier of commit notices to all processes of the platform. A lost one costs a poll."""

    def notify(self, notice: Notice) -> None:
        """Rings the bells of a commit, and passes its log entries to all subscribers.

        Subscribers receive them in the order of commits.
        """
        ...

    def bell(self, name: str) -> Bell:
        """Makes a bell to wait at, which hears rings from when it is entered."""
        ...

    def subscribe(self, receive: Callable[[list[LogEntry]], None]) -> Callable[[], None]:
        """Passes each commit's log entries to `receive`; returns a function that ends this."""
        ...
