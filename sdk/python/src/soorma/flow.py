"""Signals that a handler raises to control the delivery of its event; they are not errors."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime

from soorma_common.errors import InvalidRequest, InvalidValue, PlanEnded
from soorma_common.reasons import leaves_of, reason_of

LONGEST_WAIT = 365 * 86_400.0
"""Longest delay, in seconds, that a handler may request."""


class Flow(Exception):
    """A signal that controls a delivery.

    `reason` is always text; an exception becomes its type and message.
    """

    def __init__(self, reason: object) -> None:
        self.reason = reason_of(reason)
        super().__init__(self.reason)


class Retry(Flow):
    """A signal to retry this event after `after` (None: the backoff of the handler's retry policy).

    It counts as an attempt. `after` is a number of seconds (also as text), a timedelta, or the
    value of a `Retry-After` header. A negative value counts as 0; anything else, or more than a
    year, raises InvalidRequest. Of this attempt, only the recorded steps are kept.
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
    """A signal to postpone this event by `after`, as in `Retry`, without using up an attempt.

    It is meant for an event that needs something not there yet, and can be repeated without limit.
    Later events of its plan wait behind it. Of this attempt, only the recorded steps are kept.
    """

    def __init__(
        self, reason: object = "the handler put it off", *, after: float | str | timedelta | Decimal
    ) -> None:
        super().__init__(reason)
        self.after = seconds_of("Defer", after)


class Reject(Flow):
    """A signal to give this event up at once: it becomes a dead letter with this reason.

    Of this attempt, only the recorded steps are kept, for a replay.

    `fail_plan=True` also ends the event's plan as failed, for the same reason and in the same
    transaction, which publishes its compensations. A plan that has already ended stays as it is.
    """

    def __init__(self, reason: object, *, fail_plan: bool = False) -> None:
        super().__init__(reason)
        self.fail_plan = fail_plan


def seconds_of(kind: str, after: object) -> float:
    """Returns the seconds, at least 0, that `after` means; InvalidRequest if it is invalid.

    `kind` names the signal in the message.
    """
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
    except OverflowError:  # an integer too large for a float
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
    """Returns what decides about the delivery, if parallel tasks raised it in an exception group.

    A `Reject` in the group decides; a `Retry` or `Defer` only if nothing else failed.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = leaves_of(error)
    if rejects := [one for one in leaves if isinstance(one, Reject)]:
        return rejects[0]
    waits = [one for one in leaves if isinstance(one, Retry | Defer)]
    return max(waits, key=lambda one: one.after or 0) if len(waits) == len(leaves) else error


def is_hopeless(error: BaseException) -> bool:
    """True if a handler that failed with this error would fail with it in any attempt.

    What the handler requests is refused each time. A value that cannot be stored does not count:
    the next attempt may make, or find, another.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_hopeless(one) for one in leaves_of(error))
    return isinstance(error, PlanEnded) or (
        isinstance(error, InvalidRequest) and not isinstance(error, InvalidValue)
    )
