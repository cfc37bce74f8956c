"""A service as an ASGI application: it guards requests, routes them, and reports errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import msgspec

from soorma_common import __version__
from soorma_common.errors import (
    Forbidden,
    InvalidRequest,
    ProtocolMismatch,
    SoormaError,
    Unauthorized,
    Unavailable,
)
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, WHY_HEADER
from soorma_platform.http.asgi import AsgiScope, Message, Receive, Send, WebSocket
from soorma_platform.http.endpoints import ANYBODY_KNOWN, Endpoint, Table, names_of
from soorma_platform.http.guard import Guard, OpenGuard
from soorma_platform.http.requests import Request, check_once, peer_of
from soorma_platform.http.responses import Response, WholeResponse, problem, problem_document
from soorma_platform.http.scrape import Scrape
from soorma_platform.identity import (
    Access,
    Door,
    Entrance,
    OpenDoor,
    Principal,
    check_protocol,
)
from soorma_platform.identity.keyring import is_revocation, revoked_error
from soorma_platform.identity.traffic import Traffic
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics, RouteMeter
from soorma_platform.stores.ports.health import HealthStore

log = Log("soorma.http")
_LENGTH = b"content-length"
_PUBLIC = frozenset({Access.PUBLIC})


class StoreHealth(msgspec.Struct, omit_defaults=True):
    """The health of the record.

    For `clock_settles_in` seconds nothing that has expired is removed: the clock may be wrong.
    `clock_jumps` counts the jumps of the system's clock since the platform started, or just before.
    """

    status: str
    detail: str | None = None
    clock_jumps: int = 0
    clock_settles_in: int = 0


class Health(msgspec.Struct, omit_defaults=True):
    """The health of a service: `ok` or `failing`; its version and record for those who may know."""

    service: str
    status: str
    version: str = ""
    store: StoreHealth | None = None


class SocketEndpoint(NamedTuple):
    """The endpoint of a WebSocket: whom it admits, with which scope, and what serves it."""

    access: frozenset[Access]
    scope: str
    serve: Callable[[WebSocket, Principal], Awaitable[None]]


class _Served(NamedTuple):
    """An endpoint as it is served: its entrance, function, query parameters and meter."""

    entrance: Entrance
    run: Callable[[Request], Awaitable[Response]]
    query: frozenset[str]
    meter: RouteMeter
    reads: bool
    """true if its requests have a body"""


class Application:
    """A service: its endpoints, `/health`, `/metrics`, `/openapi.json`, and WebSockets by path."""

    health_type: ClassVar[type[Health]] = Health
    """type of its response to `GET /health`"""
    is_for_people: ClassVar[bool] = False
    """true if a browser's session opens what it says of itself"""

    def __init__(
        self,
        name: str,
        endpoints: Iterable[Endpoint],
        health: HealthStore,
        sockets: Mapping[str, SocketEndpoint] | None = None,
        metrics: Metrics | None = None,
        about: str = "",
        door: Door | None = None,
    ) -> None:
        self.name = name
        self.about = about
        self.hint = ""
        self.endpoints = [
            Endpoint(
                "GET",
                "/health",
                _PUBLIC,
                self.health,
                self.health_type,
                also={503: self.health_type},
                by_cookie=self.is_for_people,
            ),
            Endpoint(
                "GET",
                "/metrics",
                frozenset({Access.OPERATOR}),
                self.metrics,
                str,
                media_type="text/plain",
                by_cookie=self.is_for_people,
            ),
            Endpoint(
                "GET",
                "/openapi.json",
                ANYBODY_KNOWN,
                self.openapi,
                dict[str, Any],
                by_cookie=self.is_for_people,
            ),
            *endpoints,
        ]
        self._openapi = b""
        self._record = health
        self.sockets = sockets or {}
        self.door: Door = door or OpenDoor()
        self.guard: Guard = OpenGuard()
        """the strictest, unless the platform sets another"""
        metrics = metrics or Metrics()
        self._scrape = Scrape(health, metrics)
        self._nowhere = metrics.route(name, "other", "other")
        self._meters = metrics.door
        self.traffic = Traffic(meters=metrics.door)
        """without limits, unless the platform sets another"""
        self._table: Table[_Served] = Table()
        for endpoint in self.endpoints:
            meter = metrics.route(name, endpoint.method, endpoint.path)
            query = frozenset(parameter.name for parameter in endpoint.query)
            reads = endpoint.body is not None
            served = _Served(endpoint.entrance, endpoint.run, query, meter, reads)
            self._table.add(endpoint.path, endpoint.method, served, endpoint.names)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Responds to a request or serves a WebSocket."""
        if scope["type"] == "http":
            began = perf_counter()
            response, meter = await self._respond(scope, receive)
            # A stream is counted when it begins.
            meter.note(getattr(response, "status", 200), perf_counter() - began)
            try:
                await response(scope, receive, send)
            except asyncio.CancelledError as error:
                if not is_revocation(error):
                    raise
        elif scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)

    async def health(self, request: Request) -> Response:
        """Returns the health of the service and of the record behind it; 503 if it is failing.

        A closed platform says whether it is well, and more to those who may read its metrics.
        """
        state = await self.state()
        credential = request.principal.credential
        is_known = credential is not None and "platform:read" in credential.scopes
        told = state if self.door.is_open or is_known else Health(state.service, state.status)
        return WholeResponse(msgspec.json.encode(told), 200 if state.status == "ok" else 503)

    async def state(self) -> Health:
        """Returns the health of the service."""
        try:
            await self._record.check()
        except SoormaError as error:
            return Health(self.name, "failing", __version__, StoreHealth("failing", error.message))
        clock = self._record.clock()
        well = StoreHealth(
            "ok", clock_jumps=clock.jumps, clock_settles_in=math.ceil(clock.settles_in)
        )
        return Health(self.name, "ok", __version__, well)

    async def metrics(self, request: Request) -> Response:
        """Returns the metrics of this process, for Prometheus."""
        body, kind = await self._scrape.render(request.header("Accept") or "")
        return WholeResponse(body, kind=kind.encode())

    async def openapi(self, _: Request) -> Response:
        """Returns this document, the service's API as OpenAPI 3.1."""
        if not self._openapi:
            self._openapi = self.describe()
        return WholeResponse(self._openapi)

    def describe(self) -> bytes:
        """Returns the OpenAPI document of the service as JSON text."""
        from soorma_platform.http import openapi  # noqa: PLC0415 - imported only if requested

        return openapi.document(
            f"Soorma: the {self.name} service", self.about, {self.name: self.endpoints}
        )

    async def _respond(self, scope: AsgiScope, receive: Receive) -> tuple[Response, RouteMeter]:
        meter = self._nowhere
        if why := self.guard.refusal(scope):
            return problem(Forbidden(why)), meter
        try:
            request = Request(scope, receive)
            check_protocol(request.headers)
            endpoints, parts = self._table.find(request.path)
            found = endpoints.get("GET" if request.method == "HEAD" else request.method)
            if found is None:
                return self._nothing_there(request, endpoints), meter
            served, names = found
            meter = served.meter
            principal = await self.door.admit(served.entrance, request.headers)
            request.principal = principal
            self.traffic.admit(principal, served.entrance, request.headers.get(_LENGTH))
            request.check_query(served.query)
            if names:
                request.names = names_of(names, parts)
            return await self._run(served, request), meter
        except Unauthorized as error:
            return problem(self.traffic.refused(peer_of(scope), error)), meter
        except SoormaError as error:
            if isinstance(error, Forbidden):
                self._meters.forbidden.add()
            return problem(error), meter
        except asyncio.CancelledError as error:
            if not is_revocation(error):
                raise
            return problem(revoked_error()), meter
        except (RecursionError, OverflowError) as error:
            return problem(
                InvalidRequest(
                    f"what the request says is nested too deeply, or a number too large: {error}"
                )
            ), meter
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            return problem_document(_FAULT), meter

    async def _run(self, served: _Served, request: Request) -> Response:
        owner = request.principal.owner
        share = None if served.entrance.lasts else self.traffic.requests.of(owner)
        try:
            if share is None:
                return await served.run(request)
            return await request.in_turn(share, served.run, once_read=served.reads)
        finally:
            if served.reads and _LENGTH not in request.headers:
                self.traffic.received(owner, len(request.sent))

    def _nothing_there(self, request: Request, endpoints: Mapping[str, object]) -> Response:
        kind, status = ("method_not_allowed", 405) if endpoints else ("not_found", 404)
        response = problem_document(
            {
                "type": f"urn:soorma:problem:{kind.replace('_', '-')}",
                "title": kind,
                "status": status,
                "detail": f"there is no {request.method} {request.path} at "
                f"{request.header('Host')}, "
                f"which is the {self.name} service{self.hint}",
                "code": kind,
            }
        )
        if endpoints:
            methods = {*endpoints, "HEAD"} if "GET" in endpoints else endpoints
            response.headers.append((b"allow", ", ".join(sorted(methods)).encode()))
        return response

    async def _serve_socket(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        socket, why = self.sockets.get(scope["path"]), ""
        if unwanted := self.guard.refusal(scope):
            await receive()
            await _refuse_socket(Forbidden(unwanted), scope, receive, send)
            return
        if socket is not None:
            try:
                check_once(scope["headers"])
                headers = dict(scope["headers"])
                check_protocol(headers)
                entrance = Entrance(socket.access, socket.scope, lasts=True)
                principal = await self.door.admit(entrance, headers)
                self.traffic.admit(principal, entrance, None)
            except Unauthorized as error:
                await receive()
                refused = self.traffic.refused(peer_of(scope), error)
                await _refuse_socket(refused, scope, receive, send)
                return
            except (ProtocolMismatch, Forbidden, Unavailable) as error:
                if isinstance(error, Forbidden):
                    self._meters.forbidden.add()
                await receive()
                await _refuse_socket(error, scope, receive, send)
                return
            except SoormaError as error:
                why = error.message
            else:
                await socket.serve(WebSocket(receive, send), principal)
                return
        await receive()
        await send(
            {
                "type": "websocket.close",
                "code": 1008,
                "reason": (why or "there is no such socket")[:120],
            }
        )


async def _refuse_socket(
    error: SoormaError, scope: AsgiScope, receive: Receive, send: Send
) -> None:
    """Responds to a handshake with a problem document.

    Adds the header that the server adds to other responses.
    """

    async def send_instead(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    refused = problem(error)
    # The server adds the length itself; older ones add it to ours, and clients refuse two.
    refused.headers = [
        (name, value) for name, value in refused.headers if name != b"content-length"
    ]
    refused.headers.append((PROTOCOL_HEADER.lower().encode(), str(PROTOCOL).encode()))
    # A client does not see the body of a refused handshake.
    refused.headers.append((WHY_HEADER.lower().encode(), quote(error.message).encode()))
    await refused(scope, receive, send_instead)


_FAULT = {
    "type": "urn:soorma:problem:internal",
    "title": "internal error",
    "status": 500,
    "detail": "the platform has a fault here; see its log (soorma dev --logs)",
    "code": "internal",
}
