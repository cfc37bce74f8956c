"""Agents in the registry: present while they run, gone when they stop; their events are checked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from platform_process import PlatformProcess
from pydantic import BaseModel
from running import (
    AT_ONCE,
    PythonProcess,
    Raw,
    Seen,
    another,
    config_of,
    context_of,
    eventually,
    platform_in,
    unique,
)

from soorma import (
    Agent,
    Capability,
    ClientConfig,
    EventDefinition,
    PlatformContext,
    RegistryClient,
    Reject,
)
from soorma.errors import (
    DefinitionConflict,
    HandlerEnded,
    InvalidPayload,
    InvalidRequest,
    InvalidValue,
    SoormaError,
    Unavailable,
)
from soorma.registry import AgentInfo


class Order(BaseModel):
    amount: float


@dataclass
class Sum:
    value: float


class Kind(Enum):
    ORDER_MADE = "order.made"


@pytest.fixture
def registry(context: PlatformContext) -> RegistryClient:
    return context.registry


def _handler(agent: Agent, event_type: str = "x", topic: str | None = "business-facts") -> Seen:
    """Gives the agent a handler; returns what it receives."""
    seen = Seen()

    @agent.on_event(event_type, topic=topic)
    async def handle(event: Any, _context: Any) -> None:
        seen.append(event)

    return seen


async def _announced(registry: RegistryClient, name: str, instances: int = 1) -> AgentInfo:
    """The agent, once it is in the registry with so many instances."""

    async def look() -> AgentInfo | None:
        found = await registry.get(name)
        return found if found is not None and len(found.instances) == instances else None

    found: AgentInfo = await eventually(look)
    return found


async def _gone(registry: RegistryClient, name: str) -> None:
    async def look() -> bool:
        return await registry.get(name) is None

    await eventually(look)


# agents


@pytest.mark.behaviour("registry.announced")
async def test_an_agent_announces_what_it_is_and_goes_when_it_stops(
    agent: Agent, registry: RegistryClient
) -> None:
    config = agent._config
    able = Agent(
        agent.name,
        "It adds.",
        capabilities=[
            "count",
            Capability("sum", "Adds up.", input_schema=Order, output_schema=Sum),
        ],
        events_consumed=["told.only"],
        events_produced=["done", EventDefinition("order.made", "business-facts", schema=Order)],
        config=config,
    )
    _handler(able)
    async with able:
        found = await _announced(registry, able.name)
        assert (found.description, found.tenant_id) == ("It adds.", config.tenant_id)
        assert (found.events_consumed, found.events_produced) == (
            ["told.only", "x"],
            ["done", "order.made"],
        )
        assert [one.name for one in found.capabilities] == ["count", "sum"]
        able_to_sum = found.capability("sum")
        assert able_to_sum is not None
        assert able_to_sum.input_schema == Order.model_json_schema()
        assert able_to_sum.output_schema["$defs"]["Sum"]["properties"]["value"] == {
            "type": "number"
        }
        assert [one.instance for one in found.instances] == [able.instance]
        assert await registry.find(
            name=able.name, capability="sum", consumes="x", produces="done"
        ) == [found]
        assert await registry.find(capability="other") == []
        made = await registry.event(Kind.ORDER_MADE)
        assert made is not None
        assert made.schema == Order.model_json_schema()
    assert await registry.get(able.name) is None


@pytest.mark.behaviour("registry.latest")
async def test_replicas_are_instances_of_one_agent(agent: Agent, registry: RegistryClient) -> None:
    replica = another(agent, agent.name)
    _handler(agent)
    _handler(replica)
    async with agent:
        async with replica:
            found = await _announced(registry, agent.name, 2)
            assert {one.instance for one in found.instances} == {agent.instance, replica.instance}
        assert [one.instance for one in (await _announced(registry, agent.name)).instances] == [
            agent.instance
        ]


@pytest.mark.behaviour("registry.tenants")
async def test_an_agent_without_a_tenant_serves_and_is_listed_for_all(
    running: PlatformProcess,
) -> None:
    name, kind = unique("agent"), unique("type")
    everywhere = Agent(
        name,
        events_produced=[EventDefinition(kind, schema={"type": "object"})],
        config=config_of(running),
    )
    _handler(everywhere, unique("event"))
    async with everywhere:
        for tenant_id in (unique("tenant"), unique("tenant")):
            async with context_of(running, tenant_id=tenant_id) as context:
                assert (await _announced(context.registry, name)).tenant_id is None
                with pytest.raises(InvalidPayload):
                    await context.bus.publish(kind, "business-facts", 5)
    Raw(running.registry_url)("DELETE", f"/v1/registry/events/{kind}/versions/1")


@pytest.mark.behaviour("registry.tenants")
async def test_an_agent_of_a_tenant_is_hidden_from_another(
    running: PlatformProcess, agent: Agent, registry: RegistryClient
) -> None:
    _handler(agent)
    async with agent, context_of(running, tenant_id=unique("tenant")) as stranger:
        await _announced(registry, agent.name)
        assert await stranger.registry.get(agent.name) is None
        assert await stranger.registry.find(name=agent.name) == []


# over time: a platform on which a lease, and so a place in the registry, lasts one second and a
# half

BRIEF = 1.5


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("brief"), SOORMA_LEASE_SECONDS=str(BRIEF)) as platform:
        yield platform


@pytest.fixture
async def nearby(brief: PlatformProcess) -> AsyncIterator[PlatformContext]:
    """The brief platform from outside, for a tenant of this test's own."""
    async with context_of(brief, tenant_id=unique("tenant"), user_id="user") as made:
        yield made


