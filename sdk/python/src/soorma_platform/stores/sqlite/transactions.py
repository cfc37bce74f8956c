"""The transaction of a command: loads its needs, and writes its decision.

It translates rows to and from SQL, and contains no rules. Each kind of need has a loader, each kind
of row a writer, in the module of its noun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import apsw

from soorma_common.names import Owner, Scope
from soorma_platform.engine.commands import Need, Snapshot
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows.notices import Notice


class Loading:
    """The arguments of a loader: the connection, the owner of the rows, and what was found."""

    __slots__ = ("connection", "found", "is_repeated", "moment", "whose")

    def __init__(self, connection: apsw.Connection, whose: Scope | Owner, moment: Moment) -> None:
        self.connection = connection
        self.whose = whose
        self.moment = moment
        self.found = Snapshot(moment)
        self.is_repeated = False
        """true if nothing else has to be loaded"""

    @property
    def scope(self) -> Scope:
        """The user whose rows are meant."""
        assert isinstance(self.whose, Scope)  # noqa: S101 - whoever made the command has seen to it
        return self.whose


class Writing:
    """The arguments of a writer: the connection, the owner of the rows, and the notice to fill."""

    __slots__ = ("connection", "notice", "whose")

    def __init__(self, connection: apsw.Connection, whose: Scope | Owner) -> None:
        self.connection = connection
        self.whose = whose
        self.notice = Notice(plans=[], groups=set(), entries=[])

    @property
    def scope(self) -> Scope:
        """The user whose rows are meant."""
        assert isinstance(self.whose, Scope)  # noqa: S101 - whoever made the command has seen to it
        return self.whose


Loader: TypeAlias = Callable[[Loading, Any], None]
RowWriter: TypeAlias = Callable[[Writing, Any], None]


def load(
    connection: apsw.Connection,
    whose: Scope | Owner,
    needs: Iterable[Need],
    moment: Moment,
    loaders: Mapping[type[Any], Loader],
) -> Snapshot:
    """Loads what a command needs, as of the transaction."""
    loading = Loading(connection, whose, moment)
    for need in needs:
        loaders[type(need)](loading, need)
        if loading.is_repeated:
            break
    return loading.found


def write(
    connection: apsw.Connection,
    whose: Scope | Owner,
    writes: Iterable[Any],
    writers: Mapping[type[Any], RowWriter],
) -> Notice:
    """Writes what was decided; returns the notice of it."""
    writing = Writing(connection, whose)
    for row in writes:
        writers[type(row)](writing, row)
    return writing.notice
