"""Every call in the working memory example, as its users type it, on a running platform."""

from __future__ import annotations

import asyncio
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from platform_process import MEMORY_PORT, PlatformProcess
from running import Seen, context_of, environment_of, unique

from soorma import EventClient, Worker
from soorma.errors import InvalidName, KeyMissing, SoormaError, Unavailable
from soorma.memory.client import MemoryClient
from soorma.workflow import WorkflowState

DEFAULT_TENANT = "00000000-0000-0000-0000-000000000000"
DEFAULT_USER = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def exported(running: PlatformProcess) -> Iterator[None]:
    with environment_of(running):
        yield


class Workflow:
    """The three agents, with the handlers of the document under event types of this test's own."""

    def __init__(self) -> None:
        self.goal, self.assigned, self.completed = (
            unique("goal.received"),
            unique("task.assigned"),
            unique("completed"),
        )
        self.plans = Seen()
        self.planner = Worker(
            name=unique("planner"),
            description="Decomposes goals into tasks",
            capabilities=["planning"],
            events_consumed=[self.goal],
            events_produced=[self.assigned],
        )
        self.worker = Worker(
            unique("worker"), "Executes tasks", ["execution"], [self.assigned], [self.completed]
        )
        self.coordinator = Worker(name=unique("coordinator"), description="Advances the workflow")
        self._plan()
        self._work()
        self._coordinate()

    def _plan(self) -> None:
        @self.planner.on_event(self.goal, topic="action-requests")
        async def handle_goal(event: Any, context: Any) -> None:
            data = event.get("data", {})
            goal = data.get("goal")
            plan_id = str(uuid.uuid4())
            tenant_id = event.get("tenant_id", "00000000-0000-0000-0000-000000000000")
            user_id = event.get("user_id", "00000000-0000-0000-0000-000000000001")
            state = WorkflowState(context.memory, plan_id, tenant_id=tenant_id, user_id=user_id)
            await state.set("goal", goal)
            await state.set("status", "planning")
            tasks = ["research", "draft", "review"]
            await state.set("tasks", tasks)
            await state.set("current_task_index", 0)
            await context.bus.publish(
                event_type=self.assigned,
                topic="action-requests",
                data={"plan_id": plan_id, "task": tasks[0], "goal": goal, "task_index": 0},
                tenant_id=tenant_id,
                user_id=user_id,
            )
            self.plans.append(plan_id)

    def _work(self) -> None:
        @self.worker.on_event(self.assigned, topic="action-requests")
        async def handle_task(event: Any, context: Any) -> None:
            data = event.get("data", {})
            plan_id = data.get("plan_id")
            task = data.get("task")
            tenant_id = event.get("tenant_id", "00000000-0000-0000-0000-000000000000")
            user_id = event.get("user_id", "00000000-0000-0000-0000-000000000001")
            state = WorkflowState(context.memory, plan_id, tenant_id=tenant_id, user_id=user_id)
            goal = await state.get("goal")
            result = f"Completed {task} for: {goal}"
            await state.record_action(f"{task}.completed")
            await state.set(f"{task}_result", result)
            await context.bus.publish(
                event_type=self.completed,
                topic="action-results",
                data={"plan_id": plan_id, "task": task, "result": result},
                tenant_id=tenant_id,
                user_id=user_id,
            )

    def _coordinate(self) -> None:
        @self.coordinator.on_event(self.completed, topic="action-results")
        async def handle_task_completion(event: Any, context: Any) -> None:
            data = event.get("data", {})
            plan_id = data.get("plan_id")
            tenant_id = event.get("tenant_id", "00000000-0000-0000-0000-000000000000")
            user_id = event.get("user_id", "00000000-0000-0000-0000-000000000001")
            state = WorkflowState(context.memory, plan_id, tenant_id=tenant_id, user_id=user_id)
            tasks = await state.get("tasks")
            current_index = await state.get("current_task_index")
            next_index = current_index + 1
            if next_index < len(tasks):
                await state.set("current_task_index", next_index)
                await context.bus.publish(
                    event_type=self.assigned,
                    topic="action-requests",
                    data={"plan_id": plan_id, "task": tasks[next_index], "task_index": next_index},
                    tenant_id=tenant_id,
                    user_id=user_id,
                )
            else:
                await state.set("status", "completed")


