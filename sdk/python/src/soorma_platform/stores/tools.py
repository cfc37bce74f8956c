"""Tools that prepare, examine, back up, restore or remove a store from outside a platform.

They return facts and raise named errors. Their callers decide how to present these, and need not
know which engine stores the record.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, Protocol


class Engine(NamedTuple):
    """The database engine of the platform, and its driver."""

    name: str
    version: str
    driver: str


class Prepared(NamedTuple):
    """The schema of a store, and the number of migrations just applied to reach it."""

    schema: int
    steps: int


class Fault(Enum):
    """The kinds of fault because of which a store cannot be read or trusted."""

    LOCKED = auto()
    DAMAGED = auto()
    UNREADABLE = auto()


class Examination(NamedTuple):
    """The state of a store.

    `bytes` is its size. `schema` counts its migrations, `known_schema` those that this Soorma
    knows. With a `fault`, `reason` is the message of the engine. `is_whole` is true if all of it
    was read in the time given.
    """

    bytes: int
    schema: int
    known_schema: int
    is_ours: bool
    is_whole: bool
    fault: Fault | None = None
    reason: str = ""


class Use(NamedTuple):
    """Traces of those who use a store.

    `pid` is the process that wrote its number into the file `lock`, which it keeps locked while it
    lives. `log` is the file of changes not yet moved into the store, `log_bytes` its size.
    """

    pid: int | None
    lock: Path
    log: Path
    log_bytes: int


class Contents(NamedTuple):
    """The contents of a record, as counts.

    `schema` counts its migrations, `revisions` the commits of all plans, `events` those kept.
    `log_end` is the highest position ever assigned, `deliveries` are events that groups have yet to
    handle.
    """

    plans: int
    revisions: int
    events: int
    log_end: int
    deliveries: int
    dead_letters: int
    schema: int = 0


class Backlog(NamedTuple):
    """The parts that the newest model of a record has not embedded, and that model's name.

    `unembedded` is counted up to 10,000. `oldest_at` is when the oldest part that no model has
    embedded was stored (ms). Both are None if there is none.
    """

    model: str | None
    unembedded: int
    oldest_at: int | None


class CollectionCount(NamedTuple):
    """A collection of memories, and how many it has; without a user, those public in the tenant."""

    tenant_id: str
    user_id: str | None
    total: int


class SearchSize(NamedTuple):
    """The parts that a search of a user goes through, his own and public ones.

    Without a user, those that are public. `vector_bytes` are the bytes of a vector, 0 without one.
    """

    tenant_id: str
    user_id: str | None
    parts: int
    vector_bytes: int


class Proposals(NamedTuple):
    """Passages and versions of procedures that handlers have proposed."""

    passages: int
    versions: int


class MemoryCounts(NamedTuple):
    """What a record holds of memories, as counts; a field is None if there was no time for it.

    `passages` are the collections with the most parts of passages, `procedures` those with the most
    procedures and `searches` the largest ones, each with the largest first. `removals` counts the
    memories that were removed, but whose bytes may still be in the file.
    """

    removals: int | None
    backlog: Backlog | None
    quarantines: int | None
    passages: list[CollectionCount] | None
    searches: list[SearchSize] | None
    procedures: list[CollectionCount] | None
    proposals: Proposals | None


class Restored(NamedTuple):
    """A restored store, its size, and the path of the former one, if there was one."""

    contents: Contents
    bytes: int
    kept: Path | None


class Stage(Enum):
    """The stages of a copy, in order."""

    COPYING = auto()
    CHECKING = auto()


Tell = Callable[[Stage, float], None]
"""Receives the progress of a copy: its stage, and the share of it that is done (0.0 to 1.0)."""


class StoreTools(Protocol):
    """The tools for one store. They need no platform and do not disturb a running one."""

    def exists(self) -> bool:
        """True if the store exists."""

    def files(self) -> list[Path]:
        """Returns the files in which it stores data, including those that do not exist now."""

    def owns(self, file: Path) -> bool:
        """True if a file is part of the store, under whatever name."""

    def engine(self) -> Engine:
        """Returns its engine."""

    def examine(self, seconds: float | None) -> Examination:
        """Reads it for at most `seconds`, or to its end if that is None; writes nothing."""

    def memories(self, seconds: float | None) -> MemoryCounts | None:
        """Counts its memories for at most `seconds`, or to the end if that is None; writes nothing.

        Returns None if it is no store, of a newer Soorma, or of one without memories. Raises
        Unavailable if it cannot be read.
        """

    def use(self) -> Use:
        """Returns the traces of those who use it. Takes no lock, so it disturbs nobody."""

    def prepare(self) -> Prepared:
        """Creates it, or migrates it to the current schema.

        Raises RecordInUse if a platform has it open, and RecordUnusable or FolderUnwritable.
        """

    def back_up(self, file: Path, tell: Tell, *, replace: bool) -> Contents:
        """Copies it into a file, whole and of one moment, even while a platform runs.

        The file gets its name only when it is complete. Raises FileExistsError if one exists that
        is not to be replaced, and RecordUnusable if the store is damaged, no record, or of a newer
        Soorma.
        """

    def restore(self, file: Path, tell: Tell) -> Restored:
        """Replaces it by the record of a backup, and keeps the former files.

        No position of the log is assigned twice. Deliveries that were in hand are delivered again.
        Raises RecordInUse if a platform has it open, and RecordUnusable if the file is not a usable
        backup.
        """

    def remove(self) -> list[Path]:
        """Removes it; returns the files that existed.

        Raises RecordInUse if a platform has it open; its `holder` is the process id.
        """
