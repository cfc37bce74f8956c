"""A closed platform as a process, with TLS or without, and requests to it with its keys."""

from __future__ import annotations

import http.client
import ssl
import time
from contextlib import closing, suppress
from pathlib import Path

from platform_process import START_SECONDS, PlatformProcess
from private_ca import Pair, PrivateCA
from running import WAIT, Answer

from soorma_platform.identity.credentials import fresh_key

OPERATOR, APP, AGENT = "operator", "app", "agent"
_KEY = """
[[keys]]
name = "{role}"
role = "{role}"
credential = "{credential}"
{grants}
"""
_GRANTS = {
    OPERATOR: "",
    APP: 'tenant_id = "acme"\nuser_id = "ada"',
    AGENT: 'tenant_id = "acme"\nagents = ["*"]\nsubscribe = ["*"]\npublish = ["*"]',
}
_ADDRESSES = ("gateway_url", "registry_url", "memory_url", "events_url")


class ServedPlatform(PlatformProcess):
    """`soorma serve`, with a key for each role in `keys`; it serves TLS if it has a certificate."""

    program = ("-m", "soorma.cli", "serve")

    def __init__(
        self, folder: Path, ca: PrivateCA | None = None, pair: Pair | None = None, **env: str
    ) -> None:
        self.keys = {role: fresh_key().credential for role in (OPERATOR, APP, AGENT)}
        file = folder / "keys.toml"
        file.write_text(
            "".join(
                _KEY.format(role=role, credential=credential, grants=_GRANTS[role])
                for role, credential in self.keys.items()
            )
        )
        file.chmod(0o600)
        named = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
        super().__init__(folder, {**named, **(pair.variables() if pair else {}), **env})
        self.context = None if ca is None else ssl.create_default_context(cafile=ca.root)
        for name in _ADDRESSES if pair else ():
            setattr(self, name, getattr(self, name).replace("http://", "https://"))

    def connection(self, port: int = 8080, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """Returns a new connection to a service, by the port without the offset."""
        place, origin = ("127.0.0.1", port + self.offset), (source, 0)
        if self.context is None:
            return http.client.HTTPConnection(*place, timeout=WAIT, source_address=origin)
        return http.client.HTTPSConnection(
            *place, timeout=WAIT, source_address=origin, context=self.context
        )

    def ask(
        self,
        path: str = "/v1/identity/whoami",
        *,
        port: int = 8080,
        source: str = "127.0.0.1",
        role: str | None = OPERATOR,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Returns the response to a GET, or to the POST of a body, over a connection of its own."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            sent["Authorization"] = f"Bearer {self.keys[role]}"
        with closing(self.connection(port, source)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def _wait_until_healthy(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("/health", role=None).status == 200:
                    return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the platform did not start: {self.log.read_text('utf-8')[-4000:]}")
