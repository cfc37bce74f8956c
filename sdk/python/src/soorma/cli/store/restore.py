"""`soorma restore FILE`: the record as a backup has it, in place of the present one, which is kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.exits import CommandError, Exit
from soorma.cli.parameters import Json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

HELP = """Put the record of a backup in place of the present one. No platform may run on it meanwhile.

FILE stays as it is, and so does the present database: it gets another name beside the new one. What was done after \
the backup was made is not in the record any more. Deliveries that were in hand are handed out again.

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
Programs that keep revisions from before, for compare-and-set or to watch a plan from, must read them again."""


@app.command(help=HELP, epilog="Exit codes are listed by: soorma dev --help")
def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The backup.")
    ],
    database: Annotated[
        Path | None, typer.Option("--database", help="The database file.", show_default="that of soorma dev")
    ] = None,
    as_json: Json = False,
) -> None:
    from soorma.cli.store import copies  # noqa: PLC0415 - --help does without

    began = time.monotonic()
    source, target = file.absolute(), copies.database_of(database)
    if copies.are_one(source, target):
        raise CommandError(Exit.USAGE, f"{source} is the database itself; name a backup")
    place = target.resolve()  # the lock lies beside the file, as a platform's does, and not beside a link to it
    aside = place.with_name(f"{place.name}.before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    with copies.failures_told(), copies.held(target), copies.beside(place) as partial:
        contents = copies.copy(source, partial)
        kept = copies.put_in_place(partial, place, aside, source)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        places = {"file": str(source), "database": str(target), "kept": str(aside) if kept else None}
        copies.as_document(contents, **places, bytes=target.stat().st_size, seconds=seconds)
        return
    output.say(f"Restored {target} from {source}: {copies.size(target)} in {seconds:.1f} s.")
    output.say(f"It holds {copies.as_row(contents)}.")
    if kept:
        output.say(f"The database that was there is now {aside}. Remove it when you are sure.")
    output.say(NEXT)
