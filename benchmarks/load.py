"""The load generator, a process of its own: raw HTTP/1.1 over loopback, as cheap as Python allows.

`LoadProcess` starts it and gives it jobs; `python load.py FILE` reads one job a line, writes its
result into FILE and then prints a line.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import uvloop
from measuring import cpu_seconds

LONGEST_JOB = 90.0
SCOPE = "X-Tenant-ID: bench\r\nX-User-ID: bench\r\n"


class Job(msgspec.Struct, omit_defaults=True):
    """The requests to send.

    In `path` and `body`, `<n>` is the request's number, `<k>` that modulo `keys`, `<c>` the number
    of the connection, and `<pad>` that many bytes of text; `head` are further headers, or one of
    `heads` in turn. With `rate`, the load is open: requests begin at random times, that many a
    second on average, whether or not earlier ones got a response, and each latency counts from the
    time at which the request should have begun.
    """

    url: str
    method: str
    path: str
    body: str = ""
    requests: int = 1_000
    connections: int = 32
    keys: int = 100
    pad: int = 0
    first: int = 0
    rate: float = 0.0
    server: int = 0
    head: str = ""
    heads: list[str] = []


class Result(msgspec.Struct):
    """Latencies in seconds, in the order of the responses; `cpu` is the server's processor time."""

    latencies: list[float]
    seconds: float
    cpu: float
    failed: int
    example: str


class LoadProcess:
    """A load generator that takes one job after the other."""

    def __init__(self, folder: Path) -> None:
        self._result = folder / "load.json"

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__)), str(self._result)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, job: Job) -> Result:
        """Runs a job to its end; RuntimeError if a request failed or the job took too long."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        if (
            not select.select([self._process.stdout], [], [], 2 * LONGEST_JOB)[0]
            or not self._process.stdout.readline()
        ):
            raise RuntimeError(f"the load generator gave no answer to {job.method} {job.path}")
        result = msgspec.json.decode(self._result.read_bytes(), type=Result)
        if result.failed:
            raise RuntimeError(
                f"{result.failed} requests of {job.method} {job.path} failed: {result.example}"
            )
        return result


class _Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, on_answer: Callable[[_Connection, bool, bytes], None], number: int) -> None:
        self.number = number
        self._on_answer = on_answer
        self._buffer = b""
        self._length = -1
        self._pieces: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self._buffer, self._length, self._pieces = b"", -1, []
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._length < 0:
            self._buffer += data
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            self._ok = head.startswith(b"http/1.1 2") and at >= 0
            self._length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            data = self._buffer[end + 4 :]
        self._pieces.append(data)
        self._length -= len(data)
        if self._length <= 0:
            self._length = -1
            self._on_answer(self, self._ok, self._pieces[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_answer(self, False, f"connection lost: {exc}".encode())


class _Run:
    """A job in progress."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._host, _, port = job.url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._pad = "x" * job.pad
        self._number = job.first
        self._begun: dict[int, float] = {}
        self._late: deque[float] = deque()
        self._idle: list[_Connection] = []
        self.latencies: list[float] = []
        self.failed = 0
        self.example = b""

    def _request(self, connection: int) -> bytes:
        job, number = self._job, self._number
        self._number += 1

        def fill(text: str) -> str:
            text = text.replace("<n>", str(number)).replace("<k>", str(number % job.keys))
            return text.replace("<c>", str(connection)).replace("<pad>", self._pad)

        head = (
            f"{job.method} {fill(job.path)} HTTP/1.1\r\n"
            f"Host: {self._host}:{self._port}\r\n{SCOPE}"
            f"{job.heads[number % len(job.heads)] if job.heads else job.head}"
        )
        if not job.body:
            return f"{head}\r\n".encode()
        body = fill(job.body).encode()
        return (
            f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def run(self) -> Result:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        connections = []
        for number in range(self._job.connections):
            _, connection = await loop.create_connection(
                lambda number=number: _Connection(self._answered, number),  # type: ignore[misc]
                self._host,
                self._port,
            )
            connections.append(connection)
        used, started = cpu_seconds(self._job.server), time.perf_counter()
        try:
            async with asyncio.timeout(LONGEST_JOB):
                await (
                    self._open_loop(connections)
                    if self._job.rate
                    else self._closed_loop(connections)
                )
        except TimeoutError:
            self.failed, self.example = self.failed + 1, b"the job took too long"
        seconds, used = time.perf_counter() - started, cpu_seconds(self._job.server) - used
        self._done.cancel()
        for connection in connections:
            connection.transport.abort()
        return Result(
            self.latencies,
            seconds,
            used,
            self.failed,
            self.example[:300].decode("utf-8", "replace"),
        )

    async def _closed_loop(self, connections: list[_Connection]) -> None:
        for connection in connections[: self._job.requests]:
            self._send(connection, time.perf_counter())
        await self._done

    async def _open_loop(self, connections: list[_Connection]) -> None:
        self._idle = connections
        due, chance = time.perf_counter(), random.Random(self._job.first)  # noqa: S311
        for _ in range(self._job.requests):
            due += chance.expovariate(self._job.rate)
            while (left := due - time.perf_counter()) > 0:  # noqa: ASYNC110 - waits for time only
                await asyncio.sleep(left)
            if self._idle:
                self._send(self._idle.pop(), due)
            else:
                self._late.append(due)
        if len(self.latencies) < self._job.requests:
            await self._done

    def _send(self, connection: _Connection, begun: float) -> None:
        self._begun[connection.number] = begun
        connection.send(self._request(connection.number))

    def _answered(self, connection: _Connection, ok: bool, body: bytes) -> None:
        if self._done.done():
            return
        now, job = time.perf_counter(), self._job
        self.latencies.append(now - self._begun.pop(connection.number, now))
        if not ok:
            self.failed, self.example = self.failed + 1, body
        if self.failed or len(self.latencies) == job.requests:
            self._done.set_result(None)
        elif not job.rate:
            if self._number - job.first < job.requests:
                self._send(connection, now)
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._idle.append(connection)


def _precise_loop() -> asyncio.AbstractEventLoop:
    """A loop for open load: select() wakes within microseconds of a timeout, epoll in 1 ms."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Takes jobs from stdin until it ends."""
    for line in iter(sys.stdin.buffer.readline, b""):
        job = msgspec.json.decode(line, type=Job)
        with asyncio.Runner(
            loop_factory=_precise_loop if job.rate else uvloop.new_event_loop
        ) as runner:
            result = runner.run(_Run(job).run())
        Path(sys.argv[1]).write_bytes(msgspec.json.encode(result))
        os.write(1, b"done\n")


if __name__ == "__main__":
    main()
