"""Commands: each change of the record is one. It says what it needs, and decides what is written.

A store loads the needs, decides and writes in one transaction. It has a loader for each kind of
need and a writer for each kind of row; so a new kind of command brings its own, and leaves all
others as they are.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from soorma_common.names import Owner, Scope
from soorma_platform.engine.moments import Moment

P = TypeVar("P")
T = TypeVar("T")

MANY = 1_000
"""More rows than a transaction reads that is over in a moment."""


class Need(msgspec.Struct):
    """Rows to load before a command is decided. What was found is a part of `Snapshot`."""

    @property
    def rows(self) -> int:
        """About how many rows it comes to, MANY where nobody can tell."""
        return 1


class Snapshot:
    """Rows as loaded in the transaction that will write the decision, at a moment of its clock."""

    __slots__ = ("_parts", "moment")

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self._parts: dict[type[Any], Any] = {}

    def part(self, kind: type[P]) -> P:
        """Returns what was found of a kind; an empty one where nothing of it was loaded."""
        found: P | None = self._parts.get(kind)
        if found is None:
            found = self._parts[kind] = kind()
        return found

    @property
    def now(self) -> int:
        """The wall clock's time, which users see."""
        return self.moment.wall

    @property
    def uptime(self) -> int:
        """The time by which leases, backoff and retention go."""
        return self.moment.uptime


Writes: TypeAlias = list[Any]
"""Rows that are to be written, in this order."""


class Decision(msgspec.Struct, Generic[T]):
    """The outcome of a command, for its caller, and the rows to write."""

    outcome: T
    writes: Writes = []


class Command(Protocol[T]):
    """A change of the record.

    `scope` is whose rows it reads and writes: a user's, a tenant's, or anybody's.
    """

    @property
    def scope(self) -> Scope | Owner: ...

    def needs(self) -> list[Need]:
        """Returns what to load, in this order: a loader sees what those before it have found."""
        ...

    def decide(self, found: Snapshot) -> Decision[T]:
        """Decides, or raises the error that refuses it as a whole.

        A pure function: it may be called again with what is found later.
        """
        ...
