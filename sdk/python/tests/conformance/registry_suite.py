"""Requirements for the registry in a store, tenant by tenant.

Agents with their instances, and event definitions with their versions.
"""

from __future__ import annotations

from typing import Any

import pytest
from record import LEASE, Record

from soorma_common.errors import DefinitionConflict, LimitExceeded
from soorma_common.names import All
from soorma_common.registry import (
    AgentFilter,
    AgentInfo,
    Announcement,
    Capability,
    EventDefinition,
    EventInfo,
)
from soorma_platform.engine import registry as rules

TTL = 30.0


async def _announce(
    record: Record, name: str, instance: str = "i1", tenant: str = "acme", **more: Any
) -> AgentInfo:
    return await record.directory.announce(tenant, name, instance, Announcement(**more))


async def _names(record: Record, tenant: str = "acme", **wanted: str) -> list[str]:
    return [
        agent.name
        for agent in (await record.directory.agents(tenant, AgentFilter(**wanted), 0, 100)).agents
    ]


async def _instances(record: Record, name: str, tenant: str = "acme") -> list[str]:
    found = await record.directory.agent(tenant, name)
    return [] if found is None else [one.instance for one in found.instances]


async def _define(
    record: Record, event_type: str, version: int = 1, *, tenant: str = "acme", **more: Any
) -> EventInfo:
    return await record.directory.define(
        tenant, EventDefinition(event_type, version=version, **more)
    )


async def _version(
    record: Record, event_type: str, version: int | None = None, tenant: str = "acme"
) -> Any:
    found = await record.directory.definition(tenant, event_type, version)
    return None if found is None else (found.version, found.schema, found.tenant_id)


async def _types(record: Record, tenant: str = "acme", **wanted: Any) -> list[tuple[str, int]]:
    query = {"event_type": None, "topic": None, "after": "", "limit": 100, **wanted}
    return [
        (found.type, found.version)
        for found in (await record.directory.definitions(tenant, **query)).events
    ]


