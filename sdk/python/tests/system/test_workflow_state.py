"""WorkflowState: each method outside handlers, and inside, where it must read its own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from platform_process import PlatformProcess
from running import PythonProcess, Raw, config_of, context_of, eventually, unique
from workflow_scenarios import (
    SCENARIOS,
    Report,
    check_actions,
    check_cleaning_up,
    check_lists,
    check_many_keys,
    check_models,
    check_numbers,
    check_objects,
    check_values,
)

from soorma import Agent, HandlerContext, MemoryClient, PlatformContext, RetryPolicy, WorkflowState
from soorma.errors import (
    Conflict,
    HandlerEnded,
    HistoryGone,
    InvalidRequest,
    InvalidValue,
    KeyMissing,
    NotFound,
    TimedOut,
)

Scenario = Callable[[WorkflowState], Awaitable[None]]


@pytest.fixture
def state(context: PlatformContext) -> WorkflowState:
    return WorkflowState(context.memory, unique("plan"))


async def handled(
    running: PlatformProcess,
    outside: PlatformContext,
    state: WorkflowState,
    body: Callable[[WorkflowState, HandlerContext], Awaitable[Any]],
    *,
    of_other_plan: bool = False,
    isolation: Any = "reads",
) -> Any:
    """Runs `body` in a handler of an event of this or another plan; returns its result or error."""
    kind = unique("kind")
    agent = Agent(unique("agent"), config=config_of(running), retry=RetryPolicy(max_attempts=1))
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @agent.on_event(kind, isolation=isolation)
    async def handle(event: Any, context: HandlerContext) -> None:
        try:
            outcome = await body(WorkflowState(context.memory, state.plan_id), context)
        except Exception as error:
            if not done.done():
                done.set_exception(error)
            raise
        if not done.done():
            done.set_result(outcome)

    async with agent:
        plan_id = unique("plan") if of_other_plan else state.plan_id
        await outside.bus.publish(kind, "action-requests", plan_id=plan_id)
        async with asyncio.timeout(15):
            return await done


# the same scenario outside a handler, in one of the plan, and in one of another plan


@pytest.mark.behaviour(
    "memory.null-is-a-value",
    "memory.many",
    "memory.delete",
    "memory.models",
    "memory.not-json-refused",
    "operations.increment",
    "operations.append-extend",
    "operations.update-dict",
    "operations.missing-is-empty",
    "operations.wrong-type",
    "operations.blind",
    "history.actions",
    "expiry.cleanup",
    "limits.named",
    "topics.names",
)
@pytest.mark.parametrize("check_scenario", SCENARIOS)
async def test_outside_a_handler(state: WorkflowState, check_scenario: Scenario) -> None:
    await check_scenario(state)


@pytest.mark.behaviour(
    "operations.same-in-a-handler", "handlers.own-reads", "memory.models", "limits.at-the-call"
)
@pytest.mark.parametrize("of_other_plan", [False, True], ids=["plan in hand", "other plan"])
@pytest.mark.parametrize("check_scenario", SCENARIOS)
async def test_in_a_handler(
    running: PlatformProcess,
    context: PlatformContext,
    state: WorkflowState,
    check_scenario: Scenario,
    of_other_plan: bool,
) -> None:
    async def body(inside: WorkflowState, _: HandlerContext) -> None:
        await check_scenario(inside)

    await handled(running, context, state, body, of_other_plan=of_other_plan)


@pytest.mark.behaviour("operations.same-in-a-handler")
@pytest.mark.parametrize(
    "check_scenario",
    [
        check_values,
        check_numbers,
        check_lists,
        check_objects,
        check_many_keys,
        check_actions,
        check_cleaning_up,
        check_models,
    ],
)
async def test_a_handler_comes_to_the_same_as_calls_outside(
    running: PlatformProcess,
    context: PlatformContext,
    state: WorkflowState,
    check_scenario: Scenario,
) -> None:
    async def body(inside: WorkflowState, _: HandlerContext) -> None:
        await check_scenario(inside)
        await inside.set("finished", value=True)

    other = WorkflowState(context.memory, unique("plan"))
    await check_scenario(other)
    await other.set("finished", value=True)
    await handled(running, context, state, body)
    await state.wait_for("finished", expected=True, timeout=10)
    assert await state.get_many(await state.keys()) == await other.get_many(await other.keys())
    assert await state.get_action_history() == await other.get_action_history()


# what only one of the two can be asked


@pytest.mark.behaviour("conditions.compare-and-set", "memory.missing-key")
async def test_compare_and_set(state: WorkflowState) -> None:
    first = await state.compare_and_set("k", "a", expected_revision=0)
    assert (await state.get_entry("k")).revision == first
    await state.set("other", 1)
    second = await state.compare_and_set("k", "b", expected_revision=first)
    with pytest.raises(Conflict) as raised:
        await state.compare_and_set("k", "c", expected_revision=first)
    assert (raised.value.current_revision, raised.value.key) == (second, "k")
    with pytest.raises(Conflict):
        await state.compare_and_set("k", "c", expected_revision=0)
    assert await state.get("k") == "b"
    with pytest.raises(KeyMissing):
        await state.get_entry("missing")


@pytest.mark.behaviour("conditions.in-a-handler")
async def test_compare_and_set_in_a_handler(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    await state.set("k", "a")

    async def body(inside: WorkflowState, _: HandlerContext) -> None:
        revision = (await inside.get_entry("k")).revision
        with pytest.raises(Conflict) as raised:
            await inside.compare_and_set("k", "x", expected_revision=revision + 7)
        assert raised.value.current_revision == revision
        await inside.compare_and_set("k", "b", expected_revision=revision)
        await inside.compare_and_set("new", "n", expected_revision=0)

    await handled(running, context, state, body)
    assert await state.wait_for("new", timeout=10) == "n"
    assert await state.get("k") == "b"


@pytest.mark.behaviour("history.every-operation", "history.value-at", "history.gone")
async def test_history_and_the_past(state: WorkflowState) -> None:
    await state.set("k", 1)
    await state.increment("k", 2)
    await state.record_action("a")
    await state.update({"k": "x", "other": 1})
    await state.delete("k")
    changes = await state.history()
    assert [(c.revision, c.op, c.key, c.argument) for c in changes] == [
        (1, "set", "k", 1), (2, "increment", "k", 2), (3, "record_action", None, "a"),
        (4, "set", "k", "x"), (4, "set", "other", 1), (5, "delete", "k", None),
    ]  # fmt: skip
    assert [c.op for c in await state.history("k", after=1)] == ["increment", "set", "delete"]
    assert [await state.at(n).get("k", "none") for n in range(6)] == ["none", 1, 3, 3, "x", "none"]
    assert await state.at(4).has("other") is True
    assert await state.at(3).has("other") is False
    with pytest.raises(NotFound, match="no revision 6 yet"):
        await state.at(6).get("k", "none")
    await state.cleanup()
    await state.set("k", "new")
    with pytest.raises(HistoryGone) as raised:
        await state.at(4).get("k")
    assert raised.value.horizon == 6
    assert await state.at(7).get("k") == "new"


@pytest.mark.behaviour("history.pages")
async def test_history_of_a_long_plan_comes_in_pages(state: WorkflowState) -> None:
    for _ in range(3):
        await state.update({f"k{n}": n for n in range(900)})
    assert len(await state.history()) == 2700
    assert [change.revision for change in await state.history("k7")] == [1, 2, 3]


@pytest.mark.behaviour("history.value-at")
async def test_the_past_of_an_expired_or_cleaned_plan_is_not_what_is_now(
    state: WorkflowState,
) -> None:
    await state.set("k", 1, ttl=0.1)
    await eventually(lambda: _missing(state, "k"))
    assert await state.at(1).get("k") == 1
    assert await state.get("k") is None


async def _missing(state: WorkflowState, key: str) -> bool:
    return not await state.has(key)


@pytest.mark.behaviour("history.who")
async def test_what_a_handler_did_names_agent_and_event(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    async def body(inside: WorkflowState, handler: HandlerContext) -> Any:
        await inside.set("k", 1)
        await inside.record_action("done")
        return handler.event

    event = await handled(running, context, state, body)
    await state.wait_for("k", timeout=10)
    action = (await state.actions())[0]
    change = (await state.history())[0]
    for row in (action, change):
        assert row.actor.startswith("agent-")
        assert row.instance
        assert (row.event_id, row.correlation_id, row.trace_id) == (
            event.id,
            event.correlation_id,
            event.trace_id,
        )
        assert row.at is not None
    assert (action.number, action.name) == (1, "done")
    assert change.revision == 1


@pytest.mark.behaviour("watch.without-gap")
async def test_watch_sees_every_change_from_a_revision_on(state: WorkflowState) -> None:
    await state.set("a", 1)
    seen = []
    async with aclosing(state.watch(after=0)) as stream, asyncio.timeout(10):
        async for change in stream:
            seen.append((change.op, change.key))
            if len(seen) == 1:
                await state.update({"b": 1, "c": 1})
                await state.cleanup()
            if len(seen) == 4:
                break
    assert seen == [("set", "a"), ("set", "b"), ("set", "c"), ("cleanup", None)]


@pytest.mark.behaviour("watch.begins-now")
async def test_watch_begins_now(state: WorkflowState) -> None:
    await state.set("before", 1)
    async with aclosing(state.watch()) as stream:
        first = asyncio.ensure_future(anext(stream))
        done: set[Any] = set()
        while not done:  # the first change after the watch stands is seen, none of before
            await state.increment("n")
            done, _ = await asyncio.wait([first], timeout=0.05)
        assert (await first).key == "n"


@pytest.mark.behaviour("watch.wait-for")
async def test_wait_for(state: WorkflowState) -> None:
    with pytest.raises(TimedOut, match="'k'"):
        await state.wait_for("k", timeout=0.2)
    with pytest.raises(TimeoutError):  # TimedOut is one
        await state.wait_for("k", 1, timeout=0)
    waiting = [
        asyncio.create_task(state.wait_for("k", timeout=10)),
        asyncio.create_task(state.wait_for("k", "done", timeout=10)),
        asyncio.create_task(state.wait_for("k", lambda value: value == "done", timeout=10)),
        asyncio.create_task(state.wait_for("nothing", None, timeout=10)),
    ]
    await state.set("k", "started")
    await state.cleanup()
    await state.set("k", "done")
    await state.set("nothing", None)
    found = await asyncio.gather(*waiting)
    assert found[0] in {"started", "done"}
    assert found[1:] == ["done", "done", None]
    assert await state.wait_for("k", timeout=5) == "done"


@pytest.mark.behaviour("watch.wait-for", "memory.models")
async def test_wait_for_what_a_model_says(state: WorkflowState) -> None:
    await state.set("r", Report(title="T"))
    assert await state.wait_for("r", Report(title="T"), timeout=5) == {"title": "T", "pages": 1}


class Finding(msgspec.Struct):
    title: str
    score: float = 0.5


@pytest.mark.behaviour("memory.models")
async def test_a_struct_is_a_value(state: WorkflowState) -> None:
    await state.set("best", Finding("Layers", 0.9))
    await state.set("all", {"found": [Finding("Kernel")]})
    assert await state.get("best", type=Finding) == Finding("Layers", 0.9)
    assert await state.get("all") == {"found": [{"title": "Kernel", "score": 0.5}]}
    with pytest.raises(InvalidValue):
        await state.get("all", type=Finding)


@pytest.mark.behaviour("watch.leaves-nothing-open")
async def test_wait_for_leaves_nothing_open(running: PlatformProcess) -> None:
    async with context_of(running) as context:
        state = WorkflowState(context.memory, unique("plan"))
        tasks = {task for task in asyncio.all_tasks() if not task.done()}
        with pytest.raises(TimedOut):
            await state.wait_for("k", timeout=0.05)
        waiting = asyncio.create_task(state.wait_for("k"))
        await asyncio.wait([waiting], timeout=0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert {task for task in asyncio.all_tasks() if not task.done()} == tasks


@pytest.mark.behaviour("expiry.key", "expiry.set-ends-it", "expiry.refused", "memory.entry")
async def test_a_key_lives_as_long_as_it_was_given(state: WorkflowState) -> None:
    await state.set("k", 1, ttl=0.3)
    await state.set("kept", 1, ttl=0.3)
    await state.set("kept", 2)
    assert await state.get("k") == 1
    assert (await state.get_entry("k")).expires_at is not None
    await eventually(lambda: _missing(state, "k"), 5)
    assert await state.keys() == ["kept"]
    assert await state.increment("k") == 1, "an expired key counts as missing"
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest):
            await state.set("k", 1, ttl=wrong)
        with pytest.raises(InvalidRequest):
            await state.ttl(wrong)


@pytest.mark.behaviour("expiry.plan", "memory.plans-listed")
async def test_a_plan_lives_as_long_as_it_was_given(state: WorkflowState) -> None:
    await state.set("k", 1)
    await state.record_action("a")
    await state.ttl(0.3)
    assert await state.get("k") == 1
    await eventually(lambda: _missing(state, "k"), 5)
    assert (await state.keys(), await state.get_action_history()) == ([], [])
    await state.set("k", 2)
    await state.ttl(60)
    await state.ttl(None)
    plans = [plan async for plan in state.memory.list_plans()]
    assert [(plan.plan_id, plan.keys, plan.expires_at) for plan in plans] == [
        (state.plan_id, 1, None)
    ]


@pytest.mark.behaviour("handlers.ended")
async def test_a_context_is_over_when_its_handler_is(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    kept: list[tuple[WorkflowState, HandlerContext]] = []

    async def body(inside: WorkflowState, handler: HandlerContext) -> None:
        kept.append((inside, handler))
        await inside.set("k", 1)

    await handled(running, context, state, body)
    await state.wait_for("k", timeout=10)
    inside, handler = kept[0]
    for call in (
        lambda: inside.set("k", 2), lambda: inside.get("k"), inside.keys, inside.get_action_history,
        inside.cleanup, inside.history, lambda: inside.at(1).get("k"),
        inside.at(1).all, inside.revision, lambda: inside.diff(0), lambda: inside.restore("k", 1),
        lambda: inside.fork("fork"), inside.info,
        lambda: handler.bus.publish("x", "business-facts"),
    ):  # fmt: skip
        with pytest.raises(HandlerEnded):
            await call()
    assert await state.get("k") == 1


@pytest.mark.behaviour("operations.concurrent")
async def test_concurrent_changes_by_four_processes_are_all_there(
    running: PlatformProcess, context: PlatformContext, state: WorkflowState
) -> None:
    program = """
