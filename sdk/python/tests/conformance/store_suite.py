"""The conformance suite of stores: each store runs it in a class that inherits `StoreSuite`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aside_suite import AsideSuite
from audit_log_suite import AuditLogSuite
from blocks_suite import BlocksSuite
from claims_suite import ClaimsSuite
from clocks_suite import ClocksSuite
from deaths_suite import DeathsSuite
from durability_suite import DurabilitySuite
from embeddings_suite import EmbeddingsSuite
from endings_suite import EndingsSuite
from episodic_suite import EpisodicSuite
from events_suite import EventsSuite
from expiry_suite import ExpirySuite
from failures_suite import FailuresSuite
from fences_suite import FencesSuite
from history_suite import HistorySuite
from idempotency_suite import IdempotencySuite
from joining_suite import JoiningSuite
from keys_suite import KeysSuite
from life_suite import LifeSuite
from limits_suite import LimitsSuite
from memory_life_suite import MemoryLifeSuite
from periods_suite import PeriodsSuite
from plans_suite import PlansSuite
from procedural_suite import ProceduralSuite
from quarantine_suite import QuarantineSuite
from quota_suite import QuotaSuite
from record import LEASE, Clock, Record
from registry_suite import RegistrySuite
from semantic_suite import SemanticSuite
from semaphores_suite import SemaphoresSuite
from standing_suite import StandingSuite
from steps_suite import StepsSuite
from time_travel_suite import TimeTravelSuite
from unseen_suite import UnseenSuite

from soorma_common.limits import Limits
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports import Store

MakeRecord: TypeAlias = Callable[..., Awaitable[Record]]


class Opened(ABC):
    """The fixtures of the suites. A subclass says how its store is opened."""

    @abstractmethod
    async def open_store(
        self, place: Path, on_commit: Callable[[Notice], None], *, clock: Clock, lease: float
    ) -> Store:
        """Opens the store of the folder `place`; the same one again after it was closed."""

    @pytest.fixture
    async def make_record(self, tmp_path: Path) -> AsyncIterator[MakeRecord]:
        """Returns a function that makes an open record with limits of its own."""
        opened: list[Record] = []

        async def make(*, lease: float = LEASE, **limits: Any) -> Record:
            made = Record(partial(self.open_store, tmp_path), Limits(**limits), lease, Clock())
            await made.open()
            opened.append(made)
            return made

        yield make
        for record in opened:
            await record.close()

    @pytest.fixture
    async def record(self, make_record: MakeRecord) -> Record:
        """An open record with the default limits."""
        return await make_record()


class ValuesSuite(
    PlansSuite,
    HistorySuite,
    ExpirySuite,
    LimitsSuite,
    DurabilitySuite,
    LifeSuite,
    TimeTravelSuite,
    ClocksSuite,
    SemaphoresSuite,
):
    """The requirements for values of plans."""


class StoreSuite(
    ValuesSuite,
    IdempotencySuite,
    EventsSuite,
    ClaimsSuite,
    FailuresSuite,
    DeathsSuite,
    AsideSuite,
    UnseenSuite,
    StandingSuite,
    RegistrySuite,
    StepsSuite,
    SemanticSuite,
    PeriodsSuite,
    EmbeddingsSuite,
    EpisodicSuite,
    MemoryLifeSuite,
    ProceduralSuite,
    QuotaSuite,
    FencesSuite,
    QuarantineSuite,
    JoiningSuite,
    KeysSuite,
    BlocksSuite,
    AuditLogSuite,
    EndingsSuite,
    Opened,
):
    """All requirements for a store."""
