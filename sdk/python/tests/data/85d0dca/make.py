"""Makes the record from which tests/system/test_older_record.py goes on, with revision 85d0dca.

It uses the SDK, the services and the command of that revision, and nothing newer. It was run once,
beside a checkout of this tree:

    git worktree add ../85d0dca 85d0dca
    (cd ../85d0dca && sh tools/run venv)
    ../85d0dca/.venv/bin/python sdk/python/tests/data/85d0dca/make.py

Beside itself it writes `record.db.gz`, the database of a platform that was stopped while work was
in flight; `backup.db.gz`, what `soorma backup` made of it just before; and `seen.json`, what that
platform answered: to reads, to changes under an idempotency key, and as its log of events.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from soorma import (
    Agent,
    ClientConfig,
    PlatformContext,
    Reject,
    Retry,
    RetryPolicy,
    Topic,
    WorkflowState,
)

HERE = Path(__file__).parent
OFFSET = 5130
MEMORY, EVENTS, REGISTRY = (f"http://127.0.0.1:{port + OFFSET}" for port in (8083, 8082, 8081))
ANN, BOB, GLOBEX = ("acme", "ann"), ("acme", "bob"), ("globex", "ann")
ALL: tuple[str | None, None] = (None, None)
SOON, TEN_YEARS = 60, 10 * 365 * 86_400
"""Seconds. No time to live is longer than ten years: the test finds what has it until then."""
LAST_EVENT = "record.ended"

Who = tuple[str | None, str | None]


# --- The platform -----------------------------------------------------------------------------


def soorma(folder: Path, *arguments: str, **env: str) -> None:
    """Runs the command; what it says is of interest only if it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOORMA_")}
    command = [sys.executable, "-m", "soorma.cli", *arguments]
    settings = {"SOORMA_PORT_OFFSET": str(OFFSET), **env}
    subprocess.run(command, cwd=folder, env={**clean, **settings}, check=True, stdout=sys.stderr)


def config(tenant_id: str | None, user_id: str | None = None) -> ClientConfig:
    addresses = {"memory_url": MEMORY, "events_url": EVENTS, "registry_url": REGISTRY}
    return ClientConfig(**addresses, tenant_id=tenant_id, user_id=user_id)


def ask(method: str, url: str, who: Who, content: Any = None, **headers: str) -> dict[str, Any]:
    """One request and what was answered, in the form in which the test repeats it."""
    body = None if content is None else json.dumps(content)
    ids = zip(("X-Tenant-ID", "X-User-ID"), who, strict=True)
    said = {name: value for name, value in ids if value is not None}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        said.setdefault("Content-Type", "application/json")
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, said, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with closing(answer):
        service, path = next(
            (service, url.removeprefix(address))
            for service, address in (("memory", MEMORY), ("events", EVENTS), ("registry", REGISTRY))
            if url.startswith(address)
        )
        asked = {"service": service, "method": method, "path": path, "headers": said, "body": body}
        return {**asked, "status": answer.status, "answer": json.load(answer)}


def key_path(plan_id: str, *key: str) -> str:
    names = [quote(name, safe="") for name in (plan_id, *key)]
    return "/".join([f"{MEMORY}/v1/memory/working", *names])


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(30):
        while True:
            if found := condition():
                return found
            await asyncio.sleep(0.02)


# --- Plans ------------------------------------------------------------------------------------


async def write_values(state: WorkflowState) -> None:
    """Every kind of value, operation and name of a key; small values, large and grown ones."""
    values: dict[str, Any] = {
        "null": None,
        "yes": True,
        "big": 2**80 + 1,
        "fraction": 0.1,
        "tiny": 5e-324,
        "text": "Grüße, 世界 \U0001f30d\u0000\u2028",
        "nested": {"z": [1, {"a": None}], "a": {}, "": []},
    }
    await state.update(values)
    for name in ("a/b", "ключ", "100 %", "..."):
        await state.set(name, f"the key {name}")
    await state.increment("count")
    await state.increment("count", 2.5)
    await state.append("list", "first")
    await state.extend("list", ["second", {"third": 3}])
    await state.update_dict("object", {"kept": 1, "nulled": 2})
    await state.update_dict("object", {"nulled": None})
    await state.set("deleted", 1)
    await state.delete("deleted")
    await state.set("again", "first")
    await state.delete("again")
    await state.compare_and_set("again", "second", expected_revision=0)
    await state.set("large", "large " * 2_800)
    await state.set("grown", ["x" * 16_500])
    await state.append("grown", "y" * 500)
    await state.set("large", "larger " * 2_400)
    await state.set("lives for ten years", 1, ttl=TEN_YEARS)
    for name in ("began", "went on"):
        await state.record_action(name)
    async with state.transaction() as tx:
        await tx.set("sold", await tx.get("count"))
        await tx.bus.publish("tea.sold", Topic.BUSINESS_FACTS, {"count": 3.5})


