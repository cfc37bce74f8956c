"""The port of the log: events in the order of their commits."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry


class LogPage(msgspec.Struct):
    """Events of the log. What was up to the position `horizon` is not kept any more."""

    horizon: int
    entries: list[LogEntry]


class LogStore(Protocol):
    """The log of events."""

    async def page(self, after: int, limit: int) -> LogPage:
        """Events of positions above `after`, in order: `limit` of them at most, and fewer if they are large."""
        ...

    async def end(self) -> int:
        """The position of the newest event, 0 in an empty log."""
        ...

    async def event(self, tenant_id: str, event_id: str) -> LogEntry | None:
        """The event of that id."""
        ...

    async def correlated(
        self, scope: Scope, correlation_id: str, after: int, limit: int
    ) -> list[LogEntry]:
        """Events of that scope and correlation id at positions above `after`, in order."""
        ...
