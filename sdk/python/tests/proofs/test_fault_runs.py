"""Goals, handlers and writers while processes are killed and frozen: no update is lost or doubled.

The seed decides which goals are requested, and who is hit at which event of the log. What a process
was doing when it was hit depends on the machine: a seed repeats the faults, and with them most
failures, but not every interleaving.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from random import Random

import invariants
import pytest
from depth import at_depth, dice, seed
from fault_run import FaultRun
from fault_script import WEIGHTS, Script, drawn
from platform_process import PlatformProcess
from running import PythonProcess, Raw, eventually, platform_in

from soorma import MemoryClient, WorkflowState
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER

pytestmark = pytest.mark.proof
GOALS, FAULTS = at_depth((12, 10), (40, 40))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A short lease, so that frozen agents are soon replaced."""
    with platform_in(tmp_path / "platform", SOORMA_LEASE_SECONDS="2") as running:
        yield running


@pytest.mark.behaviour("proofs.fault-runs")
def test_a_seed_gives_one_script() -> None:
    assert (
        drawn(Random("7 a"), 10, 20) == drawn(Random("7 a"), 10, 20) != drawn(Random("7 b"), 10, 20)
    )
    faults = drawn(Random(1), 100, 300).faults
    assert {fault.kind for fault in faults} == WEIGHTS.keys()
    freezes = [fault for fault in faults if fault.kind == "freeze agent"]
    for one, next_one in combinations(freezes, 2):
        overlap = next_one.after < one.after + one.lasts
        assert not (overlap and one.who.partition("-")[0] == next_one.who.partition("-")[0])


@pytest.mark.behaviour("proofs.fault-runs", "handlers.kills-of-everything")
@pytest.mark.parametrize("run", range(at_depth(1, 6)))
async def test_nothing_is_lost_or_doubled(platform: PlatformProcess, run: int) -> None:
    script = drawn(dice(f"fault run {run}"), GOALS, FAULTS)
    sys.stdout.write(
        f"\nseed {seed()}, run {run}: {len(script.goals)} goals; "
        f"{'; '.join(map(str, script.faults))}\n"
    )
    async with FaultRun(platform, script) as going:
        await going.carry_out()
        events = [(event["plan_id"], event["type"]) for event in going.events]
        deliveries = sum(kind != "goal.done" for _, kind in events)
        sys.stdout.write(f"{going.attempts()} attempts at {deliveries} deliveries\n")
        acknowledged = {name: said(writer) for name, writer in going.writers}
        was_killed = {name for name, writer in going.writers if writer.wait() != 0}
        async with MemoryClient(config=going.config) as memory:
            await check_goals(memory, script, events)
            await check_ledger(memory, script, acknowledged, was_killed)
            await check_histories(memory, script)
        await eventually(lambda: nothing_waits(platform))
    invariants.check_file(platform.database, at_rest=True)
    assert sum(going.caused.values()) == FAULTS
    assert len({event["id"] for event in going.events}) == script.events


def said(writer: PythonProcess) -> int:
    """The number of its acknowledged writes."""
    return sum(line.startswith("acknowledged") for line in writer.lines)


async def check_goals(memory: MemoryClient, script: Script, events: list[tuple[str, str]]) -> None:
    """Checks that each goal was planned and completed, its tasks done and collected, each once."""
    told = Counter(events)
    wanted = Counter[tuple[str, str]]()
    for goal in script.goals:
        wanted.update({(goal.name, "goal.asked"): 1, (goal.name, "goal.done"): 1})
        wanted.update({(goal.name, "task.asked"): goal.tasks, (goal.name, "task.done"): goal.tasks})
        state = WorkflowState(memory, goal.name)
        assert await state.get_action_history() == ["planned", "completed"], goal
        values = await state.get_many(["tasks", "done", "sum", "results", "collected"])
        assert values["sum"] == sum(range(goal.tasks + 1)), goal
        assert (values["tasks"], values["done"]) == (goal.tasks, goal.tasks), goal
        assert (
            sorted(values["results"]) == sorted(values["collected"]) == list(range(goal.tasks))
        ), goal
    assert told == wanted


async def check_ledger(
    memory: MemoryClient, script: Script, acknowledged: dict[str, int], was_killed: set[str]
) -> None:
    """Checks that all counters show the acknowledged writes.

    A killed writer may have made one more.
    """
    ledger = WorkflowState(memory, "ledger")
    assert await ledger.get("total") == sum(goal.tasks for goal in script.goals)
    assert await ledger.get("sum") == sum(sum(range(goal.tasks + 1)) for goal in script.goals)
    written: list[tuple[str, int]] = [
        (name, number) for name, number in await ledger.get("written")
    ]
    assert len(set(written)) == len(written)
    for name, count in acknowledged.items():
        unknown = {0, 1} if name in was_killed else {0}
        counted = await ledger.get(name, 0)
        assert counted - count in unknown, name
        numbers = [number for writer, number in written if writer == name]
        assert numbers == list(range(1, len(numbers) + 1)), name
        assert len(numbers) - count in unknown, name


async def check_histories(memory: MemoryClient, script: Script) -> None:
    """Checks that revisions have no gap, and that each operation is in one of them."""
    for plan_id in ["ledger", *(goal.name for goal in script.goals)]:
        revisions = [change.revision for change in await memory.get_history(plan_id)]
        assert list(dict.fromkeys(revisions)) == list(range(1, revisions[-1] + 1)), plan_id


def nothing_waits(platform: PlatformProcess) -> bool:
    """True if each group has handled all; nobody may have given up."""
    raw = Raw(platform.events_url, DEFAULT_TENANT, DEFAULT_USER)
    assert raw("GET", "/v1/events/dead-letters").json["dead_letters"] == []
    groups = raw("GET", "/v1/events/groups").json["groups"]
    assert {group["name"] for group in groups} == {"planner", "worker", "collector"}
    return all(group["waiting"] == group["ready"] == group["in_hand"] == 0 for group in groups)
