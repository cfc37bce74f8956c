"""Requests at the edge: repeated, late, large, slow, deep, or with numbers that are none."""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_process import PlatformProcess
from running import Raw, platform_in, unique

from soorma_common.delivery import LARGEST_FRAME

HEAD = (
    "PUT /v1/memory/working/edge/k HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: mine\r\nX-User-ID: "
    "u\r\n"
    "Content-Type: application/json\r\nConnection: close\r\n"
)
BODY = '{"value":1}'
CHUNKED = f"Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n0\r\n"
WHOLE = f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"


def opened(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def exchange(url: str, *pieces: str | bytes) -> tuple[int, bytes]:
    """The status and the rest of the response to these bytes, and all that follows it."""
    with opened(url) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece if isinstance(piece, bytes) else piece.encode("latin-1"))
        except OSError:
            pass  # it was closed early; what was answered is there all the same
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return (int(answer.split()[1]) if answer else 0), answer


# said once


@pytest.mark.behaviour("http.said-once")
@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("http://localhost", "localhost", 200),
        ("http://127.0.0.1:8083", "evil.example", 200),
        ("http://[::1]:8083", "evil.example", 200),
        ("http://evil.example", "localhost", 403),
        ("http://evil.example:8083", "localhost", 403),
        ("//evil.example", "localhost", 404),
        ("http://localhost@evil.example", "localhost", 403),
    ],
)
def test_the_host_is_that_of_the_target(
    running: PlatformProcess, target: str, header: str, status: int
) -> None:
    head = HEAD.replace("PUT /", f"PUT {target}/").replace("Host: localhost", f"Host: {header}")
    assert exchange(running.memory_url, head + WHOLE)[0] == status


@pytest.mark.behaviour("http.said-once")
@pytest.mark.parametrize(
    "trailer",
    ["X-Tenant-ID: other", "Origin: http://evil.example", "Host: evil.example",
     "Content-Type: text/plain", 'If-Match: "77"', "Idempotency-Key: one", "X-User-ID: other",
     "Expect: 100-continue"],
)  # fmt: skip
def test_a_trailer_says_nothing(running: PlatformProcess, trailer: str) -> None:
    status, answer = exchange(running.memory_url, HEAD + CHUNKED + trailer + "\r\n\r\n")
    assert status == 200
    assert b'"tenantId":"mine","userId":"u"' in answer


@pytest.mark.behaviour("http.said-once")
def test_the_request_behind_a_trailer_is_not_touched_by_it(running: PlatformProcess) -> None:
    one = HEAD + CHUNKED + "X-Tenant-ID: other\r\n\r\n"
    _, answer = exchange(running.memory_url, one.replace("Connection: close\r\n", "") + one)
    assert answer.count(b"200 OK") == 2
    assert answer.count(b'"tenantId":"mine"') == 2


@pytest.mark.behaviour("http.said-once")
@pytest.mark.parametrize(
    ("header", "status"),
    [("X-Tenant-ID: mine", 422), ("X-Tenant-ID: other", 422), ("X-User-ID: u", 422),
     ("x-user-id: v", 422), ("Content-Type: application/json", 422),
     ("Idempotency-Key: a\r\nIdempotency-Key: a", 422),
     ("If-Match: 1\r\nIf-Match: 2", 422), ("If-None-Match: *\r\nIf-None-Match: *", 422),
     ("Host: localhost", 403), ("Host: evil.example", 403),
     ("Origin: http://localhost\r\nOrigin: http://a", 403)],
)  # fmt: skip
def test_a_second_one_is_refused(running: PlatformProcess, header: str, status: int) -> None:
    found, answer = exchange(running.memory_url, f"{HEAD}{header}\r\n{WHOLE}")
    assert found == status, answer
    assert b"application/problem+json" in answer


@pytest.mark.behaviour("http.said-once")
@pytest.mark.parametrize(
    "length",
    ["Transfer-Encoding: chunked\r\nContent-Length: 3", "Content-Length: 11\r\nContent-Length: 3",
     "Content-Length: 11\r\nContent-Length: 11", "Content-Length: -1",
     "Content-Length: " + "9" * 40, "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
     "Content-Length: 1x", "Content-Length: 11, 11"],
)  # fmt: skip
def test_a_length_that_is_told_in_two_ways_is_refused(
    running: PlatformProcess, length: str
) -> None:
    found, answer = exchange(running.memory_url, f"{HEAD}{length}\r\n\r\n{BODY}")
    assert found in (400, 422), answer
    assert b"application/problem+json" in answer
    assert b"urn:soorma:problem:" in answer


