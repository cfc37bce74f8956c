"""A new version of an agent lacks a handler of the old one: nothing stalls, and all are told."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from platform_process import PlatformProcess, clean_environment
from running import Raw, Seen, addresses_of, another, eventually

from soorma import Agent, PlatformContext
from soorma.cli.exits import Exit

PATTERNS = [("b", "action-requests"), ("b", None), ("*", None)]


def handles(agent: Agent, seen: list[Any], *patterns: tuple[str, str | None]) -> Agent:
    async def handle(event: Any, _: Any) -> None:
        seen.append(event.data)

    for kind, topic in patterns:
        agent.on_event(kind, topic=topic)(handle)
    return agent


def soorma(
    running: PlatformProcess, tenant: str, *words: str, exits: int | None = 0
) -> subprocess.CompletedProcess[str]:
    env = clean_environment(
        **addresses_of(running), SOORMA_TENANT_ID=tenant, NO_COLOR="1", COLUMNS="200"
    )
    command = [sys.executable, "-P", "-m", "soorma.cli", *words]
    done = subprocess.run(
        command,
        env=env,
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert exits in (None, done.returncode), done.stderr
    return done


@pytest.mark.behaviour("groups.unserved-aside", "groups.unserved-told", "groups.unserved-back")
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
async def test_a_version_that_lacks_a_handler_stands_in_nobodys_way(
    running: PlatformProcess,
    context: PlatformContext,
    agent: Agent,
    caplog: pytest.LogCaptureFixture,
    pattern: tuple[str, str | None],
) -> None:
    tenant = str(agent.tenant_id)
    first, second, third = Seen(), Seen(), Seen()
    async with handles(agent, first, ("a", "action-requests"), pattern):
        await context.bus.publish("a", "action-requests", 0, plan_id="p")
        await first.until(1)
    new = handles(another(agent, agent.name), second, ("a", "action-requests"))
    async with new:
        for number, kind in enumerate("baba", 1):
            await context.bus.publish(kind, "action-requests", number, plan_id="p")
        assert await second.until(2) == [2, 4]
        (group,) = json.loads(soorma(running, tenant, "events", "groups", "--json").stdout)[
            "groups"
        ]
        about = {one["type"]: (one["served"], one["set_aside"]) for one in group["subscriptions"]}
        assert about == {"a": (True, 0), pattern[0]: (False, 2)}
        assert (
            "no connected agent handles it: 2 set aside"
            in soorma(running, tenant, "events", "groups").stdout
        )
        assert "events unsubscribe" in soorma(running, tenant, "doctor", exits=None).stdout
        caplog.set_level(logging.WARNING, "soorma.agent")
        async with handles(another(agent, agent.name), second, ("a", "action-requests")):
            (warned,) = [
                one.getMessage()
                for one in caplog.records
                if "no connected agent" in one.getMessage()
            ]
            assert f"2 events wait for {pattern[0]!r}" in warned
    async with handles(another(agent, agent.name), third, ("a", "action-requests"), pattern):
        assert await third.until(2) == [1, 3]


@pytest.mark.behaviour("groups.unsubscribed", "command.dead-letters")
async def test_a_subscription_is_ended_by_hand(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    tenant, seen = str(agent.tenant_id), Seen()
    async with handles(agent, seen, ("a", None), ("b", None)):
        refused = soorma(
            running, tenant, "events", "unsubscribe", agent.name, "b", "--yes", exits=Exit.CONFLICT
        )
        assert "is connected that handles 'b'" in refused.stderr
    async with handles(another(agent, agent.name), seen, ("a", None)):
        await context.bus.publish("b", "action-requests", 1, plan_id="p")
        await context.bus.publish("a", "action-requests", 2, plan_id="p")
        assert await seen.until(1) == [2]
        done = soorma(running, tenant, "events", "unsubscribe", agent.name, "b", "--yes")
        assert done.stdout == "Ended; 1 event had waited for it, now dead letters\n"
        missing = soorma(
            running, tenant, "events", "unsubscribe", agent.name, "b", "--yes", exits=Exit.NOT_FOUND
        )
        assert "no subscription to 'b'" in missing.stderr
        path = f"/v1/events/dead-letters?tenant_id={tenant}"
        (letter,) = Raw(running.events_url)("GET", path).json["dead_letters"]
        assert letter["reason"] == "the subscription was ended by hand"
        replayed = Raw(running.events_url)(
            "POST", f"/v1/events/dead-letters/{letter['id']}/replay?tenant_id={tenant}"
        )
        assert replayed.status == 409
        assert not [one for one in await _subscriptions(running, tenant) if one["type"] == "b"]


async def _subscriptions(running: PlatformProcess, tenant: str) -> list[Any]:
    def look() -> list[Any]:
        found = Raw(running.events_url)("GET", f"/v1/events/groups?tenant_id={tenant}").json[
            "groups"
        ]
        return [one for group in found for one in group["subscriptions"]]

    return list(await eventually(look))
