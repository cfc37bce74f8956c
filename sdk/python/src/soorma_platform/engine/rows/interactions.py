"""Rows of interactions: what episodic memory holds."""

from __future__ import annotations

import msgspec

from soorma_common.causes import Cause
from soorma_platform.engine.rows.passages import NewPart


class InteractionRow(msgspec.Struct):
    """An interaction; `metadata` is JSON text, the time in ms."""

    id: str
    role: str
    content: str
    recorded_at: int
    trust: str
    cause: Cause
    agent_id: str | None = None
    session_id: str | None = None
    metadata: str | None = None
    plan_id: str | None = None
    number: int | None = None


class NewInteraction(msgspec.Struct):
    """An interaction to be appended, at an uptime in ms."""

    row: InteractionRow
    parts: list[NewPart]
    uptime: int


class SessionRow(msgspec.Struct):
    """A session; times are in ms."""

    session_id: str
    created_at: int
    updated_at: int
    name: str | None = None
    interactions: int = 0
    number: int = 0


class SessionNamed(msgspec.Struct):
    """A name for a session, or None to take it away."""

    session_id: str
    name: str | None
