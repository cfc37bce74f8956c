"""The public interface as the pages use it, with types: a type checker has nothing to say.

Checked, never run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial, wraps
from typing import Any, Final, Literal, assert_type

import msgspec
import pydantic

from soorma import (
    Agent,
    Capability,
    ClientConfig,
    Event,
    EventClient,
    EventDefinition,
    HandlerContext,
    MemoryClient,
    PlatformContext,
    RegistryClient,
    Reject,
    Retry,
    RetryPolicy,
    SoormaError,
    Topic,
    Worker,
    WorkflowState,
)
from soorma.errors import Conflict, DeadLettered, KeyMissing, PlanEnded
from soorma.testing import LocalPlatform
from soorma.workflow import StateTransaction

TOPIC: Final = "action-requests"


class Types(StrEnum):
    ASKED = "page.asked"
    DONE = "page.done"


@dataclass
class Finding:
    title: str
    score: float


class Draft(pydantic.BaseModel):
    text: str


class Order(msgspec.Struct):
    amount: int


worker = Worker(
    "worker",
    "Writes.",
    ["writing"],
    max_concurrency=8,
    retry=RetryPolicy(max_attempts=3, then="park"),
)
agent = Agent(
    "agent",
    capabilities=["reminders", Capability("invoicing", "Writes an invoice.", output_schema=Order)],
    events_consumed=["page.asked"],
    events_produced=[
        EventDefinition("invoice.written", "billing-events", schema=Order),
        "page.done",
    ],
    config=ClientConfig.from_env(),
)


# what steps call


async def search(question: str, depth: int = 1) -> list[Finding]:
    return [Finding(question, depth)]


def read_page(number: int, *more: int) -> Draft:
    return Draft(text=str((number, *more)))


async def perhaps(amount: float) -> Order | None:
    return Order(int(amount)) if amount else None


async def untyped(question):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return question


class Model:
    async def __call__(self, question: str) -> Draft:
        return Draft(text=question)

    def ask(self, question: str) -> Awaitable[Draft]:
        return self(question)


# handlers


def measured(
    handler: Callable[[Event, HandlerContext], Awaitable[None]],
) -> Callable[[Event, HandlerContext], Awaitable[None]]:
    @wraps(handler)
    async def inner(event: Event, context: HandlerContext) -> None:
        await handler(event, context)

    return inner


@worker.on_event(
    Types.ASKED, TOPIC, ordered=False, retry=RetryPolicy(), timeout=60, isolation="writes"
)
@measured
async def ask(event: Event, context: HandlerContext) -> None:
    state = WorkflowState(context.memory, event.plan_id)
    question: str = event.data["question"]
    found = await context.step("search", search, question)
    assert_type(found, list[Finding])
    await state.append("findings", found)
    await context.bus.publish(Types.DONE, Topic.ACTION_RESULTS, {"title": found[0].title})


@worker.on_event("page.read", topic=Topic.TASK_EVENTS)
def read(event: Event, context: HandlerContext) -> None:
    state = WorkflowState(context.memory, event.plan_id, event.get("tenant_id"), event.user_id)
    page = context.run(context.step("read", read_page, 1, 2, timeout=5))
    assert_type(page, Draft)
    context.run(state.set("page", page))


class Desk:
    async def sign(self, event: Event, context: HandlerContext) -> None:
        await WorkflowState(context.memory, event.plan_id).record_action("signed")


worker.on_event("page.signed")(Desk().sign)


@worker.on_startup
async def begin() -> None:
    await worker.context.registry.define_event(
        "page.done", Topic.ACTION_RESULTS, schema=Draft, check="warn"
    )


@worker.on_shutdown
def end() -> None: ...


async def events(event: Event) -> None:
    assert_type(event.type, str)
    assert_type(event.topic, str)
    assert_type(event.id, str)
    assert_type(event.plan_id, str | None)
    assert_type(event.data_as(Draft), Draft)
    assert_type(event.data_as(Order | None), Order | None)
    print(
        event["type"],
        event.get("data", {}),
        event.data["any"],
        event.time,
        event.subject,
        dict(event),
    )


async def steps(event: Event, context: HandlerContext) -> None:
    model = Model()
    assert_type(await context.step("search", search, "why", 2), list[Finding])
    assert_type(await context.step("read", read_page, 1), Draft)
    assert_type(await context.step("perhaps", perhaps, 1), Order | None)
    assert_type(await context.step("object", model, "why"), Draft)
    assert_type(await context.step("method", model.ask, "why"), Draft)
    assert_type(await context.step("partial", partial(search, depth=3), "why"), list[Finding])
    assert_type(await context.step("lambda", lambda: 5), int)
    assert_type(await context.step("class", Finding, "why", 0.5), Finding)
    assert_type(await context.step("untyped", untyped, "why", type=Draft), Draft)
    assert_type(await context.step("union", untyped, "why", type=Draft | None), Draft | None)
    answer: str = await context.step(
        "untyped", untyped, "why", retry=RetryPolicy(max_attempts=2), timeout=1.5
    )
    both = await asyncio.gather(context.step("a", search, answer), context.step("b", read_page, 1))
    assert_type(both, tuple[list[Finding], Draft])
    if context.cancelled or context.attempt > 3:
        raise Reject("it is not wanted")
    if event.plan_id is None:
        raise Retry("not yet", after=5)
    await context.until_cancelled()


async def state_of(state: WorkflowState) -> None:
    await state.set("question", "why", ttl=60)
    question = await state.get("question")
    number: int = await state.get("number", 0)
    assert_type(await state.get("best", type=Finding), Finding | None)
    assert_type(await state.get("best", Finding("", 0), type=Finding), Finding)
    assert_type(await state.get("best", 5, type=list[Finding]), list[Finding] | int)
    assert_type(await state.get("best", type=Finding | Draft), Finding | Draft | None)
    assert_type(
        await state.get("mode", type=Literal["quick", "deep"]), Literal["quick", "deep"] | None
    )
    assert_type(await state.increment("count"), int)
    assert_type(await state.increment("score", 0.5), float)
    await state.increment("count", blind=True)
    assert_type(await state.append("items", 1), list[Any])
    await state.extend("items", [1, 2], blind=True)
    assert_type(await state.update_dict("fields", {"a": 1}), dict[str, Any])
    await state.update({"a": 1, "b": Finding("x", 1)})
    assert_type(await state.get_many(["a", "b"]), dict[str, Any])
    entry = await state.get_entry("a")
    await state.compare_and_set("a", 2, expected_revision=entry.revision)
    if await state.has("a") and await state.join(
        "parts", expect=["text", "pictures"], arrival="text"
    ):
        await state.delete("a")
    print(
        question,
        number,
        await state.keys("f"),
        await state.actions(),
        await state.get_action_history(),
    )
    assert_type(await state.at(3).get("best", type=Finding), Finding | None)
    for change in await state.history("a"):
        print(change.op, change.at + timedelta(1))
    for one in await state.diff(1, 2):
        print(one.key, one.kind)
    async for change in state.watch():
        print(change.argument)
    print(
        await state.wait_for("status", "done", timeout=5),
        await state.wait_for("n", lambda n: n > 3),
    )
    claim = await state.claim("lock", 5, wait=1)
    if claim is not None:
        async with claim:
            await state.restore("a", 1)
    fork = await state.fork("other")
    await fork.complete({"done": True})


async def endings(state: WorkflowState) -> None:
    await state.deadline(3600, event_type="page.late", topic="plan-events")
    await state.deadline(at=datetime.now(UTC))
    await state.compensate("page.undo", Topic.ACTION_REQUESTS, {"page": 1})
    try:
        await state.fail("nobody is there")
    except PlanEnded:
        await state.cleanup()
    except (Conflict, SoormaError) as error:
        print(error)

    async def work(tx: StateTransaction) -> int:
        await tx.bus.publish("page.done", "action-results")
        return await tx.increment("count")

    assert_type(await state.transact(work), int)
    async with state.transaction() as tx:
        await tx.set("a", 1)


async def publishing(event: Event, context: HandlerContext) -> None:
    bus = context.bus
    await bus.publish(
        "page.done",
        "action-results",
        Draft(text="x"),
        plan_id=event.plan_id,
        event_id=f"{event.id}:1",
    )
    later = await bus.publish(
        "page.late", "plan-events", delay=timedelta(minutes=1), tenant_id=event.tenant_id
    )
    await bus.cancel(later)
    await bus.publish(
        event_type="task.assigned",
        topic="action-requests",
        data={},
        response_event="x",
        response_topic="action-results",
    )
    await bus.publish_many([{"event_type": "a", "topic": "business-facts", "data": 1}])
    await bus.announce("page.written", {"pages": 3}, subject="page")
    try:
        answer = await bus.request(
            "price.asked", {"of": "tea"}, response_event="price.told", timeout=5, session_id="s"
        )
        assert_type(answer, Event)
        await bus.respond(event, answer.data, topic="action-results")
    except (DeadLettered, TimeoutError):
        await context.immediate.bus.publish("page.stuck", "system-events")
    print(
        context.tenant_id,
        context.user_id,
        context.plan_id,
        await context.registry.find(capability="writing"),
    )


async def outside() -> None:
    async with (
        PlatformContext.from_env("script") as platform,
        EventClient("client", "script") as client,
    ):

        @client.on_event("page.done", topic="action-results")
        async def hear(event: Event) -> None:
            print(event.data)

        @client.on_all_events
        def hear_all(event: Event) -> None:
            print(event.type)

        await client.connect(["action-results", Topic.PLAN_EVENTS])
        await client.publish("page.asked", TOPIC, {"question": "why"})
        await client.request("price.asked", response_event="price.told", timeout=None)
        found = await platform.registry.get("worker")
        print(None if found is None else found.description)
    async with MemoryClient() as memory, RegistryClient() as registry:
        try:
            print((await memory.get_plan_state("plan", "key", tenant_id="t", user_id="u")).value)
        except KeyMissing as missing:
            print(missing)
        async for plan in memory.list_plans(status="active"):
            print(plan.plan_id, plan.updated_at)
        print(await registry.events(topic="action-results"))
    async with worker, agent:
        await asyncio.sleep(1)
    await worker.start()
    await worker.stop(drain_timeout=5)


async def test_ask(soorma_platform: LocalPlatform) -> None:
    await soorma_platform.run(worker)
    await soorma_platform.publish("page.asked", TOPIC, {"question": "why"}, plan_id="p")
    await soorma_platform.settle()
    await soorma_platform.advance(60)
    (event,) = soorma_platform.published("page.done", "action-results")
    assert_type(event, Event)
    print(await soorma_platform.state("p").get("findings"), await soorma_platform.dead_letters())


if __name__ == "__main__":
    worker.run()
