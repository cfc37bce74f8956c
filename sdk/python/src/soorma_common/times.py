"""Times: integers inside, milliseconds since 1970 UTC; RFC 3339 text outside."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, without the price of a time zone object


def rfc3339(milliseconds: int) -> str:
    """The time as RFC 3339 text in UTC, with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds") + "Z"