def _tenant(context: PlatformContext) -> str:
    return context.memory.scope().tenant_id


@pytest.mark.behaviour("registry.expires")
async def test_an_agent_is_kept_while_it_runs(
    brief: PlatformProcess, nearby: PlatformContext
) -> None:
    agent = Agent(unique("agent"), config=config_of(brief, tenant_id=_tenant(nearby)))
    _handler(agent)
    async with agent:
        first = (await _announced(nearby.registry, agent.name)).instances[0]
        begun = time.monotonic()
        while time.monotonic() - begun < 2 * BRIEF:
            assert await nearby.registry.get(agent.name) is not None
            await asyncio.sleep(0.05)
        found = await _announced(nearby.registry, agent.name)
        assert found.instances[0].announced_at == first.announced_at, "it was never lost"


@pytest.mark.behaviour("registry.comes-back")
async def test_an_agent_that_the_registry_has_lost_announces_itself_again(
    brief: PlatformProcess, nearby: PlatformContext
) -> None:
    agent = Agent(unique("agent"), config=config_of(brief, tenant_id=_tenant(nearby)))
    _handler(agent)
    raw = Raw(brief.registry_url, _tenant(nearby))
    async with agent:
        await _announced(nearby.registry, agent.name)
        path = f"/v1/registry/agents/{agent.name}/instances/{quote(agent.instance)}"
        assert (await asyncio.to_thread(raw, "DELETE", path)).json == {"deleted": True}
        await _announced(nearby.registry, agent.name)


BLOCKING = """
agent = Agent("blocking")

@agent.on_event("x", topic="business-facts")
async def handle(event, context):
    say("blocked")
    time.sleep(event.data)
    say("over")

agent.run()
"""


@pytest.mark.behaviour("registry.expires")
async def test_an_agent_is_kept_while_a_handler_blocks_its_event_loop(
    brief: PlatformProcess, nearby: PlatformContext
) -> None:
    with PythonProcess(brief, BLOCKING, SOORMA_TENANT_ID=_tenant(nearby)) as process:
        await process.subscribed()
        first = (await _announced(nearby.registry, "blocking")).instances[0]
        await nearby.bus.publish("x", "business-facts", 3 * BRIEF)
        await process.until("blocked")
        while "over" not in process.lines:
            found = await nearby.registry.get("blocking")
            assert found is not None
            assert found.instances[0].announced_at == first.announced_at
            await asyncio.sleep(0.05)


@pytest.mark.behaviour("registry.expires")
async def test_an_agent_that_is_killed_expires(
    brief: PlatformProcess, nearby: PlatformContext
) -> None:
    with PythonProcess(brief, BLOCKING, SOORMA_TENANT_ID=_tenant(nearby)) as process:
        await process.subscribed()
        await _announced(nearby.registry, "blocking")
        process.kill()
        await _gone(nearby.registry, "blocking")


# when the registry is not there


