"""Why a platform could not start, told by its exit status: the same numbers the `soorma` command ends with."""

from __future__ import annotations

from soorma_common.errors import SoormaError

PORT_TAKEN = 5
IN_USE = 6
UNWRITABLE = 7
DATABASE = 8
NEEDS_MIGRATION = 9
FAILED = 10


def exit_status(error: SoormaError) -> int:
    """The exit status of a platform that this error kept from starting."""
    return int(error.details.get("exit_status", FAILED))