@pytest.mark.behaviour("document.manual-state", "memory.entry")
async def test_manual_state_management() -> None:
    tenant_id = "00000000-0000-0000-0000-000000000000"
    user_id = "00000000-0000-0000-0000-000000000000"
    memory = MemoryClient()
    plan_id = str(uuid.uuid4())
    findings = {"findings": ["one", "two"]}
    written = await memory.set_plan_state(
        plan_id=plan_id, key="research_data", value=findings, tenant_id=tenant_id, user_id=user_id
    )
    response = await memory.get_plan_state(
        plan_id, "research_data", tenant_id=tenant_id, user_id=user_id
    )
    data = response.value
    assert data == findings
    assert response == written
    assert (response.tenant_id, response.plan_id, response.key) == (
        tenant_id,
        plan_id,
        "research_data",
    )
    assert response.id
    assert response.updated_at.tzinfo is not None
    assert response.revision == 1
    await memory.close()


@pytest.mark.behaviour("document.manual-state", "ids.defaults")
async def test_manual_state_by_position() -> None:
    async with MemoryClient() as memory:
        plan_id = str(uuid.uuid4())
        await memory.set_plan_state(plan_id, "n", 1, DEFAULT_TENANT, DEFAULT_USER)
        assert (await memory.get_plan_state(plan_id, "n", DEFAULT_TENANT, DEFAULT_USER)).value == 1
        assert (await memory.get_plan_state(plan_id=plan_id, key="n")).value == 1


@pytest.mark.behaviour("document.helper")
async def test_workflow_state_helper(running: PlatformProcess) -> None:
    async with context_of(running) as context:
        event: dict[str, Any] = {"data": {}}
        plan_id = str(uuid.uuid4())
        tenant_id = event.get("tenant_id", "00000000-0000-0000-0000-000000000000")
        user_id = event.get("user_id", "00000000-0000-0000-0000-000000000001")
        state = WorkflowState(context.memory, plan_id, tenant_id=tenant_id, user_id=user_id)
        await state.record_action("research.started")
        await state.set("research_data", {"findings": ["a"]})
        data = await state.get("research_data")
        assert data == {"findings": ["a"]}
        history = await state.get_action_history()
        assert history == ["research.started"]
        assert (state.memory, state.plan_id) == (context.memory, plan_id)
        assert (state.tenant_id, state.user_id) == (tenant_id, user_id)


@pytest.mark.behaviour("document.three-agents")
async def test_the_three_agents_work_on_one_goal() -> None:
    flow = Workflow()
    async with (
        flow.planner,
        flow.worker,
        flow.coordinator,
        EventClient("client", source="client") as client,
    ):
        tenant_id, user_id = unique("tenant"), unique("user")
        await client.publish(
            event_type=flow.goal,
            topic="action-requests",
            data={"goal": "Write a blog post about Docker"},
            tenant_id=tenant_id,
            user_id=user_id,
        )
        plan_id = (await flow.plans.until(1))[0]
        async with MemoryClient() as memory:
            state = WorkflowState(memory, plan_id, tenant_id=tenant_id, user_id=user_id)
            assert await state.wait_for("status", "completed", timeout=15) == "completed"
            assert await state.get_action_history() == [
                "research.completed",
                "draft.completed",
                "review.completed",
            ]
            assert (
                await state.get("review_result")
                == "Completed review for: Write a blog post about Docker"
            )
            assert await state.get("current_task_index") == 2
    assert flow.plans == [plan_id]


