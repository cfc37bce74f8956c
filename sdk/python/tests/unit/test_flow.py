"""Errors that a handler raises to steer its event: seconds and reasons of any form."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma import Defer, Reject, Retry
from soorma.errors import (
    Conflict,
    InvalidName,
    InvalidRequest,
    InvalidValue,
    LimitExceeded,
    PlanEnded,
    WrongType,
)
from soorma.flow import LONGEST_WAIT, is_hopeless, steering
from soorma_common.reasons import LONGEST_REASON, NO_REASON, reason_of

HALF = "\ud83d"


@pytest.mark.behaviour("retries.after-forms")
@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (5, 5), (0.5, 0.5), ("30", 30), (" 30 ", 30), ("1e2", 100), (Decimal("1.5"), 1.5),
        (timedelta(minutes=2), 120), (-5, 0), (timedelta(seconds=-1), 0),
        (LONGEST_WAIT, LONGEST_WAIT), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_seconds_in_any_useful_form(after: Any, seconds: float) -> None:
    assert Retry("429", after=after).after == seconds
    assert Defer("429", after=after).after == seconds


@pytest.mark.behaviour("retries.after-forms")
def test_the_date_of_a_retry_after_header() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert Retry(after=date).after == pytest.approx(60, abs=2)


ODD = dict(enumerate(
    [math.nan, math.inf, -math.inf, "nan", "soon", "", b"5", True, 1e300, 10**400,
     LONGEST_WAIT + 1, [5], object(), datetime.now(UTC), timedelta(days=400), Decimal("nan"),
     "1e999", 5j],
))  # fmt: skip


@pytest.mark.behaviour("retries.after-forms")
@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("kind", [Retry, Defer])
def test_seconds_of_no_use_are_refused_in_a_sentence(kind: Any, number: int) -> None:
    after = ODD[number]
    with pytest.raises(InvalidRequest, match=f"after of a {kind.__name__} is a number of seconds"):
        kind("429", after=after)


@pytest.mark.behaviour("retries.after-forms")
def test_none_is_the_policys_backoff_for_a_retry_and_nothing_for_a_defer() -> None:
    assert Retry().after is None
    with pytest.raises(InvalidRequest):
        Defer(after=None)  # type: ignore[arg-type]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307 - odd on purpose


@pytest.mark.behaviour("retries.reason-of-anything")
@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("too old", "too old"), (ValueError("too old"), "ValueError: too old"),
        (ValueError(), "ValueError"),
        (None, NO_REASON), ({"code": 400}, "{'code': 400}"), (5, "5"), (b"bad", "b'bad'"),
        (f"bad {HALF}", "bad \\ud83d"), (ValueError(HALF), "ValueError: \\ud83d"),
        ("a\0b", "a\\0b"),
        (Mute(), "Mute: a Mute without text (its __str__ raised RuntimeError)"),
        (NoText(), "NoText: a NoText without text (its __str__ raised TypeError)"),
        (ExceptionGroup("both", [ValueError("x"), ExceptionGroup("g", [KeyError("y")])]),
         "ExceptionGroup: both (2 sub-exceptions); ValueError: x; KeyError: 'y'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [Reject, Retry, lambda reason: Defer(reason, after=1)])
def test_a_reason_of_anything(make: Any, reason: Any, text: str) -> None:
    made = make(reason)
    assert made.reason == str(made) == text


@pytest.mark.behaviour("retries.reason-of-anything")
@given(
    st.text(st.characters(codec=None, categories=None))
    | st.binary()
    | st.none()
    | st.floats()
    | st.lists(st.text())
)
def test_any_reason_can_be_sent(reason: Any) -> None:
    text = reason_of(reason)
    assert "\0" not in text
    assert len(text.encode()) <= 4 * LONGEST_REASON


@pytest.mark.behaviour("retries.reason-of-anything")
def test_a_long_reason_is_cut() -> None:
    assert len(Reject("x" * 10_000_000).reason) == LONGEST_REASON


@pytest.mark.behaviour("handlers.raised-side-by-side")
def test_what_tasks_side_by_side_raise_steers_too() -> None:
    reject, retry, defer, other = Reject("no"), Retry(after=5), Defer(after=9), ValueError()
    for together, first in [
        ([reject], reject), ([other, reject], reject), ([retry, reject], reject),
        ([retry, defer], defer),
    ]:  # fmt: skip
        assert steering(ExceptionGroup("g", [ExceptionGroup("in it", together)])) is first
    group = ExceptionGroup("g", [retry, other])
    assert steering(group) is group
    assert steering(other) is other


@pytest.mark.behaviour("retries.hopeless")
@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (InvalidRequest("x"), True), (InvalidName("x"), True), (PlanEnded("x"), True),
        (ExceptionGroup("g", [ValueError(), InvalidRequest("x")]), True),
        (InvalidValue("x"), False), (WrongType("x"), False), (LimitExceeded("x"), False),
        (Conflict("x"), False),
        (ValueError(), False), (ExceptionGroup("g", [ValueError()]), False), (Retry(), False),
    ],
    ids=lambda one: None,
)  # fmt: skip
def test_which_failures_no_attempt_can_repair(error: Exception, hopeless: bool) -> None:
    assert is_hopeless(error) is hopeless
