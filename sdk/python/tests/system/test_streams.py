"""Streams carry whatever was sent, and their readers continue after a broken message."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cli_shell import read_until
from platform_process import PlatformProcess
from running import Raw, Seen, config_of, path_of, unique

from soorma import ClientConfig, EventClient, PlatformContext, WorkflowState
from soorma.transport.headers import SPOKEN

LOOSE = '{\r\n\r\n"n" :\n2 ,\r"m":\t[1,\n\n2], "s": "a\\nb \u2028"}'
VALUE = {"n": 2, "m": [1, 2], "s": "a\nb \u2028"}


@pytest.fixture
def tenant_id() -> str:
    return unique("tenant")


@pytest.fixture
def events(running: PlatformProcess, tenant_id: str) -> Raw:
    return Raw(running.events_url, tenant_id, "user")


@pytest.fixture
def memory(running: PlatformProcess, tenant_id: str) -> Raw:
    return Raw(running.memory_url, tenant_id, "user")


def an_event(**more: str) -> str:
    fields = {"type": '"loose"', "topic": '"business-facts"', "data": LOOSE, **more}
    return "{\n" + ",\r\n".join(f'"{name}"\n:\r{value}' for name, value in fields.items()) + "}\n"


CLOUD = {"specversion": '"1.0"', "id": '"c-1"', "source": '"s"'}
WAYS: dict[str, tuple[str, str, str]] = {
    "event": ("/v1/events/publish", an_event(), "application/json"),
    "batch": ("/v1/events/publish", f"[\n{an_event()}\r\n]", "application/json"),
    "cloudevent": ("/v1/events/publish", an_event(**CLOUD), "application/cloudevents+json"),
    "cloudevents": (
        "/v1/events/publish",
        f"\n[{an_event(**CLOUD)}]",
        "application/cloudevents-batch+json",
    ),
    "timer": ("/v1/events/timers", f'{{\n"delay": 0, "event":\n{an_event()}}}', "application/json"),
}


@pytest.mark.behaviour("readers.line-breaks")
@pytest.mark.parametrize("way", WAYS)
def test_an_event_with_line_breaks_is_streamed_whole(events: Raw, tenant_id: str, way: str) -> None:
    path, body, kind = WAYS[way]
    with events.stream(f"/v1/events/stream?tenant_id={tenant_id}") as stream:
        assert events("POST", path, body=body.encode(), Content_Type=kind).status == 200
        told, _, event = stream.next()
    assert (told, event["data"]) == ("event", VALUE)


@pytest.mark.behaviour("readers.line-breaks")
@pytest.mark.parametrize("op", ["set", "append", "extend", "merge", "complete"])
def test_a_commit_with_line_breaks_is_streamed_whole(memory: Raw, op: str) -> None:
    plan = unique("plan")
    argument = {"extend": f"[\n{LOOSE}\r]", "append": LOOSE, "merge": LOOSE}.get(op, LOOSE)
    place = "" if op == "complete" else '"key": "k",'
    operation = (
        f'{{"op":\n"{op}", {place}\r"{"result" if op == "complete" else "value"}": {argument}}}'
    )
    body = f'{{"plans": [\n{{"plan_id": "{plan}",\r\n"operations": [{operation}]}}]}}'
    with memory.stream(f"/v1/memory/watch/{plan}?after=0") as stream:
        assert memory("POST", "/v1/memory/commit", body=body.encode()).status == 200
        told, revision, seen = stream.next()
    assert (told, revision) == ("commit", "1")
    argument = seen["changes"][0]["argument"]
    assert argument == ([VALUE] if op == "extend" else VALUE)


@pytest.mark.behaviour("readers.line-breaks", "http.agents-socket")
async def test_a_frame_with_line_breaks_is_streamed_whole(
    running: PlatformProcess, memory: Raw, tenant_id: str
) -> None:
    agent = unique("agent")
    events = Raw(running.events_url, tenant_id, "user")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{events.url}/v1/events/connect") as socket,
    ):
        hello = {
            "frame": "hello",
            "protocol": 1,
            "agent": agent,
            "instance": "i",
            "tenant_id": tenant_id,
            "subscriptions": [{"type": agent}],
        }
        await socket.send_bytes(json.dumps(hello, indent=1).encode())
        assert json.loads(await socket.receive_bytes())["frame"] == "welcome"
        event = {"type": agent, "topic": "business-facts", "plan_id": "p"}
        assert (await asyncio.to_thread(events, "POST", "/v1/events/publish", event)).status == 200
        fence = json.loads(await socket.receive_bytes())["fence"]
        operation = f'{{"op": "set",\n"key": "k",\r"value":\r\n{LOOSE}}}'
        commit = (
            f'{{"fence": "{fence}",\n"plans": [{{"plan_id": "p",\n"operations": [{operation}]}}]}}'
        )
        frame = (
            f'{{"frame": "commit",\n"number": 1,"tenant_id": "{tenant_id}", "user_id": '
            f'"user",\n"commit": {commit}}}'
        )
        await socket.send_bytes(frame.encode())
        assert "problem" not in json.loads(await socket.receive_bytes())
    with memory.stream("/v1/memory/watch/p?after=0") as stream:
        assert stream.next()[2]["changes"][0]["argument"] == VALUE


@pytest.mark.behaviour("readers.line-breaks")
async def test_readers_of_the_sdk_get_it_whole(
    running: PlatformProcess, events: Raw, memory: Raw, tenant_id: str
) -> None:
    seen, changes = Seen(), Seen()
    config = config_of(running, tenant_id=tenant_id, user_id="user")
    async with (
        PlatformContext.on(config, "test") as context,
        EventClient("c", tenant_id=tenant_id, config=config) as client,
    ):
        client.on_all_events(seen.append)
        await client.connect(["business-facts"])
        state = WorkflowState(context.memory, "plan")

        async def watch() -> None:
            async for change in state.watch(after=0):
                changes.append(change)

        watching = asyncio.create_task(watch())
        await asyncio.to_thread(events, "POST", "/v1/events/publish", body=an_event().encode())
        await client.publish("next", "business-facts")
        await asyncio.to_thread(
            memory, "PUT", path_of("plan", "a"), body=f'{{"value":\n{LOOSE}}}'.encode()
        )
        await state.set("b", 1)
        assert [event.type for event in await seen.until(2)] == ["loose", "next"]
        assert seen[0]["data"] == VALUE
        assert [(change.key, change.argument) for change in await changes.until(2)] == [
            ("a", VALUE),
            ("b", 1),
        ]
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


# Behind a broken message


BROKEN = [
    b'{"a": ',
    b"",
    b"[1]",
    b"\xff\xfe",
    b'{"n": 1e999}',
    b"[" * 5000,
    b'{"n": ' + b"9" * 5000 + b"}",
]


@pytest.fixture
async def broken() -> AsyncIterator[Callable[[str, dict[str, Any]], Any]]:
    """Something in front of a platform that sends broken messages, and then a good one."""
    runners: list[web.AppRunner] = []
    ended = asyncio.Event()

    async def serve(kind: str, good: dict[str, Any]) -> str:
        async def stream(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **SPOKEN})
            await answer.prepare(request)
            await answer.write(b"id: 0\n: from here\n\n")
            for position, data in enumerate(BROKEN, 1):
                await answer.write(
                    b"id: %d\nevent: %s\ndata: %s\n\n" % (position, kind.encode(), data)
                )
            text = json.dumps(good, indent=1).encode().replace(b"\n", b"\ndata:")
            await answer.write(b"event: %s\r\nid:99\r\ndata:%s\r\n\r\n" % (kind.encode(), text))
            await ended.wait()
            return answer

        app = web.Application()
        app.router.add_get("/{path:.*}", stream)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    ended.set()
    for runner in runners:
        await runner.cleanup()


def reported(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if "broken message" in record.getMessage()
    ]


@pytest.mark.behaviour("readers.broken-message")
async def test_a_client_goes_on_behind_a_broken_event(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = await broken("event", {"type": "good", "topic": "business-facts"})
    seen = Seen()
    with caplog.at_level(logging.WARNING):
        async with EventClient("c", config=ClientConfig(events_url=url)) as client:
            client.on_all_events(seen.append)
            await client.connect(["business-facts"])
            assert [event.type for event in await seen.until(1)] == ["good"]
    told = reported(caplog)
    assert len(told) == len(BROKEN)
    assert "at position 1 " in told[0]


@pytest.mark.behaviour("readers.broken-message")
async def test_watch_goes_on_behind_a_broken_commit(
    broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    change = {
        "revision": 99,
        "op": "set",
        "key": "k",
        "at": "2026-01-01T00:00:00.000Z",
        "argument": 1,
    }
    url = await broken("commit", {"revision": 99, "changes": [change]})
    config = ClientConfig(memory_url=url, tenant_id="t", user_id="u")
    with caplog.at_level(logging.WARNING):
        async with PlatformContext.on(config, "test") as context:
            async for found in WorkflowState(context.memory, "plan").watch(after=0):
                assert (found.key, found.argument) == ("k", 1)
                break
    assert len(reported(caplog)) == len(BROKEN)


@pytest.mark.behaviour("readers.broken-message")
async def test_tail_goes_on_behind_a_broken_event(broken: Any, shell: Any) -> None:
    url = await broken("event", {"type": "good", "topic": "business-facts"})
    tail = shell.spawn("events", "tail", SOORMA_EVENT_SERVICE_URL=url)
    told = await asyncio.to_thread(read_until, tail, "good")
    assert "broken message at position 1 " in told
