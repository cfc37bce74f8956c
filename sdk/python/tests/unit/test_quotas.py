"""Quotas of a rate, caps, shares of tenants, and failed attempts by address."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.errors import (
    InvalidRequest,
    TooManyAttempts,
    TooManyRequests,
    Unauthorized,
    from_problem,
    to_problem,
)
from soorma_common.names import All
from soorma_platform.http.responses import problem
from soorma_platform.identity import failures, shares
from soorma_platform.identity.failures import FailedAttempts
from soorma_platform.identity.quotas import LONGEST_PROMISE, Cap, Quotas, Rate, units_of
from soorma_platform.identity.shares import SHARE, Shares

pytestmark = pytest.mark.behaviour("quotas.rates")
NO_KEY = Unauthorized("this platform takes requests with a credential only")


def granted(rate: Rate, now: float, count: int = 1, tenant: str = "acme") -> bool:
    try:
        rate.take(tenant, count, now)
    except TooManyRequests:
        return False
    return True


def wait(rate: Rate, now: float, tenant: str = "acme") -> float:
    """Returns the seconds after which a refused request is to be sent again."""
    with pytest.raises(TooManyRequests) as refused:
        rate.take(tenant, 1, now)
    seconds = refused.value.retry_after
    assert seconds is not None
    return seconds


def test_a_second_of_it_at_once_and_then_its_rate() -> None:
    rate = Rate("requests", 10)
    assert sum(granted(rate, 0.0) for _ in range(30)) == 10
    assert sum(granted(rate, now / 1000) for now in range(1, 1001)) == 10
    # After a pause of ten seconds there is no more at once than after one.
    assert sum(granted(rate, 11.0) for _ in range(30)) == 10


def test_tenants_use_up_their_own() -> None:
    rate = Rate("requests", 1)
    assert granted(rate, 0.0)
    assert not granted(rate, 0.0)
    assert granted(rate, 0.0, tenant="umbrella")


@given(st.integers(1, 40), st.lists(st.floats(0, 2), min_size=1, max_size=40))
def test_no_second_has_more_than_twice_its_quota(per_second: int, pauses: list[float]) -> None:
    rate, now, times = Rate("requests", per_second), 0.0, list[float]()
    for pause in pauses:
        now += pause
        times += [now] * sum(granted(rate, now) for _ in range(2 * per_second + 2))
    for start in times:
        assert sum(start <= time < start + 1 for time in times) <= 2 * per_second + 1


@given(st.integers(1, 50), st.integers(1, 100))
def test_all_that_wait_as_they_are_told_find_room(per_second: int, refused: int) -> None:
    rate = Rate("requests", per_second)
    while granted(rate, 0.0):
        pass
    told = sorted(wait(rate, 0.0) for _ in range(refused))
    for seconds in told:
        if seconds < LONGEST_PROMISE:
            assert granted(rate, seconds + 0.001)  # it is told in milliseconds


def test_whoever_does_not_wait_is_told_no_more_than_a_minute() -> None:
    rate = Rate("requests", 1)
    assert granted(rate, 0.0)
    assert max(wait(rate, 0.0) for _ in range(1_000)) == LONGEST_PROMISE
    assert granted(rate, 1.0)


def test_a_batch_larger_than_the_quota_is_granted_and_paid_for_later() -> None:
    rate = Rate("events", 10)
    assert granted(rate, 0.0, 100)
    assert not granted(rate, 8.9)
    assert granted(rate, 9.1)


def test_what_is_known_late_is_paid_for_too() -> None:
    rate = Rate("requests", 10)
    rate.charge("acme", 50, 0.0)
    assert not granted(rate, 3.9)
    assert granted(rate, 4.1)


@pytest.mark.parametrize(
    ("length", "units"),
    [("0", 1), ("9999", 1), ("65535", 1), ("65536", 2), ("1048576", 17), ("33554432", 513),
     ("99999999", 513), ("9" * 18, 513), ("9" * 5_000, 513)],
)  # fmt: skip
def test_a_large_body_counts_as_several_and_never_as_more_than_the_largest(
    length: str, units: int
) -> None:
    assert units_of(length.encode()) == units


def test_tenants_that_have_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soorma_platform.identity.quotas.MOST_KNOWN", 3)
    rate = Rate("requests", 1)
    for number in range(3):
        assert granted(rate, float(number), tenant=str(number))
    assert granted(rate, 2.5, tenant="new")
    assert set(rate._uses) == {"2", "new"}, "the others have paid for what they used"


def test_without_a_limit_everything_is_granted() -> None:
    rate = Rate("requests", 0)
    assert all(granted(rate, 0.0) for _ in range(1_000))
    assert rate._uses == {}


def test_a_cap_holds_until_something_ends() -> None:
    cap = Cap("connections", 2)
    cap.take("acme")
    cap.take("acme")
    with pytest.raises(TooManyRequests, match="2 connections, as many as it may") as refused:
        cap.take("acme")
    assert refused.value.retry_after is None
    cap.take("umbrella")
    cap.give_back("acme")
    cap.take("acme")


@pytest.mark.parametrize("name", Quotas.__struct_fields__)
@pytest.mark.parametrize("value", [-1, 10**16])
def test_a_quota_that_is_none_is_refused(name: str, value: int) -> None:
    with pytest.raises(InvalidRequest, match=f"SOORMA_QUOTA_{name.upper()}"):
        Quotas(**{name: value})


@pytest.mark.parametrize(("seconds", "header"), [(0.004, b"1"), (1.0, b"1"), (2.01, b"3")])
def test_the_header_is_whole_seconds_and_still_true(seconds: float, header: bytes) -> None:
    error = TooManyRequests("later", limit="requests", maximum=1, retry_after=seconds)
    assert dict(problem(error).headers)[b"retry-after"] == header
    back = from_problem(to_problem(error))
    assert isinstance(back, TooManyRequests)
    assert (back.retry_after, back.limit, back.maximum) == (seconds, "requests", 1)


def test_nobody_is_told_when_a_connection_ends() -> None:
    error = TooManyRequests("later", limit="connections", maximum=1, retry_after=None)
    assert b"retry-after" not in dict(problem(error).headers)


# shares


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(shares.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.behaviour("quotas.shares")
def test_a_tenant_alone_has_no_share(clock: list[float]) -> None:
    all_of_them = Shares()
    for _ in range(100):
        assert all_of_them.of("acme") is None
        clock[0] += 0.001
    assert all_of_them.of("umbrella") is not None, "it is not alone any more"
    assert all_of_them.of("acme") is not all_of_them.of("umbrella")
    clock[0] += 1.1
    assert all_of_them.of("umbrella") is None, "the other has been silent for a second"


@pytest.mark.behaviour("quotas.shares")
def test_whoever_acts_for_all_tenants_waits_for_nobody(clock: list[float]) -> None:
    all_of_them = Shares()
    all_of_them.of("acme")
    all_of_them.of("umbrella")
    assert all_of_them.of(All.TENANTS) is None


@pytest.mark.behaviour("quotas.shares")
async def test_a_share_is_so_much_at_a_time() -> None:
    all_of_them = Shares()
    all_of_them.of("umbrella")
    share = all_of_them.of("acme")
    assert share is not None
    for _ in range(SHARE):
        await share.acquire()
    assert share.locked()
    other = all_of_them.of("umbrella")
    assert other is not None
    assert not other.locked()


# failed attempts


class Lines:
    """The lines of a log."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.found.append({"event": event, **fields})


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    monkeypatch.setattr(failures, "log", found)
    return found


