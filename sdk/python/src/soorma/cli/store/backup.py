"""`soorma backup FILE`: a copy of the record, while the platform runs or not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.exits import CommandError, Exit
from soorma.cli.parameters import Json
from soorma.cli.store import copies

if TYPE_CHECKING:
    from soorma_platform.stores.tools import StoreTools

app = command_group()

POLITENESS = 10
"""The niceness of a backup: where both want the processor, the platform goes first."""

HELP = """Copy the record into one file, while the platform runs or not.

The copy is of the moment at which it begins. It is looked through before it gets its name, so a \
FILE that is there is whole. Nobody has to wait: agents and clients go on meanwhile.

\b
Examples:
  soorma backup before-the-change.db
  soorma backup --force /backups/soorma.db
"""


@app.command(help=HELP, epilog="Exit codes are listed by: soorma dev --help")
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where the copy goes.")
    ],
    database: Annotated[
        Path | None,
        typer.Option("--database", help="The database file.", show_default="that of soorma dev"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    as_json: Json = False,
) -> None:
    from soorma_platform.stores.engines import tools_for  # noqa: PLC0415 - --help does without

    began = time.monotonic()
    source, file = copies.database_of(database), file.absolute()
    tools = tools_for(source)
    _check(tools, source, file, force=force)
    os.nice(POLITENESS)
    with copies.failures(), copies.progress() as tell:
        try:
            contents = tools.back_up(file, tell, replace=force)
        except FileExistsError:
            _refuse_if_there(file, force=force)  # somebody has made it meanwhile
            raise
    size, seconds = file.stat().st_size, round(time.monotonic() - began, 3)
    if as_json:
        places = {"file": str(file), "database": str(source)}
        copies.say_json(contents, **places, bytes=size, seconds=seconds)
        return
    output.say(f"Copied {source} to {file}: {copies.size(size)} in {seconds:.1f} s.")
    output.say(f"It holds {copies.as_row(contents)}.")


def _check(tools: StoreTools, database: Path, file: Path, *, force: bool) -> None:
    if not tools.exists():
        raise CommandError(
            Exit.DATABASE, f"there is no database {database}; name another with --database"
        )
    if tools.owns(file):
        raise CommandError(
            Exit.USAGE, f"{file} belongs to the database itself; choose another name"
        )
    if not file.parent.is_dir():
        raise CommandError(Exit.UNWRITABLE, f"there is no folder {file.parent}; make it first")
    _refuse_if_there(file, force=force)


def _refuse_if_there(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise CommandError(
            Exit.USAGE, f"{file} is there already; choose another name, or replace it with --force"
        )
