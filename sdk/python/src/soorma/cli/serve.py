"""`soorma serve`: the platform in the foreground, for operators and their supervisors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from soorma.cli.commands import command_group
from soorma.cli.dev import services
from soorma.cli.exits import CommandError, Exit
from soorma_common.errors import SoormaError

app = command_group()

_HELP = """\
Run the services in the foreground, until SIGINT or SIGTERM, for a supervisor such as systemd.

It is closed: every request needs a credential, and it does not start without a key. Without \
names: all services. The embedded database has one process, so a part of them is refused. \
Settings come from SOORMA_... variables too; options win. Exit codes are those of soorma dev --help.

\b
Environment, to listen on another address than loopback:
  SOORMA_TLS_CERT         certificate (PEM): serve https; with SOORMA_TLS_KEY
  SOORMA_TLS_KEY          its private key; both are reread when they change
  SOORMA_TRUSTED_PROXIES  or, without TLS, addresses of its proxies
  SOORMA_PUBLIC_HOSTS     in either case, the names by which it is called

\b
Examples:
  soorma serve
  soorma keys create ops --role operator --database /var/lib/soorma/soorma.db
  soorma serve --port-offset 100 --database /var/lib/soorma/soorma.db
  soorma serve --host 0.0.0.0
"""


@app.command(help=_HELP)
def serve(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SERVICE",
            help="gateway, registry, events, memory, identity; all if left out.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; other than loopback it needs the settings above.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port_offset: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=services.MOST_OFFSET,
            metavar="N",
            help="Add this to all ports.",
            show_default="0",
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The database file.", show_default="that of soorma dev"),
    ] = None,
) -> None:
    _check(chosen or [])
    from soorma.cli.dev import platform  # noqa: PLC0415 - --help does without these
    from soorma.cli.dev.folder import Folder  # noqa: PLC0415
    from soorma_platform.settings import Settings  # noqa: PLC0415

    if database is None and not os.environ.get("SOORMA_DATABASE"):
        database = Folder.nearest().database
    named: dict[str, Any] = {"host": host, "port_offset": port_offset, "database": database}
    try:
        settings = Settings.from_env(
            **{name: value for name, value in named.items() if value is not None}
        )
    except SoormaError as error:
        raise CommandError(Exit.USAGE, error.message) from error
    if settings.access == "open":
        raise CommandError(
            Exit.USAGE,
            "SOORMA_ACCESS=open is for soorma dev: soorma serve is closed, and needs keys; unset "
            "it",
        )
    options = platform.Options(
        settings.host,
        settings.port_offset,
        settings.database,
        settings.may_migrate,
        0,
        settings.bootstrap_keys,
        closed=True,
    )
    platform.check_ports(options)
    platform.run_here(options)


def _check(chosen: list[str]) -> None:
    unknown = [name for name in chosen if name not in services.PORTS]
    if unknown:
        raise CommandError(
            Exit.USAGE,
            f"there is no service {', '.join(unknown)}; the services are "
            f"{', '.join(services.PORTS)}",
        )
    if chosen and set(chosen) != set(services.PORTS):
        raise CommandError(
            Exit.USAGE,
            "the embedded database has one process, so the services cannot be spread over "
            f"several: {', '.join(chosen)} alone would leave the others without it. Leave the "
            "names out to serve all",
        )
