"""One death in each run, at each possible place: the outcome is that of the run without a death.

An agent dies at each await of each of its handlers; the platform at each boundary of each commit:
before it, between its statements, and between COMMIT and the response. Another test shows that the
agents of example 05 may die anywhere (`tests/testing/test_example_agents.py`).
"""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fan_out_example
import memory_example
import pytest
from depth import at_depth, dice
from fan_out_example import DEADLINE, TASKS, Effects
from invariants import check_file
from outcomes import has_step, outcome
from platform_crashes import ANSWER, MortalPlatform, PlatformCrash, TornPlatform

from soorma import Worker
from soorma.runtime.attempts import Attempts
from soorma.testing import Crash
from soorma_common.delivery import Welcome
from soorma_platform.services.agents import AgentConnection

pytestmark = pytest.mark.proof
EXAMPLE = Path(__file__).parents[4] / "examples" / "05-memory-working"
HANDLERS = [
    ("a fan-out that fails", "planner", "goal.asked"),
    ("a fan-out that fails", "planner", "goal.undone"),
    ("a fan-out that fails", "worker", "task.asked"),
    ("a fan-out that fails", "worker", "task.undone"),
    ("a fan-out that fails", "collector", "tasks.joined"),
    ("memories", "filer", "note.asked"),
    ("memories", "reader", "note.filed"),
]
PARTS = 2
"""Parts, so that two processes share the work."""
SAMPLE = 3
"""Of each part."""
MINUTE = 60.0
T = TypeVar("T")


class Story(NamedTuple):
    """Agents, and the event with which their work begins."""

    agents: dict[str, Worker]
    effects: Effects
    event: dict[str, Any]
    tasks: tuple[str, ...] = ()


def fan_out(ends: str) -> Story:
    effects = Effects()
    asked = {
        "event_type": "goal.asked",
        "topic": "action-requests",
        "data": {"ends": ends},
        "plan_id": "the goal",
    }
    return Story(fan_out_example.agents(effects), effects, asked, TASKS)


def example_05() -> Story:
    agents = {
        name: runpy.run_path(str(EXAMPLE / f"{name}.py"))[name]
        for name in ("planner", "worker", "coordinator")
    }
    return Story(
        agents,
        Effects(),
        {"event_type": "goal.received", "topic": "action-requests", "data": {"goal": "a post"}},
    )


def memories() -> Story:
    return Story(memory_example.agents(), Effects(), memory_example.ASKED)