@pytest.mark.behaviour("document.default-ids", "ids.defaults")
async def test_a_goal_without_ids_belongs_to_the_default_tenant_and_user() -> None:
    flow = Workflow()
    async with flow.planner, flow.worker, flow.coordinator, EventClient("client") as client:
        await client.publish(flow.goal, "action-requests", {"goal": "g"})
        plan_id = (await flow.plans.until(1))[0]
        async with MemoryClient() as memory:
            state = WorkflowState(memory, plan_id, DEFAULT_TENANT, DEFAULT_USER)
            assert await state.wait_for("status", "completed", timeout=15) == "completed"


@pytest.mark.behaviour("events.dict-with-attributes")
async def test_an_event_reads_as_a_dict_and_by_attributes() -> None:
    kind, agent, events = unique("kind"), Worker(unique("agent")), Seen()

    @agent.on_event(kind, topic="business-facts")
    async def look(event: Any, context: Any) -> None:
        events.append(event)

    async with agent, EventClient("client") as client:
        event_id = await client.publish(kind, "business-facts", {"n": 1})
        event = (await events.until(1))[0]
    assert event["type"] == event.type == kind
    assert event["id"] == event.id == event_id
    assert event.data == event.get("data", {}) == {"n": 1}
    assert event["topic"] == "business-facts"
    assert "plan_id" not in event
    assert event.plan_id is None
    assert event.get("plan_id", "none") == "none"
    assert json.loads(json.dumps(event)) == event


async def in_a_handler(body: Any, data: Any) -> None:
    """Runs a pattern of the document in a handler, as its readers do."""
    kind, agent = unique("kind"), Worker(unique("agent"))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @agent.on_event(kind, topic="action-requests")
    async def handle(event: Any, context: Any) -> None:
        try:
            await body(event, context)
        except BaseException as error:
            done.set_exception(error)
            raise
        done.set_result(None)

    async with agent, EventClient("client") as client:
        await client.publish(kind, "action-requests", data)
        async with asyncio.timeout(15):
            await done


@pytest.mark.behaviour("document.patterns", "handlers.own-reads")
async def test_pattern_1_plan_initialization() -> None:
    goal_text, task_list = "the goal", ["a", "b"]

    async def pattern(event: Any, context: Any) -> None:
        data = event.get("data", {})
        plan_id = str(uuid.uuid4())
        tenant_id = event.get("tenant_id", "00000000-0000-0000-0000-000000000000")
        user_id = event.get("user_id", "00000000-0000-0000-0000-000000000001")
        state = WorkflowState(context.memory, plan_id, tenant_id=tenant_id, user_id=user_id)
        await state.set("goal", goal_text)
        await state.set("status", "in_progress")
        await state.set("tasks", task_list)
        assert data == {"x": 1}
        assert await state.get_many(["goal", "status", "tasks"]) == {
            "goal": goal_text,
            "status": "in_progress",
            "tasks": task_list,
        }

    await in_a_handler(pattern, {"x": 1})


async def check_pattern_2(state: WorkflowState) -> None:
    results = {"found": 3}
    await state.set("research_data", results)
    await state.record_action("research.completed")
    research_data = await state.get("research_data")
    assert research_data == results


async def check_pattern_3(state: WorkflowState) -> None:
    await state.record_action("step1.completed")
    await state.record_action("step2.completed")
    history = await state.get_action_history()
    assert history == ["step1.completed", "step2.completed"]


async def check_pattern_4(state: WorkflowState) -> None:
    for given, stage in (
        ("needs_revision", "draft"),
        ("approved", "publish"),
        ("other", "publish"),
    ):
        await state.set("status", given)
        status = await state.get("status")
        if status == "needs_revision":
            await state.set("current_stage", "draft")
        elif status == "approved":
            await state.set("current_stage", "publish")
        assert await state.get("current_stage") == stage


