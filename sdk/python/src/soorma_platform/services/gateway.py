"""The gateway: one entrance to all services, with a page of what runs, where, and its health."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import msgspec

from soorma_common import __version__
from soorma_common.errors import InvalidRequest, Unauthorized
from soorma_platform import http
from soorma_platform.http import ANYBODY_KNOWN, Endpoint, Request, Response
from soorma_platform.http.asgi import AsgiScope, Receive, Send
from soorma_platform.identity import Access, Door
from soorma_platform.identity.door import COOKIES
from soorma_platform.identity.keyring import Keyring
from soorma_platform.identity.sessions import BrowserSessions, set_cookie, token_in
from soorma_platform.metrics import Metrics
from soorma_platform.services.directory import Directory
from soorma_platform.stores.ports.health import HealthStore

NAME = "gateway"

_PUBLIC = frozenset({Access.PUBLIC})
_LINKS = ("health", "metrics", "openapi.json")
_PART = re.compile("<(style|script)>(.*?)</", re.DOTALL)


class ServiceHealth(msgspec.Struct):
    """The health of a service, and the address at which it listens itself."""

    address: str
    status: str


class SessionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A key, with which a browser begins a session."""

    key: str

    def __repr__(self) -> str:
        return "SessionBody()"  # without the key


class SessionState(msgspec.Struct):
    """Whether a browser has a session now."""

    is_open: bool


_session = msgspec.json.Decoder(SessionBody)


class People(NamedTuple):
    """What the page of a closed platform needs: keys, and the sessions of browsers."""

    keyring: Keyring
    sessions: BrowserSessions


class GatewayHealth(http.Health):
    """The health of the gateway, and of each service behind it."""

    services: dict[str, ServiceHealth] = msgspec.field(default_factory=dict)


