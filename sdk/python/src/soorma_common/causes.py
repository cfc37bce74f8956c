"""The cause of a change: who made it, and because of which event."""

from __future__ import annotations

import msgspec


class Cause(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """The author and origin of a change, stored with each row of the history."""

    actor: str | None = None
    instance: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    trace_id: str | None = None


NOBODY = Cause()
"""The cause of a change from outside handlers, of which only the owner is known."""
