"""Listening sockets, and the servers that run a service at each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from soorma_common.delivery import LARGEST_FRAME
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER
from soorma_common.starting import PortTaken
from soorma_platform.http.asgi import AsgiApp
from soorma_platform.http.certificate import Certificate
from soorma_platform.http.connections import (
    IDLE_SECONDS,
    AgentSocket,
    ClientConnection,
    SharedState,
)
from soorma_platform.http.listener import TlsListener
from soorma_platform.settings import Settings

GRACE_SECONDS = 1
TICK_SECONDS = 1.0
"""Seconds after which a server checks its connections, and renews the date in responses."""


class Server(uvicorn.Server):
    """A server that leaves signals to the runtime, and wakes once a second, not ten times.

    It serves TLS with a certificate, without one plain HTTP.
    """

    def __init__(
        self,
        app: AsgiApp,
        touch: Callable[[], None] = lambda: None,
        certificate: Certificate | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            http=ClientConnection,
            ws=AgentSocket,
            # Not needed: an agent whose handler blocks renews its leases from a thread.
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            ws_max_size=LARGEST_FRAME,
            timeout_keep_alive=round(IDLE_SECONDS),
            timeout_graceful_shutdown=GRACE_SECONDS,
            server_header=False,
            headers=[(PROTOCOL_HEADER, str(PROTOCOL))],
            proxy_headers=False,
        )
        super().__init__(config)
        self.server_state = self._state = SharedState(touch)
        self._certificate = certificate
        self._end = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._certificate is None:
            await super().startup(sockets)
            return
        # uvicorn closes them as it does the servers of the event loop.
        listeners: list[Any] = [
            TlsListener(listener, self._certificate, self._connection) for listener in sockets or ()
        ]
        self.servers = listeners
        self.started = True

    def _connection(self) -> ClientConnection:
        return ClientConnection(self.config, self._state, {})

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, ClientConnection):
                    connection.look(now)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), TICK_SECONDS)

    def end(self) -> None:
        """Stops the server as soon as the requests under way, or a grace period, are over."""
        self.should_exit = True
        self._end.set()


def listen(settings: Settings) -> dict[str, socket.socket]:
    """Opens the listening socket of each service; raises PortTaken, which names the port."""
    sockets: dict[str, socket.socket] = {}
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for name, port in settings.ports.items():
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, port))
            listener.listen(2048)
        except OSError as error:
            for opened in (listener, *sockets.values()):
                opened.close()
            raise PortTaken(
                f"port {port} of the {name} service cannot be used: {error.strerror}; "
                "end what uses it, or choose other ports with --port-offset (SOORMA_PORT_OFFSET)",
                port=port,
            ) from error
        listener.setblocking(False)
        sockets[name] = listener
    return sockets
