"""The floors: a bare ASGI response on the platform's own server settings, a bare durable commit.

`python floors.py PORT` serves. A GET returns as many bytes as `?size=` requests, anything else the
body that it was sent.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import uvloop
from measuring import say

try:  # the platform's own settings, whatever they become
    from soorma_platform.serving import Server
except ImportError:  # an older checkout, measured for a comparison
    from soorma_platform.runtime import _Server as Server  # type: ignore[no-redef, attr-defined]

ENTRY = 400
"""Bytes of a bare response: about as many as the platform returns for a small value."""
START_SECONDS = 20.0


async def answer(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """The bare ASGI application."""
    if scope["method"] == "GET":
        query = scope["query_string"]
        body = b"x" * (int(query[5:]) if query else ENTRY)
    else:
        chunks = []
        while True:
            message = await receive()
            chunks.append(message["body"])
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class BareServer:
    """The bare application in a process of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, str(Path(__file__)), str(self._port)])
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=1):  # noqa: S310 - on loopback
                    return self
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.01)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()


class BareCommits:
    """One row written and committed with apsw: WAL, synchronous=FULL, another value each time."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
        )
        self._number = 0

    def commit(self, size: int = 100) -> None:
        """Makes one change and returns once it is durable."""
        self._number += 1
        # SQLite skips a write that changes nothing
        text = f"{self._number:020d}" + "x" * max(0, size - 20)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?)", (f"k{self._number % 100}", text)
        )
        self._connection.execute("COMMIT")

    def many(self, count: int, size: int = 100) -> list[float]:
        """The seconds that each of `count` commits takes."""
        took = []
        for _ in range(count):
            started = time.perf_counter()
            self.commit(size)
            took.append(time.perf_counter() - started)
        return took

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def main() -> None:
    """Serves on a port until it is killed."""
    import socket  # noqa: PLC0415 - only the serving process needs it

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(2048)
    listener.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Server(answer).serve([listener]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("the bare server was interrupted")
