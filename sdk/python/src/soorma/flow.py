"""Signals that a handler raises to steer the delivery of its event. These are no errors."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime

from soorma_common.errors import InvalidRequest, InvalidValue, PlanEnded
from soorma_common.reasons import leaves_of, reason_of

LONGEST_WAIT = 365 * 86_400.0
"""Seconds that a handler may ask to be left alone for."""


class Flow(Exception):
    """What steers a delivery.

    `reason` is text, whatever it was made of: an exception is told as its type and text.
    """

    def __init__(self, reason: object) -> None:
        self.reason = reason_of(reason)
        super().__init__(self.reason)


class Retry(Flow):
    """Retries this event after `after` (None: the backoff of the handler's retry policy).

    It counts as an attempt.

    `after` is seconds, as a number or text, a timedelta, or what a `Retry-After` header holds. A
    negative one counts as 0; InvalidRequest where it is none of these, or more than a year. Nothing
    of this attempt is kept.
    """

    def __init__(
        self,
        reason: object = "the handler asked to be tried again",
        *,
        after: float | str | timedelta | Decimal | None = None,
    ) -> None:
        super().__init__(reason)
        self.after = None if after is None else seconds_of("Retry", after)


class Defer(Flow):
    """Puts this event off for `after`, as of `Retry`, without costing an attempt: what it needs is not there yet.

    It may be put off as often as needed. Its plan's later events wait behind it. Nothing of this
    attempt is kept but its recorded steps.
    """

    def __init__(
        self, reason: object = "the handler put it off", *, after: float | str | timedelta | Decimal
    ) -> None:
        super().__init__(reason)
        self.after = seconds_of("Defer", after)


class Reject(Flow):
    """Gives this event up at once: it becomes a dead letter with this reason.

    Nothing of this attempt is kept.

    `fail_plan=True` ends the event's plan as failed, for the same reason and in the same
    transaction: its compensations are published. A plan that has ended before stays as it is.
    """

    def __init__(self, reason: object, *, fail_plan: bool = False) -> None:
        super().__init__(reason)
        self.fail_plan = fail_plan


def seconds_of(kind: str, after: object) -> float:
    """Seconds to wait, at least 0, as `after` of a `kind` says; InvalidRequest where it says nothing of use."""
    seconds = _number(after)
    if seconds is None or not -math.inf < seconds <= LONGEST_WAIT:
        raise InvalidRequest(
            f"after of a {kind} is a number of seconds up to {LONGEST_WAIT:.0f} (a year), also as "
            "text, a timedelta or "
            f"the text of a Retry-After header, not {reason_of(after):.100}"
        )
    return max(seconds, 0.0)


def _number(after: object) -> float | None:
    if isinstance(after, timedelta):
        return after.total_seconds()
    if isinstance(after, bool) or not isinstance(after, int | float | Decimal | str):
        return None
    try:
        return float(after)
    except OverflowError:  # an integer beyond a double
        return math.inf
    except ValueError:
        return _until(after) if isinstance(after, str) else None


def _until(date: str) -> float | None:
    """Seconds until an HTTP date (RFC 9110, 10.2.3)."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def steering(error: BaseException) -> BaseException:
    """What steers the delivery, where tasks that ran side by side have raised it in an exception group.

    A `Reject` among them decides; a `Retry` or `Defer` only if nothing else has failed.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = leaves_of(error)
    if rejects := [one for one in leaves if isinstance(one, Reject)]:
        return rejects[0]
    waits = [one for one in leaves if isinstance(one, Retry | Defer)]
    return max(waits, key=lambda one: one.after or 0) if len(waits) == len(leaves) else error


def is_hopeless(error: BaseException) -> bool:
    """Whether a handler that failed so would fail so again: what it asked for is refused in any attempt.

    A value that cannot be stored is not: the next attempt may make, or find, another.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_hopeless(one) for one in leaves_of(error))
    return isinstance(error, PlanEnded) or (
        isinstance(error, InvalidRequest) and not isinstance(error, InvalidValue)
    )
