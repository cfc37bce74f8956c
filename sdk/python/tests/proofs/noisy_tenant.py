"""A tenant that sends as much as it can get through, as a program, over 64 connections.

It does not wait when it is told to. A few connections send large bodies, a few read what they have
asked for as slowly as they can. Arguments: JSON with `url`, `token`, `rate` and `seconds`. Prints
the statuses of its responses.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CONNECTIONS, LARGE, SLOW = 64, 6, 6
MEBIBYTE = 1 << 20
LARGE_EVERY = 1.0
SIP, SIP_EVERY = 4_096, 0.05


class Request(NamedTuple):
    method: str
    path: str
    body: bytes = b""


class Tenant:
    """The connections of the tenant to one server."""

    def __init__(self, url: str, token: str, rate: float, seconds: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = (
            f"Host: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nX-User-ID: mallory\r\n"
            "Content-Type: application/json\r\n"
        )
        self._rate = rate
        self._seconds = seconds
        self._numbers = count()
        self.statuses: Counter[int] = Counter()

    async def run(self) -> None:
        many = CONNECTIONS - LARGE - SLOW
        async with asyncio.TaskGroup() as group:
            for number in range(many):
                group.create_task(self._often(number / self._rate, many / self._rate))
            for number in range(LARGE):
                group.create_task(self._large(number * LARGE_EVERY / LARGE))
            for _ in range(SLOW):
                group.create_task(self._slowly())

    async def _often(self, first: float, period: float) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for turn in count():
            due = began + first + turn * period
            if due > began + self._seconds:
                break
            await asyncio.sleep(due - loop.time())
            await self._send(writer, self._next())
            await self._receive(reader)
        writer.close()

    def _next(self) -> Request:
        number = next(self._numbers)
        match number % 4:
            case 0:
                event = {"type": "noise.made", "topic": "business-facts", "data": {"n": number}}
                return Request("POST", "/v1/events/publish", json.dumps(event).encode())
            case 1:
                path = f"/v1/memory/working/noise-{number % 50}/k"
                return Request("PUT", path, b'{"value":"%d"}' % number)
            case _:
                return Request("GET", f"/v1/memory/working/noise-{number % 50}/k")

    async def _large(self, first: float) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        loop = asyncio.get_running_loop()
        body = b'{"value":"' + b"x" * (MEBIBYTE - 100) + b'"}'
        began = loop.time()
        await asyncio.sleep(first)
        while loop.time() < began + self._seconds:
            await self._send(writer, Request("PUT", "/v1/memory/working/noise-large/large", body))
            await self._receive(reader)
            await asyncio.sleep(LARGE_EVERY)
        writer.close()

    async def _slowly(self) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._seconds
        while loop.time() < ends_at:
            # A small buffer, so that the server keeps what is not read.
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=SIP)
            await self._send(writer, Request("GET", "/v1/memory/working/noise-large/large"))
            while loop.time() < ends_at:
                if not await reader.read(SIP):
                    break
                await asyncio.sleep(SIP_EVERY)
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, request: Request) -> None:
        head = f"{request.method} {request.path} HTTP/1.1\r\n{self._head}"
        length = f"Content-Length: {len(request.body)}\r\n" if request.body else ""
        writer.write(f"{head}{length}\r\n".encode() + request.body)
        await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        self.statuses[int(head.split(b" ", 2)[1])] += 1
        _, _, length = head.partition(b"content-length:")
        if length:
            await reader.readexactly(int(length.split(b"\r\n", 1)[0]))


async def main(told: dict[str, Any]) -> None:
    tenant = Tenant(told["url"], told["token"], told["rate"], told["seconds"])
    await tenant.run()
    sys.stdout.write(json.dumps(tenant.statuses))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