@pytest.mark.behaviour("http.said-once")
def test_what_may_be_said_more_than_once_is_taken(running: PlatformProcess) -> None:
    found, _ = exchange(
        running.memory_url,
        f"{HEAD}Accept: a/b\r\nAccept: c/d\r\nX-Other: 1\r\nX-Other: 2\r\n{WHOLE}",
    )
    assert found == 200


# responses, whether they go out in one write or in several


def requested(method: str, path: str, *headers: str) -> str:
    said = "".join(f"{header}\r\n" for header in headers)
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: mine\r\nX-User-ID: "
        f"u\r\n{said}\r\n"
    )


def responses(url: str, asked: list[tuple[str, str]]) -> list[tuple[int, bytes]]:
    """Status and body of each response to these requests, sent at once on one connection."""
    found = []
    with opened(url) as connection, connection.makefile("rb") as answer:
        connection.sendall("".join(requested(method, path) for method, path in asked).encode())
        for method, _ in asked:
            status = int(answer.readline().split()[1])
            fields = dict(line.lower().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
            length = 0 if method == "HEAD" else int(fields[b"content-length"])
            found.append((status, answer.read(length)))
        connection.settimeout(0.01)
        with pytest.raises(TimeoutError):
            answer.read(1)
    return found


@pytest.mark.behaviour("http.in-order")
@given(data=st.data())
@settings(max_examples=25, deadline=None)  # a busy machine is no fault
def test_requests_sent_at_once_are_responded_to_in_order(
    running: PlatformProcess, data: st.DataObject
) -> None:
    """Each response equals its response alone, of whatever size, with or without a body."""
    plan = "/v1/memory/working/at-once"
    memory = Raw(running.memory_url, "mine", "u")
    for key, value in (("small", 1), ("large", "x" * 200_000)):
        memory("PUT", f"{plan}/{key}", {"value": value})
    kinds = [("GET", f"{plan}/small"), ("GET", f"{plan}/large"), ("GET", f"{plan}/none"),
             ("HEAD", f"{plan}/small"), ("HEAD", f"{plan}/large"), ("GET", f"{plan}?values=false"),
             ("POST", f"{plan}/small")]  # fmt: skip
    asked = data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8))
    alone = [responses(running.memory_url, [one]) for one in asked]
    assert responses(running.memory_url, asked) == [one for found in alone for one in found]


@pytest.mark.behaviour("http.in-order")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_that_is_to_end_ends_behind_its_response(
    running: PlatformProcess, version: str
) -> None:
    one = requested("GET", "/v1/memory/working/at-once/none", "Connection: close")
    one = one.replace("HTTP/1.1", f"HTTP/{version}")
    status, answer = exchange(running.memory_url, one)
    assert status == 404
    assert b"connection: close" in answer
    assert answer.endswith(b"}")


# bounds


@pytest.mark.behaviour("http.bounded-requests")
@pytest.mark.parametrize(
    "head",
    ["GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + "a" * 70_000,
     "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "a" * 70_000 + ": 1",
     "GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: localhost",
     "GET /health HTTP/1.1\r\nHost: localhost\r\n" + "\r\n".join(f"X-{n}: 1" for n in range(130)),
     "GET /health HTTP/1.1\r\nHost: "
     "localhost\r\n" + "\r\n".join(f"X-{n}: {'b' * 1000}" for n in range(70))],
    ids=["value", "name", "path", "many", "together"],
)  # fmt: skip
def test_headers_are_bounded(running: PlatformProcess, head: str) -> None:
    status, answer = exchange(running.memory_url, head, "\r\n\r\n")
    assert status == 431
    assert b"headers_too_large" in answer


