"""Rows of timers: events to be published later."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.commands import Need
from soorma_platform.engine.moments import Moment


class TimerRow(msgspec.Struct):
    """An event that is published when it is due.

    A deadline is published only if its plan is active in this `incarnation`. `asked` is the time as
    requested: the same event at another time is another timer. `due_at` is by the steady clock if
    it `is_delay`, else by the wall clock.
    """

    event_id: str
    scope: Scope
    plan_id: str | None
    due_at: int
    incarnation: int | None
    asked: str
    fingerprint: str
    envelope: str
    id: int | None = None
    is_delay: bool = False
    outlives: bool = False

    def left(self, now: Moment) -> int:
        """Returns the milliseconds until it is due, less than 0 if it is overdue."""
        return self.due_at - (now.steady if self.is_delay else now.wall)


class TimersNeed(Need):
    """Timers about to be set, cancelled or fired."""

    ids: set[str]
    """of their events"""
    plans: set[str | None] = set()
    """plans whose timers are to be counted"""


class TimerCounts(msgspec.Struct):
    """Numbers of timers by plan."""

    of: dict[str | None, int] = {}


class TimerGone(msgspec.Struct):
    """A timer that has fired or was cancelled."""

    id: int
