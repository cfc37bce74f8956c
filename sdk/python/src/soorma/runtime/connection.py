"""An agent's connection to the event service: it reconnects by itself, and calls go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from soorma.transport.http import Socket, Transport
from soorma.transport.pauses import Backoff, room_after
from soorma_common.delivery import (
    LARGEST_FRAME,
    AgentFrame,
    Answer,
    CancelFrame,
    CommitFrame,
    Deliver,
    DrainFrame,
    FailFrame,
    Goodbye,
    Hello,
    ReleaseFrame,
    ServiceFrame,
    StepFrame,
    Welcome,
)
from soorma_common.errors import (
    InvalidValue,
    LimitExceeded,
    SoormaError,
    Unauthorized,
    Unavailable,
    from_problem,
)
from soorma_common.protocol import PROTOCOL, mismatch

FIRST_DELAY = 0.1
LONGEST_DELAY = 3.0

log = logging.getLogger("soorma.agent")
_frames = msgspec.json.Decoder(ServiceFrame)
_encoder = msgspec.json.Encoder()


class Connection:
    """The connection that keeps an agent subscribed.

    Outcomes of handlers wait out an outage and are sent again after it.
    """

    def __init__(
        self,
        transport: Transport,
        hello: Callable[[], Hello],
        on_welcome: Callable[[Welcome], None],
        on_deliver: Callable[[Deliver], None],
        on_cancel: Callable[[list[str]], None],
    ) -> None:
        self._transport = transport
        self._hello = hello
        self._on_welcome = on_welcome
        self._on_deliver = on_deliver
        self._on_cancel = on_cancel
        self._socket: Socket | None = None
        self._pending: dict[int, tuple[bytes, asyncio.Future[msgspec.Raw]]] = {}
        self._last_number = 0
        self.subscribed = asyncio.Event()

    async def run(self) -> None:
        """Connects, and reconnects whenever the connection is lost.

        Ends only when cancelled or refused for good.
        """
        backoff, announced = Backoff(FIRST_DELAY, LONGEST_DELAY), False
        loop = asyncio.get_running_loop()
        while True:
            self.subscribed.clear()
            opened_at, pause = loop.time(), 0.0
            try:
                async with self._transport.connect("events", "/v1/events/connect") as socket:
                    await self._open(socket)
                    announced = False
                    while True:
                        await self._take(_frames.decode(await socket.receive()))
            except Unavailable as error:
                if loop.time() - opened_at > LONGEST_DELAY:  # it worked, it was not just opened
                    backoff.reset()
                if not announced:
                    log.warning("not connected, trying again until it works: %s", error)
                    announced = True
                pause = room_after(error, backoff)
            finally:
                self._socket = None
            await asyncio.sleep(pause)

    async def _open(self, socket: Socket) -> None:
        await socket.send(_encode(self._hello()))
        welcome = _frames.decode(await socket.receive())
        if isinstance(welcome, Welcome | Goodbye) and welcome.protocol != PROTOCOL:
            raise mismatch(sdk=PROTOCOL, platform=welcome.protocol)
        if isinstance(welcome, Goodbye):
            raise from_problem(welcome.problem or {})
        if not isinstance(welcome, Welcome):
            raise SoormaError(
                "this is not an event service of Soorma; check SOORMA_EVENT_SERVICE_URL"
            )
        self._on_welcome(welcome)
        self._socket = socket
        for message, _ in list(self._pending.values()):
            await socket.send(message)
        self.subscribed.set()

    async def _take(self, frame: ServiceFrame) -> None:
        match frame:
            case Deliver():
                self._on_deliver(frame)
            case Answer(number=number):
                _, future = self._pending.pop(number, (None, None))
                if future is not None and not future.done():
                    if frame.problem is not None:
                        future.set_exception(from_problem(frame.problem))
                    else:
                        future.set_result(
                            msgspec.Raw(b"{}") if frame.body is msgspec.UNSET else frame.body
                        )
            case CancelFrame(fences=fences):
                self._on_cancel(fences)
            case Goodbye(problem=problem):
                error = from_problem(problem or {})
                if isinstance(error, Unauthorized):
                    # Another key may be there by now; if not, the next connection is refused.
                    raise Unavailable(error.message)
                raise error

    def number(self) -> int:
        """A number for a frame that expects a response."""
        self._last_number += 1
        return self._last_number

    async def call(self, frame: CommitFrame | FailFrame | StepFrame | ReleaseFrame) -> msgspec.Raw:
        """Sends a numbered frame and returns its response, across any number of reconnections.

        A frame that cannot be sent at all raises here, before anything waits for it: InvalidValue
        if it is no JSON, LimitExceeded if it is too large. If it were sent, it would break the
        connection again and again.
        """
        message = _encode(frame)
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[frame.number] = (message, future)
        try:
            await self._send(message)
            return await future
        finally:
            self._pending.pop(frame.number, None)

    async def drain(self) -> None:
        """Asks for no further deliveries."""
        await self._send(_encode(DrainFrame()))

    async def _send(self, message: bytes) -> None:
        if self._socket is not None:
            with suppress(Unavailable):  # it is sent again when the connection is back
                await self._socket.send(message)


def _encode(frame: AgentFrame) -> bytes:
    try:
        message = _encoder.encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidValue(
            f"what the handler sends cannot be said in JSON: {error}", path="$"
        ) from error
    if len(message) > LARGEST_FRAME:
        raise LimitExceeded(
            f"what the handler sends would be {len(message):,} bytes, and the limit frame_bytes is "
            f"{LARGEST_FRAME:,}; "
            "nothing was changed. Commit in smaller parts: let the handler publish an event for "
            "each",
            limit="frame_bytes",
            maximum=LARGEST_FRAME,
            actual=len(message),
        )
    return message
