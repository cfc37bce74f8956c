"""The agents of example 05 as they are, and each of them killed at every await."""

from __future__ import annotations

import importlib.util
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from soorma import Worker
from soorma.testing import LocalPlatform

EXAMPLE = Path(__file__).parents[4] / "examples" / "05-memory-working"
ACTIONS = [
    "planning.started",
    "workflow.started",
    "research.completed",
    "draft.completed",
    "review.completed",
    "workflow.completed",
]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_05_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> dict[str, Worker]:
    """The agents of the example, with tasks that take no time."""
    monkeypatch.setenv("TASK_SECONDS", "0")
    return {name: getattr(_module(name), name) for name in ("planner", "worker", "coordinator")}


async def _reach_the_goal(platform: LocalPlatform) -> None:
    await platform.publish(
        "goal.received", "action-requests", {"goal": "a post"}, correlation_id="mine"
    )
    await platform.settle()


async def _check(platform: LocalPlatform) -> None:
    """Checks that every effect is there exactly once."""
    (completed,) = platform.published("workflow.completed")
    assert completed.correlation_id == "mine"
    state = platform.state(completed.data["plan_id"])
    assert await state.get_action_history() == ACTIONS
    assert await state.get("status") == (await state.info()).status == "completed"
    assert await state.get("current_task_index") == 2
    for task in ("research", "draft", "review"):
        assert await state.get(f"{task}_result") == f"Completed {task} for: a post"
    assert (
        len(platform.published("task.assigned")) == len(platform.published("task.completed")) == 3
    )
    assert platform.waiting() == []


@pytest.mark.behaviour("document.three-agents", "testing.as-written")
async def test_the_workflow_reaches_its_goal(
    soorma_platform: LocalPlatform, agents: dict[str, Worker]
) -> None:
    await soorma_platform.run(*agents.values())
    await _reach_the_goal(soorma_platform)
    await _check(soorma_platform)


@pytest.mark.behaviour("handlers.kill-at-every-await")
@pytest.mark.parametrize("dying", ["planner", "worker", "coordinator"])
async def test_an_agent_may_die_at_any_await(agents: dict[str, Worker], dying: str) -> None:
    for at_await in count(1):
        async with LocalPlatform() as platform:
            await platform.run(*agents.values())
            crash = platform.crash(agents[dying], at_await, restart=True)
            await _reach_the_goal(platform)
            await _check(platform)
        if not crash.happened:
            break
    assert len(crash.awaits) == at_await - 1 >= 5