async def write_plans(ann: PlatformContext, bob: PlatformContext, globex: PlatformContext) -> None:
    state = WorkflowState(ann.memory, "values")
    await write_values(state)
    await WorkflowState(bob.memory, "values").set("text", "bob's")
    await WorkflowState(globex.memory, "values").set("text", "globex's")
    await state.restore("list", 13)
    fork = await state.fork("forked", 13)
    await fork.append("list", "of the fork")

    for end in ("completed", "failed", "cancelled"):
        plan = WorkflowState(ann.memory, end)
        await plan.set("step", 3)
        await plan.deadline(SOON)
        ends = {"completed": plan.complete, "failed": plan.fail, "cancelled": plan.cancel}
        await ends[end]("so it ended")
    cleaned = WorkflowState(ann.memory, "cleaned")
    await cleaned.set("before", 1)
    await cleaned.cleanup()
    await cleaned.set("after", 2)
    for plan_id, ttl in (("short", SOON), ("long", TEN_YEARS)):
        lives = WorkflowState(ann.memory, plan_id)
        await lives.set("a", 1)
        await lives.ttl(ttl)
    keys = WorkflowState(ann.memory, "short keys")
    await keys.set("stays", 1)
    await keys.set("goes", 1, ttl=SOON)

    joined = WorkflowState(ann.memory, "joined")
    assert not await joined.join("parts", expect=["text", "pictures"], arrival="text")
    claims = WorkflowState(ann.memory, "claims")
    assert await claims.claim("printer", ttl=SOON)
    assert await claims.claim("vault", ttl=TEN_YEARS)
    assert await claims.semaphore("seats", 2, ttl=SOON)
    assert await claims.semaphore("rooms", 2, ttl=TEN_YEARS)


async def purge_a_plan(folder: Path) -> None:
    """A plan that has ended and is purged: for that, the platform keeps none."""
    soorma(folder, "dev", "--build", SOORMA_KEEP_PLANS="1")
    async with PlatformContext.on(config(*ANN), "make") as ann:
        state = WorkflowState(ann.memory, "purged")
        await state.update({"a": 1, "b": 2})
        await state.complete()
        await until(lambda: ask("GET", f"{MEMORY}/v1/memory/plans/purged", ANN)["status"] == 404)
    soorma(folder, "dev", "--stop")


# --- Agents -----------------------------------------------------------------------------------


def agent(name: str, kinds: dict[str, Any], tenant_id: str | None = "acme", **more: Any) -> Agent:
    """An agent that handles events of these types, each with its function."""
    made = Agent(name, config=config(tenant_id), **more)
    for kind, handler in kinds.items():
        made.on_event(kind, topic="action-requests")(handler)
    return made


async def nothing(event: Any, context: Any) -> None:
    pass


async def subscribe(name: str, *kinds: str, tenant_id: str | None = "acme") -> None:
    """A group whose agent has gone: what is published now waits for the next."""
    async with agent(name, dict.fromkeys(kinds, nothing), tenant_id):
        pass


async def handled_by(made: Agent, seen: list[Any], count: int, send: Awaitable[Any]) -> None:
    async with made:
        await send
        await until(lambda: len(seen) >= count)


async def send(
    context: PlatformContext,
    kind: str,
    plan_id: str | None,
    *data: Any,
    **more: Any,
) -> None:
    """Publishes an event for each of the data."""
    for each in data:
        await context.bus.publish(kind, "action-requests", each, plan_id=plan_id, **more)


