"""The command line: its options, their help, and how errors are told. The work is done elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from soorma.cli import completion, screen
from soorma.cli.exits import CommandError, Exit
from soorma.cli.nouns import Nouns
from soorma.cli.services import MOST_OFFSET

app = typer.Typer(
    name="soorma",
    cls=Nouns,
    help="Shared working memory and events for AI agents: start the platform and look after it.",
    epilog="Start with: soorma dev --build",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_EXIT_CODES = "\n".join(
    fill(code.meaning, 76, initial_indent=f"{code.value:>5}  ", subsequent_indent=" " * 7) for code in Exit
)

DEV_HELP = f"""Start the platform on this machine, or look after the one that runs.

Without an option: starts all services in one process that outlives the shell, waits until they are \
healthy, prints their addresses and ends. The state (database, log) is in .soorma of this folder, or of the \
nearest folder above that has one.

\b
Examples:
  soorma dev --build              prepare or migrate the store, then start
  soorma dev --port-offset 100    all ports 100 higher: the gateway on 8180
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

SERVE_HELP = """Run the services in the foreground, until SIGINT or SIGTERM, for a supervisor such as systemd.

Without names: all services. The embedded database has one process, so a part of them is refused. Settings \
come from SOORMA_... variables too; options win. Exit codes are those of soorma dev --help.

\b
Examples:
  soorma serve
  soorma serve --port-offset 100 --database /var/lib/soorma/soorma.db
"""

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.callback(invoke_without_command=True)
def soorma(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        _version(as_json=False)
        raise typer.Exit


@app.command(help=DEV_HELP)
def dev(
    build: Annotated[bool, typer.Option("--build", help="Prepare or migrate the store first; start after it.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the platform; fine if none runs.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="With --stop: remove store and logs; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: remove without asking.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status: print JSON for programs.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Print its log.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="With --logs: go on until Ctrl+C.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Run it in this terminal.")] = False,
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
        typer.Option(min=0.1, metavar="SECONDS", help="How long it may take to start, or to stop before it is killed."),
    ] = 30.0,
) -> None:
    _exclude({"--stop": stop, "--status": status, "--logs": logs, "--build": build})
    _exclude({"--stop": stop, "--status": status, "--logs": logs, "--foreground": foreground})
    _need("--clean", clean, "--stop", stop)
    _need("--yes", yes, "--clean", clean)
    _need("--json", as_json, "--status", status)
    _need("--follow", follow, "--logs", logs)
    from soorma.cli import dev as noun  # noqa: PLC0415 - `soorma version` does without these
    from soorma.cli import log, stopping  # noqa: PLC0415
    from soorma.cli import status as looking  # noqa: PLC0415
    from soorma.cli.folder import Folder  # noqa: PLC0415

    folder = Folder.nearest()
    if stop:
        stopping.stop(folder, clean=clean, ask=not yes, seconds=timeout)
    elif status:
        raise typer.Exit(looking.status(folder, as_json=as_json))
    elif logs:
        log.show(folder, follow=follow)
    else:
        asked = noun.wanted(folder, port_offset, build_first=build, seconds=timeout)
        (noun.run_in_foreground if foreground else noun.start)(folder, asked)


@app.command(help=SERVE_HELP)
def serve(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="SERVICE", help="gateway, registry, events, memory; all if left out.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Loopback address to listen on.", show_default="127.0.0.1")
    ] = None,
    port_offset: Annotated[
        int | None, typer.Option(min=0, max=MOST_OFFSET, metavar="N", help="Add this to all ports.", show_default="0")
    ] = None,
    database: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The database file.", show_default="that of soorma dev")
    ] = None,
) -> None:
    from soorma.cli import serve as noun  # noqa: PLC0415 - imports the platform

    noun.serve(services or [], host=host, offset=port_offset, database=database)


@app.command(help="Show the version, the Python and where it is installed.")
def version(as_json: _Json = False) -> None:
    _version(as_json=as_json)


def run(arguments: list[str]) -> int:
    """Runs the command; its exit code. Errors are told without a traceback."""
    screen.never_fail_to_print()
    if completion.VARIABLE in os.environ:
        completion.prepare()
    try:
        app(arguments, prog_name="soorma")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except CommandError as error:
        if error.message:
            screen.complain(error.message)
        return error.exit_code
    except OSError as error:
        screen.complain(str(error))
        return Exit.FAILED
    return Exit.OK


def _version(*, as_json: bool) -> None:
    from soorma.cli.version import version as show  # noqa: PLC0415 - other commands do without

    show(as_json=as_json)


def _exclude(options: dict[str, bool]) -> None:
    given = [name for name, value in options.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} cannot go together", param_hint=given[0])


def _need(option: str, given: bool, other: str, other_given: bool) -> None:
    if given and not other_given:
        raise typer.BadParameter(f"it goes with {other} only", param_hint=option)
