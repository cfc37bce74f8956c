"""An OpenID Connect issuer on loopback, for tests: real keys and signatures, counted fetches."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from functools import cache
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, KeyParameters, OKPKey, RSAKey

AUDIENCE = "https://soorma.example"
Key = RSAKey | ECKey | OKPKey


@cache
def key_named(kid: str, kind: str = "RSA") -> Key:
    """Returns a private key; the same one for the same name, as they take a while to make."""
    parameters: KeyParameters = {"kid": kid}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters)
    if kind == "OKP":
        return OKPKey.generate_key("Ed25519", parameters)
    return ECKey.generate_key("P-256", parameters)


def encoded(data: bytes | dict[str, Any]) -> str:
    """Returns a part of a token: base64url without padding."""
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenIssuer:
    """An issuer that serves its discovery document and its keys, and signs tokens.

    `fetches` counts requests for keys. While `status` is not 200 it responds with that; while
    `hung` is set, not at all.
    """

    def __init__(self, *kids: str) -> None:
        self.keys = [key_named(kid) for kid in kids or ("one",)]
        self.fetches = 0
        self.status = 200
        self.headers = dict[str, str]()
        self._counted = asyncio.Condition()
        self.body: bytes | None = None
        self.discovery: dict[str, Any] = {}
        self.hung: asyncio.Event | None = None
        self.others = list[str]()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_route("*", "/{rest:.*}", self._other)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._site: web.TCPSite | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The issuer's name, and where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys_url(self) -> str:
        """The address of its keys."""
        return f"{self.url}/keys"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.hung is not None:
            self.hung.set()
        await self._runner.cleanup()

    async def start(self) -> None:
        """Listens, on the same port as before."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listens no more: connections are refused."""
        assert self._site is not None
        await self._site.stop()

    async def fetched(self, count: int) -> None:
        """Waits until so many more requests for keys have begun."""
        until = self.fetches + count
        async with asyncio.timeout(20), self._counted:
            await self._counted.wait_for(lambda: self.fetches >= until)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Returns the claims of a valid token; None leaves one out."""
        now = int(time.time())
        found = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "tenant_id": "acme",
            "role": "app",
            "iat": now,
            "exp": now + 3600,
            "jti": "1",
            **more,
        }
        return {name: value for name, value in found.items() if value is not None}

    def token(
        self,
        *,
        key: Key | None = None,
        algorithm: str = "RS256",
        header: dict[str, Any] | None = None,
        payload: bytes | None = None,
        **claims: Any,
    ) -> str:
        """Returns a token, signed by its first key unless another is given."""
        key = key or self.keys[0]
        head = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        body = payload if payload is not None else json.dumps(self.claims(**claims)).encode()
        signed = f"{encoded(head)}.{encoded(body)}"
        model = jws.JWSRegistry.algorithms[algorithm]
        return f"{signed}.{encoded(model.sign(signed.encode(), key))}"

    async def _discovery(self, _: web.Request) -> web.Response:
        await self._stand()
        document = {"issuer": self.url, "jwks_uri": self.keys_url, **self.discovery}
        return web.json_response(document, status=self.status)

    async def _keys(self, _: web.Request) -> web.Response:
        async with self._counted:
            self.fetches += 1
            self._counted.notify_all()
        await self._stand()
        found = [key.as_dict(private=False, use="sig") for key in self.keys]
        body = json.dumps({"keys": found}).encode() if self.body is None else self.body
        response = web.Response(
            body=body, status=self.status, headers=self.headers, content_type="application/json"
        )
        response.force_close()  # or `stop` would leave a connection
        return response

    async def _other(self, request: web.Request) -> web.Response:
        self.others.append(request.path)
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def _stand(self) -> None:
        if self.hung is not None:
            await self.hung.wait()