async def leave_what_waits(ann: PlatformContext, globex: PlatformContext) -> None:
    """Groups whose agents are away, a lane whose head nobody serves, events that no group took."""
    await subscribe("away", "letter.sent")
    await send(ann, "letter.sent", "letters", {"n": 1}, {"n": 2})
    await subscribe("everywhere", "news.told", tenant_id=None)
    for context in (ann, globex):
        await send(context, "news.told", "news", {"n": 1})
    await send(ann, "news.told", None, {"n": 2})
    await subscribe("two-handed", "left.pulled", "right.pulled")
    await send(ann, "left.pulled", "levers", {"n": 1})
    await send(ann, "right.pulled", "levers", {"n": 2})
    await send(ann, "untaken.sent", "untaken", {"n": 1}, {"n": 2})


async def leave_what_failed(ann: PlatformContext) -> None:
    """A delivery that waits for its retry, a lane that is parked, and dead letters."""
    tries: list[Any] = []

    async def fail(event: Any, context: Any) -> None:
        tries.append(event)
        raise {"flaky": Retry("not yet", after=5), "picky": Reject("not that")}.get(
            context.event.data["for"], ValueError("broken")
        )

    await handled_by(
        agent("flaky", {"flake.sent": fail}), tries, 1,
        send(ann, "flake.sent", "flakes", {"for": "flaky", "n": 1}, {"for": "flaky", "n": 2}),
    )  # fmt: skip
    parking = RetryPolicy(max_attempts=2, first_delay=0, then="park")
    async with agent("parking", {"car.came": fail}, retry=parking):
        await send(ann, "car.came", "cars", {"for": "parking", "n": 1}, {"for": "parking", "n": 2})
        await until(lambda: dead_letters("parking"))
    async with agent("picky", {"dish.served": fail}):
        await send(ann, "dish.served", "dishes", {"for": "picky", "n": 1}, {"for": "picky", "n": 2})
        await until(lambda: len(dead_letters("picky")) == 2)


def dead_letters(group: str) -> list[Any]:
    told = ask("GET", f"{EVENTS}/v1/events/dead-letters?group={group}", ALL)["answer"]
    found: list[Any] = told["deadLetters"]
    return found


async def leave_a_saga(ann: PlatformContext) -> None:
    """A plan that has failed, of which nothing is undone yet, and one that may still fail."""
    await subscribe("undoer", "booking.undo")
    for plan_id in ("failing", "going well"):
        state = WorkflowState(ann.memory, plan_id)
        for booked in ("flight", "hotel"):
            async with state.transaction() as tx:
                await tx.set(booked, "booked")
                await tx.compensate("booking.undo", "action-requests", {"undo": booked})
    await WorkflowState(ann.memory, "failing").fail("no car")


async def leave_requests(ann: PlatformContext) -> None:
    """A request that was answered, and one that is not."""

    async def find(event: Any, context: Any) -> None:
        await context.bus.respond(event, {"shelf": 7})

    envelope = {"response_event": "book.found", "response_topic": "action-results"}
    async with agent("library", {"book.wanted": find}):
        await send(ann, "book.wanted", None, {"title": "Dune"}, event_id="answered", **envelope)
        path = f"{EVENTS}/v1/events/answer/answered?timeout=10"
        assert (await asyncio.to_thread(ask, "GET", path, ANN))["answer"]["event"]
    await send(ann, "book.wanted", None, {"title": "Ubik"}, event_id="unanswered", **envelope)


async def leave_timers(ann: PlatformContext) -> None:
    await subscribe("clock", "bell.rung", "plan.timed_out")
    whens: dict[str, Any] = {
        "after a delay": {"delay": SOON},
        "at its time": {"at": datetime.now(UTC) + timedelta(seconds=SOON)},
        "in 2100": {"at": datetime(2100, 1, 1, tzinfo=UTC)},
        "cancelled": {"delay": SOON},
    }
    for event_id, when in whens.items():
        await send(ann, "bell.rung", "bells", {"when": event_id}, event_id=event_id, **when)
    assert await ann.bus.cancel("cancelled")
    late = WorkflowState(ann.memory, "late")
    await late.set("begun", True)
    await late.deadline(SOON, topic="action-requests")


