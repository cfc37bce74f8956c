"""Times: milliseconds since 1970 UTC inside, RFC 3339 text outside."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, TypeAlias

import msgspec

from soorma_common.errors import InvalidRequest

Time: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time in a message: RFC 3339."""

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""A time in RFC 3339 (section 5.6). The reader has to check that the day exists."""
FIRST_TIME, LAST_TIME = "1970-01-01T00:00:00Z", "9999-12-30T23:59:59Z"
"""The first and last time that can be requested.

The last is a day before the last one there is, so that it exists in all time zones.
"""
LONGEST_TIMEOUT = 10 * 365 * 86_400.0
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, without the price of a time zone object


def milliseconds(text: str) -> int:
    """Converts a time in RFC 3339 to milliseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def is_in_range(text: str) -> bool:
    """Returns True if a time in RFC 3339 is from FIRST_TIME to LAST_TIME."""
    return milliseconds(FIRST_TIME) <= milliseconds(text) <= milliseconds(LAST_TIME)


def check_moment(name: str, text: str) -> str:
    """Returns a time in RFC 3339 that is in range; raises InvalidRequest for anything else."""
    try:
        if RFC_3339.fullmatch(text) and is_in_range(text):
            return text
    except (ValueError, OverflowError):
        pass  # a day that does not exist
    raise InvalidRequest(
        f"{name} must be RFC 3339 with a time zone, as 2026-01-31T12:00:00Z, from {FIRST_TIME} to "
        f"{LAST_TIME}, not {text[:40]!r}"
    )


def check_timeout(name: str, seconds: float | timedelta | None) -> float | None:
    """Returns a timeout in seconds (None: for ever); raises InvalidRequest if it is invalid."""
    wait: object = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if wait is None or wait == math.inf:
        return None
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait <= LONGEST_TIMEOUT:
        return wait
    told = repr(seconds)[:40] if isinstance(wait, bool) or not isinstance(wait, int) else "more"
    raise InvalidRequest(
        f"{name} is a number of seconds up to {LONGEST_TIMEOUT:.0f} (10 years), or None: for ever, "
        f"not {told}"
    )


def time_of(time: int) -> datetime:
    """Converts a time in ms to a datetime in UTC."""
    return _EPOCH_UTC + time * _MILLISECOND


def rfc3339(time: int) -> str:
    """Formats a time in ms as RFC 3339 text in UTC, with milliseconds."""
    return f"{_second(time // 1000)}.{time % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()
