"""The port of the log: events in the order of their commits."""

from __future__ import annotations

from typing import Protocol

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry


class LogPage(msgspec.Struct):
    """Events of the log. Those up to the position `horizon` are no longer kept."""

    horizon: int
    entries: list[LogEntry]


class LogStore(Protocol):
    """The log of events."""

    async def page(self, after: int, limit: int) -> LogPage:
        """Returns events at positions above `after`, in order: up to `limit`, fewer if large."""
        ...

    async def end(self) -> int:
        """Returns the position of the newest event; 0 in an empty log."""
        ...

    async def event(self, tenant_id: str, event_id: str) -> LogEntry | None:
        """Returns the event with that id."""
        ...

    async def correlated(
        self, scope: Scope, correlation_id: str, after: int, limit: int
    ) -> list[LogEntry]:
        """Returns events of that scope and correlation id at positions above `after`, in order."""
        ...
