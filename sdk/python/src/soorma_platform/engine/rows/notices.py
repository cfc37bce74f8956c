"""Notices of commits, for those who wait for them."""

from __future__ import annotations

import msgspec

from soorma_common.names import Scope
from soorma_platform.engine.rows.events import LogEntry


class Notice(msgspec.Struct):
    """The changes of a commit that others wait for: plans, groups with deliveries, the log."""

    plans: list[tuple[Scope, str]] = []
    groups: set[int] = set()
    entries: list[LogEntry] = []
    timers: bool = False
    memories: bool = False
    keys: bool = False
