"""Calls to the platform: retried through outages, each change made once, problems as errors."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from copy import copy
from typing import Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec

from soorma.config import ClientConfig, Service, Unnamed
from soorma.local import shown
from soorma.transport.authorization import KeyedTransport
from soorma.transport.headers import FENCE_HEADER, scope_headers
from soorma.transport.http import HttpTransport, Transport
from soorma.transport.pauses import Backoff, room_after
from soorma.transport.sent_events import Parser
from soorma_common.errors import (
    SoormaError,
    TimedOut,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    from_problem,
)
from soorma_common.names import Scope

FIRST_DELAY = 0.05
LONGEST_DELAY = 1.0
SHORTEST_TRY = 1.0
SILENCE_SECONDS = 1.0
"""Seconds without a response after which the log explains the wait."""

MOST_SECONDS = 86400.0
"""Seconds beyond which a deadline is not logged: no person waits for it."""

log = logging.getLogger("soorma.calls")
T = TypeVar("T")
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Caller:
    """A caller over a transport that retries calls which do not get through, for `retry_seconds`.

    `addresses` are those of the services, for the log in an outage.
    """

    def __init__(
        self,
        transport: Transport,
        retry_seconds: float,
        addresses: Mapping[Service, str] | None = None,
    ) -> None:
        self.transport = transport
        self._retry_seconds = retry_seconds
        self.fence: str | None = None
        self._addresses = {
            service: shown(address) for service, address in (addresses or {}).items()
        }
        self.is_silent = False

    def under(self, fence: str) -> Caller:
        """Returns a caller whose calls are all made under the fence of a delivery."""
        caller = copy(self)
        caller.fence = fence
        return caller

    async def call(
        self,
        service: Service,
        method: str,
        path: str,
        *,
        scope: Scope | None = None,
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        fence: str | None = None,
        patience: float = 0.0,
    ) -> bytes:
        """Makes a call and returns the body of a successful response; raises the error of another.

        Raises Unavailable once the retries have run out, or a quota has no room before. `patience`
        is how many seconds longer a single response may take. A change carries an idempotency key,
        the same for each try, so that it is made at most once.
        """
        headers = scope_headers(scope)
        if (under := fence or self.fence) is not None:
            headers[FENCE_HEADER] = under
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method != "GET":
            headers["Idempotency-Key"] = f"sdk:{uuid4()}"
        path = with_query(path, query)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_seconds
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        tell_at = loop.time() + SILENCE_SECONDS + patience
        while True:
            over = max(deadline, loop.time() + SHORTEST_TRY) + patience
            try:
                # The limit is set only when the silence is logged: a response that comes in time
                # needs just one timer.
                async with asyncio.timeout(None) as limit:
                    timer = loop.call_at(
                        min(max(tell_at, loop.time()), over),
                        self._wait_on,
                        limit,
                        over,
                        service,
                        deadline + patience,
                    )
                    try:
                        answer = await self.transport.request(service, method, path, headers, body)
                    finally:
                        timer.cancel()
                if self.is_silent:
                    self.tell_answer(service)
                return checked(*answer)
            except TimedOut:
                raise  # the platform has waited as long as it was asked to
            except TooManyRequests as error:
                await self._wait_for_room(error, backoff, deadline - loop.time())
            except (Unavailable, TimeoutError) as error:
                left = deadline - loop.time()
                if left <= 0 and not isinstance(error, Unavailable):
                    raise Unavailable(
                        f"the {service} service is there, but gave no answer in time"
                    ) from error
                if left <= 0:
                    raise
                await self._pause(min(left, backoff.pause()), tell_at - patience, service, deadline)

    async def _wait_for_room(self, error: TooManyRequests, backoff: Backoff, left: float) -> None:
        """Waits until the quota has room again; raises the error if that is too late."""
        pause = room_after(error, backoff)
        if pause > left:
            raise error
        log.info("waiting %.2f s: %s", pause, error)
        await asyncio.sleep(pause)

    def _wait_on(
        self, limit: asyncio.Timeout, over: float, service: Service, deadline: float
    ) -> None:
        """Logs the silence, and goes on waiting until `over`."""
        self.tell_silence(service, deadline)
        limit.reschedule(over)

    async def _pause(
        self, seconds: float, tell_at: float, service: Service, deadline: float
    ) -> None:
        """Waits between two tries, and logs the silence if it becomes due meanwhile."""
        before = max(tell_at - asyncio.get_running_loop().time(), 0)
        if before < seconds:
            await asyncio.sleep(before)
            self.tell_silence(service, deadline)
            seconds -= before
        await asyncio.sleep(seconds)

    async def read(
        self,
        service: Service,
        path: str,
        scope: Scope | None,
        *,
        patience: float = 0.0,
        **query: Any,
    ) -> Any:
        """Returns the response to a GET as plain Python values."""
        return _any.decode(
            await self.call(service, "GET", path, scope=scope, query=query, patience=patience)
        )

    async def get(
        self,
        service: Service,
        path: str,
        scope: Scope | None,
        decoder: msgspec.json.Decoder[T],
        **query: Any,
    ) -> T:
        """Returns the response to a GET as decoded by `decoder`."""
        return decoder.decode(await self.call(service, "GET", path, scope=scope, query=query))

    async def pages(
        self,
        service: Service,
        path: str,
        scope: Scope | None,
        decoder: msgspec.json.Decoder[T],
        **query: Any,
    ) -> AsyncGenerator[T, None]:
        """Yields the pages of a listing.

        The `next` of a page, a field or a key, is the `after` of the following one.
        """
        after = query.pop("after", None)
        while True:
            page: Any = await self.get(service, path, scope, decoder, after=after, **query)
            yield page
            after = page["next"] if isinstance(page, dict) else page.next
            if after is None:
                return

    async def follow(
        self,
        service: Service,
        path: str,
        scope: Scope | None,
        query: Mapping[str, Any],
        *,
        for_ever: bool = False,
    ) -> AsyncGenerator[tuple[str, int | None, bytes], None]:
        """Yields server-sent events as (kind, id, data); resumes without a gap after a disconnect.

        Yields ("open", …) each time the stream is established. A broken message is logged with its
        position and skipped, so that it does not keep readers from later ones. Raises Unavailable
        once an outage has lasted for the time of the retries; with `for_ever`, only if the stream
        was never established.
        """
        silence = _Silence(self, service)
        try:
            async with aclosing(
                self._follow(service, path, scope, query, silence, for_ever=for_ever)
            ) as sent:
                async for each in sent:
                    yield each
        finally:
            silence.end()

    async def _follow(
        self,
        service: Service,
        path: str,
        scope: Scope | None,
        query: Mapping[str, Any],
        silence: _Silence,
        *,
        for_ever: bool,
    ) -> AsyncGenerator[tuple[str, int | None, bytes], None]:
        headers = scope_headers(scope)
        if self.fence is not None:
            headers[FENCE_HEADER] = self.fence
        path = with_query(path, query)
        loop = asyncio.get_running_loop()
        backoff, stood = Backoff(FIRST_DELAY, LONGEST_DELAY), False
        deadline = loop.time() + self._retry_seconds
        silence.begin(deadline)
        while True:
            try:
                async with self.transport.stream(service, path, headers) as (status, pieces):
                    if status >= 400:
                        checked(status, b"".join([piece async for piece in pieces]))
                    async for kind, identity, data in _sent_events(pieces):
                        silence.is_broken()
                        if identity is not None:
                            headers["Last-Event-ID"] = str(identity)
                        if kind not in ("", "open") and not _is_whole(path, kind, identity, data):
                            continue
                        if kind == "problem":
                            raise _end_of_stream(_any.decode(data))
                        if kind:
                            yield kind, identity, data
                        stood = True
                        deadline = loop.time() + self._retry_seconds
                        backoff.reset()
            except Unavailable as error:
                if loop.time() >= deadline and not (for_ever and stood):
                    raise
                pause = room_after(error, backoff)
            else:
                pause = backoff.pause()
            silence.begin(math.inf if for_ever and stood else deadline)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Closes the transport."""
        await self.transport.close()

    def tell_silence(self, service: Service, deadline: float) -> None:
        """Logs, once per outage, that a service does not respond and until when it is retried."""
        if self.is_silent or deadline <= asyncio.get_running_loop().time():
            return
        self.is_silent = True
        where = f" at {self._addresses[service]}" if service in self._addresses else ""
        log.warning("no answer from the %s service%s; trying %s", service, where, _until(deadline))

    def tell_answer(self, service: Service) -> None:
        """Logs that the service responds again."""
        self.is_silent = False
        log.info("the %s service responds again", service)


