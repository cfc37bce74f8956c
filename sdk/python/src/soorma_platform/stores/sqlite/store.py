"""The record in one SQLite database, for one process: opens it, and composes the store's ports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from soorma_common.errors import Unavailable
from soorma_platform.clock import Readings, SystemClocks
from soorma_platform.engine.commands import Command
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.sqlite import (
    audit_log,
    blocks,
    dead_letters,
    deaths,
    deliveries,
    embeddings,
    episodic,
    events,
    groups,
    history,
    idempotency,
    keys,
    likeness,
    memory_life,
    plan_memories,
    plans,
    procedural,
    quarantines,
    registry,
    sagas,
    semantic,
    sessions,
    steps,
    timers,
    transactions,
    usage,
)
from soorma_platform.stores.sqlite.audit import SqliteAudit
from soorma_platform.stores.sqlite.clock import RecordClock
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.database import FailuresNamed, connect, migrate
from soorma_platform.stores.sqlite.delivery_port import SqliteDeliveries
from soorma_platform.stores.sqlite.health import SqliteHealth
from soorma_platform.stores.sqlite.locking import RecordLock, lock_file
from soorma_platform.stores.sqlite.prefetch import Prefetches
from soorma_platform.stores.sqlite.upkeep import SqliteUpkeep
from soorma_platform.stores.sqlite.vitals import Vitals
from soorma_platform.stores.sqlite.writer import GroupCommitter

T = TypeVar("T")

FEW = 16
"""Rows up to which a command counts as brief."""

_NOUNS: tuple[Any, ...] = (plans, events, deliveries, idempotency, timers, sagas, steps, groups,
                           dead_letters, registry, history, semantic, episodic,
                           procedural, likeness, sessions, plan_memories, quarantines,
                           keys, blocks, audit_log, usage)  # fmt: skip
LOADERS: dict[type[Any], transactions.Loader] = {}
WRITERS: dict[type[Any], transactions.RowWriter] = {}
for _noun in _NOUNS:
    LOADERS |= _noun.LOADERS
    WRITERS |= getattr(_noun, "WRITERS", {})


class SqliteMemories:
    """The ports of a user's memories beyond plans."""

    def __init__(self, connections: Connections) -> None:
        self.semantic = semantic.SqliteSemantic(connections)
        self.episodic = episodic.SqliteEpisodic(connections)
        self.procedural = procedural.SqliteProcedural(connections)
        self.likeness = likeness.SqliteLikeness(connections)
        self.embeddings = embeddings.SqliteEmbeddings(connections)
        self.life = memory_life.SqliteMemoryLife(connections)
        self.audit = SqliteAudit(connections)
        self.quarantines = quarantines.SqliteQuarantines(connections)


class SqliteStore:
    """An open record."""

    def __init__(
        self,
        connections: Connections,
        prefetches: Prefetches,
        health: SqliteHealth,
        lock: RecordLock | None,
    ) -> None:
        self._connections = connections
        self._lock = lock
        self.plans = plans.SqlitePlans(connections)
        self.log = events.SqliteLog(connections)
        self.timers = timers.SqliteTimers(connections)
        self.deliveries = SqliteDeliveries(connections, prefetches)
        self.groups = groups.SqliteGroups(connections, prefetches)
        self.registry = registry.SqliteRegistry(connections)
        self.memories = SqliteMemories(connections)
        self.keys = keys.SqliteKeys(connections)
        self.audit_log = audit_log.SqliteAuditLog(connections)
        self.health = health
        self.upkeep = SqliteUpkeep(connections, prefetches, health.silence)

    @classmethod
    async def open(
        cls,
        path: Path,
        on_commit: Callable[[Notice], None],
        *,
        clock: Readings | None = None,
        lease: float = 30.0,
        may_migrate: bool = True,
    ) -> SqliteStore:
        """Opens or creates the database at `path`; calls `on_commit` for each commit, in order.

        Leases that agents held when the last process ended last at least `lease` seconds from now:
        a restart of the platform is no fault of theirs. `clock` are the machine's clocks unless a
        test passes its own. Raises Unavailable, with advice, if the file is in use, locked,
        damaged, of a newer Soorma, or on a full or read-only disk.
        """
        lock = lock_file(path)
        path = lock.path
        try:
            writing = connect(path)
            lock.hold_record()
            migrate(writing, path, allowed=may_migrate)
            with FailuresNamed(path):
                own = RecordClock(writing, clock or SystemClocks())
                deaths.spare(writing, own.read(), lease)
            reading = connect(path)
        except BaseException:
            lock.close()
            raise
        prefetches = Prefetches(own.read, lease)
        writer = GroupCommitter(writing, path, on_commit, prefetches)
        connections = Connections(path, reading, writer, own)
        return cls(connections, prefetches, SqliteHealth(connections, Vitals(path)), lock)

    async def close(self) -> None:
        """Finishes what was accepted, then closes the file."""
        connections = self._connections
        with suppress(Unavailable):  # it is then a little behind, as after a crash
            await connections.change(
                lambda connection: connections.clock.keep(connection, is_closed=True), durable=False
            )
        try:
            await connections.close()
        finally:  # whatever fails, another process may then have the file
            if self._lock is not None:
                self._lock.close()

    @property
    def is_writing(self) -> bool:
        """True while a change is under way: accepted, and not yet reported to all it concerns."""
        return self._connections.writer.is_busy

    async def transact(
        self, command: Command[T], *, durable: bool = True, aside: bool = False
    ) -> T:
        """Loads what a command needs, decides, and writes the decision; returns its outcome."""
        clock = self._connections.clock

        def job(connection: apsw.Connection) -> tuple[T, Notice]:
            decision = command.decide(
                transactions.load(connection, command.scope, needs, clock.read(), LOADERS)
            )
            return decision.outcome, transactions.write(
                connection, command.scope, decision.writes, WRITERS
            )

        needs = command.needs()
        rows = 0
        for need in needs:
            rows += need.rows
        brief = rows <= FEW and not aside
        outcome: T = await self._connections.writer.run(job, durable=durable, brief=brief)
        return outcome
