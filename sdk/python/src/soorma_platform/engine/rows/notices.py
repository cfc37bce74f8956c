"""What a commit tells those who wait for it."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry


class Notice(msgspec.Struct):
    """What a commit changed, for those who wait for it: plans, groups with deliveries, the log."""

    plans: list[tuple[Scope, str]] = []
    groups: set[int] = set()
    entries: list[LogEntry] = []
    timers: bool = False
