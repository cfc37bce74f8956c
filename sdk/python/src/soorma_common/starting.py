"""Reasons why a platform cannot start or continue, each with an error and an exit status.

Over HTTP all of them are `Unavailable`: a client can only react to all in the same way.
"""

from __future__ import annotations

from soorma_common.errors import SoormaError, Unavailable

PORT_TAKEN = 5
IN_USE = 6
UNWRITABLE = 7
DATABASE = 8
NEEDS_MIGRATION = 9
FAILED = 10
NO_KEYS = 21


class PortTaken(Unavailable):
    """Another program listens on a port of the platform."""


class RecordInUse(Unavailable):
    """Another platform or program has the record open; `holder` is its process, if known."""

    holder: str | None


class FolderUnwritable(Unavailable):
    """The folder of the record cannot be written."""


class RecordUnusable(Unavailable):
    """The record is locked, damaged, gone, of a newer Soorma, or its disk is full."""


class MigrationNeeded(Unavailable):
    """The record is of an earlier Soorma, and this platform may not migrate it."""


class NoKeys(Unavailable):
    """The platform is closed, and its record holds no key that is valid."""


STATUSES: dict[type[SoormaError], int] = {
    PortTaken: PORT_TAKEN,
    RecordInUse: IN_USE,
    FolderUnwritable: UNWRITABLE,
    RecordUnusable: DATABASE,
    MigrationNeeded: NEEDS_MIGRATION,
    NoKeys: NO_KEYS,
}


def exit_status(error: SoormaError) -> int:
    """Returns the exit status of a platform that this error ended or kept from starting."""
    return STATUSES.get(type(error), FAILED)