async def register(ann: PlatformContext, globex: PlatformContext) -> None:
    number = {"amount": {"type": "number"}}
    amount = {"type": "object", "properties": number, "required": ["amount"]}
    paid: dict[str, Any] = {"topic": "business-facts", "description": "Somebody has paid."}
    for version, schema in ((1, {"type": "object"}), (2, amount)):
        await ann.registry.define_event("payment.made", schema=schema, version=version, **paid)
    currency = {"type": "object", "required": ["currency"]}
    await globex.registry.define_event("payment.made", schema=currency)
    await ann.bus.publish("payment.made", "business-facts", {"amount": 12.5}, plan_id="payments")
    await globex.bus.publish("payment.made", "business-facts", {"currency": "EUR"})


def hold(begun: list[Any]) -> Agent:
    """An agent that has recorded a step, has changed the plan, and never gets to its commit."""

    async def ask_model() -> dict[str, int]:
        return {"answer": 42}

    async def work(event: Any, context: Any) -> None:
        await context.step("ask the model", ask_model)
        state = WorkflowState(context.memory, "in flight")
        await state.set("half", True)
        await context.bus.publish("half.done", "action-results", {})
        begun.append(event)
        await asyncio.Event().wait()

    described: dict[str, Any] = {"description": "Holds what it gets.", "capabilities": ["holding"]}
    return agent("holder", {"work.wanted": work}, **described)


# --- Changes under a key ----------------------------------------------------------------------


def changes() -> Iterator[dict[str, Any]]:
    """Changes of every kind, each under an idempotency key of the caller's own."""
    plan, events = "keyed", f"{EVENTS}/v1/events"

    def change(
        method: str,
        url: str,
        content: Any = None,
        who: Who = ANN,
        **headers: str,
    ) -> dict[str, Any]:
        done = ask(method, url, who, content, Idempotency_Key=f"caller-{next(numbers)}", **headers)
        assert done["status"] == 200, done
        return done

    numbers = iter(range(1, 1000))
    yield change("PUT", key_path(plan, "put"), {"value": {"n": [1, 2**70]}})
    yield change("PUT", key_path(plan, "large"), {"value": "z" * 17_000})
    yield change("PUT", key_path(plan, "put"), {"value": "of globex"}, GLOBEX)
    yield change("DELETE", key_path(plan, "put"))
    placed: dict[str, Any] = {"type": "order.placed", "topic": "business-facts"}
    two = [{"op": "increment", "key": "count"}, {"op": "append", "key": "l", "value": 1}]
    one = [{"op": "set", "key": "a", "value": None}]
    commit = {
        "plans": [
            {"plan_id": plan, "operations": two},
            {"plan_id": "keyed too", "operations": one, "reads": {"a": 0}},
        ],
        "events": [{**placed, "data": {"order": 7}}],
    }
    yield change("POST", f"{MEMORY}/v1/memory/commit", commit)
    yield change("POST", f"{events}/publish", {**placed, "data": {"order": 8}})
    yield change("POST", f"{events}/publish", [{**placed, "data": {"order": n}} for n in (9, 10)])
    known = {**placed, "id": "order-11", "data": {"order": 11, "items": [1, 2]}}
    yield change("POST", f"{events}/publish", known)
    cloud = {"specversion": "1.0", "id": "cloud", "source": "shop", **placed}
    yield change("POST", f"{events}/publish", cloud, Content_Type="application/cloudevents+json")
    rung = {"type": "bell.rung", "topic": "action-requests", "data": {}}
    bell = {"event": rung, "at": "2100-06-01T00:00:00Z"}
    yield change("POST", f"{events}/timers", bell)
    yield change("DELETE", f"{events}/timers/never%20was")
    ask("PUT", key_path("keyed and cleaned", "a"), ANN, {"value": 1})
    yield change("DELETE", key_path("keyed and cleaned"))
    ask("PUT", key_path("keyed and cleaned", "b"), ANN, {"value": 2})


# --- What is seen -----------------------------------------------------------------------------


