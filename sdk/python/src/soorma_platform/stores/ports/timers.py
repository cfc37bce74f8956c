"""The port of timers: which are due, and which wait."""

from __future__ import annotations

import builtins
from typing import Protocol

from soorma_common.names import Scope
from soorma_platform.engine.rows.timers import TimerRow


class TimerStore(Protocol):
    """Timers that wait. Setting, cancelling and firing them are commands."""

    async def due(self, limit: int) -> builtins.list[TimerRow]:
        """Timers that are due, the earliest first."""
        ...

    async def next_due(self) -> float | None:
        """Seconds until the next timer is due, less than 0 if one is; None if there is none."""
        ...

    async def list(
        self, scope: Scope, plan_id: str | None, after: int, limit: int
    ) -> builtins.list[TimerRow]:
        """A user's waiting timers in the order they were set, of one plan or of all, from behind row `after`."""
        ...