STORIES: dict[str, Callable[[], Story]] = {
    "example 05": example_05,
    "a fan-out that completes": lambda: fan_out("completed"),
    "a fan-out that fails": lambda: fan_out("failed"),
    "memories": memories,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_SECONDS", "0")


async def play(
    story: Story,
    arm: Callable[[MortalPlatform], T],
    kind: type[MortalPlatform] = MortalPlatform,
    *,
    closed: bool = False,
) -> tuple[dict[str, list[Any]], T]:
    """Returns the outcome of the story, and what `arm` has prepared for it.

    On a closed platform it is the same.
    """
    story.effects.calls.clear()
    async with kind(closed=closed) as platform:
        await platform.run(*story.agents.values())
        await platform.settle()
        database = platform._platform.settings.database
        story.effects.is_recorded = partial(has_step, database)
        armed = arm(platform)
        await platform.publish(**story.event)
        await platform.settle()
        await platform.advance(MINUTE)  # the lease of what was claimed and never sent runs out
        await platform.advance(DEADLINE)
        check_file(database, at_rest=True)
        check_hands(platform, story)
        return outcome(database), armed


def modes(place: int) -> list[bool]:
    """Returns whether the platform is closed where somebody dies at this place.

    A sample has either; in whole runs it is open at each place, and at every fourth closed, too.
    """
    return at_depth([place % 4 < 2], [False, True] if place % 4 == 0 else [False])


def nobody_dies(_: MortalPlatform) -> None:
    """For `play`."""


def check_hands(platform: MortalPlatform, story: Story) -> None:
    """Checks that every attempt has ended and freed its slot, on the platform and in each agent."""
    of_group = platform._platform.store.deliveries._prefetches._of_group
    prefetches = [prefetch for group in of_group.values() for prefetch in group]
    assert len(prefetches) == len(story.agents)
    assert [prefetch.room for prefetch in prefetches] == [
        prefetch.most for prefetch in prefetches
    ], "a slot of an attempt that has ended"
    left = {name: agent._session.attempts.running for name, agent in story.agents.items()}
    assert not any(left.values()), f"attempts without an end: {left}"


def check_effects(story: Story) -> None:
    """Checks each effect: at most one more than deaths, and none after its result was recorded."""
    assert story.effects.calls.keys() == set(story.tasks)
    assert max(story.effects.calls.values(), default=0) <= 2
    assert story.effects.needless == []


@pytest.mark.behaviour("proofs.crash-matrix")
@pytest.mark.parametrize("story", STORIES)
async def test_an_undisturbed_run_is_the_same_each_time(story: str) -> None:
    (first, _), (second, _) = [
        await play(STORIES[story](), nobody_dies, closed=closed) for closed in (False, True)
    ]
    assert first == second
    assert first["plans"]
    assert first["events"]
    assert first["actions"]
    assert not first["left to do"] + first["dead letters"] + first["timers"]


@pytest.mark.behaviour("proofs.crash-matrix", "handlers.kill-at-every-await")
@pytest.mark.parametrize(("of", "name", "event_type"), HANDLERS)
async def test_an_agent_dies_at_any_await(of: str, name: str, event_type: str) -> None:
    story = STORIES[of]()
    wanted, _ = await play(story, nobody_dies)

    def dying(at_await: int) -> Callable[[MortalPlatform], Crash]:
        return lambda platform: platform.crash(
            story.agents[name], at_await, event_type, restart=True
        )

    step = at_depth(3, 1)
    for at_await in count(1 + dice(f"{name} {event_type}").randrange(step), step):
        for closed in modes(at_await):
            found, crash = await play(story, dying(at_await), closed=closed)
            assert found == wanted, f"{name} died at await {at_await}, {crash.awaits[-1]}"
            check_effects(story)
        if not crash.happened:
            break
    assert len(crash.awaits) < at_await
    assert at_await > 3, "its change, and its outcome, sent and answered"


@pytest.mark.behaviour("proofs.crash-matrix")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", STORIES)
async def test_the_platform_dies_at_any_boundary_of_a_commit(name: str, part: int) -> None:
    story = STORIES[name]()
    wanted, counted = await play(story, lambda platform: platform.crash_platform(None))
    assert {"BEGIN IMMEDIATE", "COMMIT", ANSWER} < set(counted.passed)
    died: Counter[str] = Counter()

    def dying(boundary: int) -> Callable[[MortalPlatform], PlatformCrash]:
        return lambda platform: platform.crash_platform(boundary)

    # A part is a stretch: each second boundary could be the same half of all the statements of each
    # commit.
    size = -(-len(counted.passed) // PARTS)
    everywhere = range(1, len(counted.passed) + 1)[part * size : (part + 1) * size]
    for boundary in at_depth(sorted(dice(f"{name} {part}").sample(everywhere, SAMPLE)), everywhere):
        for closed in modes(boundary):
            found, crash = await play(story, dying(boundary), closed=closed)
            where = f"boundary {boundary}, {crash.passed[-3:]}"
            assert found == wanted, f"the platform died at {where}, closed: {closed}"
            check_effects(story)
            died[crash.passed[-1]] += crash.happened
    assert died.total() >= at_depth(1, 0.9 * len(everywhere)), (
        "how many commits there are depends on who meets whom"
    )
    assert at_depth(set(), {"BEGIN IMMEDIATE", "COMMIT", ANSWER}) <= set(died)


@pytest.mark.behaviour("proofs.crash-matrix")
async def test_a_torn_commit_is_found() -> None:
    """A planted fault: what the planner's commit wrote before the platform died stays."""
    story = example_05()
    wanted, counted = await play(story, lambda platform: platform.crash_platform(None))
    in_the_middle = counted.passed.index("put_entry") + 2
    torn = play(story, lambda platform: platform.crash_platform(in_the_middle), TornPlatform)
    with pytest.raises(AssertionError, match=r"not so: |not as it was"):
        assert (await torn)[0] == wanted, "not as it was"


def slot_kept(patch: pytest.MonkeyPatch) -> None:
    """The platform does not free the slot of work that an agent had when it reconnected."""
    forget = AgentConnection._forget

    def keep_slot(self: AgentConnection, fence: str) -> None:
        if fence in self._hello.running:
            self._in_hand.pop(fence, None)
        else:
            forget(self, fence)

    patch.setattr(AgentConnection, "_forget", keep_slot)


def attempt_kept(patch: pytest.MonkeyPatch) -> None:
    """An agent does not forget an attempt that it had when it reconnected."""
    resume, forget = Attempts.resume, Attempts._forget
    came_back: set[str] = set()

    def notice(self: Attempts, welcome: Welcome) -> None:
        came_back.update(self.running)
        resume(self, welcome)

    def keep(self: Attempts, fence: str) -> None:
        if fence not in came_back:
            forget(self, fence)

    patch.setattr(Attempts, "resume", notice)
    patch.setattr(Attempts, "_forget", keep)


@pytest.mark.behaviour("proofs.crash-matrix")
@pytest.mark.parametrize("plant", [slot_kept, attempt_kept])
async def test_an_attempt_without_an_end_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Planted faults; the platform dies in a commit that the agent sends again to the next one."""
    story = example_05()
    _, counted = await play(story, lambda platform: platform.crash_platform(None))
    boundary = counted.passed.index("remove_delivery") + 1
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=r"a slot of an attempt|attempts without an end"):
        await play(story, lambda platform: platform.crash_platform(boundary))
