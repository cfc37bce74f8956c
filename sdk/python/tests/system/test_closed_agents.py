"""Agents of a closed platform, as processes: one that tries everything, and revocation."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from closed_platform import Closed, closed_in
from platform_process import clean_environment
from running import WAIT, config_of, eventually, unique

from soorma import MemoryClient
from soorma.errors import SoormaError, Unauthorized

INTRUDER = """
import asyncio, json, os, sys
from soorma import ClientConfig, PlatformContext, Worker

agent = Worker("intruder")
found = {}

async def attempt(name, work):
    try:
        found[name] = repr(await work)[:200]
    except Exception as error:
        found[name] = type(error).__name__

async def try_all(where, context, tenant, user):
    memory = context.memory
    ids = {"tenant_id": tenant, "user_id": user}
    await attempt(f"{where} get", memory.get_value("secret", "k", **ids))
    await attempt(f"{where} list", memory.list_keys("secret", **ids))
    await attempt(f"{where} plans", anext(aiter(memory.list_plans(**ids))))
    await attempt(f"{where} history", memory.get_history("secret", **ids))
    await attempt(f"{where} watch", anext(aiter(memory.watch_plan("secret", **ids))))
    await attempt(f"{where} set", memory.set_plan_state("secret", "k", "stolen", **ids))
    await attempt(f"{where} forget", memory.delete_plan_state("secret", "k", **ids))
    await attempt(f"{where} search", memory.search_knowledge("secret", **ids))
    await attempt(f"{where} said", memory.get_recent_history(**ids))
    await attempt(f"{where} store", memory.store_knowledge("lies", **ids))
    await attempt(f"{where} publish", context.bus.publish(
        "order.paid", topic="business-facts", data={}, **ids))

@agent.on_event("bait", topic="business-facts")
async def take(event, context):
    for tenant, user in (("umbrella", "eve"), ("acme", "bob")):
        await try_all(f"handler {tenant}", context, tenant, user)
        await try_all(f"immediate {tenant}", context.immediate, tenant, user)
        async with PlatformContext.from_env() as outside:
            await try_all(f"outside {tenant}", outside, tenant, user)
    async with PlatformContext.from_env() as outside:
        await try_all("outside own", outside, event.tenant_id, event.user_id)
    print("FOUND", json.dumps(found), flush=True)

agent.run()
"""

SLEEPER = """
import asyncio, sys
from soorma import Worker

agent = Worker("packer")

@agent.on_event("order.paid", topic="business-facts")
async def pack(event, context):
    print("ATTEMPT", context.attempt, flush=True)
    await context.memory.set_plan_state("p", "by", sys.argv[1])
    await asyncio.sleep(float(sys.argv[2]))

agent.run()
"""


async def start(
    closed: Closed, folder: Path, program: str, credential: str, *arguments: str
) -> asyncio.subprocess.Process:
    """Starts an agent's process."""
    file = folder / f"{unique('agent')}.py"
    file.write_text(program)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(file),
        *arguments,
        env=clean_environment(**closed.environment(credential)),
        stdout=asyncio.subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("closed")) as running:
        yield running


async def line_of(process: asyncio.subprocess.Process, begins: str) -> str:
    """Returns the rest of the next line that begins so."""
    assert process.stdout is not None
    async with asyncio.timeout(4 * WAIT):
        while line := (await process.stdout.readline()).decode():
            if line.startswith(begins):
                return line.removeprefix(begins).strip()
    raise AssertionError(f"it ended without {begins}")


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(4 * WAIT):
        return await process.wait()


@pytest.mark.behaviour("identity.deliveries")
async def test_an_agent_that_tries_everything_reads_and_changes_nothing_of_others(
    closed: Closed, tmp_path: Path
) -> None:
    """It holds a delivery of acme's Ann, and tries for Eve of another tenant, and Bob of acme."""
    secret = unique("secret")
    everybody = closed.context(closed.operator)
    for tenant, user in (("umbrella", "eve"), ("acme", "bob")):
        ids = {"tenant_id": tenant, "user_id": user}
        await everybody.memory.set_plan_state("secret", "k", secret, **ids)
        await everybody.memory.store_knowledge(f"The secret is {secret}.", **ids)
        await everybody.memory.log_interaction("bot", "user", secret, **ids)
    _, key = closed.key("agent", agents=["*"], subscribe=["*"], publish=["*"])
    agent = await start(closed, tmp_path, INTRUDER, key)
    try:
        await everybody.bus.publish(
            "bait", topic="business-facts", data={}, tenant_id="acme", user_id="ann"
        )
        found = json.loads(await line_of(agent, "FOUND"))
    finally:
        agent.send_signal(signal.SIGINT)
        await ended(agent)
    assert len(found) == 77
    reached = {name: what for name, what in found.items() if what not in REFUSALS}
    assert not reached
    assert secret not in json.dumps(found)
    for tenant, user in (("umbrella", "eve"), ("acme", "bob")):
        ids = {"tenant_id": tenant, "user_id": user}
        assert await everybody.memory.get_value("secret", "k", **ids) == secret
        hits = await everybody.memory.search_knowledge("lies", **ids)
        assert [hit.content for hit in hits if "lies" in hit.content] == []
    await everybody.close()