class RegistrySuite:
    """Agents that come, stay, go and are found; event definitions that never change."""

    # agents

    @pytest.mark.behaviour("registry.announced")
    async def test_an_agent_is_as_it_announced_itself(self, record: Record) -> None:
        capability = Capability("sum", "Adds up.", {"type": "array"}, {"type": "number"})
        await _announce(
            record,
            "adder",
            description="It adds.",
            capabilities=["count", capability],
            events_consumed=["add.requested"],
            events_produced=["add.done", "add.failed"],
        )
        found = await record.directory.agent("acme", "adder")
        assert found is not None
        assert (found.name, found.tenant_id, found.description) == ("adder", "acme", "It adds.")
        assert found.capabilities == [Capability("count"), capability]
        assert (found.events_consumed, found.events_produced) == (
            ["add.requested"],
            ["add.done", "add.failed"],
        )
        assert [one.instance for one in found.instances] == ["i1"]

    @pytest.mark.behaviour("registry.latest")
    async def test_the_latest_announcement_says_what_an_agent_is(self, record: Record) -> None:
        await _announce(record, "a", "old", capabilities=["one", "two"], events_consumed=["x"])
        await _announce(record, "a", "new", capabilities=["two", "three"], events_produced=["y"])
        assert sorted(await _instances(record, "a")) == ["new", "old"]
        assert await _names(record, capability="one") == []
        assert await _names(record, consumes="x") == []
        assert await _names(record, capability="two") == ["a"]
        assert await _names(record, capability="three", produces="y") == ["a"]

    @pytest.mark.behaviour("registry.latest")
    async def test_an_instance_that_announces_itself_again_is_still_one(
        self, record: Record
    ) -> None:
        first = await _announce(record, "a", capabilities=["c"])
        record.clock.advance(10)
        again = await _announce(record, "a", capabilities=["c"])
        assert len(again.instances) == 1
        assert again.instances[0].expires_at > first.instances[0].expires_at

    @pytest.mark.behaviour("registry.found")
    async def test_all_that_is_asked_for_must_hold(self, record: Record) -> None:
        await _announce(
            record, "a", capabilities=["c"], events_consumed=["x"], events_produced=["y"]
        )
        await _announce(record, "b", capabilities=["c"], events_consumed=["x"])
        await _announce(record, "c", capabilities=["c", "d"], events_produced=["y"])
        assert await _names(record) == ["a", "b", "c"]
        assert await _names(record, capability="c") == ["a", "b", "c"]
        assert await _names(record, capability="c", consumes="x") == ["a", "b"]
        assert await _names(record, capability="c", consumes="x", produces="y") == ["a"]
        assert await _names(record, capability="d", consumes="x") == []
        assert await _names(record, name="b", capability="c") == ["b"]
        assert await _names(record, name="c", consumes="x") == []
        assert await _names(record, capability="x") == [], "an event is no capability"
        assert await _names(record, consumes="y") == []

    @pytest.mark.behaviour("registry.found")
    async def test_pages_hold_each_agent_once(self, record: Record) -> None:
        for number in range(7):
            await _announce(record, f"a{number}", tenant="acme" if number % 2 else All.TENANTS)
        found: list[str] = []
        after: int | None = 0
        while after is not None:
            page = await record.directory.agents("acme", AgentFilter(), after, 3)
            assert len(page.agents) <= 3
            found += [agent.name for agent in page.agents]
            after = page.next
        assert found == [f"a{number}" for number in range(7)]

    @pytest.mark.behaviour("registry.found")
    async def test_a_full_last_page_has_nothing_after_it(self, record: Record) -> None:
        await _announce(record, "a")
        await _announce(record, "b")
        assert (await record.directory.agents("acme", AgentFilter(), 0, 2)).next is None
        assert (await record.directory.agents("acme", AgentFilter(), 0, 1)).next is not None

    @pytest.mark.behaviour("registry.expires")
    async def test_an_agent_is_gone_to_the_millisecond(self, record: Record) -> None:
        await _announce(record, "a", ttl=TTL)
        record.clock.advance(TTL - 0.001)
        assert await _names(record) == ["a"]
        assert await record.directory.agent("acme", "a") is not None
        record.clock.advance(0.001)
        assert await _names(record) == []
        assert await record.directory.agent("acme", "a") is None

    @pytest.mark.behaviour("registry.expires")
    async def test_a_heartbeat_keeps_an_instance_for_its_time_to_live(self, record: Record) -> None:
        await _announce(record, "a", "slow", ttl=100)
        await _announce(record, "a", "quick", ttl=10)
        record.clock.advance(9)
        assert await record.directory.heartbeat("acme", "a", "quick") is not None
        record.clock.advance(9)
        assert sorted(await _instances(record, "a")) == ["quick", "slow"]
        record.clock.advance(1)
        assert await _instances(record, "a") == ["slow"]

    @pytest.mark.behaviour("registry.expires")
    async def test_who_has_expired_must_announce_itself_again(self, record: Record) -> None:
        await _announce(record, "a", ttl=10)
        record.clock.advance(10)
        assert await record.directory.heartbeat("acme", "a", "i1") is None
        await record.sweep()
        assert await record.directory.heartbeat("acme", "a", "i1") is None
        await _announce(record, "a", ttl=10)
        assert await record.directory.heartbeat("acme", "a", "i1") is not None

    @pytest.mark.behaviour("registry.expires")
    async def test_a_heartbeat_of_a_stranger_is_none(self, record: Record) -> None:
        await _announce(record, "a")
        assert await record.directory.heartbeat("acme", "a", "i2") is None
        assert await record.directory.heartbeat("acme", "b", "i1") is None
        assert await record.directory.heartbeat("umbrella", "a", "i1") is None
        assert await record.directory.heartbeat(All.TENANTS, "a", "i1") is None

    @pytest.mark.behaviour("registry.deregistered")
    async def test_an_agent_goes_with_its_last_instance(self, record: Record) -> None:
        await _announce(record, "a", "i1", capabilities=["c"])
        await _announce(record, "a", "i2", capabilities=["c"])
        assert await record.directory.deregister("acme", "a", "i1")
        assert await _instances(record, "a") == ["i2"]
        assert not await record.directory.deregister("acme", "a", "i1")
        assert not await record.directory.deregister(All.TENANTS, "a", "i2")
        assert not await record.directory.deregister("umbrella", "a", "i2")
        assert await record.directory.deregister("acme", "a", "i2")
        assert await _names(record) == []
        assert not await record.directory.deregister("acme", "a", "i2")

    @pytest.mark.behaviour("registry.expires")
    async def test_what_has_expired_is_swept_and_nothing_else(self, record: Record) -> None:
        await _announce(record, "brief", ttl=10, capabilities=["c"])
        await _announce(record, "both", "brief", ttl=10)
        await _announce(record, "both", "long", ttl=100)
        for number in range(1200):
            await _announce(record, f"many-{number}", ttl=10, tenant="crowd")
        record.clock.advance(10)
        assert await record.sweep() > 2, "a step is bounded"
        assert await _names(record) == ["both"]
        assert await _instances(record, "both") == ["long"]
        await _announce(record, "brief")
        assert await _names(record, capability="c") == [], "nothing is left of what it was"
        assert await _names(record, tenant="crowd") == []

    @pytest.mark.behaviour("registry.expires")
    async def test_who_renews_its_leases_is_alive(self, record: Record) -> None:
        """An agent whose event loop is blocked renews from a thread, and sends no heartbeats."""
        for name, instance, tenant in (
            ("a", "i1", "acme"),
            ("a", "i2", "acme"),
            ("a", "i1", "umbrella"),
        ):
            await _announce(record, name, instance, tenant=tenant, ttl=10)
        member = await record.subscribe("a", "x", tenant="acme")
        await record.join(member.group_id, "replica", "i1", 1)
        record.clock.advance(9)
        await record.store.deliveries.renew("replica", [], LEASE)
        record.clock.advance(5)
        assert await _instances(record, "a") == ["i1"]
        assert await _instances(record, "a", "umbrella") == []
        record.clock.advance(5)
        await record.store.deliveries.renew("replica", [], LEASE)
        assert await _instances(record, "a") == [], "what is over is over"

    @pytest.mark.behaviour("registry.durable")
    async def test_agents_survive_a_restart(self, record: Record) -> None:
        await _announce(record, "a", capabilities=["c"])
        await record.reopen()
        assert await _names(record, capability="c") == ["a"]
        assert await record.directory.heartbeat("acme", "a", "i1") is not None

    @pytest.mark.behaviour("registry.tenants")
    async def test_an_agent_of_a_tenant_is_seen_by_no_other(self, record: Record) -> None:
        await _announce(record, "a", capabilities=["c"], events_consumed=["x"])
        assert await _names(record, tenant="umbrella") == []
        assert await _names(record, tenant="umbrella", name="a") == []
        assert await _names(record, tenant="umbrella", capability="c") == []
        assert await record.directory.agent("umbrella", "a") is None

    @pytest.mark.behaviour("registry.tenants")
    async def test_who_serves_all_tenants_is_seen_by_each(self, record: Record) -> None:
        await _announce(record, "a", tenant=All.TENANTS)
        for tenant in ("acme", "umbrella"):
            found = await record.directory.agent(tenant, "a")
            assert found is not None
            assert found.tenant_id is None
            assert await _names(record, tenant=tenant) == ["a"]

    @pytest.mark.behaviour("registry.tenants")
    async def test_agents_of_one_name_in_two_tenants_are_two(self, record: Record) -> None:
        await _announce(record, "a", "all", tenant=All.TENANTS, description="for all")
        await _announce(record, "a", "own", description="of acme")
        await _announce(record, "a", "other", tenant="umbrella", description="of umbrella")
        found = await record.directory.agent("acme", "a")
        assert found is not None
        assert (found.description, [one.instance for one in found.instances]) == (
            "of acme",
            ["own"],
        )
        assert await _names(record, name="a") == ["a", "a"], "its own, and the one that serves all"
        record.clock.advance(TTL - 1)
        await record.directory.heartbeat(All.TENANTS, "a", "all")
        record.clock.advance(1)
        found = await record.directory.agent("acme", "a")
        assert found is not None
        assert found.description == "for all"

    @pytest.mark.behaviour("registry.refused")
    async def test_limits_are_named_and_nothing_is_changed(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("MOST_AGENTS", "MOST_INSTANCES", "MOST_DEFINITIONS"):
            monkeypatch.setattr(rules, name, 2)
        await _announce(record, "a", "i1")
        await _announce(record, "a", "i2")
        await _announce(record, "b", "i1", ttl=10)
        with pytest.raises(LimitExceeded) as past:
            await _announce(record, "a", "i3", description="changed")
        assert (past.value.limit, past.value.maximum, past.value.actual) == (
            "agent_instances",
            2,
            3,
        )
        with pytest.raises(LimitExceeded) as past:
            await _announce(record, "c")
        assert past.value.limit == "tenant_agents"
        found = await record.directory.agent("acme", "a")
        assert found is not None
        assert found.description == ""
        assert await _names(record) == ["a", "b"]
        await _announce(record, "a", "i2", description="again")
        await _announce(record, "c", tenant="umbrella")
        await _define(record, "x")
        await _define(record, "x", 2)
        with pytest.raises(LimitExceeded) as past:
            await _define(record, "y")
        assert past.value.limit == "tenant_definitions"
        await _define(record, "x", 2)
        await _define(record, "y", tenant="umbrella")

    # event definitions

    @pytest.mark.behaviour("schemas.versions")
    async def test_a_definition_is_as_it_was_given(self, record: Record) -> None:
        schema = {"type": "object", "properties": {"b": {}, "a": {"const": 2**70, "title": "ключ"}}}
        made = await _define(
            record,
            "order.made",
            3,
            topic="billing-events",
            description="An order.",
            schema=schema,
            check="warn",
        )
        found = await record.directory.definition("acme", "order.made", None)
        assert found == made
        assert found is not None
        assert list(found.schema["properties"]) == ["b", "a"]
        assert (found.topic, found.description, found.schema, found.check, found.versions) == (
            "billing-events", "An order.", schema, "warn", [3],
        )  # fmt: skip

    @pytest.mark.behaviour("schemas.versions")
    async def test_the_newest_version_is_the_highest(self, record: Record) -> None:
        for version in (1, 10, 9):
            await _define(record, "x", version, schema={"title": str(version)})
        assert await _version(record, "x") == (10, {"title": "10"}, "acme")
        assert await _version(record, "x", 9) == (9, {"title": "9"}, "acme")
        assert await _version(record, "x", 2) is None
        found = await record.directory.definition("acme", "x", 1)
        assert found is not None
        assert found.versions == [1, 9, 10]

    @pytest.mark.behaviour("schemas.versions")
    async def test_a_version_is_never_changed(self, record: Record) -> None:
        first = await _define(record, "x", schema={"type": "object"})
        record.clock.advance(10)
        assert await _define(record, "x", schema={"type": "object"}) == first, (
            "the same again changes nothing"
        )
        for other in (
            {"schema": {"type": "array"}},
            {"schema": {"type": "object"}, "topic": "plan-events"},
            {"schema": {"type": "object"}, "description": "other"},
            {"schema": {"type": "object"}, "check": "off"},
            {},
        ):
            with pytest.raises(DefinitionConflict, match="give the new content a new one"):
                await _define(record, "x", **other)
        assert await record.directory.definition("acme", "x", None) == first

    @pytest.mark.behaviour("schemas.versions")
    async def test_a_removed_version_is_gone_and_may_be_defined_anew(self, record: Record) -> None:
        await _define(record, "x", 1, schema=True)
        await _define(record, "x", 2, schema=False)
        assert not await record.directory.undefine("umbrella", "x", 2)
        assert not await record.directory.undefine(All.TENANTS, "x", 2)
        assert await record.directory.undefine("acme", "x", 2)
        assert not await record.directory.undefine("acme", "x", 2)
        assert await _version(record, "x") == (1, True, "acme")
        await _define(record, "x", 2, schema={"type": "null"})
        assert await _version(record, "x") == (2, {"type": "null"}, "acme")

    @pytest.mark.behaviour("schemas.listed")
    async def test_types_are_listed_by_name_in_their_newest_version(self, record: Record) -> None:
        for event_type, version, topic in (("b", 1, "plan-events"), ("a", 2, "task-events"),
                                           ("b", 3, "task-events"), ("a", 1, "plan-events"),
                                           ("c", 1, "plan-events")):  # fmt: skip
            await _define(record, event_type, version, topic=topic)
        assert await _types(record) == [("a", 2), ("b", 3), ("c", 1)]
        assert await _types(record, event_type="b") == [("b", 3)]
        assert await _types(record, topic="plan-events") == [("c", 1)], "of the newest version"
        assert await _types(record, event_type="a", topic="plan-events") == []
        assert await _types(record, after="a", limit=1) == [("b", 3)]
        page = await record.directory.definitions("acme", None, None, "", 2)
        assert page.next == "b"
        assert (await record.directory.definitions("acme", None, None, "b", 2)).next is None

    @pytest.mark.behaviour("registry.tenants")
    async def test_a_definition_of_a_tenant_is_seen_by_no_other(self, record: Record) -> None:
        await _define(record, "x")
        assert await _version(record, "x", tenant="umbrella") is None
        assert await _version(record, "x", 1, tenant="umbrella") is None
        assert await _types(record, tenant="umbrella") == []
        await _define(record, "x", schema=True, tenant="umbrella")
        assert await _version(record, "x") == (1, None, "acme")

    @pytest.mark.behaviour("schemas.of-a-tenant")
    async def test_a_type_of_a_tenant_hides_that_of_all(self, record: Record) -> None:
        for version in (1, 2, 3):
            await _define(record, "x", version, tenant=All.TENANTS, schema={"title": "all"})
        assert await _version(record, "x") == (3, {"title": "all"}, None)
        await _define(record, "x", 1, schema={"title": "own"})
        assert await _version(record, "x") == (1, {"title": "own"}, "acme")
        assert await _version(record, "x", 3) is None
        assert await _types(record) == [("x", 1)]
        assert await _types(record, tenant="umbrella") == [("x", 3)]
        await record.directory.undefine("acme", "x", 1)
        assert await _version(record, "x", 3) == (3, {"title": "all"}, None)

    @pytest.mark.behaviour("registry.durable")
    async def test_definitions_survive_a_restart(self, record: Record) -> None:
        await _define(record, "x", schema={"type": "object"})
        await record.reopen()
        assert await _version(record, "x") == (1, {"type": "object"}, "acme")
