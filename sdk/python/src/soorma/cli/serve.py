"""`soorma serve`: the platform in the foreground, for operators and their supervisors."""

from __future__ import annotations

import os
from pathlib import Path

from soorma.cli import launch, services
from soorma.cli.exits import CommandError, Exit
from soorma.cli.folder import Folder
from soorma_common.errors import SoormaError
from soorma_common.starting import exit_status


def serve(chosen: list[str], *, host: str | None, offset: int | None, database: Path | None) -> None:
    """Runs the services until SIGINT or SIGTERM; CommandError if they cannot."""
    _check(chosen)
    from soorma.cli import runner  # noqa: PLC0415 - imports the platform

    if database is None and not os.environ.get("SOORMA_DATABASE"):
        database = Folder.nearest().database
    given = {"host": host, "port_offset": offset, "database": database}
    try:
        settings = runner.settings(**{name: value for name, value in given.items() if value is not None})
    except SoormaError as error:
        raise CommandError(Exit.USAGE, error.message) from error
    wanted = launch.Wanted(settings.host, settings.port_offset, settings.database, settings.may_migrate, 0)
    launch.check_ports(wanted)
    try:
        runner.serve(settings)
    except SoormaError as error:
        raise launch.why_it_ended(wanted, exit_status(error), error.message) from error


def _check(chosen: list[str]) -> None:
    unknown = [name for name in chosen if name not in services.PORTS]
    if unknown:
        raise CommandError(
            Exit.USAGE,
            f"there is no service {', '.join(unknown)}; the services are {', '.join(services.PORTS)}",
        )
    if chosen and set(chosen) != set(services.PORTS):
        raise CommandError(
            Exit.USAGE,
            f"the embedded database has one process, so the services cannot be spread over several: "
            f"{', '.join(chosen)} alone would leave the others without it. Leave the names out to serve all",
        )