REFUSALS = {"Forbidden", "InvalidRequest", "Fenced"}


@pytest.mark.behaviour("identity.revoked")
async def test_a_revoked_agent_ends_and_another_takes_its_event_at_once(
    closed: Closed, tmp_path: Path
) -> None:
    grants = {"tenant_id": unique("acme"), "agents": ["packer"], "subscribe": ["order.paid"]}
    (first_id, first), (_, second) = closed.key("agent", **grants), closed.key("agent", **grants)
    ids = {"tenant_id": grants["tenant_id"], "user_id": "ann"}
    _, app = closed.key("app", tenant_id=grants["tenant_id"])
    async with closed.context(app, **ids) as context:
        one = await start(closed, tmp_path, SLEEPER, first, "first", "3600")
        await context.bus.publish("order.paid", topic="business-facts", data={})
        assert await line_of(one, "ATTEMPT") == "1"
        other = await start(closed, tmp_path, SLEEPER, second, "second", "0")
        closed.revoke(first_id)
        revoked_at = time.monotonic()
        try:
            assert await ended(one) != 0
            assert await line_of(other, "ATTEMPT") == "1", "the revocation cost no attempt"
            assert time.monotonic() - revoked_at < WAIT

            async def by() -> object:
                return (await context.memory.get_plan_states("p", ["by"])).get("by")

            assert (await eventually(by)).value == "second"
        finally:
            other.send_signal(signal.SIGINT)
            await ended(other)


@pytest.mark.behaviour("identity.revoked")
async def test_under_load_nothing_is_changed_two_seconds_after_a_revocation(
    closed: Closed,
) -> None:
    key_id, app = closed.key("app", tenant_id="busy", user_id="ann")
    context = closed.context(app)
    accepted, refused = list[float](), list[float]()

    async def change(number: int) -> None:
        while not refused or time.monotonic() < refused[0] + 2.5:
            try:
                await context.memory.set_plan_state("p", f"k{number}", time.time())
                accepted.append(time.monotonic())
            except Unauthorized:
                refused.append(time.monotonic())
                await asyncio.sleep(0.02)

    load = [asyncio.create_task(change(number)) for number in range(16)]
    try:
        await eventually(lambda: len(accepted) > 200)
        await asyncio.to_thread(closed.revoke, key_id)
        revoked_at = time.monotonic()
        await asyncio.gather(*load)
    finally:
        for task in load:
            task.cancel()
        await context.close()
    assert max(accepted) < revoked_at + 2
    assert min(refused) < revoked_at + 2


@pytest.mark.behaviour("identity.rotation", "identity.key-function")
async def test_a_rotation_fails_no_request(closed: Closed) -> None:
    key_id, app = closed.key("app", tenant_id="rotating", user_id="ann")
    current = [app]
    failures, done = list[SoormaError](), 0
    memory = MemoryClient(config=config_of(closed.platform, api_key=lambda: current[0]))
    going = True

    async def change(number: int) -> None:
        nonlocal done
        while going:
            try:
                await memory.set_plan_state("p", f"k{number}", done)
                done += 1
            except SoormaError as error:
                failures.append(error)
                return

    load = [asyncio.create_task(change(number)) for number in range(8)]
    for _ in range(5):
        before = done
        await eventually(lambda before=before: done > before + 50)
        successor = await asyncio.to_thread(closed.rotate, key_id, 5)
        current[0] = successor.credential
        await asyncio.to_thread(closed.revoke, key_id)
        key_id = successor.id
    going = False
    await asyncio.gather(*load)
    await memory.close()
    assert not failures
    assert done > 250