class Deaf:
    """A server that closes every connection, and counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self.url = ""

    async def hang_up(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        writer.close()


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    made = Deaf()
    async with await asyncio.start_server(made.hang_up, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@pytest.mark.behaviour("registry.comes-back")
async def test_an_agent_works_without_the_registry_and_says_so_once(
    running: PlatformProcess, context: PlatformContext, deaf: Deaf, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = config_of(running, tenant_id=context.memory.scope().tenant_id)
    config = ClientConfig(
        addresses.memory_url, addresses.events_url, addresses.tenant_id, registry_url=deaf.url
    )
    agent = Agent(unique("agent"), events_produced=[EventDefinition("y", schema={})], config=config)
    seen = _handler(agent)
    with caplog.at_level(logging.WARNING, "soorma.agent"):
        async with agent:
            await context.bus.publish("x", "business-facts", 1)
            await seen.until(1)
            await eventually(lambda: deaf.calls >= 4)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5, "it does not wait for the registry when it stops"
        assert caplog.text.count("not announced") == 1
    async with PlatformContext.on(
        ClientConfig(registry_url=deaf.url, retry_seconds=0.1), "test"
    ) as there:
        with pytest.raises(Unavailable, match="registry"):
            await there.registry.find()


@pytest.mark.behaviour("registry.comes-back")
async def test_an_agent_is_in_the_registry_again_after_the_platform_has_lost_everything(
    tmp_path: Path,
) -> None:
    with platform_in(tmp_path / "platform") as platform:
        agent = Agent(
            "lasting",
            events_produced=[EventDefinition("y", schema=Order)],
            config=config_of(platform),
        )
        _handler(agent)
        async with agent, context_of(platform) as context:
            await _announced(context.registry, "lasting")
            platform.kill()
            for file in platform.folder.glob("soorma.db*"):
                file.unlink()
            platform.start()
            await _announced(context.registry, "lasting")
            assert await context.registry.event("y") is not None


@pytest.mark.behaviour("registry.refused-agents")
async def test_an_agent_that_the_registry_refuses_does_not_start(
    agent: Agent, context: PlatformContext
) -> None:
    await context.registry.define_event("y", schema={"type": "object"})
    no_schema = Capability("c", input_schema={"type": "nonsense"})
    off: list[tuple[dict[str, Any], type[SoormaError], str]] = [
        ({"events_produced": [EventDefinition("y", schema=Order)]}, DefinitionConflict, "'y'"),
        (
            {"events_consumed": [EventDefinition("z", schema={"type": "nonsense"})]},
            InvalidValue,
            "event 'z'",
        ),
        ({"capabilities": [no_schema]}, InvalidValue, "capability 'c'"),
    ]
    for given, kind, said in off:
        other = Agent(agent.name, config=agent._config, **given)
        _handler(other)
        with pytest.raises(kind, match=said):
            await other.start()
        assert await context.registry.get(other.name) is None


REFUSED = """
agent = Worker("refused", capabilities=[Capability("c", input_schema={"type": "nonsense"})])

@agent.on_event("x", topic="business-facts")
async def handle(event, context): ...

agent.run()
"""


@pytest.mark.behaviour("registry.refused-agents")
async def test_a_program_whose_agent_is_refused_ends_with_the_reason(
    running: PlatformProcess,
) -> None:
    with PythonProcess(running, "from soorma import Capability" + REFUSED) as process:
        assert await asyncio.to_thread(process.process.wait, 15) == 1
        assert "the input schema of capability 'c' is no JSON Schema" in process.lines[-1]


@pytest.mark.behaviour("registry.refused-agents")
async def test_an_agent_that_is_refused_while_it_runs_says_so_once_and_works_on(
    agent: Agent,
    context: PlatformContext,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The registry refuses its definitions and itself from now on, as if it had become stricter."""
    seen, answers = _handler(agent), Seen()
    async with agent:
        await _announced(context.registry, agent.name)
        presence = agent._session.presence

        async def refuse(method: str, path: str, body: bytes | None = None) -> None:
            answers.append(path)
            raise InvalidValue("it has become too strict", path="$")

        monkeypatch.setattr(presence, "_call", refuse)
        presence.begin(30)  # as when it has subscribed again
        await answers.until(1)
        await context.bus.publish("x", "business-facts", 1)
        await seen.until(1)
        assert presence._task is not None
        await eventually(presence._task.done)
        assert len(answers) == 1
        monkeypatch.undo()
        presence.begin(30)
        await _announced(context.registry, agent.name)
    assert [record.levelname for record in caplog.records if "too strict" in record.message] == [
        "ERROR"
    ]


@pytest.mark.behaviour("registry.refused")
def test_what_cannot_be_announced_is_refused_where_it_is_written() -> None:
    for off in ([5], [{"name": "c"}], [Capability("c", input_schema=5)]):
        with pytest.raises(InvalidRequest):
            Agent("a", capabilities=off)  # type: ignore[arg-type]
    for what in ("capabilities", "events_consumed", "events_produced"):
        with pytest.raises(InvalidRequest, match=r"list of .+ is meant, as \['abc'\], not 'abc'"):
            Agent("a", **{what: "abc"})
    with pytest.raises(InvalidRequest):
        Agent("a", events_produced=[EventDefinition("y", "nowhere")])
    with pytest.raises(InvalidValue):
        Agent("a", events_produced=[EventDefinition("y", schema=object())])


# events


