"""Server-sent events: the response that sends them, and the loop that makes them from a feed.

The loop begins with the position from which it reads, pings while there is no news, and ends with
an event `problem` if the feed fails. Streams differ only in their feeds and in how they write an
event.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, Self, TypeVar

import msgspec

from soorma_common.errors import SoormaError, to_problem
from soorma_platform.http.asgi import AsgiScope, Receive, Send
from soorma_platform.identity.keyring import is_revocation, revoked_error

News = TypeVar("News")

PING_SECONDS = 15.0
"""Seconds of silence after which a comment is sent: clients and proxies drop idle connections."""
WAIT_SECONDS = 1.0
"""Seconds for which one call waits for a feed."""

_BREAK = re.compile(rb"\r\n|\n|\r")


class Feed(Protocol[News]):
    """A cursor that waits for news. It is entered when the stream begins, and left when it ends."""

    @property
    def position(self) -> int:
        """The position up to which it has read.

        It is beyond the latest news if the feed skips what the client did not request.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    async def next(self, timeout: float) -> list[News]:  # noqa: ASYNC109 - polls, cancels nothing
        """Returns the next news in order; none if `timeout` seconds bring none."""
        ...


async def follow(
    feed: Feed[News], kind: str, write: Callable[[News], tuple[int, bytes]], opening: bytes
) -> AsyncGenerator[bytes, None]:
    """Yields a feed's news as events of a kind, until the feed fails or the iteration stops.

    `write` returns the position and the JSON of one; `opening` is the comment that begins the
    stream.
    """
    with feed:
        sent, silent = feed.position, 0.0
        yield b"id: %d\n: %s\n\n" % (sent, opening)
        while True:
            try:
                news = await feed.next(WAIT_SECONDS)
            except SoormaError as error:
                yield sent_event("problem", msgspec.json.encode(to_problem(error)))
                return
            for one in news:
                position, data = write(one)
                yield sent_event(kind, data, position)
                sent = position
            silent = 0.0 if news else silent + WAIT_SECONDS
            if silent >= PING_SECONDS:
                silent = 0.0
                yield _ping(feed.position if feed.position > sent else None)
                sent = max(sent, feed.position)


def _ping(position: int | None) -> bytes:
    """Returns a comment, with the position from which a quiet reader is to resume, if it is new."""
    return b": still here\n\n" if position is None else b"id: %d\n: still here\n\n" % position


def sent_event(kind: str, data: bytes, position: int | None = None) -> bytes:
    """Formats a server-sent event; `data` is JSON.

    Data that an earlier version stored with line breaks becomes several lines.
    """
    identity = b"" if position is None else b"id: %d\n" % position
    if data.find(b"\n") >= 0 or data.find(b"\r") >= 0:  # `in` tries first whether it is a number
        data = b"\ndata: ".join(_BREAK.split(data))
    return b"%sevent: %s\ndata: %s\n\n" % (identity, kind.encode(), data)


class ServerSent:
    """A stream of server-sent events, which lasts while there are any and the client listens."""

    status = 200
    _HEADERS = (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    )

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    async def __call__(self, _: AsgiScope, receive: Receive, send: Send) -> None:
        """Sends the events."""
        sending = asyncio.create_task(self._send_all(send))
        listening = asyncio.create_task(_until_gone(receive))
        revoked = False
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as cancelled:
            if not is_revocation(cancelled):
                raise
            revoked = True
        finally:
            listening.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)
        if revoked:
            last = sent_event("problem", msgspec.json.encode(to_problem(revoked_error())))
            await send({"type": "http.response.body", "body": last})
            return
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            start = {"type": "http.response.start", "status": self.status}
            await send({**start, "headers": list(self._HEADERS)})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
