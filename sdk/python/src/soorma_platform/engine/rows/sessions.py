"""Rows of sessions in which nothing more is said."""

from __future__ import annotations

import msgspec

from soorma_platform.engine.commands import Need


class SessionNeed(Need):
    """A session that may be idle."""

    session_id: str


class QuietSession(msgspec.Struct):
    """A session, with the uptime since which nothing was said in it.

    `quiet_since` is None if that was reported. `newest` is the number of its newest interaction,
    `reported` what that was at the last report, 0 before the first. `updated_at` is in ms.
    """

    number: int
    session_id: str
    interactions: int
    updated_at: int
    newest: int
    quiet_since: int | None = None
    reported: int = 0


class SessionFound(msgspec.Struct):
    """The session; None if it was forgotten."""

    row: QuietSession | None = None


class SessionReported(msgspec.Struct):
    """The note that a session was reported as idle, with `newest` as its newest interaction."""

    number: int
    newest: int
