"""Rules of the engine that are functions of plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.names import Scope
from soorma_common.retry import RetryPolicy
from soorma_platform.engine.deliveries import backoff
from soorma_platform.engine.publishing import covers, lane_of, one_per_group
from soorma_platform.engine.rows.events import SubscriptionRow

POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    first_delay=st.floats(0, 86_400),
    factor=st.floats(1, 100),
    longest_delay=st.floats(0, 86_400),
    jitter=st.floats(0, 1),
)
NAMES = st.sampled_from(["*", "a", "b", "c"])
PATTERNS = st.tuples(NAMES, NAMES)


@pytest.mark.behaviour("retries.backoff")
@given(POLICIES, st.integers(1, 1000), st.floats(-1, 1))
def test_a_backoff_keeps_its_bounds(policy: RetryPolicy, attempt: int, draw: float) -> None:
    wait = backoff(policy, attempt, draw) / 1000
    assert 0 <= wait <= policy.longest_delay * (1 + policy.jitter) + 0.001
    least = min(policy.first_delay, policy.longest_delay) * (1 - policy.jitter)
    assert wait >= least - 0.001


@pytest.mark.behaviour("retries.backoff")
@given(POLICIES, st.integers(1, 999))
def test_a_backoff_never_shrinks(policy: RetryPolicy, attempt: int) -> None:
    assert backoff(policy, attempt + 1, 0.0) >= backoff(policy, attempt, 0.0)


@pytest.mark.behaviour("retries.backoff")
def test_the_default_backoff() -> None:
    waits = [backoff(RetryPolicy(), attempt, 0.0) for attempt in (1, 2, 3, 4, 7, 1000)]
    assert waits == [500, 1000, 2000, 4000, 30_000, 30_000]
    assert [backoff(RetryPolicy(), 1, draw) for draw in (-1.0, 1.0)] == [400, 600]


@pytest.mark.behaviour("groups.handler")
@given(PATTERNS, PATTERNS, PATTERNS)
def test_covering_is_an_order(
    first: tuple[str, str], second: tuple[str, str], third: tuple[str, str]
) -> None:
    assert covers(("*", "*"), first)
    assert covers(first, first)
    if covers(first, second) and covers(second, first):
        assert first == second
    if covers(first, second) and covers(second, third):
        assert covers(first, third)


@pytest.mark.behaviour("groups.handler")
@given(PATTERNS, PATTERNS, st.tuples(st.sampled_from("abc"), st.sampled_from("abc")))
def test_who_covers_a_subscription_takes_all_its_events(
    mine: tuple[str, str], other: tuple[str, str], event: tuple[str, str]
) -> None:
    if covers(mine, other) and covers(other, event):
        assert covers(mine, event)


@pytest.mark.behaviour("groups.handler")
@given(st.lists(st.tuples(st.integers(1, 3), PATTERNS), max_size=12))
def test_of_each_group_the_subscription_that_fits_best(
    rows: list[tuple[int, tuple[str, str]]],
) -> None:
    made = [
        SubscriptionRow(number, group, f"g{group}", *pattern, ordered=True)
        for number, (group, pattern) in enumerate(rows)
    ]
    chosen = one_per_group(made)
    assert sorted(row.group_id for row in chosen) == sorted({group for group, _ in rows})
    for row in chosen:
        rivals = [other for other in made if other.group_id == row.group_id]
        assert not any(
            (other.type == "*", other.topic == "*") < (row.type == "*", row.topic == "*")
            for other in rivals
        )


@pytest.mark.behaviour("tenants.lanes")
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_lanes_belong_to_one_plan_of_one_user(places: list[tuple[str, str, str]]) -> None:
    first, second = [lane_of(Scope(tenant, user), plan) for tenant, user, plan in places]
    assert first != second
    assert lane_of(Scope("t", "u"), None) is None
