"""A client that does not take its response is cut off, and the others are not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from soorma_platform import serving
from soorma_platform.http import connections
from soorma_platform.serving import Server

pytestmark = pytest.mark.behaviour("http.taken-responses")
PATIENCE = 0.4
LONGER = 2.0
"""For a client that is to be kept: a busy machine may stop it for a moment."""
SIZE = 32 << 20
"""Bytes: more than the system's buffers of both ends hold."""


async def _respond(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await asyncio.sleep(0.001)
    headers = [(b"content-length", b"%d" % SIZE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * SIZE})


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "TAKING_SECONDS", PATIENCE)
    monkeypatch.setattr(serving, "TICK_SECONDS", 0.05)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(_respond)
    serving_ = asyncio.create_task(server.serve([listener]))
    yield listener.getsockname()
    server.end()
    await serving_
    listener.close()


@asynccontextmanager
async def request(address: tuple[str, int], path: str) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(*address, limit=1024)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize("path", ["/large", "/stream"])
async def test_who_takes_nothing_is_cut_off(address: tuple[str, int], path: str) -> None:
    async with request(address, path) as reader:
        assert await reader.read(100)
        await asyncio.sleep(PATIENCE + 0.5)
        taken = 100
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while piece := await reader.read(1 << 20):
                    taken += len(piece)
        assert taken < SIZE, "the rest was not kept for it"


async def test_who_takes_little_by_little_gets_all_of_it(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TAKING_SECONDS", LONGER)
    async with request(address, "/large") as reader:
        taken, began = 0, time.monotonic()
        while taken < SIZE:
            piece = await reader.read(1 << 16)
            assert piece, f"cut off after {taken} bytes"
            taken += len(piece)
            if time.monotonic() - began < 1.3 * LONGER:
                await asyncio.sleep(0.05)  # some 50 pieces in that time, and the rest at once
        assert taken >= SIZE
