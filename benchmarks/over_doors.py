"""Figures of the door: requests with a key on a closed platform, beside the same on an open one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median

import uvloop
from load import Result
from measuring import (
    FULL_COMMIT,
    READ,
    Figure,
    cpu_seconds,
    ratio_of,
    rounds,
    say,
    times,
)
from over_sdk import AgentProcess, series_of, singly
from platform_process import PlatformProcess
from stage import Stage

from soorma import ClientConfig, PlatformContext
from soorma_platform.identity.credentials import fresh_key

CONNECTIONS = 32
SECONDS = 60
MOST = 1.08
"""Of the processor time of an open platform."""
KEYS = 100
MOST_OF_EVENTS = 1.05


def keyed_events(stage: Stage) -> None:
    """The server's processor time of an event through an agent under a capability."""
    say("events through an agent with a key, by turns with an open platform")
    app, agent = fresh_key().credential, fresh_key().credential
    file = stage.folder / "agents.toml"
    file.write_text(
        f'[[keys]]\nname = "app"\nrole = "app"\ncredential = "{app}"\n'
        '[[keys]]\nname = "agent"\nrole = "agent"\nagents = ["*"]\nsubscribe = ["*"]\n'
        f'credential = "{agent}"\n'
    )
    closed = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
    with (
        stage.new_platform("events-open") as believing,
        stage.new_platform("events-closed", **closed) as checking,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        cost = runner.run(_events(stage, {believing: (None, None), checking: (app, agent)}))
    ratio = ratio_of(zip(cost[1], cost[0], strict=True))
    stage.report.figures.append(
        Figure(
            "server CPU of an event through an agent with a key",
            f"{median(cost[1]) * 1e6:.0f} µs",
            f"without one, open: {median(cost[0]) * 1e6:.0f} µs",
            times(ratio),
            f"≤ {MOST_OF_EVENTS} ×",  # noqa: RUF001
            ratio <= MOST_OF_EVENTS,
            FULL_COMMIT,
        )
    )


async def _events(
    stage: Stage, keys: dict[PlatformProcess, tuple[str | None, str | None]]
) -> list[list[float]]:
    """Returns the processor time of an event on each platform, by rounds."""
    count = 4 * stage.sizes.events
    cost: list[list[float]] = [[] for _ in keys]
    async with AsyncExitStack() as held:
        sides = []
        for of, (app, agents) in keys.items():
            config = ClientConfig(
                of.memory_url, of.events_url, "bench", "bench", registry_url=of.registry_url
            )
            agent = held.enter_context(AgentProcess(replace(config, api_key=agents)))
            client = replace(config, api_key=app)
            context = await held.enter_async_context(PlatformContext.on(client, "bench"))
            await agent.told()
            sides.append((of, agent, context))
        for turn in rounds(2 * stage.sizes.rounds + 1, SECONDS, least=3):
            for number, (of, agent, context) in enumerate(sides):
                before = cpu_seconds(of.pid)
                await series_of(agent, f"door-{turn}", count, singly(context))
                if turn:  # the first round warms up
                    cost[number].append((cpu_seconds(of.pid) - before) / count)
    return cost


def keyed_requests(stage: Stage) -> None:
    """The server's processor time for GET and PUT with a key, against open mode."""
    say("requests with a key, by turns with an open platform")
    credential = fresh_key().credential
    file = stage.folder / "keys.toml"
    file.write_text(f'[[keys]]\nname = "app"\nrole = "app"\ncredential = "{credential}"\n')
    closed = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
    with (
        stage.new_platform("door-open") as believing,
        stage.new_platform("door-closed", **closed) as checking,
    ):
        heads = {believing: "", checking: f"Authorization: Bearer {credential}\r\n"}
        for of, head in heads.items():
            stage.put("door", of=of, head=head, requests=KEYS, keys=KEYS)
        for method in ("GET", "PUT"):
            _compare(stage, method, heads)


def _compare(stage: Stage, method: str, heads: dict[PlatformProcess, str]) -> None:
    count = stage.sizes.cpu_requests
    cost: list[list[float]] = [[], []]
    for turn in rounds(2 * stage.sizes.rounds + 1, SECONDS, least=3):
        for number, (of, head) in enumerate(heads.items()):
            found = _requests(stage, method, of, head, count)
            if turn:  # the first round warms up
                cost[number].append(max(found.cpu, 1e-3) / count)
    ratio = ratio_of(zip(cost[1], cost[0], strict=True))
    believed, checked = median(cost[0]), median(cost[1])
    stage.report.figures.append(
        Figure(
            f"server CPU of a {method} with a key, {CONNECTIONS} connections",
            f"{checked * 1e6:.0f} µs",
            f"without one, open: {believed * 1e6:.0f} µs",
            times(ratio),
            f"≤ {MOST} ×",  # noqa: RUF001
            ratio <= MOST,
            READ,
        )
    )


def _requests(stage: Stage, method: str, of: PlatformProcess, head: str, count: int) -> Result:
    how = stage.get if method == "GET" else stage.put
    return how("door", of=of, head=head, requests=count, connections=CONNECTIONS, keys=KEYS)