@pytest.mark.behaviour("document.patterns")
@pytest.mark.parametrize("check_pattern", [check_pattern_2, check_pattern_3, check_pattern_4])
async def test_patterns_2_to_4_outside_a_handler(check_pattern: Any) -> None:
    async with MemoryClient() as memory:
        await check_pattern(WorkflowState(memory, str(uuid.uuid4())))


@pytest.mark.behaviour("document.patterns", "document.helper")
@pytest.mark.parametrize("check_pattern", [check_pattern_2, check_pattern_3, check_pattern_4])
async def test_patterns_2_to_4_in_a_handler(check_pattern: Any) -> None:
    plan_id = str(uuid.uuid4())

    async def body(event: Any, context: Any) -> None:
        await check_pattern(WorkflowState(context.memory, event["data"]["plan_id"]))

    await in_a_handler(body, {"plan_id": plan_id})


@pytest.mark.behaviour("document.missing-keys", "memory.null-is-a-value")
async def test_best_practices_for_missing_keys() -> None:
    async with MemoryClient() as memory:
        state = WorkflowState(memory, str(uuid.uuid4()))
        assert await state.get("goal") is None
        assert await state.get("goal", "a default") == "a default"
        assert await state.get("goal", default=[]) == []
        await state.set("goal", None)
        assert await state.get("goal", "a default") is None
        assert await state.get_action_history() == []


@pytest.mark.behaviour("memory.missing-key")
async def test_a_missing_key_is_a_key_error_that_names_it() -> None:
    async with MemoryClient() as memory:
        plan_id = str(uuid.uuid4())
        with pytest.raises(KeyError, match="goal") as raised:
            await memory.get_plan_state(plan_id, "goal")
    error = raised.value
    assert isinstance(error, KeyMissing)
    assert isinstance(error, SoormaError)
    assert (error.key, error.plan_id) == ("goal", plan_id)
    assert plan_id in str(error)


@pytest.mark.behaviour("http.health")
def test_the_health_address(running: PlatformProcess) -> None:
    with urllib.request.urlopen(
        f"http://localhost:{MEMORY_PORT + running.offset}/health", timeout=10
    ) as answer:
        assert answer.status == 200
        health = json.load(answer)
    assert (health["service"], health["status"], health["store"]) == (
        "memory",
        "ok",
        {"status": "ok"},
    )


@pytest.mark.behaviour("document.not-responding")
async def test_a_memory_service_that_does_not_respond_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOORMA_MEMORY_URL", "http://localhost:9")
    monkeypatch.setenv("SOORMA_RETRY_SECONDS", "0")
    async with MemoryClient() as memory:
        with pytest.raises(Unavailable, match="soorma dev"):
            await memory.get_plan_state(str(uuid.uuid4()), "goal")


@pytest.mark.behaviour("memory.plans-share-nothing")
async def test_state_is_shared_by_those_who_use_the_same_plan_id_only() -> None:
    async with MemoryClient() as one, MemoryClient() as other:
        plan_id = str(uuid.uuid4())
        await WorkflowState(one, plan_id).set("goal", "g")
        assert await WorkflowState(other, plan_id).get("goal") == "g"
        assert await WorkflowState(other, str(uuid.uuid4())).get("goal") is None


@pytest.mark.behaviour("topics.names")
async def test_a_plan_id_that_is_no_name_is_refused_at_once() -> None:
    async with MemoryClient() as memory:
        for wrong in (None, "", 3, uuid.uuid4(), "."):
            with pytest.raises(InvalidName):
                WorkflowState(memory, wrong)  # type: ignore[arg-type]


@pytest.mark.behaviour("document.imports")
def test_everything_the_document_imports_is_there() -> None:
    import soorma  # noqa: PLC0415
    from soorma.context import PlatformContext  # noqa: PLC0415

    assert soorma.WorkflowState is WorkflowState
    assert soorma.MemoryClient is MemoryClient
    assert soorma.PlatformContext is PlatformContext
    assert soorma.ClientConfig().memory_url == "http://localhost:8083"
    assert soorma.ClientConfig().events_url == "http://localhost:8082"
