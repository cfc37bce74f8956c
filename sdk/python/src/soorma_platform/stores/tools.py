"""Tools for a store from outside a platform: to prepare, examine, back up, restore or remove it.

They return facts and raise named errors. What people read of these is up to whoever uses the tools,
and nobody has to know which engine keeps the record.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, Protocol


class Engine(NamedTuple):
    """The database engine that the platform uses here, and the driver it is used by."""

    name: str
    version: str
    driver: str


class Prepared(NamedTuple):
    """The schema a store is at, and how many migrations brought it there just now."""

    schema: int
    steps: int


class Fault(Enum):
    """The kinds of fault for which a store cannot be read, or not be trusted."""

    LOCKED = auto()
    DAMAGED = auto()
    UNREADABLE = auto()


class Examination(NamedTuple):
    """A store as it was found.

    `bytes` is its size. `schema` counts its migrations, `known_schema` those that this Soorma
    knows. With a `fault` the engine gives a `reason`. `is_whole` tells whether all of it was read
    in the time given.
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

    `pid` is the process that has written its number into the file `lock`, and holds it while it
    lives. `log` is the file of what is still to be moved into the store, of so many bytes.
    """

    pid: int | None
    lock: Path
    log: Path
    log_bytes: int


class Contents(NamedTuple):
    """The contents of a record, counted.

    `schema` counts its migrations, `revisions` the commits of all plans, `events` those kept.
    `log_end` is the highest position that was given, `deliveries` are events that groups have not
    done with.
    """

    plans: int
    revisions: int
    events: int
    log_end: int
    deliveries: int
    dead_letters: int
    schema: int = 0


class Restored(NamedTuple):
    """A store that was restored, its size, and where that of before is, if there was one."""

    contents: Contents
    bytes: int
    kept: Path | None


class Stage(Enum):
    """The stages of a copy, in their order."""

    COPYING = auto()
    CHECKING = auto()


Tell = Callable[[Stage, float], None]
"""Hears how far a copy is: its stage, and the share of it that is done, from 0.0 to 1.0."""


class StoreTools(Protocol):
    """The tools for one store, which need no platform and disturb none that runs."""

    def exists(self) -> bool:
        """True if there is such a store."""

    def files(self) -> list[Path]:
        """The files in which it keeps data, those that there are not now too."""

    def owns(self, file: Path) -> bool:
        """True if a file is a part of the store, whatever it is called."""

    def engine(self) -> Engine:
        """The engine that it is kept by."""

    def examine(self, seconds: float | None) -> Examination:
        """Reads it for at most so long, and writes nothing. None: to its end."""

    def use(self) -> Use:
        """The traces of those who use it. Nothing is tried, so that nobody is disturbed."""

    def prepare(self) -> Prepared:
        """Makes it, or migrates it to the present schema.

        RecordInUse if a platform has it; RecordUnusable, FolderUnwritable.
        """

    def back_up(self, file: Path, tell: Tell, *, replace: bool) -> Contents:
        """Copies it into a file, of one moment and whole, beside a platform or not.

        The file has its name only when it is whole. FileExistsError if there is one that is not to
        be replaced; RecordUnusable if the store is damaged, no record, or of a newer Soorma.
        """

    def restore(self, file: Path, tell: Tell) -> Restored:
        """Puts the record of a backup in its place, and keeps what was there.

        No position of the log is given twice. Deliveries that were in hand are handed out again.
        RecordInUse if a platform has it; RecordUnusable if the file is no backup that can be used.
        """

    def remove(self) -> list[Path]:
        """Removes it: the files that were there.

        RecordInUse if a platform has it; its `holder` is the number of the process.
        """