class Gateway(http.Application):
    """An application that leads to services by the path's beginning, `/v1/` and a service's name.

    It holds no state of its own. `addresses` are those at which the services, and the gateway,
    listen themselves.
    """

    health_type = GatewayHealth
    is_for_people = True

    def __init__(
        self,
        services: Mapping[str, http.Application],
        addresses: Mapping[str, str],
        directory: Directory,
        health: HealthStore,
        metrics: Metrics | None = None,
        door: Door | None = None,
        people: People | None = None,
    ) -> None:
        self._people = people
        known = ANYBODY_KNOWN
        own = [
            Endpoint("GET", "/", _PUBLIC, self.page, str, media_type="text/html", by_cookie=True),
            Endpoint("GET", "/asyncapi.json", known, self.asyncapi, dict[str, Any], by_cookie=True),
            Endpoint("POST", "/session", _PUBLIC, self.begin_session, SessionState, SessionBody,
                     errors=(Unauthorized,)),
            Endpoint("DELETE", "/session", _PUBLIC, self.end_session, SessionState),
        ]  # fmt: skip
        self._directory = directory
        super().__init__(NAME, own, health, metrics=metrics, about=__doc__ or "", door=door)
        self._services = services
        self._addresses = addresses
        self._led = {f"/v1/{name}/": service for name, service in services.items()}
        self.hint = (
            f"; the gateway leads to {', '.join(f'{path}…' for path in self._led)}, see "
            "GET /openapi.json"
        )

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Passes the request to the service that it is for, or responds itself."""
        path: str = scope["path"]
        service = self._led.get(path[: path.find("/", len("/v1/")) + 1])
        if service is None:
            await super().__call__(scope, receive, send)
        else:
            await service(scope, receive, send)

    async def state(self) -> GatewayHealth:
        """Returns the health of the gateway and of all services."""
        own = await super().state()
        services = {
            name: ServiceHealth(self._addresses[name], (await service.state()).status)
            for name, service in self._services.items()
        }
        is_well = own.status == "ok" and all(one.status == "ok" for one in services.values())
        return GatewayHealth(
            own.service, "ok" if is_well else "failing", own.version, own.store, services
        )

    async def asyncapi(self, request: Request) -> Response:
        """Returns the AsyncAPI 3.0 document.

        It describes the topics, their events, the registered event types and the agents' WebSocket.
        """
        from soorma_platform.services import asyncapi  # noqa: PLC0415 - only its requests pay for it

        return await asyncapi.respond(self._directory, request)

    async def page(self, request: Request) -> Response:
        """Returns a page for people: what runs, where, and its health.

        A closed platform asks for a key first.
        """
        if not self.door.is_open and request.principal.credential is None:
            text, policy = _template("gateway_key.html")
            return _page(text.template, policy)
        state = await self.state()
        rows = [_row(NAME, self._addresses[NAME], state.status, self.about)]
        for name, service in state.services.items():
            rows.append(_row(name, service.address, service.status, self._services[name].about))
        text, policy = _template("gateway.html")
        page = text.substitute(rows="".join(rows), version=__version__, store=_store(state.store))
        return _page(page, policy)

    async def begin_session(self, request: Request) -> Response:
        """Begins a session of a browser with a key: its cookie opens the page, and no data."""
        body = http.decode(await request.body(), _session)
        if self._people is None or self.door.is_open:
            raise InvalidRequest("this platform is open: it asks nobody for a key")
        credential = await self._people.keyring.credential(f"Bearer {body.key}")
        return _session_state(request, self._people.sessions.begin(credential))

    async def end_session(self, request: Request) -> Response:
        """Ends the session of a browser."""
        token = token_in(request.headers.get(COOKIES))
        if self._people is not None and token is not None:
            self._people.sessions.end(token)
        return _session_state(request, "")

    def describe(self) -> bytes:
        """Returns the OpenAPI document of all services, as JSON text."""
        from soorma_platform.http import openapi  # noqa: PLC0415 - only its requests pay for it

        tables = {name: service.endpoints for name, service in self._services.items()}
        led = {
            name: [one for one in table if one.path.startswith("/v1/")]
            for name, table in tables.items()
        }
        return openapi.document("Soorma", self.about, {NAME: self.endpoints, **led})


def _session_state(request: Request, token: str) -> Response:
    response = http.json_response(SessionState(bool(token)))
    cookie = set_cookie(token, secure=request.is_encrypted)
    response.headers.append((b"set-cookie", cookie))
    return response


def _row(name: str, address: str, status: str, about: str) -> str:
    from html import escape  # noqa: PLC0415 - it brings a table of all entities

    links = " ".join(f'<a href="{escape(address)}/{link}">{link}</a>' for link in _LINKS)
    said = about.partition("\n")[0].partition(": ")[2] or about
    return (
        f'<tr id="{name}"><th scope="row">{name}</th><td class="{status}">{status}</td>'
        f"<td><code>{escape(address)}</code></td><td>{escape(said)}</td><td>{links}</td></tr>\n"
    )


def _store(state: http.StoreHealth | None) -> str:
    from html import escape  # noqa: PLC0415

    assert state is not None  # noqa: S101 - the gateway has asked for it
    said = escape(state.detail or "It can be read.")
    return (
        f'<span id="store" class="{state.status}">{state.status}</span>. <span '
        f'id="detail">{said}</span>'
    )


def _page(page: str, policy: bytes) -> Response:
    response = http.WholeResponse(page.encode(), kind=b"text/html; charset=utf-8")
    response.headers += [
        (b"content-security-policy", policy),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    return response


@cache
def _template(name: str) -> tuple[Template, bytes]:
    """Returns a page, and the policy that allows what is in it and nothing else."""
    text = Path(__file__).with_name(name).read_text("utf-8")
    sources = {
        kind: b64encode(sha256(part.encode()).digest()).decode()
        for kind, part in _PART.findall(text)
    }
    policy = (
        f"default-src 'none'; style-src 'sha256-{sources['style']}'; script-src "
        f"'sha256-{sources['script']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors "
        "'none'"
    )
    return Template(text), policy.encode()
