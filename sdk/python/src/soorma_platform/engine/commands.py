"""Commands: every change of the record, each with its needs and its decision.

A store loads the needs, decides and writes in one transaction. It has a loader for each kind of
need and a writer for each kind of row, so a new kind of command brings its own and leaves the
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
"""More rows than a quick transaction reads."""


class Need(msgspec.Struct):
    """Rows to load before a command is decided; the rows found are a part of `Snapshot`."""

    @property
    def rows(self) -> int:
        """The approximate number of rows; MANY if it is unknown."""
        return 1


class _Parts(dict[type[Any], Any]):
    """The parts of a snapshot by kind; one that was not loaded is empty."""

    def __missing__(self, kind: type[P]) -> P:
        part = self[kind] = kind()
        return part


class Snapshot:
    """Rows as loaded in the transaction that will write the decision, at a moment of its clock."""

    __slots__ = ("_parts", "moment", "now", "uptime")

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.now = moment.wall
        """the wall clock's time, which users see"""
        self.uptime = moment.uptime
        """the time that governs leases, backoff and retention"""
        self._parts = _Parts()

    def part(self, kind: type[P]) -> P:
        """Returns the rows found of a kind; an empty part if none were loaded."""
        found: P = self._parts[kind]
        return found


Writes: TypeAlias = list[Any]
"""Rows to write, in this order."""


class Decision(msgspec.Struct, Generic[T]):
    """The outcome of a command, for its caller, and the rows to write."""

    outcome: T
    writes: Writes = []


class Command(Protocol[T]):
    """A change of the record.

    `scope` is the owner of the rows it reads and writes: a user, a tenant, or anybody.
    """

    @property
    def scope(self) -> Scope | Owner: ...

    def needs(self) -> list[Need]:
        """Returns what to load, in order: each loader sees what the earlier ones have found."""
        ...

    def decide(self, found: Snapshot) -> Decision[T]:
        """Returns the decision, or raises the error that rejects the whole command.

        A pure function: it may be called again with a later snapshot.
        """
        ...
