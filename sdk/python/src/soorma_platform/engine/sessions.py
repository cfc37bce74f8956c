"""Sessions that have become idle, and the event that tells of it."""

from __future__ import annotations

import msgspec

from soorma_common.events import Envelope
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.times import rfc3339
from soorma_common.topics import Topic
from soorma_platform.engine.commands import Decision, Need, Snapshot, Writes
from soorma_platform.engine.publishing import publish
from soorma_platform.engine.rows.events import Audience, EventsNeed
from soorma_platform.engine.rows.sessions import (
    QuietSession,
    SessionFound,
    SessionNeed,
    SessionReported,
)

IDLE = "session.idle"
"""The type of the event, on system-events, that tells that a session has become idle."""
IDLE_SECONDS = 600.0
"""Seconds without an interaction after which a session is idle, unless a setting says otherwise."""


class ReportIdle:
    """The report that nothing was said in a session since the uptime `before`.

    It is made once, until the session goes on, and published only if somebody subscribes to it.
    Whoever subscribes later does not hear of it. The outcome is True if it was published.
    """

    def __init__(
        self, scope: Scope, session_id: str, before: int, event_id: str, *, limits: Limits
    ) -> None:
        self.scope = scope
        self._session_id = session_id
        self._before = before
        self._event_id = event_id
        self._limits = limits

    def needs(self) -> list[Need]:
        events = [(self._event_id, Topic.SYSTEM_EVENTS.value, IDLE)]
        return [SessionNeed(self._session_id), EventsNeed(events, set())]

    def decide(self, found: Snapshot) -> Decision[bool]:
        row = found.part(SessionFound).row
        if row is None or row.quiet_since is None or row.quiet_since > self._before:
            return Decision(False)
        writes: Writes = [SessionReported(row.number, row.newest)]
        if not found.part(Audience).subscribers[Topic.SYSTEM_EVENTS.value, IDLE]:
            return Decision(False, writes)
        published = publish(self._event(row), self.scope, found, self._limits)
        return Decision(published is not None, [*writes, published] if published else writes)

    def _event(self, row: QuietSession) -> Envelope:
        """Returns the event. Its envelope names no session: what a handler logs is not in it.

        Else a handler that logs something would wake the session, and be told of it for ever.
        """
        data = {
            "session_id": row.session_id,
            "interactions": row.interactions,
            "newest": row.newest,
            "previous": row.reported,
            "idle_since": rfc3339(row.updated_at),
        }
        return Envelope(
            type=IDLE,
            topic=Topic.SYSTEM_EVENTS.value,
            id=self._event_id,
            data=msgspec.Raw(msgspec.json.encode(data)),
            tenant_id=self.scope.tenant_id,
            user_id=self.scope.user_id,
        )
