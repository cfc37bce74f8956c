"""The connection to the platform: its address, the tenant and user, and a quick probe of it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from soorma.cli import output
from soorma.cli.exits import CommandError, Exit, exit_of
from soorma_common.errors import SoormaError
from soorma_common.json_text import decode
from soorma_common.names import check_name
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

    from soorma.bus import BusClient
    from soorma.config import ClientConfig, Service
    from soorma.memory.client import MemoryClient
    from soorma.transport.calls import Caller

T = TypeVar("T")
_page = msgspec.json.Decoder(dict[str, Any])

PATIENCE_SECONDS = "3"
"""The seconds for which requests are retried: fewer than an agent's, for a person is waiting."""

SOURCE = "soorma-cli"

LARGEST_RESPONSE = 4 * 1024 * 1024

LONGEST_PAGE = 1000
"""The most rows that a service returns at once."""


class PlatformConnection:
    """The platform for one tenant and user, over connections of its own.

    Use it inside `on_platform`.
    """

    def __init__(self, config: ClientConfig, caller: Caller) -> None:
        self._config = config
        self._caller = caller
        self.scope = config.scope(None, None)

    @property
    def memory(self) -> MemoryClient:
        """The client of working memory, for changes."""
        from soorma.memory.client import MemoryClient  # noqa: PLC0415 - reading does without

        return MemoryClient.on(self._config, self._caller)

    @property
    def bus(self) -> BusClient:
        """The client of the bus, for publishing and cancelling."""
        from soorma.bus import BusClient  # noqa: PLC0415 - reading does without

        return BusClient(self._config, self._caller, SOURCE)

    async def read(self, service: Service, path: str, **query: Any) -> Any:
        """Returns the response to a GET, as the service documents it."""
        return await self._caller.read(service, path, self.scope, **query)

    async def send(
        self,
        service: Service,
        method: str,
        path: str,
        body: msgspec.Struct | None,
        kind: type[T],
        **query: Any,
    ) -> T:
        """Makes a request that names no user, and returns its response as a `kind`."""
        encoded = None if body is None else msgspec.json.encode(body)
        answer = await self._caller.call(service, method, path, body=encoded, query=query)
        return msgspec.json.decode(answer, type=kind)

    async def post(self, service: Service, path: str, **query: Any) -> None:
        """Sends a POST without a body."""
        await self._caller.call(service, "POST", path, scope=self.scope, query=query)

    async def delete(self, service: Service, path: str, **query: Any) -> Any:
        """Sends a DELETE and returns the response."""
        return decode(
            await self._caller.call(service, "DELETE", path, scope=self.scope, query=query)
        )

    async def whole(self, service: Service, path: str, rows: str, **query: Any) -> dict[str, Any]:
        """Returns all pages of a GET as one: the fields of the first with the `rows` of all."""
        pages = [
            page async for page in self._caller.pages(service, path, self.scope, _page, **query)
        ]
        found = {**pages[0], rows: [row for page in pages for row in page[rows]]}
        del found["next"]
        return found

    async def follow(
        self, service: Service, path: str, **query: Any
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Follows a stream until Ctrl+C and yields positions and data.

        Reconnecting neither loses nor repeats any.
        """
        stood = False
        async for kind, position, data in self._caller.follow(
            service, path, self.scope, query, for_ever=True
        ):
            if kind == "open":
                output.note(
                    "the stream stands again; nothing was lost"
                    if stood
                    else "following; Ctrl+C ends it"
                )
                stood = True
            elif position is not None:
                yield position, data

    async def close(self) -> None:
        """Closes the connections."""
        await self._caller.close()


def on_platform(
    tenant: str | None, user: str | None, work: Callable[[PlatformConnection], Awaitable[T]]
) -> T:
    """Does the work on the platform of this environment; a CommandError of one line if it fails."""
    _hear_the_sdk()
    try:
        return asyncio.run(_work(tenant, user, work))
    except SoormaError as error:
        raise CommandError(exit_of(error), " ".join(plain(error.message).split())) from error


def until_interrupted(
    tenant: str | None,
    user: str | None,
    stream: Callable[[PlatformConnection], AsyncGenerator[None, None]],
) -> None:
    """Follows a stream of the platform; Ctrl+C ends it, which is no failure."""

    async def follow(platform: PlatformConnection) -> None:
        async with _ending_with_its_reader(), aclosing(stream(platform)) as lines:
            async for _ in lines:
                pass

    try:
        on_platform(tenant, user, follow)
    except KeyboardInterrupt:
        return


def _hear_the_sdk() -> None:
    """Prints the SDK's warnings, such as those about an outage, for the person who is waiting."""
    log = logging.getLogger("soorma")
    if not log.handlers:
        log.addHandler(_Notes(logging.WARNING))


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output.note(plain(record.getMessage()))


@asynccontextmanager
async def _ending_with_its_reader() -> AsyncGenerator[None, None]:
    """Ends `… | head` as soon as head is gone, not only when the next line cannot be written."""
    task, descriptor, left = asyncio.current_task(), sys.stdout.fileno(), False

    def leave() -> None:
        nonlocal left
        left = True
        loop.remove_reader(descriptor)
        if task is not None:
            task.cancel()

    loop = asyncio.get_running_loop()
    if (
        stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    ):
        # The writing end of a pipe never becomes readable, but is reported when the pipe breaks.
        loop.add_reader(descriptor, leave)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            raise CommandError(Exit.OUTPUT_CLOSED, "") from None
        raise
    finally:
        loop.remove_reader(descriptor)


async def _work(
    tenant: str | None, user: str | None, work: Callable[[PlatformConnection], Awaitable[T]]
) -> T:
    from soorma.context import caller_for  # noqa: PLC0415 - imports aiohttp, which --help does without

    config = config_for(tenant, user)
    platform = PlatformConnection(config, caller_for(config))
    try:
        return await work(platform)
    finally:
        await platform.close()


def config_for(tenant: str | None, user: str | None) -> ClientConfig:
    """Returns the platform's addresses as the SDK finds them, with the options' tenant and user."""
    from soorma.config import ClientConfig  # noqa: PLC0415

    env = {"SOORMA_RETRY_SECONDS": PATIENCE_SECONDS}
    env |= {
        name: value for name, value in os.environ.items() if name.startswith("SOORMA_") and value
    }
    if tenant is not None:
        env["SOORMA_TENANT_ID"] = check_name("tenant_id", tenant)
    if user is not None:
        env["SOORMA_USER_ID"] = check_name("user_id", user)
    return ClientConfig.from_env(env, role="operator")


def key_headers() -> dict[str, str]:
    """Returns the header with the key of this environment, or folder; none if there is none."""
    try:
        api_key = config_for(None, None).api_key
    except SoormaError:
        return {}  # whoever needs the configuration says what is wrong with it
    return {"Authorization": f"Bearer {api_key}"} if isinstance(api_key, str) else {}


def plan_path(face: str, plan: str, key: str | None = None) -> str:
    """Returns the path of a plan, or of a key of it, at a face of the memory service.

    InvalidName if the plan or key cannot be a name.
    """
    from soorma.transport.calls import segment  # noqa: PLC0415 - imports aiohttp, which --help does without

    path = f"/v1/memory/{face}/{segment(check_name('plan_id', plan))}"
    return path if key is None else f"{path}/{segment(check_name('key', key))}"


class Response(NamedTuple):
    """A response from an address: status, JSON object and date; the trouble if it has no object."""

    address: str
    document: Mapping[str, Any] | None
    status: int = 0
    date: str | None = None
    trouble: str = ""


def probe(
    address: str,
    path: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    **query: object,
) -> Response:
    """Sends a GET without the SDK's client, and leaves out query parameters that are None."""
    sent = urlencode({name: value for name, value in query.items() if value is not None})
    found = _sent(address, f"{path}?{sent}" if sent else path, seconds, headers or {})
    return found if isinstance(found, Response) else _understood(address, *found)


def probe_text(
    address: str, path: str, *, seconds: float, headers: Mapping[str, str] | None = None
) -> str | None:
    """Returns the text that a GET is responded to with; None without one, or with a failure."""
    found = _sent(address, path, seconds, headers or {})
    if isinstance(found, Response) or found[0].status != HTTPStatus.OK:
        return None
    return found[1].decode(errors="replace")


def _sent(
    address: str, path: str, seconds: float, headers: Mapping[str, str]
) -> tuple[HTTPResponse, bytes] | Response:
    """Returns the response to a GET and its body, or the trouble."""
    from http.client import HTTPException  # noqa: PLC0415 - slow to import

    try:
        connection = _connection(address, seconds)
        try:
            target = f"{urlsplit(address).path.rstrip('/')}{path}"
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            return response, response.read(LARGEST_RESPONSE)
        finally:
            connection.close()
    except OSError as error:
        return Response(
            address,
            None,
            trouble=f"no answer ({error.strerror or str(error) or type(error).__name__})",
        )
    except (HTTPException, ValueError) as error:
        return Response(
            address,
            None,
            trouble=f"no answer that HTTP knows ({str(error) or type(error).__name__})",
        )


def _connection(address: str, seconds: float) -> HTTPConnection:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError("the address must begin with http:// or https://")
    from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415

    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=seconds)


def _understood(address: str, response: HTTPResponse, body: bytes) -> Response:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    trouble = "" if isinstance(document, dict) else "another program answers"
    return Response(
        address, None if trouble else document, response.status, response.headers["Date"], trouble
    )
