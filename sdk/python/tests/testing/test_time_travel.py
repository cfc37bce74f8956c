"""Time travel: a plan as it was, its changes since, and the ways back and on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soorma import HandlerContext, Worker, WorkflowState
from soorma.errors import Conflict, Forbidden, HistoryGone, InvalidRequest, NotFound, PlanExists
from soorma.testing import LocalPlatform
from soorma.workflow import MISSING, Difference

FACTS = "business-facts"
PAST: list[dict[str, Any]] = [
    {},
    {"a": 1, "n": None},
    {"a": 1, "list": [1], "n": None},
    {"list": [1, 2], "n": 0},
]


@pytest.fixture
def worker() -> Worker:
    return Worker("worker")


async def with_past(platform: LocalPlatform) -> WorkflowState:
    """Makes the plan whose past is PAST."""
    state = platform.state("p")
    await state.update({"a": 1, "n": None})
    await state.append("list", 1)
    async with state.transaction() as tx:
        await tx.delete("a")
        await tx.append("list", 2)
        await tx.set("n", 0)
    return state


@pytest.mark.behaviour("time-travel.at")
async def test_a_plan_as_it_was(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    assert await state.revision() == 3
    for revision, values in enumerate(PAST):
        past = state.at(revision)
        assert await past.all() == values
        assert await past.keys() == sorted(values)
        assert await past.keys("l") == [key for key in values if key == "list"]
        assert await past.all("l") == {key: value for key, value in values.items() if key == "list"}
        assert [await past.has(key) for key in ("a", "list", "n")] == [
            key in values for key in ("a", "list", "n")
        ]
    assert await state.at(1).get("n", "none") is None
    assert await state.at(0).get("n", "none") == "none"
    with pytest.raises(NotFound):
        await state.at(4).all()
    await state.cleanup()
    with pytest.raises(HistoryGone):
        await state.at(3).keys()


@pytest.mark.behaviour("time-travel.at")
async def test_a_past_of_many_pages(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    values = {f"k{number:04}": number for number in range(2_500)}
    for start in range(0, 2_500, 1_000):
        await state.update(
            {key: value for key, value in values.items() if start <= value < start + 1_000}
        )
    await state.update(dict.fromkeys(list(values)[:900], "late"))
    assert await state.at(3).all() == values
    assert await state.at(2).keys() == list(values)[:2_000]


@pytest.mark.behaviour("time-travel.diff")
async def test_what_two_revisions_differ_in(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    assert await state.diff(1, 3) == [
        Difference("a", 1, MISSING),
        Difference("list", MISSING, [1, 2]),
        Difference("n", None, 0),
    ]
    assert await state.diff(1) == await state.diff(1, 3)
    assert await state.diff(3, 1) == [
        Difference(one.key, one.after, one.before) for one in await state.diff(1, 3)
    ]
    assert await state.diff(2, 2) == []
    assert [one.kind for one in await state.diff(1, 3)] == ["removed", "added", "changed"]
    assert repr(MISSING) == "MISSING"
    await state.set("n", False)
    assert await state.diff(3) == [Difference("n", 0, False)], "0 is not false"
    assert (await state.diff(3))[0].after is False


@pytest.mark.behaviour("time-travel.restore")
async def test_a_key_is_restored_by_a_change(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    assert await state.restore("a", 1) is True
    assert await state.restore("n", 1) is True
    assert await state.restore("list", 1) is False
    assert await state.at(6).all() == PAST[1]
    changes = [(change.op, change.key, change.argument) for change in await state.history(after=3)]
    assert changes == [("set", "a", 1), ("set", "n", None), ("delete", "list", None)]
    assert await state.restore("never", 1) is False
    assert await state.revision() == 6, "what was missing and is, is no change"
    with pytest.raises(NotFound):
        await state.restore("a", 99)


@pytest.mark.behaviour("time-travel.restore")
async def test_restoring_in_a_handler_is_part_of_its_commit(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("undo")
    async def undo(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        for key in ("a", "list", "n"):
            await state.restore(key, event.data)
        assert (await state.get("a"), await state.get("n", "none"), await state.has("list")) == (
            1,
            None,
            False,
        )
        assert await state.at(3).get("n") == 0, "the past is what was committed"
        if context.attempt == 1:
            raise ValueError("once")

    state = await with_past(soorma_platform)
    await soorma_platform.run(worker)
    await soorma_platform.publish("undo", FACTS, 1)
    await soorma_platform.advance(5)
    assert await state.at(4).all() == PAST[1]
    assert await state.revision() == 4, "one commit"


@pytest.mark.behaviour("time-travel.fork")
async def test_a_fork_runs_on_from_there(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    await state.record_action("step")
    await state.complete()
    fork = await state.fork("again", 2)
    assert (fork.plan_id, fork.tenant_id, fork.user_id) == ("again", state.tenant_id, state.user_id)
    assert {key: await fork.get(key) for key in await fork.keys()} == PAST[2]
    assert await fork.get_action_history() == []
    assert (await fork.info()).status == "active"
    assert [(change.op, change.argument) for change in await fork.history()] == [
        ("fork", {"plan_id": "p", "revision": 2})
    ]
    await fork.append("list", "else")
    assert (await fork.get("list"), await state.get("list")) == ([1, "else"], [1, 2])
    assert await fork.at(1).all() == PAST[2]
    now = await state.fork("now")
    assert await now.at(1).all() == PAST[3]


@pytest.mark.behaviour("time-travel.fork-unused-only")
async def test_a_plan_in_use_is_never_overwritten(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    await soorma_platform.state("used").set("k", 1)
    with pytest.raises(PlanExists):
        await state.fork("used")
    assert await soorma_platform.state("used").get("k") == 1
    await soorma_platform.state("used").cleanup()
    await state.fork("used")
    assert await soorma_platform.state("used").keys() == ["list", "n"]
    with pytest.raises(NotFound):
        await soorma_platform.state("nothing").fork("new")
    with pytest.raises(NotFound):
        await state.fork("new", 99)


@pytest.mark.behaviour("time-travel.fork")
async def test_a_fork_in_a_handler_is_seen_there_at_once(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("branch")
    async def branch(event: Any, context: HandlerContext) -> None:
        fork = await WorkflowState(context.memory, "p").fork("branch", 2)
        assert await fork.keys() == ["a", "list", "n"]
        assert await fork.append("list", context.attempt) == [1, context.attempt]
        await fork.delete("a")
        assert (await fork.has("a"), await fork.get("n", "none")) == (False, None)
        await context.bus.publish("go", FACTS, plan_id="branch")
        if context.attempt == 1:
            assert await context.immediate.memory.list_keys("branch") == [], "not before the commit"
            raise ValueError("once")

    await with_past(soorma_platform)
    await soorma_platform.run(worker)
    await soorma_platform.publish("branch", FACTS)
    await soorma_platform.advance(5)
    fork = soorma_platform.state("branch")
    assert await fork.at(1).all() == {"list": [1, 2], "n": None}
    assert [change.op for change in await fork.history()] == ["fork", "append", "delete"]
    assert len(soorma_platform.published("go")) == 1
    assert await soorma_platform.dead_letters() == []


@pytest.mark.behaviour("time-travel.fork")
async def test_a_transaction_forks_what_is_committed(soorma_platform: LocalPlatform) -> None:
    state = await with_past(soorma_platform)
    async with state.transaction() as tx:
        now = await tx.fork("now")
        await tx.set("n", 7)
        with pytest.raises(InvalidRequest, match="not committed"):
            await tx.fork("later")
        with pytest.raises(InvalidRequest, match="begins with"):
            await tx.fork("now", 1)
        await now.increment("n")
    assert (await state.get("n"), await soorma_platform.state("now").get("n")) == (7, 1)
    late = state.transaction()
    await late.set("n", 8)
    await late.fork("now", 1)
    with pytest.raises(PlanExists):
        await late.__aexit__(None, None, None)
    assert await state.get("n") == 7, "all or nothing"


@pytest.mark.behaviour("time-travel.fork")
async def test_whoever_relied_on_a_missing_key_conflicts_with_the_fork(
    soorma_platform: LocalPlatform,
) -> None:
    state, new = await with_past(soorma_platform), soorma_platform.state("new")
    tx = new.transaction()
    assert await tx.get("n", "none") == "none"
    await tx.set("mine", 1)
    await state.fork("new")
    with pytest.raises(Conflict):
        await tx.__aexit__(None, None, None)
    assert await new.keys() == ["list", "n"]


@pytest.mark.behaviour("time-travel.fork")
async def test_a_handler_forks_within_its_user(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    refused = []

    @worker.on_event("e")
    async def handle(event: Any, context: HandlerContext) -> None:
        try:
            WorkflowState(context.memory, "p", user_id="bob")
        except Forbidden as error:
            refused.append(str(error))

    await with_past(soorma_platform)
    other = WorkflowState(soorma_platform.context.memory, "p", user_id="bob")
    with pytest.raises(NotFound):
        await other.fork("mine", None)
    await soorma_platform.run(worker)
    await soorma_platform.publish("e", FACTS)
    await soorma_platform.settle()
    assert len(refused) == 1


@pytest.mark.behaviour("plans.stalled-listed")
async def test_stalled_plans_are_found(soorma_platform: LocalPlatform) -> None:
    state = soorma_platform.state("p")
    await soorma_platform.state("moves").set("k", 1)
    await state.set("k", 1)
    await soorma_platform.publish("nobody.takes.it", FACTS, plan_id="p")
    await soorma_platform.advance(601)
    assert len(soorma_platform.published("plan.stalled")) == 1
    memory = state.memory
    assert [plan.plan_id async for plan in memory.list_plans(stalled=True)] == ["p"]
    assert (await state.info()).stalled is True
    await state.set("k", 2)
    assert [plan.plan_id async for plan in memory.list_plans(stalled=True)] == []
    assert (await state.info()).stalled is False


numbers = itertools.count()
KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, 0, False, [], [1], {}, "", {"x": {"y": None}}])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("append"), st.sampled_from(["l", "m"]), VALUES),
        st.tuples(st.just("restore"), st.sampled_from("abclm"), st.integers(0, 20)),
    ),
    max_size=12,
)


async def take(
    state: WorkflowState, step: tuple[str, str, Any], model: list[dict[str, Any]]
) -> None:
    """Takes a step on the plan and on the model, which has the values after each revision."""
    op, key, value = step
    now = dict(model[-1])
    if op == "set":
        await state.set(key, value)
        now[key] = value
    elif op == "append":
        await state.append(key, value)
        now[key] = [*now.get(key, []), value]
    elif op == "delete":
        await state.delete(key)
        now.pop(key, None)
    else:
        past = model[value % len(model)]
        assert await state.restore(key, value % len(model)) is (key in past)
        now = {name: was for name, was in now.items() if name != key} | (
            {key: past[key]} if key in past else {}
        )
    if await state.revision() == len(model):
        model.append(now)
    assert same(model[-1], now)


def same(one: Any, other: Any) -> bool:
    """True if both are equal, and 0 is not mistaken for false."""
    return repr(sorted(one.items())) == repr(sorted(other.items()))


@pytest.mark.behaviour(
    "time-travel.at", "time-travel.diff", "time-travel.restore", "time-travel.fork"
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_any_past(soorma_platform: LocalPlatform, steps: list[tuple[str, str, Any]]) -> None:
    number = next(numbers)
    state = soorma_platform.state(f"p-{number}")
    model: list[dict[str, Any]] = [{}]
    for step in steps:
        await take(state, step, model)
    for revision, values in enumerate(model):
        assert same(await state.at(revision).all(), values)
        found = await state.diff(revision)
        changed = {one.key: one.after for one in found if one.after is not MISSING}
        gone = {one.key for one in found if one.after is MISSING}
        kept = {key: value for key, value in values.items() if key not in gone}
        assert same({**kept, **changed}, model[-1]), "before and the changes make what is after"
        assert [one.before for one in found] == [values.get(one.key, MISSING) for one in found]
        if revision:
            fork = await state.fork(f"fork-{number}-{revision}", revision)
            assert same(await fork.at(1).all(), values)
            assert same(await fork.get_many(list("abclm")), values)


@pytest.mark.behaviour("time-travel.at")
@pytest.mark.parametrize("revision", [None, -1, True, "1", 1.5])
async def test_what_is_no_revision_is_refused(
    soorma_platform: LocalPlatform, revision: Any
) -> None:
    state = await with_past(soorma_platform)
    with pytest.raises(InvalidRequest, match="revision"):
        state.at(revision)
    with pytest.raises(InvalidRequest, match="revision"):
        await state.restore("a", revision)
    if revision is not None:
        with pytest.raises(InvalidRequest, match="revision"):
            await state.fork("q", revision)
