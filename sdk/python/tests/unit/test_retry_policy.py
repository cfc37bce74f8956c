"""A retry policy is checked when it is made, and when it comes over the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from soorma import Agent, RetryPolicy
from soorma.errors import InvalidRequest

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "max_attempts of a RetryPolicy is a whole number from 1 to 1000, not 0"),
    ({"max_attempts": 1001}, "from 1 to 1000, not 1001"),
    ({"max_attempts": 2.5}, "max_attempts"),
    ({"max_attempts": True}, "max_attempts"),
    ({"max_deaths": 0}, "max_deaths of a RetryPolicy is a whole number from 1 to 1000, not 0"),
    ({"max_deaths": 1001}, "from 1 to 1000, not 1001"),
    ({"max_deaths": 1.0}, "max_deaths of a RetryPolicy is a whole number"),
    ({"first_delay": -1}, "first_delay of a RetryPolicy is a number from 0 to 86400, not -1"),
    ({"first_delay": float("nan")}, "first_delay"),
    ({"first_delay": "1"}, "first_delay"),
    ({"factor": 0.5}, "factor of a RetryPolicy is a number from 1 to 100"),
    ({"longest_delay": 1e9}, "longest_delay"),
    ({"jitter": 99}, "jitter of a RetryPolicy is a number from 0 to 1, not 99"),
    ({"then": "x"}, "then of a RetryPolicy is 'dead_letter' or 'park', not 'x'"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_a_policy_that_is_none_is_refused_when_it_is_made(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        RetryPolicy(**given)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "given", [given for given, _ in WRONG if given.get("first_delay") == given.get("first_delay")]
)
def test_it_is_refused_on_the_wire(given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(given), type=RetryPolicy)


@pytest.mark.parametrize(
    "fine",
    [
        {"max_attempts": 1000},
        {"max_deaths": 1},
        {"max_deaths": 1000},
        {"first_delay": 0, "factor": 1, "jitter": 0},
        {"then": "park"},
    ],
)
def test_a_policy_comes_back_from_the_wire(fine: dict[str, Any]) -> None:
    policy = RetryPolicy(**fine)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=RetryPolicy) == policy


def test_what_is_no_policy_is_refused() -> None:
    agent = Agent("agent")
    with pytest.raises(InvalidRequest, match="retry= is a RetryPolicy"):
        agent.on_event("a", retry=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="retry= is a RetryPolicy"):
        Agent("agent", retry=3)  # type: ignore[arg-type]