async def main():
    async with MemoryClient() as memory:
        state = WorkflowState(memory, os.environ["PLAN"], os.environ["TENANT"], \
os.environ["USER_ID"])
        me = os.environ["ME"]
        await state.has("x")
        say("ready")
        sys.stdin.readline()
        calls = []
        for n in range(50):
            calls += [state.record_action(f"{me}.{n}"), state.increment("n"), \
state.append("l", f"{me}.{n}"),
                      state.update_dict("o", {f"{me}.{n}": n})]
        await asyncio.gather(*calls)
        say("done")
asyncio.run(main())
"""
    ids = {"PLAN": state.plan_id, "TENANT": state.tenant_id, "USER_ID": state.user_id}
    async with AsyncExitStack() as stack:
        four = [
            stack.enter_context(PythonProcess(running, program, ME=str(n), **ids)) for n in range(4)
        ]
        for process in four:
            await process.until("ready")
        for process in four:
            process.go()
        for process in four:
            await process.until("done")
    expected = sorted(f"{me}.{n}" for me in range(4) for n in range(50))
    history = await state.get_action_history()
    assert sorted(history) == expected
    assert await state.get("n") == 200
    assert sorted(await state.get("l")) == expected
    assert sorted(await state.get("o")) == expected
    for me in range(4):
        assert len([name for name in history if name.startswith(f"{me}.")]) == 50
    assert (await state.history(after=799))[-1].revision == 800


@pytest.mark.behaviour("memory.sdk-and-http-agree", "http.encoded-ids")
async def test_what_python_writes_is_what_http_reads(running: PlatformProcess) -> None:
    tenant_id, user_id, plan_id = "тенант " + unique("t"), "100%/" + unique("u"), unique("план/")
    async with MemoryClient(running.memory_url) as memory:
        entry = await memory.set_plan_state(
            plan_id, "a/ключ%2F", {"b": 2**70, "a": "\U0001f600"}, tenant_id, user_id
        )
    raw = Raw(running.memory_url, quote(tenant_id), quote(user_id))
    answer = raw(
        "GET", f"/v1/memory/working/{quote(plan_id, safe='')}/{quote('a/ключ%2F', safe='')}"
    )
    assert (answer.json["id"], answer.json["key"]) == (entry.id, "a/ключ%2F")
    assert '"value":{"b":1180591620717411303424,"a":"\U0001f600"}' in answer.body.decode()
