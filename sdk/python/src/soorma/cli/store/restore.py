"""`soorma restore FILE`: replaces the record with that of a backup, and keeps the old one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.exits import CommandError, Exit
from soorma.cli.parameters import Json
from soorma.cli.store import copies

app = command_group()

HELP = """\
Put the record of a backup in place of the present one. No platform may run on it meanwhile.

FILE stays as it is, and so does the present database: it gets another name beside the new one. \
What was done after the backup was made is not in the record any more. Deliveries that were in \
hand are handed out again.

\b
Examples:
  soorma dev --stop
  soorma restore before-the-change.db
  soorma dev
"""

NEXT = """Next:
  soorma dev              start the platform; agents and clients find it by themselves
  soorma events groups    what waits for whom
  soorma events dead-letters
Programs that keep revisions from before, for compare-and-set or to watch a plan from, must read \
them again."""


@app.command(help=HELP, epilog="Exit codes are listed by: soorma dev --help")
def restore(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The backup."
        ),
    ],
    database: Annotated[
        Path | None,
        typer.Option("--database", help="The database file.", show_default="that of soorma dev"),
    ] = None,
    as_json: Json = False,
) -> None:
    from soorma_platform.stores.engines import tools_for  # noqa: PLC0415 - --help does without

    began = time.monotonic()
    source, target = file.absolute(), copies.database_of(database)
    tools = tools_for(target)
    if tools.owns(source):
        raise CommandError(Exit.USAGE, f"{source} is the database itself; name a backup")
    with copies.failures(), copies.progress() as tell:
        restored = tools.restore(source, tell)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        kept = None if restored.kept is None else str(restored.kept)
        places = {"file": str(source), "database": str(target), "kept": kept}
        copies.say_json(restored.contents, **places, bytes=restored.bytes, seconds=seconds)
        return
    output.say(
        f"Restored {target} from {source}: {copies.size(restored.bytes)} in {seconds:.1f} s."
    )
    output.say(f"It holds {copies.as_row(restored.contents)}.")
    if restored.kept is not None:
        output.say(
            f"The database that was there is now {restored.kept}. Remove it when you are sure."
        )
    output.say(NEXT)
