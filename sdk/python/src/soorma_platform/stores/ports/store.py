"""A store as a whole: its ports, and the one way in for changes."""

from __future__ import annotations

from typing import Protocol, TypeVar

from soorma_platform.engine.commands import Command
from soorma_platform.stores.ports.deliveries import DeliveryStore
from soorma_platform.stores.ports.groups import GroupStore
from soorma_platform.stores.ports.health import HealthStore
from soorma_platform.stores.ports.log import LogStore
from soorma_platform.stores.ports.plans import PlanStore
from soorma_platform.stores.ports.registry import RegistryStore
from soorma_platform.stores.ports.timers import TimerStore
from soorma_platform.stores.ports.upkeep import UpkeepStore

T = TypeVar("T")


class Commits(Protocol):
    """The one way in for what changes the record."""

    async def transact(self, command: Command[T], *, durable: bool = True) -> T:
        """Loads what a command needs, decides, and writes the decision, in one transaction.

        Returns its outcome.

        Returns when the decision is durable, or, if it need not be, when others see it. What
        `decide` raises is raised here, and nothing is written.
        """
        ...


class Store(Commits, Protocol):
    """The record. A service names the ports of it that it needs."""

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
    def health(self) -> HealthStore: ...

    @property
    def upkeep(self) -> UpkeepStore: ...

    @property
    def is_writing(self) -> bool:
        """Whether a change is under way: accepted, and those whom it concerns not told yet."""
        ...

    async def close(self) -> None:
        """Finishes what is under way and closes."""
        ...
