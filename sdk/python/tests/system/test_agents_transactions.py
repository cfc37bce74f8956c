"""A handler is a transaction: all of it or nothing, in the scope of its event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import AT_ONCE, Raw, Seen, another, eventually, unique

from soorma import Agent, HandlerContext, PlatformContext, RetryPolicy, WorkflowState
from soorma.errors import Forbidden, InvalidName, LimitExceeded


@pytest.fixture
def retry() -> RetryPolicy:
    return AT_ONCE


@pytest.mark.behaviour(
    "handlers.all-or-nothing", "handlers.clean-attempt", "handlers.several-plans"
)
async def test_an_attempt_that_raises_leaves_nothing(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    seen, heard = Seen(), Seen()
    await state.update({"n": 1, "l": [1]})

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        seen.append(
            (await inside.get("n"), await inside.get("l"), await inside.get_action_history())
        )
        await inside.increment("n")
        await inside.append("l", 2)
        await inside.record_action("done")
        await WorkflowState(handler.memory, "other").set("k", 1)
        await handler.bus.publish("b", "business-facts", handler.attempt)
        if handler.attempt < 3:
            raise ValueError("late in the handler")

    @agent.on_event("b")
    async def listen(event: Any, _: Any) -> None:
        heard.append(event.data)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await heard.until(1)
        await context.bus.publish("b", "business-facts", "last")
        await heard.until(2)
    assert seen == [(1, [1], [])] * 3, "each attempt starts clean"
    assert heard == [3, "last"]
    assert await state.get_many(["n", "l"]) == {"n": 2, "l": [1, 2]}
    assert await state.get_action_history() == ["done"]
    assert [change.revision for change in await state.history(after=1)] == [2, 2, 2], "one commit"
    assert await WorkflowState(context.memory, "other").get("k") == 1


@pytest.mark.behaviour("handlers.invisible-until-return")
async def test_nothing_is_visible_before_the_handler_returns(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    written, go_on, heard = asyncio.Event(), asyncio.Event(), Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        await WorkflowState(handler.memory, "plan").set("k", 1)
        await handler.bus.publish("b", "business-facts")
        written.set()
        await go_on.wait()

    @agent.on_event("b")
    async def listen(event: Any, _: Any) -> None:
        heard.append(event.type)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await written.wait()
        assert await state.has("k") is False
        assert heard == []
        go_on.set()
        await heard.until(1)
        assert await state.get("k") == 1


@pytest.mark.behaviour("memory.snapshot", "handlers.own-reads")
async def test_a_read_is_a_fresh_copy_of_what_was_given(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    seen = Seen()
    await state.set("stored", ["as stored"])

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        given = {"list": [1]}
        await inside.set("given", given)
        given["list"].append("after it was given")
        for key in ("given", "stored"):
            found = await inside.get(key)
            (found["list"] if key == "given" else found).append("after it was read")
            seen.append(await inside.get(key))

    async with agent:
        await context.bus.publish("a", "business-facts", plan_id="plan")
        assert await seen.until(2) == [{"list": [1]}, ["as stored"]]
    assert await state.get_many(["given", "stored"]) == {
        "given": {"list": [1]},
        "stored": ["as stored"],
    }


@pytest.mark.behaviour("handlers.conflict-runs-again")
async def test_a_conflict_runs_the_handler_again_at_once(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    other, runs, both = another(agent), Seen(), asyncio.Barrier(2)

    def handler_of(name: str) -> Any:
        async def handle(event: Any, handler: HandlerContext) -> None:
            inside = WorkflowState(handler.memory, "plan")
            number = await inside.get("n", 0)
            runs.append((name, handler.attempt))
            if len(runs) <= 2:
                await both.wait()  # both have read, before either writes
            await inside.set("n", number + 1)
            await inside.record_action(name)

        return handle

    agent.on_event("a")(handler_of("one"))
    other.on_event("a")(handler_of("two"))
    async with agent, other:
        await context.bus.publish("a", "business-facts", plan_id="plan")
        await state.wait_for("n", 2, timeout=10)
    assert len(runs) == 3
    assert {attempt for _, attempt in runs} == {1}, "a conflict costs no attempt"
    assert sorted(await state.get_action_history()) == ["one", "two"]


@pytest.mark.behaviour("handlers.conflict-runs-again")
async def test_ten_agents_that_read_and_write_one_key_lose_nothing(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    @agent.on_event("a", ordered=False)
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        number = await inside.get("n", 0)
        await asyncio.sleep(0)
        await inside.set("n", number + 1)

    async with agent:
        await context.bus.publish_many(
            [{"event_type": "a", "topic": "business-facts", "plan_id": "plan"}] * 15
        )
        assert await state.wait_for("n", 15, timeout=15) == 15
    assert len(await state.history("n")) == 15


@pytest.mark.behaviour("handlers.isolation")
@pytest.mark.parametrize(("isolation", "runs_again"), [("reads", True), ("writes", False)])
async def test_isolation_chooses_which_reads_are_checked(
    context: PlatformContext, agent: Agent, state: WorkflowState, isolation: Any, runs_again: bool
) -> None:
    runs = Seen()
    await state.update({"read": 0, "written": 0})

    @agent.on_event("a", isolation=isolation)
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        read = await inside.get("read")
        runs.append(read)
        if len(runs) == 1:
            await state.set("read", 1)
        await inside.increment("written")
        await inside.set("saw", read)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await state.wait_for("saw", timeout=10)
    assert runs == ([0, 1] if runs_again else [0])
    assert await state.get_many(["saw", "written"]) == {"saw": len(runs) - 1, "written": 1}


@pytest.mark.behaviour("handlers.isolation")
async def test_isolation_writes_still_checks_what_is_written(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    runs = Seen()

    @agent.on_event("a", isolation="writes")
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        runs.append(await inside.get("n", 0))
        if len(runs) == 1:
            await state.set("n", 5)
        await inside.set("n", runs[-1] + 1)

    async with agent:
        await context.bus.publish("a", "business-facts")
        await state.wait_for("n", 6, timeout=10)
    assert runs == [0, 5]


@pytest.mark.behaviour("handlers.what-is-not-checked", "operations.blind")
async def test_a_read_by_which_nothing_is_changed_is_not_checked(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    runs = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        runs.append(await WorkflowState(handler.memory, "plan").get("k"))
        await state.set("k", len(runs))

    @agent.on_event("b")
    async def blind(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        runs.append("blind")
        await inside.keys()
        await inside.history()
        await inside.increment("n", blind=True)
        await inside.set("k", "set without a look")
        await state.update({"n": 10, "k": 0, "new": 1})

    async with agent:
        await context.bus.publish("a", "business-facts", plan_id="plan")
        await context.bus.publish("b", "business-facts", plan_id="plan")
        await state.wait_for("n", 11, timeout=10)
    assert runs == [None, "blind"]
    assert await state.get("k") == "set without a look"


@pytest.mark.behaviour("handlers.conflicts-end")
async def test_conflicts_without_end_count_as_attempts(
    running: PlatformProcess, context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    runs = Seen()

    @agent.on_event("a", retry=RetryPolicy(max_attempts=2, first_delay=0))
    async def handle(event: Any, handler: HandlerContext) -> None:
        inside = WorkflowState(handler.memory, "plan")
        await inside.get("k")
        runs.append(handler.attempt)
        await state.increment("k")
        await inside.set("never", 1)

    async with agent:
        await context.bus.publish("a", "business-facts")
        path = f"/v1/events/dead-letters?group={agent.name}"
        letters = await eventually(
            lambda: Raw(running.events_url)("GET", path).json["dead_letters"]
        )
    assert runs == [1] * 11 + [2] * 11
    assert "Conflict" in letters[0]["reason"]
    assert await state.has("never") is False


@pytest.mark.behaviour("handlers.other-scope-forbidden")
async def test_another_tenant_or_user_is_forbidden(context: PlatformContext, agent: Agent) -> None:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tenant_id, user_id = context.memory.scope().tenant_id, context.memory.scope().user_id

    async def refuse(handler: HandlerContext, ids: tuple[str, str]) -> None:
        def other() -> WorkflowState:
            return WorkflowState(handler.memory, "plan", *ids)

        for call in (
            lambda: other().set("k", 1), lambda: other().get("k"), lambda: other().keys(),
            lambda: other().actions(), lambda: other().history(),
            lambda: other().at(0).get("k"), lambda: other().cleanup(),
            lambda: anext(other().watch()), lambda: anext(handler.memory.list_plans(*ids)),
            lambda: handler.bus.publish("b", "business-facts", tenant_id=ids[0], user_id=ids[1]),
            lambda: handler.bus.request("b", response_event="c", tenant_id=ids[0], user_id=ids[1],
                                        timeout=1),
        ):  # fmt: skip
            with pytest.raises(Forbidden):
                await call()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        try:
            await WorkflowState(handler.memory, "plan", tenant_id, user_id).get("k")
            for ids in ((unique("tenant"), user_id), (tenant_id, unique("user"))):
                await refuse(handler, ids)
        except BaseException as error:
            refused.set_exception(error)
            raise
        refused.set_result(None)

    async with agent, asyncio.timeout(15):
        await context.bus.publish("a", "business-facts")
        await refused


@pytest.mark.behaviour("handlers.immediate", "ids.inherited")
async def test_immediate_is_written_through(
    context: PlatformContext, agent: Agent, state: WorkflowState
) -> None:
    heard = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        await WorkflowState(handler.memory, "plan").set("late", handler.attempt)
        await WorkflowState(handler.immediate.memory, "plan").append("progress", handler.attempt)
        await handler.immediate.bus.publish("b", "business-facts", handler.attempt)
        await heard.until(handler.attempt)
        assert await state.get("progress") == list(range(1, handler.attempt + 1))
        assert await state.has("late") is False
        if handler.attempt == 1:
            raise ValueError("once")

    @agent.on_event("b", ordered=False)
    async def listen(event: Any, _: Any) -> None:
        heard.append(event)

    async with agent:
        event_id = await context.bus.publish(
            "a", "business-facts", plan_id="plan", session_id="session"
        )
        await state.wait_for("late", 2, timeout=10)
    assert [(event.data, event.parent_event_id, event.session_id) for event in heard] == [
        (1, event_id, "session"),
        (2, event_id, "session"),
    ]
    assert [event.plan_id for event in heard] == ["plan", "plan"]
    assert {change.actor for change in await state.history("progress")} == {agent.name}


@pytest.mark.behaviour("limits.at-the-call")
async def test_limits_raise_at_the_call_that_crosses_them(
    context: PlatformContext, agent: Agent
) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        try:
            with pytest.raises(LimitExceeded, match="event_bytes"):
                await handler.bus.publish("b", "business-facts", "x" * 512 * 1024)
            for _ in range(1000):
                await handler.bus.publish("b", "business-facts")
            with pytest.raises(LimitExceeded, match="commit_events"):
                await handler.bus.publish("b", "business-facts")
            inside = WorkflowState(handler.memory, "plan")
            for n in range(1000):
                await inside.set(str(n), n)
            with pytest.raises(LimitExceeded, match="commit_operations"):
                await inside.set("one more", 1)
            with pytest.raises(InvalidName):
                await handler.bus.publish("b", "no-such-topic")
        except BaseException as error:
            done.set_exception(error)
            raise
        done.set_result(None)

    async with agent, asyncio.timeout(15):
        await context.bus.publish("a", "business-facts")
        await done
        await WorkflowState(context.memory, "plan").wait_for("999", timeout=10)
    assert len(await context.memory.list_keys("plan")) == 1000