def _end_of_stream(problem: Any) -> SoormaError:
    """Returns the error that a stream ends with.

    One whose key was revoked is opened again: there may be another key by now, and if not, that is
    refused.
    """
    error = from_problem(problem)
    return Unavailable(error.message) if isinstance(error, Unauthorized) else error


class _Silence:
    """A timer that logs a service's silence after `SILENCE_SECONDS`."""

    def __init__(self, caller: Caller, service: Service) -> None:
        self._caller = caller
        self._service = service
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, deadline: float) -> None:
        """Starts the timer, unless it was started already."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                SILENCE_SECONDS, self._caller.tell_silence, self._service, deadline
            )

    def is_broken(self) -> None:
        """Stops the timer, as the service has sent something; logs the end of an outage."""
        self.end()
        if self._caller.is_silent:
            self._caller.tell_answer(self._service)

    def end(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _until(deadline: float) -> str:
    """Returns how long the retries go on, in words for the log."""
    left = deadline - asyncio.get_running_loop().time()
    if left > MOST_SECONDS:
        return "until it comes"
    return (
        f"for another {max(left, 0):.0f} s, until "
        f"{time.strftime('%H:%M:%S', time.localtime(time.time() + left))}"
    )


def caller_for(config: ClientConfig) -> Caller:
    """Returns a caller of the platform that a configuration names."""
    transport: Transport = HttpTransport(config.addresses, config.origin)
    if config.api_key is not None:
        transport = KeyedTransport(transport, config.api_key)
    return Caller(transport, config.retry_seconds, config.addresses)


async def _sent_events(
    pieces: AsyncIterator[bytes],
) -> AsyncIterator[tuple[str, int | None, bytes]]:
    """Yields the messages of a stream, after an "open" one once the first arrives."""
    parser = Parser()
    is_open = False
    async for piece in pieces:
        for message in parser.feed(piece):
            if not is_open:
                is_open = True
                yield "open", message.id, b""
            yield message


def _is_whole(path: str, kind: str, identity: int | None, data: bytes) -> bool:
    """True if a message holds a JSON object, as all of the platform's do; logs it if not."""
    try:
        if isinstance(_any.decode(data), dict):
            return True
        why = "it is no JSON object"
    except (ValueError, RecursionError) as error:
        why = str(error)
    where = "without a position" if identity is None else f"at position {identity}"
    log.warning(
        "passed over a broken message %s of %s (%s): %s: %.200r", where, path, kind, why, data
    )
    return False


def with_query(path: str, query: Mapping[str, Any] | None) -> str:
    """Returns the path with those values of the query that are not None, and not `Unnamed`."""
    given = {
        name: value
        for name, value in (query or {}).items()
        if value is not None and not isinstance(value, Unnamed)
    }
    return f"{path}?{urlencode(given)}" if given else path


def segment(name: str) -> str:
    """Returns a name as a path segment."""
    return quote(name, safe="")


def checked(status: int, body: bytes) -> bytes:
    """Returns the body of a success; else raises the error of the problem document."""
    if status < 400:
        return body
    try:
        problem = _any.decode(body)
    except msgspec.DecodeError:
        problem = {}
    if not isinstance(problem, dict) or "code" not in problem:
        if status >= 500:
            raise Unavailable(f"the platform responded with {status}: {body[:200]!r}")
        raise SoormaError(
            f"something other than Soorma responded with {status}: {body[:200]!r}; "
            "check the address"
        )
    raise from_problem(problem)