@pytest.mark.behaviour("schemas.listed")
async def test_events_are_defined_read_and_listed(registry: RegistryClient) -> None:
    made = await registry.define_event(EventDefinition("b", "task-events", 2, "B.", Sum, "warn"))
    assert (made.type, made.version, made.topic, made.description, made.check) == (
        "b",
        2,
        "task-events",
        "B.",
        "warn",
    )
    assert (
        await registry.define_event(EventDefinition("b", "task-events", 2, "B.", Sum, "warn"))
        == made
    )
    with pytest.raises(DefinitionConflict) as conflict:
        await registry.define_event("b", version=2)
    assert conflict.value.version == 2
    first = await registry.define_event(Kind.ORDER_MADE, schema=Order)
    off: list[dict[str, Any]] = [
        {"version": "1"},
        {"version": True},
        {"version": 0},
        {"description": 5},
    ]
    for given in off:
        with pytest.raises(InvalidRequest, match="not "):
            await registry.define_event("b", **given)
    assert first.topic == "business-facts"
    assert await registry.events() == [made, first]
    assert await registry.events(topic="task-events") == [made]
    assert await registry.event("b", 2) == await registry.event("b") == made
    assert await registry.event("b", 1) is None
    assert await registry.event("c") is None


@pytest.mark.behaviour("schemas.in-the-sdk")
async def test_a_publish_that_does_not_fit_raises_with_its_path(context: PlatformContext) -> None:
    await context.registry.define_event("order.made", schema=Order)
    await context.bus.publish("order.made", "business-facts", Order(amount=1.5))
    with pytest.raises(InvalidPayload, match="/amount") as refused:
        await context.bus.publish("order.made", "business-facts", {"amount": "much"})
    assert refused.value.path == "/amount"
    with pytest.raises(InvalidValue, match="event 2 of 2"):
        await context.bus.publish_many(
            [
                {"event_type": "order.made", "topic": "business-facts", "data": {"amount": 1}},
                {"event_type": "order.made", "topic": "business-facts"},
            ]
        )


@pytest.mark.behaviour("schemas.in-the-sdk")
async def test_a_handler_whose_event_does_not_fit_fails_with_that_reason(
    agent: Agent, context: PlatformContext
) -> None:
    """Nothing of it is published or changed, and the dead letter says why."""
    await context.registry.define_event("order.made", schema=Order)
    letters = Seen()
    failing = Agent(agent.name, config=agent._config, retry=AT_ONCE)

    @failing.on_event("x", topic="business-facts")
    async def handle(_event: Any, handler: Any) -> None:
        await handler.memory.set_plan_state("plan", "k", 1)
        await handler.bus.publish("order.made", "business-facts", {"amount": "much"})

    @failing.on_event("event.dead_lettered", topic="system-events")
    async def note(event: Any, _context: Any) -> None:
        letters.append(event["data"])

    async with failing:
        await context.bus.publish("x", "business-facts", 1)
        (letter,) = await letters.until(1)
    assert "InvalidPayload" in letter["reason"]
    assert "/amount" in letter["reason"]
    assert letter["attempts"] == 5
    assert [plan async for plan in context.memory.list_plans()] == []


@pytest.mark.behaviour("schemas.in-the-sdk")
async def test_the_platforms_own_notice_of_a_dead_letter_is_not_held_up(
    agent: Agent, context: PlatformContext
) -> None:
    await context.registry.define_event(
        "event.dead_lettered", "system-events", schema={"type": "integer"}
    )
    letters = Seen()

    @agent.on_event("x", topic="business-facts")
    async def handle(_event: Any, _context: Any) -> None:
        raise Reject("for the test")

    @agent.on_event("event.dead_lettered", topic="system-events")
    async def note(event: Any, _context: Any) -> None:
        letters.append(event["data"]["reason"])

    async with agent:
        await context.bus.publish("x", "business-facts", 1)
        assert await letters.until(1) == ["for the test"]


# in handlers


@pytest.mark.behaviour("registry.tenants")
async def test_a_handler_reads_the_registry_of_its_events_tenant(running: PlatformProcess) -> None:
    name, kind = unique("agent"), unique("event")
    everywhere = Agent(name, config=config_of(running))
    told, kept = Seen(), Seen()

    @everywhere.on_event(kind, topic="business-facts")
    async def handle(event: Any, handler: Any) -> None:
        kept.append(handler.registry)
        found = await handler.registry.event("order.made")
        with pytest.raises(InvalidRequest, match="when the agent starts"):
            await handler.registry.define_event("late")
        told.append((event["tenant_id"], found.description if found else None))

    async with everywhere:
        expected = set()
        for description in ("of the first", "of the second", None):
            tenant_id = unique("tenant")
            async with context_of(running, tenant_id=tenant_id) as context:
                if description is not None:
                    await context.registry.define_event("order.made", description=description)
                await context.bus.publish(kind, "business-facts", 1)
            expected.add((tenant_id, description))
        assert set(await told.until(3)) == expected

        async def ended() -> bool:
            try:
                await kept[0].find()
            except HandlerEnded:
                return True
            return False

        await eventually(ended)
