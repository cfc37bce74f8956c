"""Assembles store, bus and services into one process, and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from soorma_common.delivery import LARGEST_FRAME
from soorma_common.errors import SoormaError, Unavailable
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER
from soorma_common.starting import NoKeys, PortTaken, RecordUnusable
from soorma_platform.buses.in_process import InProcessBus
from soorma_platform.clock import Readings
from soorma_platform.http.asgi import AsgiApp
from soorma_platform.http.certificate import Certificate
from soorma_platform.http.connections import (
    IDLE_SECONDS,
    AgentSocket,
    ClientConnection,
    SharedState,
    measure_room,
)
from soorma_platform.http.guard import ClosedGuard, Guard, OpenGuard
from soorma_platform.http.hosts import PublicHosts
from soorma_platform.http.listener import TlsListener
from soorma_platform.http.peers import TrustedProxies
from soorma_platform.identity import Door, OpenDoor
from soorma_platform.identity.authenticator import Authenticator, CredentialCheck
from soorma_platform.identity.blocks import Blocks
from soorma_platform.identity.bootstrap import SETTING, ensure_keys
from soorma_platform.identity.closed import ClosedDoor
from soorma_platform.identity.following import Following
from soorma_platform.identity.keyring import Keyring
from soorma_platform.identity.oidc import OidcSettings
from soorma_platform.identity.sessions import BrowserSessions
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
from soorma_platform.sampler import LoopSampler
from soorma_platform.services.audit_log import audit_log_endpoints
from soorma_platform.services.blocks import block_endpoints
from soorma_platform.services.directory import Directory
from soorma_platform.services.events import event_service
from soorma_platform.services.gateway import NAME, Gateway, People
from soorma_platform.services.identity import identity_service
from soorma_platform.services.memory import memory_service
from soorma_platform.services.registry import registry_service
from soorma_platform.settings import Settings
from soorma_platform.stores.engines import open_store
from soorma_platform.stores.ports import Store
from soorma_platform.work.committer import Committer
from soorma_platform.work.embedding.choice import embedder_of
from soorma_platform.work.embedding.protocol import Embedder
from soorma_platform.work.embedding.worker import Embedding
from soorma_platform.work.payloads import PayloadCheck
from soorma_platform.work.recall import Recall
from soorma_platform.work.recall.likeness import LikenessCheck
from soorma_platform.work.secrets import SecretDoor, read_patterns
from soorma_platform.work.timekeeper import Timekeeper
from soorma_platform.work.upkeep import Upkeep

if TYPE_CHECKING:
    from soorma_platform.identity.issuer import Issuer
    from soorma_platform.identity.tokens import TokenCheck

UPKEEP_SECONDS = 1.0
GRACE_SECONDS = 1
TICK_SECONDS = 1.0
"""Seconds after which a server checks its connections, and renews the date in responses."""

log = Log("soorma")


class Platform:
    """A running platform without sockets: its services as ASGI applications, on an open record."""

    def __init__(
        self,
        settings: Settings,
        clock: Readings | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.settings = settings
        self._embedder = embedder
        self._patterns = read_patterns(settings.memory_secret_patterns)
        self._issuer = _issuer_of(settings.oidc)
        self.tokens: TokenCheck | None = None
        self.bus = InProcessBus()
        self._clock = clock
        self.services: dict[str, AsgiApp] = {}
        self._stopping = False
        self._hopeless: asyncio.Event = asyncio.Event()
        self.end_reason = ""

    async def __aenter__(self) -> Self:
        settings = self.settings
        bus = self.bus
        store = self.store = await open_store(
            settings.database,
            bus.notify,
            clock=self._clock,
            lease=settings.lease,
            may_migrate=settings.may_migrate,
        )
        metrics = self.metrics = Metrics()
        payloads = self._payloads = PayloadCheck(store.registry, settings.payload_check)
        directory, health = Directory(store), store.health
        secrets = SecretDoor(settings.memory_secrets, self._patterns, metrics)
        committer = Committer(store, settings.limits, payloads, metrics, secrets)
        embedder = self._embedder = self._embedder or embedder_of(
            settings.embeddings, settings.embeddings_model, settings.embeddings_key
        )
        embedding = (
            None
            if embedder is None
            else Embedding(store.memories.embeddings, bus, embedder, metrics)
        )
        keyring = self.keyring = Keyring(store.keys)
        metrics.keys = keyring.counts
        if settings.bootstrap_keys is not None:
            await ensure_keys(store, settings.bootstrap_keys)
        await keyring.follow()
        self.tokens = None if self._issuer is None else _check_of(self._issuer, store)
        check: CredentialCheck = keyring
        if self.tokens is not None:
            await self.tokens.follow()
            check = Authenticator(keyring, self.tokens)
        sessions = BrowserSessions(time.monotonic, keyring.is_valid)
        door: Door = OpenDoor()
        if settings.access == "closed":
            door = ClosedDoor(check, committer.holders, sessions)
        recall = Recall(
            store.memories,
            settings.limits,
            settings.index_bytes,
            embedding,
            metrics,
        )
        if embedding is not None:
            embedding.likeness = LikenessCheck(recall.searching, store, embedding.embedder)
        self.upkeep = Upkeep(
            store,
            settings.limits,
            settings.retention,
            session_idle=settings.session_idle,
            outliving=settings.outlives_plan,
        )
        behind = {
            "registry": registry_service(directory, health, payloads, metrics, door),
            "events": event_service(
                store,
                directory,
                bus,
                committer,
                metrics,
                door,
                lease=settings.lease,
                is_stopping=lambda: self._stopping,
            ),
            "memory": memory_service(store, bus, committer, recall, metrics, door),
            "identity": identity_service(
                store,
                store.keys,
                keyring,
                health,
                metrics,
                door,
                [
                    *block_endpoints(store, store.keys.blocks, self.tokens),
                    *audit_log_endpoints(store.audit_log),
                ],
            ),
        }
        addresses = {name: settings.address(name) for name in settings.ports}
        people = People(keyring, sessions)
        gateway = Gateway(behind, addresses, directory, health, metrics, door, people)
        guard = guard_of(settings)
        for service in (gateway, *behind.values()):
            service.guard = guard
        self.services = {NAME: gateway, **behind}
        timekeeper = Timekeeper(store, bus, metrics)
        self._background = [
            asyncio.create_task(self._keep_up()),
            asyncio.create_task(timekeeper.run()),
            asyncio.create_task(Following(keyring, self.tokens, store.keys, bus).run()),
        ]
        if embedding is not None:
            self._background.append(asyncio.create_task(embedding.run()))
        if self._issuer is not None:
            self._background.append(asyncio.create_task(self._issuer.run()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping()
        for task in self._background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._payloads.close()
        if self._issuer is not None:
            await self._issuer.close()
        if self._embedder is not None:
            await self._embedder.close()
        await self.store.close()

    def check_keys(self) -> None:
        """Raises NoKeys if a closed platform would refuse everybody."""
        takes_tokens = self.tokens is not None
        if self.settings.access == "closed" and not (self.keyring.has_keys or takes_tokens):
            raise NoKeys(
                f"this platform is closed, and {self.settings.database} holds no valid key: create "
                f"one with soorma keys create NAME --role operator --database "
                f"{self.settings.database}, or name a file of keys in {SETTING}"
            )

    def stopping(self) -> None:
        """Makes agents that lose their connection keep their deliveries, for the next process."""
        self._stopping = True

    async def hopeless(self) -> None:
        """Waits until the record cannot be kept any more; `end_reason` then says why."""
        await self._hopeless.wait()

    async def _keep_up(self) -> None:
        while True:
            try:
                if reason := self.store.health.hopeless():
                    self.end_reason = reason
                    self._hopeless.set()
                more = await self.upkeep.step()
            except SoormaError as error:
                log.error("upkeep failed", error=error.message)  # noqa: TRY400 - the message is all
                more = False
            except Exception:
                log.exception("upkeep failed")
                more = False
            await asyncio.sleep(0.01 if more else UPKEEP_SECONDS)


def guard_of(settings: Settings) -> Guard:
    """Returns the guard of a platform with these settings."""
    if settings.access == "open":
        return OpenGuard()
    return ClosedGuard(
        PublicHosts(settings.public_hosts),
        TrustedProxies(settings.trusted_proxies),
        serves_tls=settings.tls_cert is not None,
    )


def certificate_of(settings: Settings) -> Certificate | None:
    """Returns the certificate to serve TLS with; None without one."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


