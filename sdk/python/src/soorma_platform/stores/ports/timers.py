"""The port of timers: those that are due, and those that wait."""

from __future__ import annotations

import builtins
from typing import Protocol

from soorma_common.names import Scope
from soorma_platform.engine.rows.timers import TimerRow


class TimerStore(Protocol):
    """Waiting timers. Setting, cancelling and firing them are commands."""

    async def due(self, limit: int) -> builtins.list[TimerRow]:
        """Returns the timers that are due, the earliest first."""
        ...

    async def next_due(self) -> float | None:
        """Returns the seconds until the next timer is due, below 0 if one is; None without any."""
        ...

    async def list(
        self, scope: Scope, plan_id: str | None, after: int, limit: int
    ) -> builtins.list[TimerRow]:
        """Returns a user's waiting timers after row `after`, in the order they were set.

        Of one plan, or of all if `plan_id` is None.
        """
        ...
