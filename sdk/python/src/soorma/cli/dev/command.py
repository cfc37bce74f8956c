"""`soorma dev`: its options; the modules beside it carry them out."""

from __future__ import annotations

import os
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli.commands import command_group
from soorma.cli.dev.services import MOST_OFFSET
from soorma.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from soorma.cli.dev.folder import Folder
    from soorma.cli.dev.platform import Options

app = command_group()

_EXIT_CODES = "\n".join(
    fill(code.meaning, 76, initial_indent=f"{code.value:>5}  ", subsequent_indent=" " * 7)
    for code in Exit
)

_HELP = f"""Start the platform on this machine, or look after the one that runs.

Without an option: starts all services in one process that outlives the shell, waits until they \
are healthy, prints their addresses and ends. The state (database, log) is in .soorma of this \
folder, or of the nearest folder above that has one.

\b
Examples:
  soorma dev --build              prepare or migrate the store, then start
  soorma dev --port-offset 100    all ports 100 higher: the gateway on 8180
  soorma dev --secure             closed, as a server is, with keys in .soorma
  soorma dev --status             how is it? (--json for programs)
  soorma dev --logs -f            what is it saying?
  soorma dev --stop --clean       stop it, and remove all that it holds

\b
Environment:
  SOORMA_PORT_OFFSET              as --port-offset
  SOORMA_DATABASE                 a database elsewhere than in .soorma
  SOORMA_HOST                     another loopback address than 127.0.0.1
  SOORMA_LOG_LEVEL                debug, info, warning or error

\b
Exit codes:
{_EXIT_CODES}
"""


@app.command(help=_HELP)
def dev(
    build: Annotated[
        bool, typer.Option("--build", help="Prepare or migrate the store first; start after it.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the platform; fine if none runs.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="With --stop: remove store and logs; asks first.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --clean: remove without asking.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how it is.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --status: print JSON for programs.")
    ] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Print its log.")] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="With --logs: go on until Ctrl+C.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Run it in this terminal.")
    ] = False,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure",
            help="Start it closed, as a server is: with keys in .soorma, which soorma and agents "
            "that are started here find.",
        ),
    ] = False,
    port_offset: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_OFFSET,
            metavar="N",
            envvar="SOORMA_PORT_OFFSET",
            help="Add this to all ports; remembered for --status and --stop.",
        ),
    ] = 0,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="How long it may take to start, or to stop before it is killed.",
        ),
    ] = 30.0,
) -> None:
    _exclude({"--stop": stop, "--status": status, "--logs": logs, "--build": build})
    _exclude({"--stop": stop, "--status": status, "--logs": logs, "--foreground": foreground})
    _exclude({"--stop": stop, "--status": status, "--logs": logs, "--secure": secure})
    _need("--clean", clean, "--stop", stop)
    _need("--yes", yes, "--clean", clean)
    _need("--json", as_json, "--status", status)
    _need("--follow", follow, "--logs", logs)
    from soorma.cli.dev.folder import Folder  # noqa: PLC0415 - --help does without these
    from soorma.cli.dev.logs import show_logs  # noqa: PLC0415
    from soorma.cli.dev.start import run_in_foreground, start_platform  # noqa: PLC0415
    from soorma.cli.dev.status import show_status  # noqa: PLC0415
    from soorma.cli.dev.stop import stop_platform  # noqa: PLC0415

    folder = Folder.nearest()
    if stop:
        stop_platform(folder, clean=clean, ask=not yes, seconds=timeout)
    elif status:
        raise typer.Exit(show_status(folder, as_json=as_json))
    elif logs:
        show_logs(folder, follow=follow)
    else:
        options = _options(folder, port_offset, build=build, seconds=timeout, secure=secure)
        (run_in_foreground if foreground else start_platform)(folder, options)


def _options(folder: Folder, offset: int, *, build: bool, seconds: float, secure: bool) -> Options:
    from soorma.cli.dev.platform import Options  # noqa: PLC0415
    from soorma_platform.listening import CERT_SETTING, KEY_SETTING, is_loopback  # noqa: PLC0415

    for name in (CERT_SETTING, KEY_SETTING):
        if os.environ.get(name):
            raise CommandError(
                Exit.USAGE,
                f"{name} is for soorma serve: soorma dev serves this machine, by plain HTTP; unset "
                "it",
            )
    host = os.environ.get("SOORMA_HOST") or "127.0.0.1"
    if secure and not is_loopback(host):
        raise CommandError(
            Exit.USAGE,
            f"SOORMA_HOST={host} is for soorma serve: soorma dev listens on loopback only; unset "
            "it",
        )
    return Options(
        host=host,
        offset=offset,
        database=folder.database_for(os.environ),
        build=build,
        seconds=seconds,
        keys=folder.keys if secure else None,
    )


def _exclude(options: dict[str, bool]) -> None:
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} cannot go together", param_hint=given[0])


def _need(option: str, given: bool, other: str, other_given: bool) -> None:
    if given and not other_given:
        raise typer.BadParameter(f"it goes with {other} only", param_hint=option)