@pytest.mark.behaviour("http.bounded-requests")
@pytest.mark.parametrize("place", ["header", "trailer", "extension"])
def test_what_does_not_end_costs_nobody_anything(running: PlatformProcess, place: str) -> None:
    begun = {
        "header": "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        "trailer": HEAD + CHUNKED + "X-A: ",
        "extension": HEAD + "Transfer-Encoding: chunked\r\n\r\n1;",
    }[place]
    with opened(running.memory_url) as connection:
        connection.sendall(begun.encode())
        endless = b"a" * (128 * 1024 * 1024)
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(endless)
    assert Raw(running.memory_url).is_healthy()


@pytest.mark.behaviour("http.bounded-requests")
@pytest.mark.parametrize("many", [70_000, 100_000, 200_000])
def test_what_is_too_long_and_malformed_is_refused_once(tmp_path: Path, many: int) -> None:
    with platform_in(tmp_path) as platform:
        for _ in range(10):
            head = (
                f"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: {'a' * many}\r\nno header\r\n\r\n"
            )
            status, answer = exchange(platform.memory_url, head)
            assert status in (400, 431)
            assert answer.count(b"HTTP/1.1 ") == 1
        assert "Traceback" not in platform.log.read_text()


@pytest.mark.behaviour("http.bounded-requests")
def test_as_much_as_may_be_is_taken(running: PlatformProcess) -> None:
    many = "\r\n".join(f"X-{n}: {'b' * 400}" for n in range(120))
    assert exchange(running.memory_url, f"{HEAD}{many}\r\n{WHOLE}")[0] == 200


