"""One key under eight clients in four processes: a linearizable history, whoever is killed."""

from __future__ import annotations

from collections import Counter

import pytest
from depth import at_depth, dice
from linearizability import Call, NotLinearizable, linearize
from platform_process import PlatformProcess
from recording import CLIENTS, Plan, Recorder, tell
from register import Key, step

pytestmark = pytest.mark.proof
CALLS = at_depth(60, 600)


def check(plan: Plan, calls: list[Call]) -> list[Call]:
    tell(plan, calls)
    return linearize(calls, Key(), step)


@pytest.mark.behaviour("proofs.linearizable")
@pytest.mark.parametrize("run", range(at_depth(1, 6)))
def test_calls_on_one_key_are_linearizable(platform: PlatformProcess, run: int) -> None:
    plan = Plan(str(dice(f"one key {run}").random()), CALLS)
    calls = Recorder(platform, plan).record()
    assert len(calls) == CLIENTS * CALLS
    assert {call.client for call in calls} == {str(client) for client in range(CLIENTS)}
    check(plan, calls)
    outcomes = Counter(
        (call.request.kind, call.request.expected is not None, call.result[0]) for call in calls
    )
    for outcome in (
        ("get", False, "value"),
        ("put", False, "done"),
        ("put", True, "done"),
        ("put", True, "conflict"),
        ("increment", False, "done"),
        ("delete", False, "deleted"),
    ):
        assert outcomes[outcome] > 0, outcome
    check_they_were_concurrent(calls)


def check_they_were_concurrent(calls: list[Call]) -> None:
    """Checks that enough was done: otherwise the history would prove nothing."""
    moments = sorted(
        [(call.invoked, 1) for call in calls] + [(call.returned, -1) for call in calls]
    )
    at_once, most = 0, 0
    for _, change in moments:
        at_once += change
        most = max(most, at_once)
    assert most >= CLIENTS // 2


@pytest.mark.behaviour("proofs.linearizable", "durability.acknowledged")
@pytest.mark.parametrize("run", range(at_depth(2, 20)))
def test_calls_on_one_key_are_linearizable_under_kills(platform: PlatformProcess, run: int) -> None:
    plan = Plan.with_faults(dice(f"one key under kills {run}"), CALLS)
    recorder = Recorder(platform, plan)
    calls = recorder.record()
    assert len(recorder.deaths) == 2
    check(plan, calls)


@pytest.mark.behaviour("proofs.checker-finds")
def test_a_planted_lost_update_is_found(platform: PlatformProcess) -> None:
    """Clients that read, add and write instead of incrementing. Only the checker notices."""
    plan = Plan(str(dice("lost update").random()), calls=10, mix="increments", racy=True)
    calls = Recorder(platform, plan).record()
    assert len(calls) == 10 * CLIENTS
    with pytest.raises(NotLinearizable, match="increment"):
        check(plan, calls)


@pytest.mark.behaviour("proofs.linearizable", "operations.concurrent")
def test_the_same_increments_without_the_fault_are_linearizable(platform: PlatformProcess) -> None:
    plan = Plan(str(dice("lost update").random()), calls=10, mix="increments")
    order = check(plan, Recorder(platform, plan).record())
    assert order[-1].result[1] == sum(call.request.argument for call in order)
