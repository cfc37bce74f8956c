"""A store as a whole: its ports, and the single entry for changes."""

from __future__ import annotations

from typing import Protocol, TypeVar

from soorma_platform.engine.commands import Command
from soorma_platform.stores.ports.audit import AuditStore
from soorma_platform.stores.ports.audit_log import AuditLogStore
from soorma_platform.stores.ports.deliveries import DeliveryStore
from soorma_platform.stores.ports.embeddings import EmbeddingStore
from soorma_platform.stores.ports.episodic import EpisodicStore
from soorma_platform.stores.ports.groups import GroupStore
from soorma_platform.stores.ports.health import HealthStore
from soorma_platform.stores.ports.keys import KeyStore
from soorma_platform.stores.ports.likeness import LikenessStore
from soorma_platform.stores.ports.log import LogStore
from soorma_platform.stores.ports.memory_life import MemoryLifeStore
from soorma_platform.stores.ports.plans import PlanStore
from soorma_platform.stores.ports.procedural import ProceduralStore
from soorma_platform.stores.ports.quarantines import QuarantineStore
from soorma_platform.stores.ports.registry import RegistryStore
from soorma_platform.stores.ports.semantic import SemanticStore
from soorma_platform.stores.ports.timers import TimerStore
from soorma_platform.stores.ports.upkeep import UpkeepStore

T = TypeVar("T")


class MemoryStores(Protocol):
    """The ports of a user's memories beyond plans."""

    @property
    def semantic(self) -> SemanticStore: ...

    @property
    def episodic(self) -> EpisodicStore: ...

    @property
    def procedural(self) -> ProceduralStore: ...

    @property
    def likeness(self) -> LikenessStore: ...

    @property
    def embeddings(self) -> EmbeddingStore: ...

    @property
    def life(self) -> MemoryLifeStore: ...

    @property
    def audit(self) -> AuditStore: ...

    @property
    def quarantines(self) -> QuarantineStore: ...


class Commits(Protocol):
    """The single entry for changes of the record."""

    async def transact(
        self, command: Command[T], *, durable: bool = True, aside: bool = False
    ) -> T:
        """Loads what a command needs, decides, and writes the decision; returns its outcome.

        All in one transaction. Returns when the decision is durable or, if it need not be, when
        others see it. Errors raised by `decide` are raised here, and nothing is written. While a
        command that is `aside` waits for the disk, the event loop serves others.
        """
        ...

    @property
    def is_writing(self) -> bool:
        """True while a change is under way: accepted, and not yet reported to all it concerns."""
        ...


class Store(Commits, Protocol):
    """The record. Each service names the ports that it needs."""

    @property
    def plans(self) -> PlanStore: ...

    @property
    def log(self) -> LogStore: ...

    @property
    def timers(self) -> TimerStore: ...

    @property
    def deliveries(self) -> DeliveryStore: ...

    @property
    def groups(self) -> GroupStore: ...

    @property
    def registry(self) -> RegistryStore: ...

    @property
    def memories(self) -> MemoryStores: ...

    @property
    def keys(self) -> KeyStore: ...

    @property
    def audit_log(self) -> AuditLogStore: ...

    @property
    def health(self) -> HealthStore: ...

    @property
    def upkeep(self) -> UpkeepStore: ...

    async def close(self) -> None:
        """Finishes what is under way, then closes."""
        ...