@pytest.mark.behaviour("http.bounded-requests")
async def test_what_was_answered_before_its_body_had_come_is_over_with_it(
    running: PlatformProcess,
) -> None:
    parts = urlsplit(running.memory_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 404 " in head
    await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
    writer.write(b"12345")
    with pytest.raises(TimeoutError):  # nobody asks for a body that is there
        await asyncio.wait_for(reader.read(1), 13)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b" 200 " in await reader.readline() + await reader.read()
    writer.close()


@pytest.mark.behaviour("http.bounded-requests")
async def test_half_a_request_ends(running: PlatformProcess) -> None:
    """All of them at once, as each takes its ten seconds."""
    drip = "PUT /v1/memory/working/edge/k HTTP/1.1\r\nX"
    halves = {
        "headers": ("GET /health HTTP/1.1\r\nHost: localhost\r\n", b""),
        "headers that drip": (drip, b"a"),
        "body": (HEAD + 'Content-Length: 50\r\n\r\n{"va', b""),
        "body of no chunk": (HEAD + "Transfer-Encoding: chunked\r\n\r\n", b""),
        "body nobody reads": (
            "PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n",
            b"",
        ),
    }

    async def end_of(begun: str, more: bytes) -> tuple[float, bytes]:
        parts = urlsplit(running.memory_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        began = time.monotonic()
        writer.write(begun.encode())
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            await asyncio.wait([answer], timeout=0.5)
            if more and not answer.done():
                writer.write(more)
        writer.close()
        return time.monotonic() - began, answer.result()

    async with asyncio.timeout(40):
        ended = dict(
            zip(
                halves,
                await asyncio.gather(*(end_of(*half) for half in halves.values())),
                strict=True,
            )
        )
    for name, (took, answer) in ended.items():
        assert 9 < took < 30, name
        assert answer.startswith(
            b"HTTP/1.1 404" if name == "body nobody reads" else b"HTTP/1.1 408"
        ), (name, answer)


@pytest.mark.behaviour("http.bounded-requests", "http.agents-socket")
async def test_a_socket_that_says_no_hello_ends(running: PlatformProcess) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.events_url}/v1/events/connect") as connection,
    ):
        told = await connection.receive(timeout=30)
        assert (told.type, told.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert "hello within 10 seconds" in str(told.extra)


# descriptors


@pytest.fixture
def short(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A platform with few descriptors."""
    starting = subprocess.Popen.__init__

    def limited(self: Any, *arguments: Any, **named: Any) -> None:
        starting(self, *arguments, preexec_fn=_few, **named)

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess.Popen, "__init__", limited)
            running = stack.enter_context(platform_in(tmp_path / "short"))
        yield running


def _few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.behaviour("http.descriptors")
def test_a_platform_without_descriptors_refuses_and_recovers(short: PlatformProcess) -> None:
    memory = Raw(short.memory_url, "t", "u")
    with ExitStack() as held:
        parts = urlsplit(short.memory_url)
        kept = held.enter_context(
            closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15))
        )
        kept.request("GET", "/health")
        assert kept.getresponse().read()
        own = kept.sock
        for _ in range(100):
            connection = held.enter_context(closing(opened(short.memory_url)))
            connection.sendall(b"GET /health HTTP/1.1\r\n")
        for url in (short.memory_url, short.events_url, short.gateway_url):
            answer = Raw(url)("GET", "/health")
            assert (answer.status, answer.code) == (503, "too_many_connections")
        kept.request("GET", "/health")
        assert kept.getresponse().status == 200
        assert kept.sock is own, "a connection that was there goes on"
    until = time.monotonic() + 15
    while memory("PUT", "/v1/memory/working/p/k", {"value": 1}).status != 200:
        assert time.monotonic() < until
    told = [
        json.loads(line) for line in short.log.read_text().splitlines() if "descriptors" in line
    ]
    assert len(told) == 1
    assert "ulimit -n" in told[0]["message"]


@pytest.mark.behaviour("http.garbage")
def test_garbage_is_told_once_a_minute(tmp_path: Path) -> None:
    with platform_in(tmp_path) as platform:
        for _ in range(50):
            status, _ = exchange(platform.memory_url, "no request\r\n\r\n")
            assert status == 400
        lines = [json.loads(line) for line in platform.log.read_text().splitlines()]
    told = [line for line in lines if line["level"] == "warning"]
    assert [line["message"] for line in told] == [
        "clients send what is no request of HTTP/1.1, or beyond a bound"
    ]
    assert told[0]["requests"] == 1


# numbers and depth

ODD = ["-1", "-0", "1e400", "-1e400", "1e308", "9" * 19, "9" * 5000, "-" + "9" * 400,
       str(2**63), str(2**64), "1.5", "NaN", "Infinity", "0x10", "1_000", "null", "true", '"1"',
       "[]", "1e-400", "00"]  # fmt: skip

_PLANS = "/v1/memory/commit"
_TYPE = "/v1/registry/events/odd/versions"


def _operation(text: str, plan: str = "n") -> str:
    return f'{{"plans": [{{"plan_id": "{plan}", "operations": [{{{text}}}]}}]}}'


NUMBERS: dict[str, tuple[str, str, str, str]] = {
    # service, method, path, body with the number's place
    "value": ("memory", "PUT", "/v1/memory/working/p/k", '{"value": #}'),
    "ttl": ("memory", "PUT", "/v1/memory/working/p/k", '{"value": 1, "ttl": #}'),
    "increment": ("memory", "POST", _PLANS, _operation('"op": "increment", "key": "k", "by": #')),
    "plan ttl": ("memory", "POST", _PLANS, _operation('"op": "ttl", "ttl": #')),
    "expected": ("memory", "POST", _PLANS, '{"plans": [{"plan_id": "n", "expected_revision": #}]}'),
    "of a key": ("memory", "POST", _PLANS,
                 _operation('"op": "delete", "key": "k", "expected_revision": #')),
    "read": ("memory", "POST", _PLANS, '{"plans": [{"plan_id": "n", "reads": {"k": #}}]}'),
    "fork": ("memory", "POST", _PLANS,
             _operation('"op": "fork", "plan_id": "n", "revision": #', "f")),
    "join": ("memory", "POST", _PLANS,
             _operation('"op": "join", "key": "k", "arrival": "a", "expect": #', "j#")),
    "timer": ("memory", "POST", _PLANS,
              '{"timers": [{"delay": #, "event": {"type": "t", "topic": "plan-events"}}]}'),
    "result": ("memory", "POST", _PLANS, _operation('"op": "complete", "result": #', "c")),
    "append": ("memory", "POST", _PLANS, _operation('"op": "append", "key": "l", "value": #')),
    "delay": ("events", "POST", "/v1/events/timers",
              '{"delay": #, "event": {"type": "t", "topic": "plan-events"}}'),
    "data": ("events", "POST", "/v1/events/publish",
             '{"type": "t", "topic": "plan-events", "data": {"n": #}}'),
    "cloud": ("events", "POST", "/v1/events/publish",
              '[{"type": "t", "topic": "plan-events", "data": #}]'),
    "instance ttl": ("registry", "PUT", "/v1/registry/agents/a/instances/i", '{"ttl": #}'),
    "bound": ("registry", "PUT", f"{_TYPE}/1",
              '{"topic": "plan-events", "schema": {"minimum": #}}'),
    "length": ("registry", "PUT", f"{_TYPE}/2",
               '{"topic": "plan-events", "schema": {"maxLength": #}}'),
}  # fmt: skip


def raw_of(running: PlatformProcess, service: str) -> Raw:
    return Raw(
        {
            "memory": running.memory_url,
            "events": running.events_url,
            "registry": running.registry_url,
        }[service],
        "t",
        "u",
    )


def is_answer(status: int, kind: str, body: bytes) -> bool:
    """True if it is a response of the interface, or an error of its own."""
    if status < 400:
        return True
    return (
        status < 500
        and kind == "application/problem+json"
        and json.loads(body)["code"] != "internal"
    )


@pytest.mark.behaviour("http.odd-numbers")
@pytest.mark.parametrize("place", NUMBERS)
def test_any_number_in_a_body_is_answered(running: PlatformProcess, place: str) -> None:
    service, method, path, body = NUMBERS[place]
    raw = raw_of(running, service)
    for odd in ODD:
        answer = raw(method, path, body=body.replace("j#", unique("j")).replace("#", odd).encode())
        assert is_answer(answer.status, answer.headers["content-type"], answer.body), (
            odd[:30],
            answer.body[:300],
        )


def numbers_asked(running: PlatformProcess) -> list[tuple[str, str, str, str, str]]:
    """Each numeric parameter of each operation: service, method, path, its place, and its name."""
    found = []
    for service in ("memory", "events", "registry"):
        document = raw_of(running, service)("GET", "/openapi.json").json
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                for one in operation.get("parameters", []):
                    schema = one.get("schema", {})
                    if schema.get("type") == "integer" or "[0-9]" in schema.get("pattern", ""):
                        found.append((service, method.upper(), path, one["in"], one["name"]))
    return found


@pytest.mark.behaviour("http.odd-numbers", "http.positions")
def test_any_number_in_a_parameter_is_answered(running: PlatformProcess) -> None:
    asked = numbers_asked(running)
    assert len(asked) > 15
    bodies = {"PUT": {"topic": "plan-events", "value": 1}, "POST": {}}
    for service, method, path, place, name in asked:
        raw = raw_of(running, service)
        for odd in ODD:
            filled = path.replace(f"{{{name}}}", odd[:4000]) if place == "path" else path
            for other in (
                "plan_id",
                "key",
                "type",
                "name",
                "instance",
                "event_id",
                "number",
                "version",
            ):
                filled = filled.replace(f"{{{other}}}", "1")
            query = f"?{name}={odd}" if place == "query" else ""
            headers = {name.replace("-", "_"): odd} if place == "header" else {}
            if "stream" in filled or "watch" in filled:
                if odd in ("-0", "00"):
                    continue
                query += "&after=0" if place == "header" else ""
                query = query.replace("&", "?", 1) if not query.startswith("?") else query
            body = json.dumps(bodies[method]).encode() if method in bodies else None
            answer = raw(method, filled + query, body=body, **headers)
            assert is_answer(answer.status, answer.headers["content-type"], answer.body), (
                path,
                name,
                odd[:30],
            )


DEEP = {
    "lists": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "just too deep": "[" * 129 + "]" * 129,
    "not closed": "[" * 100_000,
    "schemas": '{"not":' * 900 + "{}" + "}" * 900,
    "both": '[{"a":' * 30_000,
}


@pytest.mark.behaviour("http.odd-numbers", "memory.depth")
@pytest.mark.parametrize("deep", DEEP)
@pytest.mark.parametrize("place", NUMBERS)
def test_any_depth_in_a_body_is_answered(running: PlatformProcess, place: str, deep: str) -> None:
    service, method, path, body = NUMBERS[place]
    if place == "bound":
        body = body.replace('{"minimum": #}', "#")
    answer = raw_of(running, service)(
        method, path, body=body.replace("j#", "j").replace("#", DEEP[deep]).encode()
    )
    assert is_answer(answer.status, answer.headers["content-type"], answer.body), answer.body[:300]
    whole = raw_of(running, service)(method, path, body=DEEP[deep].encode())
    assert is_answer(whole.status, whole.headers["content-type"], whole.body), whole.body[:300]


FRAMES = {
    "number": '{"frame": "commit", "number": #, "tenant_id": "t", "user_id": "u", "commit": '
    '{"fence": "f"}}',
    "occurrence": '{"frame": "step", "number": 1, "fence": "FENCE", "name": "s", "occurrence": #, '
    '"result": 1}',
    "result": '{"frame": "step", "number": 1, "fence": "FENCE", "name": "s", "occurrence": 1, '
    '"result": #}',
    "after": '{"frame": "fail", "number": 1, "fence": "FENCE", "reason": "r", "after": #}',
    "value": '{"frame": "commit", "number": 1, "tenant_id": "TENANT", "user_id": "u", "commit": '
    '{"fence": "FENCE", '
    '"plans": [{"plan_id": "p", "operations": [{"op": "set", "key": "k", "value": #}]}]}}',
    "room": '{"frame": "hello", "protocol": 1, "agent": "AGENT", "instance": "i", '
    '"max_concurrency": #, '
    '"subscriptions": [{"type": "e"}]}',
}


@pytest.mark.behaviour("http.odd-numbers", "http.agents-socket")
@pytest.mark.parametrize("place", FRAMES)
async def test_any_number_and_depth_in_a_frame_is_answered(
    running: PlatformProcess, place: str
) -> None:
    async with aiohttp.ClientSession() as session:
        for odd in [*ODD, *DEEP.values()]:
            tenant_id = unique("tenant")
            async with session.ws_connect(f"{running.events_url}/v1/events/connect") as connection:
                fence = ""
                if place != "room":
                    hello = {
                        "frame": "hello",
                        "protocol": 1,
                        "agent": unique("agent"),
                        "instance": "i",
                        "tenant_id": tenant_id,
                    }
                    await connection.send_bytes(
                        json.dumps({**hello, "subscriptions": [{"type": "odd"}]}).encode()
                    )
                    assert json.loads(await connection.receive_bytes())["frame"] == "welcome"
                    events = Raw(running.events_url, tenant_id, "u")
                    event = {"type": "odd", "topic": "plan-events"}
                    await asyncio.to_thread(events, "POST", "/v1/events/publish", event)
                    fence = json.loads(await connection.receive_bytes())["fence"]
                frame = (
                    FRAMES[place]
                    .replace("FENCE", fence)
                    .replace("TENANT", tenant_id)
                    .replace("AGENT", unique("a"))
                )
                await connection.send_bytes(frame.replace("#", odd).encode())
                answer = json.loads(await connection.receive_bytes(timeout=10))
                problem = answer.get("problem") or {}
                assert problem.get("code") not in ("error", "internal"), (odd[:30], answer)
    assert "Traceback" not in running.log.read_text()


@pytest.mark.behaviour("http.largest-frame")
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_message_that_is_too_large_names_the_limit(
    running: PlatformProcess, pieces: int
) -> None:
    size = LARGEST_FRAME + 1
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.events_url}/v1/events/connect") as connection,
    ):
        writer = connection._writer
        assert writer is not None
        try:
            for number in range(pieces):
                # a message in several frames is as large as they are together
                await _frame(
                    connection,
                    b"x" * (size // pieces + 1),
                    first=number == 0,
                    last=number == pieces - 1,
                )
        except (ConnectionResetError, aiohttp.ClientConnectionResetError):
            pass
        told = await connection.receive(timeout=30)
        assert (told.type, told.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        assert f"frame_bytes is {LARGEST_FRAME:,}" in str(told.extra)


async def _frame(
    connection: aiohttp.ClientWebSocketResponse, content: bytes, *, first: bool, last: bool
) -> None:
    """One frame of a message, as RFC 6455 has it (5.2), masked with zeros."""
    transport = connection._conn.transport  # type: ignore[union-attr]
    head = bytes([(0x80 if last else 0) | (2 if first else 0), 0x80 | 127])
    transport.write(head + len(content).to_bytes(8, "big") + bytes(4) + content)
    while transport.get_write_buffer_size() > 1 << 20:  # noqa: ASYNC110 - a transport tells nobody
        await asyncio.sleep(0.01)
