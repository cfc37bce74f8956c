"""`soorma dev --build`: the store made or migrated before the platform starts, where a person can watch."""

from __future__ import annotations

from soorma.cli import launch, screen
from soorma_common.errors import SoormaError
from soorma_common.starting import exit_status


def build(wanted: launch.Wanted) -> None:
    """Prepares the database and tells what was done; CommandError if it cannot be."""
    from soorma.cli import runner  # noqa: PLC0415 - imports the platform

    screen.say(f"Preparing the store {wanted.database} …")
    try:
        prepared = runner.prepare(wanted.database)
    except SoormaError as error:
        raise launch.why_it_ended(wanted, exit_status(error), error.message) from error
    if not prepared.steps:
        screen.say(f"It is up to date (schema {prepared.schema}).")
    elif prepared.steps == prepared.schema:
        screen.say(f"It is new (schema {prepared.schema}).")
    else:
        screen.say(f"It was migrated from schema {prepared.schema - prepared.steps} to {prepared.schema}.")
