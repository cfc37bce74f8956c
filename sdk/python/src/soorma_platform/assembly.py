"""Assembles record, bus and services into one platform: each collaborator is built here, once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from soorma_common.errors import SoormaError
from soorma_common.starting import NoKeys
from soorma_platform.buses.in_process import InProcessBus
from soorma_platform.clock import Readings
from soorma_platform.http.asgi import AsgiApp
from soorma_platform.http.guard import ClosedGuard, Guard, OpenGuard
from soorma_platform.http.hosts import PublicHosts
from soorma_platform.http.peers import TrustedProxies
from soorma_platform.identity.bootstrap import SETTING
from soorma_platform.identity.failures import FailedAttempts
from soorma_platform.identity.opening import IdentityParts
from soorma_platform.identity.traffic import Traffic
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
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

UPKEEP_SECONDS = 1.0

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
        self.identity = IdentityParts(settings.access, settings.bootstrap_keys, settings.oidc)
        self.metrics = Metrics()
        self._traffic = Traffic(
            settings.quotas, self.metrics.door, FailedAttempts(settings.failed_attempts)
        )
        self.bus = InProcessBus()
        self._clock = clock
        self.services: dict[str, AsgiApp] = {}
        self._stopping = False
        self._hopeless: asyncio.Event = asyncio.Event()
        self.end_reason = ""

    async def __aenter__(self) -> Self:
        settings, bus, metrics = self.settings, self.bus, self.metrics
        store = self.store = await open_store(
            settings.database,
            bus.notify,
            clock=self._clock,
            lease=settings.lease,
            may_migrate=settings.may_migrate,
        )
        self._payloads = PayloadCheck(store.registry, settings.payload_check)
        secrets = SecretDoor(settings.memory_secrets, self._patterns, metrics)
        committer = Committer(
            store, settings.limits, self._payloads, metrics, secrets, self._traffic
        )
        await committer.open()
        await self.identity.open(store, bus, committer.holders)
        self.identity.meter(metrics.door)
        embedding = self._open_embedding()
        recall = Recall(store.memories, settings.limits, settings.index_bytes, embedding, metrics)
        if embedding is not None:
            embedding.likeness = LikenessCheck(recall.searching, store, embedding.embedder)
        self.upkeep = Upkeep(
            store,
            settings.limits,
            settings.retention,
            session_idle=settings.session_idle,
            outliving=settings.outlives_plan,
        )
        self._make_services(committer, recall)
        tasks = [self._keep_up(), Timekeeper(store, bus, metrics).run(), *self.identity.tasks()]
        if embedding is not None:
            tasks.append(embedding.run())
        self._background = [asyncio.create_task(task) for task in tasks]
        return self

    def _open_embedding(self) -> Embedding | None:
        settings = self.settings
        self._embedder = self._embedder or embedder_of(
            settings.embeddings, settings.embeddings_model, settings.embeddings_key
        )
        if self._embedder is None:
            return None
        embeddings = self.store.memories.embeddings
        return Embedding(embeddings, self.bus, self._embedder, self.metrics)

    def _make_services(self, committer: Committer, recall: Recall) -> None:
        """Makes the services, the gateway first, behind one door and one guard."""
        settings, store, bus, metrics = self.settings, self.store, self.bus, self.metrics
        identity, health, directory = self.identity, store.health, Directory(store)
        door = identity.door
        behind = {
            "registry": registry_service(directory, health, self._payloads, metrics, door),
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
                identity.keyring,
                health,
                metrics,
                door,
                [
                    *block_endpoints(store, store.keys.blocks, identity.tokens),
                    *audit_log_endpoints(store.audit_log),
                ],
            ),
        }
        addresses = {name: settings.address(name) for name in settings.ports}
        people = People(identity.keyring, identity.sessions)
        gateway = Gateway(behind, addresses, directory, health, metrics, door, people)
        self.services = {NAME: gateway, **behind}
        guard = guard_of(settings)
        for service in (gateway, *behind.values()):
            service.guard, service.traffic = guard, self._traffic

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
        await self.identity.close()
        if self._embedder is not None:
            await self._embedder.close()
        await self.store.close()

    def check_keys(self) -> None:
        """Raises NoKeys if a closed platform would refuse everybody."""
        if self.identity.refuses_everybody:
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
