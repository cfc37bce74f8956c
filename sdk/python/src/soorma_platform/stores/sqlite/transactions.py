"""The transaction of a command: its needs are loaded, and its decision is written.

Rows to and from SQL, no rules.

Each kind of need has a loader, each kind of row a writer, in the module of its noun.
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
    """The arguments of a loader: the connection, whose rows are meant, and what was found so far."""

    __slots__ = ("connection", "found", "is_repeated", "moment", "whose")

    def __init__(self, connection: apsw.Connection, whose: Scope | Owner, moment: Moment) -> None:
        self.connection = connection
        self.whose = whose
        self.moment = moment
        self.found = Snapshot(moment)
        self.is_repeated = False
        """whether nothing else has to be loaded"""

    @property
    def scope(self) -> Scope:
        """The user whose rows are meant."""
        assert isinstance(self.whose, Scope)  # noqa: S101 - whoever made the command has seen to it
        return self.whose


class Writing:
    """The arguments of a writer: the connection, whose rows are meant, and the notice of what is
    written.
    """

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
    """Loads what a command needs, as it stands inside the transaction."""
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
    """Writes what was decided; returns whom it concerns."""
    writing = Writing(connection, whose)
    for row in writes:
        writers[type(row)](writing, row)
    return writing.notice