class _Server(uvicorn.Server):
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


def _issuer_of(settings: OidcSettings | None) -> Issuer | None:
    """Returns the issuer whose tokens are accepted; None if there is none."""
    if settings is None:
        return None
    try:
        from soorma_platform.identity.issuer import Issuer  # noqa: PLC0415 - cryptography
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"tokens of {settings.issuer} need joserfc: pip install -e 'sdk/python[oidc]', or "
            "unset SOORMA_OIDC_ISSUER"
        ) from error
    return Issuer(settings)


def _check_of(issuer: Issuer, store: Store) -> TokenCheck:
    from soorma_platform.identity.tokens import TokenCheck  # noqa: PLC0415 - cryptography

    return TokenCheck(issuer, Blocks(store.keys.blocks), store.keys.now)


def _settle_memory() -> None:
    """Exempts permanent objects from garbage collection, and makes it run less often.

    A commit makes about a hundred objects that are gone with it; collecting after every few commits
    was a sixth of its cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def run(settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Runs the platform until SIGINT or SIGTERM; raises Unavailable if it cannot start or go on."""
    measure_room()
    certificate = certificate_of(settings)
    sockets = listen(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Platform(settings) as platform:
            platform.check_keys()
            sampler = LoopSampler(platform.metrics)
            servers = [
                (_Server(platform.services[name], sampler.touch, certificate), listener)
                for name, listener in sockets.items()
            ]
            running = [
                asyncio.create_task(server.serve([listener])) for server, listener in servers
            ]
            while not all(server.started for server, _ in servers):  # noqa: ASYNC110 - sets a flag
                await asyncio.sleep(0.005)
            on_ready()
            _settle_memory()
            log.info("platform ready", **{name: settings.address(name) for name in sockets})
            follower = asyncio.create_task(_follow(certificate))
            await _first_of(stop.wait(), platform.hopeless())
            follower.cancel()
            sampler.stop()
            if platform.end_reason:
                log.error(
                    "the platform ends: its record cannot be kept", reason=platform.end_reason
                )
            platform.stopping()
            for server, _ in servers:
                server.end()
            await asyncio.gather(*running)
    finally:
        for listener in sockets.values():
            listener.close()
    if platform.end_reason:
        raise RecordUnusable(platform.end_reason)
    log.info("platform stopped")


async def _follow(certificate: Certificate | None) -> None:
    if certificate is not None:
        await certificate.follow()


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Waits for the first of several, and cancels the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
