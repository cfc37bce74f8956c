"""`soorma agents`: who is alive and what they can do, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator

import pytest
from cli_shell import Shell
from platform_process import PlatformProcess
from running import addresses_of, config_of, context_of, eventually, unique

from soorma import Agent
from soorma.cli.exits import Exit


@pytest.fixture
def tenant() -> str:
    return unique("tenant")


@pytest.fixture
def shell(shell: Shell, running: PlatformProcess, tenant: str) -> Shell:
    """A shell whose environment names the platform and the tenant."""
    shell.env |= {**addresses_of(running), "SOORMA_TENANT_ID": tenant}
    return shell


@pytest.fixture
async def agents(
    running: PlatformProcess, tenant: str
) -> AsyncIterator[tuple[Agent, Agent, Agent]]:
    """Two replicas of one agent, and another agent; all alive."""
    config = config_of(running, tenant_id=tenant)
    writer = {
        "description": "Writes posts",
        "capabilities": ["writing", "review"],
        "events_produced": ["post.written"],
    }
    first, second = (
        Agent("writer", events_consumed=["post.wanted"], config=config, **writer) for _ in range(2)
    )
    reader = Agent(
        "reader", capabilities=["review"], events_consumed=["post.written"], config=config
    )

    async def take(_event: object, _context: object) -> None:
        """Nothing to do."""

    for agent, event_type in (
        (first, "post.wanted"),
        (second, "post.wanted"),
        (reader, "post.written"),
    ):
        agent.on_event(event_type, topic="action-requests")(take)
    async with first, second, reader, context_of(running, tenant_id=tenant) as context:

        async def all_are_there() -> bool:
            return sum(len(one.instances) for one in await context.registry.find()) == 3

        await eventually(all_are_there)
        yield first, second, reader


async def told(
    shell: Shell, *arguments: str, exits: Exit = Exit.OK
) -> subprocess.CompletedProcess[str]:
    """Runs the command, while the agents of this process go on living."""
    return await asyncio.to_thread(shell.soorma, "agents", *arguments, exits=exits)


async def listed(shell: Shell, *arguments: str) -> list[str]:
    done = await told(shell, "--json", *arguments)
    return [agent["name"] for agent in json.loads(done.stdout)["agents"]]


@pytest.mark.behaviour("command.agents")
async def test_a_table_for_people(shell: Shell, agents: tuple[Agent, ...]) -> None:
    heading, *rows = [line for line in (await told(shell)).stdout.splitlines() if line.strip(" ─")]
    for column in (
        "Agent",
        "Description",
        "Capabilities",
        "Consumes",
        "Produces",
        "Instances",
        "Last heard",
    ):
        assert column in heading
    writer = next(row.split("  ") for row in rows if "writer" in row)
    cells = [cell.strip() for cell in writer if cell.strip()]
    assert cells[:6] == [
        "writer",
        "Writes posts",
        "writing, review",
        "post.wanted",
        "post.written",
        "2",
    ]
    assert len(rows) == 2


@pytest.mark.behaviour("command.agents")
async def test_the_registrys_own_answer_for_programs(
    shell: Shell, agents: tuple[Agent, ...]
) -> None:
    found = json.loads((await told(shell, "writer", "--json")).stdout)
    (writer,) = found["agents"]
    assert writer["capabilities"] == [{"name": "writing"}, {"name": "review"}]
    assert {instance["instance"] for instance in writer["instances"]} == {
        agents[0].instance,
        agents[1].instance,
    }
    assert "next" not in found


@pytest.mark.behaviour("command.agents")
async def test_filters_hold_together(shell: Shell, agents: tuple[Agent, ...]) -> None:
    assert sorted(await listed(shell)) == ["reader", "writer"]
    assert await listed(shell, "reader") == ["reader"]
    assert sorted(await listed(shell, "--capability", "review")) == ["reader", "writer"]
    assert await listed(shell, "--consumes", "post.written") == ["reader"]
    assert await listed(shell, "--produces", "post.written") == ["writer"]
    assert await listed(shell, "--capability", "review", "--consumes", "post.wanted") == ["writer"]
    assert await listed(shell, "--tenant", unique("another")) == []


@pytest.mark.behaviour("command.agents")
async def test_what_is_not_there(shell: Shell, agents: tuple[Agent, ...]) -> None:
    assert "no such agent is alive" in (await told(shell, "--produces", "nothing")).stderr
    assert "no such agent nobody" in (await told(shell, "nobody", exits=Exit.NOT_FOUND)).stderr
    nobody = await told(shell, "nobody", "--json", exits=Exit.NOT_FOUND)
    assert json.loads(nobody.stdout) == {"agents": []}
    assert (
        "no agent is alive; start one" in (await told(shell, "--tenant", unique("another"))).stderr
    )


@pytest.mark.behaviour("command.agents", "command.says-what-is-wrong")
def test_without_a_platform(shell: Shell) -> None:
    refused = shell.soorma(
        "agents",
        exits=Exit.UNAVAILABLE,
        SOORMA_REGISTRY_URL="http://127.0.0.1:9",
        SOORMA_RETRY_SECONDS="0.1",
    )
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.behaviour("command.agents", "command.whose")
async def test_the_platform_of_this_folder_is_found(shell: Shell) -> None:
    for name in [name for name in shell.env if name.endswith("_URL")]:
        del shell.env[name]
    shell.soorma("dev")
    assert await listed(shell) == []
