"""Mistakes that authors make, one on each marked line: type checkers find these, and no others.

A mark says what `mypy --strict` and pyright report on its line. This file is checked and never run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from soorma import (
    Event,
    EventClient,
    EventDefinition,
    HandlerContext,
    PlatformContext,
    Reject,
    Retry,
    RetryPolicy,
    Worker,
    WorkflowState,
)
from soorma import Wroker as Misspelt  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
from soorma.testing import LocalPlatform


@dataclass
class Finding:
    title: str
    score: float


print(Misspelt)
worker = Worker("worker", max_concurency=3)  # mypy[call-arg] pyright[reportCallIssue]
patient = RetryPolicy(max_attempt=3)  # mypy[call-arg] pyright[reportCallIssue]
strict = RetryPolicy(then="drop")  # mypy[arg-type] pyright[reportArgumentType]
made = EventDefinition("draft.made", topic="drafts")  # mypy[arg-type] pyright[reportArgumentType]


async def search(question: str, depth: int = 1) -> list[Finding]:
    return [Finding(question, depth)]


def read_page(number: int) -> str:
    return str(number)


# handlers


@worker.on_event("a.asked", topic="action-requests")  # mypy[type-var] pyright[reportArgumentType]
async def takes_one(event: Event) -> None: ...


@worker.on_event("b.asked", topic="action-requests")  # mypy[type-var] pyright[reportArgumentType]
async def takes_three(event: Event, context: HandlerContext, state: WorkflowState) -> None: ...


@worker.on_event("c.asked", topic="action-requests")  # mypy[type-var] pyright[reportArgumentType]
async def returns_something(event: Event, context: HandlerContext) -> str:
    return "lost"


@worker.on_event("d.asked", topic="action-requests")  # mypy[type-var] pyright[reportArgumentType]
async def generates(event: Event, context: HandlerContext) -> AsyncIterator[str]:
    yield "nobody asks for it"


@worker.on_event("e.asked", topic="action-request")  # mypy[arg-type] pyright[reportArgumentType]
async def misspells_its_topic(event: Event, context: HandlerContext) -> None: ...


@worker.on_event("f.asked", topic="action-requests", isolation="write")  # mypy[arg-type] pyright[reportArgumentType]
def isolates(event: Event, context: HandlerContext) -> None: ...


@worker.on_event("g.asked", retry=3)  # mypy[arg-type] pyright[reportArgumentType]
def retries(event: Event, context: HandlerContext) -> None: ...


@worker.on_startup  # mypy[type-var] pyright[reportArgumentType]
async def takes_the_agent(agent: Worker) -> None: ...


# in a handler


async def events(event: Event, context: HandlerContext) -> None:
    print(event.plan_idd)  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    print(context.event.typ)  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    number: int = event.type  # mypy[assignment] pyright[reportAssignmentType]
    print(number, event.subject.upper())  # mypy[union-attr] pyright[reportOptionalMemberAccess]
    print(event.data_as(Finding).titel)  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    wrong: Finding = event.data_as(RetryPolicy)  # mypy[assignment] pyright[reportAssignmentType]
    print(wrong)
    raise Retry(later=5)  # mypy[call-arg] pyright[reportCallIssue]


async def steps(event: Event, context: HandlerContext) -> None:
    await context.step("search", search, 5)  # mypy[arg-type] pyright[reportArgumentType, reportCallIssue]
    await context.step("search", search)  # mypy[arg-type, call-arg] pyright[reportArgumentType, reportCallIssue]
    await context.step("read", read_page, "first")  # mypy[arg-type] pyright[reportArgumentType, reportCallIssue]
    await context.step("read", read_page, 1, 2)  # mypy[arg-type, call-arg] pyright[reportArgumentType, reportCallIssue]
    page: int = await context.step("read", read_page, 1)  # mypy[arg-type] pyright[reportAssignmentType]
    found: Finding = await context.step("search", search, "why")  # mypy[arg-type] pyright[reportAssignmentType]
    (await context.step("search", search, "why"))[0].titel  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    text: str = await context.step("s", search, "why", type=Finding)  # mypy[arg-type] pyright[reportAssignmentType]
    await context.step("s", search, "", timeout="6")  # mypy[call-overload] pyright[reportArgumentType, reportCallIssue]
    await context.step("search", search("why"))  # mypy[call-overload] pyright[reportArgumentType, reportCallIssue]
    context.step("search", search, "why")  # mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    await context.setp("search", search, "why")  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    print(page, found, text)
    raise Reject  # mypy[call-arg] pyright[reportGeneralTypeIssues]


async def state_of(event: Event, context: HandlerContext) -> None:
    await WorkflowState(context, event.plan_id).set("key", 1)  # mypy[arg-type] pyright[reportArgumentType]
    state = WorkflowState(context.memory, event.plan_id)
    number: int = await state.get("question", type=str)  # mypy[arg-type, assignment] pyright[reportAssignmentType]
    print(number, (await state.get("best", type=Finding)).title)  # mypy[union-attr] pyright[reportOptionalMemberAccess]
    score: int = await state.get("score", 0.5, type=float)  # mypy[arg-type] pyright[reportAssignmentType]
    await state.increment("count", "one")  # mypy[call-overload] pyright[reportArgumentType, reportCallIssue]
    got: int = await state.increment(  # mypy[assignment, func-returns-value] pyright[reportAssignmentType]
        "n", blind=True
    )
    items: dict[str, object] = await state.append("items", 1)  # mypy[assignment] pyright[reportAssignmentType]
    await state.set("key", 1, ttl="60")  # mypy[arg-type] pyright[reportArgumentType]
    state.set("key", 2)  # mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    count = state.increment("count")
    print(score, got, items, count + 1)  # mypy[operator] pyright[reportOperatorIssue]
    await state.fail()  # mypy[call-arg] pyright[reportCallIssue]
    await state.deadline("soon")  # mypy[arg-type] pyright[reportArgumentType]
    await state.sett("key", 1)  # mypy[attr-defined] pyright[reportAttributeAccessIssue]


async def publishing(event: Event, context: HandlerContext) -> None:
    bus = context.bus
    await bus.publish("a.done", "action-result")  # mypy[arg-type] pyright[reportArgumentType]
    await bus.publish("a.done")  # mypy[call-arg] pyright[reportCallIssue]
    await bus.publish("a.done", "action-results", planid=event.plan_id)  # mypy[call-arg] pyright[reportCallIssue]
    await bus.publish("a.done", "action-results", delay="30")  # mypy[arg-type] pyright[reportArgumentType]
    await bus.announce("a.done", dely=timedelta(seconds=5))  # mypy[call-arg] pyright[reportCallIssue]
    bus.publish("a.done", "action-results", {})  # mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    await bus.request("a.asked", {})  # mypy[call-arg] pyright[reportCallIssue]
    answer = await bus.request("a.asked", response_event="a.answered", timeout=5)
    await bus.respond(answer["type"], 5, topic="results")  # mypy[arg-type] pyright[reportArgumentType]
    await context.until_canceled()  # mypy[attr-defined] pyright[reportAttributeAccessIssue]


def waiting(event: Event, context: HandlerContext) -> None:
    context.run(WorkflowState)  # mypy[arg-type] pyright[reportArgumentType]
    length: int = context.run(context.step("read", read_page, 1))  # mypy[assignment] pyright[reportAssignmentType]
    print(length)


# outside


async def outside(platform: PlatformContext, local: LocalPlatform) -> None:
    client = EventClient("client")
    client.on_event("a.done")(takes_three)  # mypy[type-var] pyright[reportArgumentType]
    await client.connect("action-results")  # mypy[arg-type] pyright[reportArgumentType]
    await local.publish("a.asked", "requests")  # mypy[arg-type] pyright[reportArgumentType]
    await local.state("p").transact(search)  # mypy[arg-type] pyright[reportArgumentType]
    agent = await platform.registry.get("worker")
    print(agent.description)  # mypy[union-attr] pyright[reportOptionalMemberAccess]
    await worker.run()  # mypy[func-returns-value, misc] pyright[reportGeneralTypeIssues]
