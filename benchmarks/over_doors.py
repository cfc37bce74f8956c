"""Figures of the door: requests with a key on a closed platform, beside the same on an open one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
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
from token_issuer import AUDIENCE, TokenIssuer

from soorma import ClientConfig, PlatformContext
from soorma_platform.identity.credentials import fresh_key

CONNECTIONS = 32
SECONDS = 60
MOST = 1.08
"""Of the processor time of an open platform."""
TOKENS = 1_000
MOST_WITH_TOKENS = 1.15
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


def token_requests(stage: Stage) -> None:
    """The server's processor time for GET and PUT with many tokens in turn, against open mode."""
    say(f"requests with {TOKENS:,} tokens in turn, by turns with an open platform")
    with issuing() as issuer:
        tokens = [
            issuer.token(tenant_id="bench", sub=f"user-{number}", role="operator", jti=str(number))
            for number in range(TOKENS)
        ]
        closed = {
            "SOORMA_ACCESS": "closed",
            "SOORMA_OIDC_ISSUER": issuer.url,
            "SOORMA_OIDC_AUDIENCE": AUDIENCE,
        }
        with (
            stage.new_platform("tokens-open") as believing,
            stage.new_platform("tokens-closed", **closed) as checking,
        ):
            shown = [f"Authorization: Bearer {token}\r\n" for token in tokens]
            heads = {believing: [""], checking: shown}
            for of, some in heads.items():
                stage.put("door", of=of, heads=some, requests=KEYS, keys=KEYS)
            for method in ("GET", "PUT"):
                _compare(stage, method, heads, f"{TOKENS:,} tokens in turn", MOST_WITH_TOKENS)


@contextmanager
def issuing() -> Iterator[TokenIssuer]:
    """An issuer, which a thread serves while the context is entered."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        issuer = TokenIssuer()
        over = asyncio.Event()
        ready = threading.Event()

        async def serve() -> None:
            async with issuer:
                ready.set()
                await over.wait()

        served = thread.submit(runner.run, serve())
        ready.wait()
        try:
            yield issuer
        finally:
            runner.get_loop().call_soon_threadsafe(over.set)
            served.result()


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
        heads = {believing: [""], checking: [f"Authorization: Bearer {credential}\r\n"]}
        for of, some in heads.items():
            stage.put("door", of=of, heads=some, requests=KEYS, keys=KEYS)
        for method in ("GET", "PUT"):
            _compare(stage, method, heads, "a key", MOST)


def _compare(
    stage: Stage, method: str, heads: dict[PlatformProcess, list[str]], what: str, most: float
) -> None:
    count = stage.sizes.cpu_requests
    cost: list[list[float]] = [[], []]
    for turn in rounds(2 * stage.sizes.rounds + 1, SECONDS, least=3):
        for number, (of, some) in enumerate(heads.items()):
            found = _requests(stage, method, of, some, count)
            if turn:  # the first round warms up
                cost[number].append(max(found.cpu, 1e-3) / count)
    ratio = ratio_of(zip(cost[1], cost[0], strict=True))
    believed, checked = median(cost[0]), median(cost[1])
    stage.report.figures.append(
        Figure(
            f"server CPU of a {method} with {what}, {CONNECTIONS} connections",
            f"{checked * 1e6:.0f} µs",
            f"without one, open: {believed * 1e6:.0f} µs",
            times(ratio),
            f"≤ {most} ×",  # noqa: RUF001
            ratio <= most,
            READ,
        )
    )


def _requests(
    stage: Stage, method: str, of: PlatformProcess, heads: list[str], count: int
) -> Result:
    how = stage.get if method == "GET" else stage.put
    return how("door", of=of, heads=heads, requests=count, connections=CONNECTIONS, keys=KEYS)
