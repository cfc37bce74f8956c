"""SDK and platform of different versions of the protocol: each refuses the other by name."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cli_shell import SOORMA
from platform_process import MEMORY_PORT, PlatformProcess, clean_environment
from running import PythonProcess, Raw, addresses_of, config_of, context_of, path_of, unique

from soorma import Agent, EventClient, WorkflowState
from soorma.cli.exits import Exit
from soorma.errors import ProtocolMismatch

HEADER = "x-soorma-protocol"
CONNECT = "/v1/events/connect"

_PROGRAM = """
import sys
import soorma_common.protocol as protocol
protocol.PROTOCOL, protocol.PROTOCOL_HEADER = {}
from soorma_platform.__main__ import main
sys.exit(main())
"""


class NewerPlatform(PlatformProcess):
    """A platform that speaks protocol 2."""

    program = ("-c", _PROGRAM.format('2, "X-Soorma-Protocol"'))


class OlderPlatform(PlatformProcess):
    """A platform from before versions of the protocol: it neither reads nor sends the header."""

    program = ("-c", _PROGRAM.format('0, "X-Unknown"'))


@pytest.fixture(params=[NewerPlatform, OlderPlatform])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlatformProcess]:
    folder = tmp_path / "other"
    folder.mkdir()
    with request.param(folder) as running:
        yield running


def advice_of(platform: PlatformProcess) -> str:
    return "update the SDK" if isinstance(platform, NewerPlatform) else "update the platform"


# --- What a platform refuses ------------------------------------------------------------------


@pytest.mark.behaviour("upgrades.protocol")
@pytest.mark.parametrize("service", ["memory_url", "events_url", "registry_url", "gateway_url"])
def test_a_platform_refuses_a_request_of_another(running: PlatformProcess, service: str) -> None:
    raw = Raw(getattr(running, service), "t", "u")
    for path in ("/v1/memory/working", "/health", "/nothing"):
        refused = raw("GET", path, X_Soorma_Protocol="2")
        assert (refused.status, refused.code) == (400, "protocol_mismatch")
        assert refused.json["detail"].startswith(
            "the SDK speaks protocol 2 and the platform protocol 1: update the platform."
        )
    assert raw("GET", "/health", X_Soorma_Protocol="1").status == 200
    assert raw("GET", "/health").status == 200


@pytest.mark.behaviour("upgrades.protocol")
def test_a_change_of_another_version_is_not_made(running: PlatformProcess) -> None:
    raw, plan = Raw(running.memory_url, "t", "u"), unique("plan")
    refused = raw("PUT", path_of(plan, "k"), {"value": 1}, X_Soorma_Protocol="2")
    assert refused.code == "protocol_mismatch"
    assert raw("GET", path_of(plan, "k")).code == "key_missing"


@pytest.mark.behaviour("upgrades.protocol")
def test_each_response_says_the_version_of_the_platform(running: PlatformProcess) -> None:
    memory, events = Raw(running.memory_url, "t", "u"), Raw(running.events_url)
    for path in ("/health", path_of("plan", "missing"), "/nothing"):
        assert memory("GET", path).headers[HEADER] == "1"
    with events.stream("/v1/events/stream") as stream:
        assert stream._answer.headers[HEADER] == "1"
    address = ("127.0.0.1", MEMORY_PORT + running.offset)
    with socket.create_connection(address, timeout=10) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert b"x-soorma-protocol: 1\r\n" in raw.recv(4096).lower()


@pytest.mark.behaviour("upgrades.protocol")
async def test_a_platform_refuses_a_socket_of_another_version(running: PlatformProcess) -> None:
    async with aiohttp.ClientSession(headers={HEADER: "2"}) as session:
        async with session.get(f"{running.events_url}{CONNECT}", headers=_UPGRADE) as answer:
            assert (answer.status, answer.headers[HEADER]) == (400, "1")
            assert (await answer.json(content_type=None))["code"] == "protocol_mismatch"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
            await session.ws_connect(f"{running.events_url}{CONNECT}")


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.behaviour("upgrades.protocol")
@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({}, "none that has a version"),
        ({"protocol": 2}, "protocol 2"),
    ],
)
async def test_a_platform_refuses_the_hello_of_another_version(
    running: PlatformProcess, said: dict[str, Any], named: str
) -> None:
    hello = {"frame": "hello", "agent": unique("agent"), "instance": "i", **said}
    hello["subscriptions"] = [{"type": "a"}]
    url = f"{running.events_url}{CONNECT}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as opened:
        await opened.send_bytes(json.dumps(hello).encode())
        goodbye = json.loads((await opened.receive(timeout=10)).data)
    assert (goodbye["frame"], goodbye["protocol"]) == ("goodbye", 1)
    assert goodbye["problem"]["code"] == "protocol_mismatch"
    assert f"the SDK speaks {named} and the platform protocol 1" in goodbye["problem"]["detail"]


# --- What the SDK refuses ---------------------------------------------------------------------


@pytest.mark.behaviour("upgrades.protocol")
async def test_the_sdk_refuses_a_platform_of_another_version(other: PlatformProcess) -> None:
    async with context_of(other) as context:
        state = WorkflowState(context.memory, "plan")
        calls = (
            state.set("key", 1),
            state.get("key", "default"),
            state.revision(),
            state.watch().__anext__(),
            context.bus.publish("e", "business-facts"),
            context.registry.find(),
        )
        for call in calls:
            with pytest.raises(ProtocolMismatch, match=advice_of(other)) as refused:
                await call
            assert "http://127.0.0.1:" in refused.value.message
    async with EventClient("client", config=config_of(other)) as client:
        with pytest.raises(ProtocolMismatch, match=advice_of(other)):
            await client.connect(topics=["business-facts"])


@pytest.mark.behaviour("upgrades.protocol")
async def test_an_agent_ends_at_a_platform_of_another_version(other: PlatformProcess) -> None:
    agent = Agent(unique("agent"), config=config_of(other))

    @agent.on_event("e", topic="business-facts")
    async def handle(event: Any, context: Any) -> None:
        pass

    async with asyncio.timeout(10):
        with pytest.raises(ProtocolMismatch, match=advice_of(other)):
            await agent.start()


@pytest.mark.behaviour("upgrades.protocol")
async def test_an_agent_ends_when_its_platform_is_upgraded(platform: PlatformProcess) -> None:
    program = """
worker = Worker("worker")
@worker.on_event("e", topic="business-facts")
async def handle(event, context): pass
worker.run()
"""
    with PythonProcess(platform, program) as worker:
        await worker.subscribed()
        platform.program = NewerPlatform.program
        await asyncio.to_thread(platform.restart)
        assert await asyncio.to_thread(worker.wait) != 0
        assert "ProtocolMismatch: the SDK speaks protocol 1 and the platform at" in worker.lines[-1]


@pytest.mark.behaviour("upgrades.protocol")
async def test_the_command_says_so_too(other: PlatformProcess) -> None:
    command = await asyncio.create_subprocess_exec(
        *SOORMA,
        "state",
        "plans",
        env=clean_environment(**addresses_of(other)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await command.communicate()
    assert command.returncode == Exit.REFUSED
    assert advice_of(other) in said.decode()