@pytest.mark.behaviour("identity.guessing")
async def test_an_address_is_told_when_it_has_tried_too_often(lines: Lines) -> None:
    attempts = FailedAttempts(most=3)
    for _ in range(3):
        assert attempts.noted("198.51.100.7", NO_KEY) is NO_KEY
    error = attempts.noted("198.51.100.7", NO_KEY)
    assert isinstance(error, TooManyAttempts)
    assert isinstance(error, Unauthorized), "who handles the one handles the other"
    assert NO_KEY.message in error.message
    assert 0 < error.retry_after <= 60
    assert attempts.noted("198.51.100.8", NO_KEY) is NO_KEY, "another address"


@pytest.mark.behaviour("identity.guessing")
async def test_a_network_of_ipv6_is_one_address(lines: Lines) -> None:
    attempts = FailedAttempts(most=1)
    assert attempts.noted("2001:db8:1:2::1", NO_KEY) is NO_KEY
    assert attempts.noted("2001:db8:1:2:ffff::9", NO_KEY) is not NO_KEY
    assert attempts.noted("2001:db8:1:3::1", NO_KEY) is NO_KEY
    assert attempts.noted("", NO_KEY) is NO_KEY


@pytest.mark.behaviour("identity.guessing")
async def test_it_is_logged_once_a_minute(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "WINDOW_SECONDS", 0.05)
    attempts = FailedAttempts(most=2)
    attempts._logged_at = -1.0
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.24
    count = 0
    while loop.time() < end:
        attempts.noted(f"198.51.100.{count % 2}", NO_KEY)
        count += 1
        await asyncio.sleep(0.002)
    assert 2 <= len(lines.found) <= 6, "one at once, and one for each window that is over"
    first, second, *_ = lines.found
    assert first["address"] == "198.51.100.0"
    assert second["attempts"] > 2
    assert second["addresses"] == 2
    assert second["refused"] == second["attempts"] - 4


@pytest.mark.behaviour("identity.guessing")
async def test_so_many_addresses_are_counted_one_by_one(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MOST_ADDRESSES", 2)
    attempts = FailedAttempts(most=1)
    for number in range(5):
        assert attempts.noted(f"198.51.100.{number}", NO_KEY) is NO_KEY
        assert len(attempts._counts) <= 2
    assert attempts.noted("198.51.100.0", NO_KEY) is not NO_KEY