def reads() -> Iterator[dict[str, Any]]:
    """All that the services tell of plans, definitions, agents, timers and dead letters."""
    for who in (ANN, BOB, GLOBEX):
        plans = ask("GET", f"{MEMORY}/v1/memory/working?status=any&limit=1000", who)
        yield plans
        for plan in plans["answer"]["plans"]:
            yield from reads_of_plan(who, plan["planId"])
        yield ask("GET", f"{EVENTS}/v1/events/timers?limit=100", who)
        for kind in ("agents", "events"):
            yield ask("GET", f"{REGISTRY}/v1/registry/{kind}", (who[0], None))
    for version in (1, 2):
        path = f"/v1/registry/events/payment.made/versions/{version}"
        yield ask("GET", f"{REGISTRY}{path}", ("acme", None))
    for what in ("plans", "working", "history"):
        yield ask("GET", f"{MEMORY}/v1/memory/{what}/purged", ANN)
    yield ask("GET", f"{EVENTS}/v1/events/answer/answered?timeout=0", ANN)
    yield ask("GET", f"{EVENTS}/v1/events/dead-letters", ALL)


def reads_of_plan(who: Who, plan_id: str) -> Iterator[dict[str, Any]]:
    name = quote(plan_id, safe="")
    plan = ask("GET", f"{MEMORY}/v1/memory/plans/{name}", who)
    yield plan
    yield ask("GET", f"{MEMORY}/v1/memory/working/{name}?values=true&limit=100", who)
    yield ask("GET", f"{MEMORY}/v1/memory/history/{name}?limit=100", who)
    yield ask("GET", f"{MEMORY}/v1/memory/actions/{name}", who)
    for revision in range(1, plan["answer"]["revision"], 9):
        yield ask("GET", f"{MEMORY}/v1/memory/working/{name}?values=true&revision={revision}", who)


def log_of_events() -> list[dict[str, Any]]:
    """The log as it is streamed: positions and events."""
    found = []
    with urllib.request.urlopen(f"{EVENTS}/v1/events/stream?after=0", timeout=10) as stream:
        position = None
        for line in stream:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                position = int(value)
            elif name == "data":
                found.append({"position": position, "event": json.loads(value)})
                if found[-1]["event"]["type"] == LAST_EVENT:
                    return found
    raise EOFError("the stream ended before the last event")


async def fill(folder: Path) -> dict[str, Any]:
    """Fills the record, stops the platform over work in flight, and tells what was seen."""
    await purge_a_plan(folder)
    soorma(folder, "dev", SOORMA_LEASE_SECONDS="2")
    async with (
        PlatformContext.on(config(*ANN), "make") as ann,
        PlatformContext.on(config(*BOB), "make") as bob,
        PlatformContext.on(config(*GLOBEX), "make") as globex,
    ):
        await write_plans(ann, bob, globex)
        await register(ann, globex)
        await leave_what_waits(ann, globex)
        await leave_what_failed(ann)
        await leave_a_saga(ann)
        await leave_requests(ann)
        await leave_timers(ann)
        begun: list[Any] = []
        await hold(begun).start()
        await send(ann, "work.wanted", "in flight", {"n": 1}, {"n": 2})
        await until(lambda: begun)
        holder = f"{REGISTRY}/v1/registry/agents/holder"
        await until(lambda: ask("GET", holder, ("acme", None))["status"] == 200)
        answered = list(changes())
        await ann.bus.publish(LAST_EVENT, "system-events")
        seen = {"reads": list(reads()), "changes": answered, "log": log_of_events()}
    soorma(folder, "backup", "backup.db")
    soorma(folder, "dev", "--stop")
    return seen


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            seen = asyncio.run(fill(folder))
        except BaseException:
            soorma(folder, "dev", "--stop")
            raise
        database = folder / ".soorma" / "soorma.db"
        assert not database.with_name("soorma.db-wal").exists(), "all of the record is in one file"
        for name, file in (("record", database), ("backup", folder / "backup.db")):
            (HERE / f"{name}.db.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        text = json.dumps(seen, ensure_ascii=False, indent=1)
        (HERE / "seen.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
