"""`soorma memory search`: the passages that answer a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import TEXT_COLUMN, excerpt, moment
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.semantic import LONGEST_WAIT, MOST_HITS, Mode

if TYPE_CHECKING:
    from soorma_common.semantic import Hit, Hits

app = command_group()

MOST_COUNTED = 1_000
"""The parts of a collection up to which the platform counts those that are not embedded."""


@app.command(
    help="Find the passages that answer a query, the best first: few and right ones, or none."
)
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="A question or words; it has no syntax.")
    ],
    limit: Annotated[
        int, typer.Option(min=1, max=MOST_HITS, metavar="N", help="So many at most.")
    ] = 10,
    mode: Annotated[
        Mode, typer.Option(help="Whether it goes by words, by meaning, or by both.")
    ] = "hybrid",
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Only what has this tag; can be repeated."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what has this source.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="X",
            help="Everything that reaches this score.",
            show_default="what is good enough",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Passages of so many tokens together.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What was true then.", show_default="now"),
    ] = None,
    known_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What was known then.", show_default="now"),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=LONGEST_WAIT,
            metavar="SECONDS",
            help="Wait so long until all that is stored is embedded.",
        ),
    ] = None,
    no_public: Annotated[
        bool, typer.Option("--no-public", help="Only the user's own, not what is public.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter("it is no UTF-8", param_hint="QUERY") from error

    async def ask(platform: PlatformConnection) -> Hits:
        return await platform.memory.search_knowledge(
            query,
            limit=limit,
            mode=mode,
            tags=tags or (),
            source=source,
            min_score=min_score,
            max_tokens=max_tokens,
            as_of=as_of,
            known_at=known_at,
            wait=wait,
            include_public=not no_public,
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
        return
    if not found.is_known:
        output.note(
            "nothing was ever stored for this user of this tenant"
            + ("" if no_public else ", nor publicly")
        )
        return
    if found.hits:
        output.table(
            (
                Column("Score", 0),
                TEXT_COLUMN,
                Column("Source", 3),
                Column("External id", 4),
                Column("Id", 0),
                Column("Stored", 2),
            ),
            [_row(hit) for hit in found],
        )
    else:
        widen = "; --min-score 0 shows the best all the same" if min_score is None else ""
        output.note(f"nothing good enough was found{widen}")
    _tell_how(found, asked=mode)


def _tell_how(found: Hits, *, asked: Mode) -> None:
    """Notes what a search could not do of what it was asked for."""
    if found.mode == "text" != asked:
        output.note("it went by words alone: no embedding model is in use, or it does not respond")
    elif found.unembedded:
        more = " or more" if found.unembedded >= MOST_COUNTED else ""
        parts = "1 part is" if found.unembedded == 1 else f"{found.unembedded:,}{more} parts are"
        output.note(f"{parts} not embedded yet, and went by words; --wait SECONDS waits for that")


def _row(hit: Hit) -> tuple[str, ...]:
    return (
        f"{hit.score:.2f}",
        excerpt(hit.content, begins=hit.place.start == 0),
        output.cell(hit.source),
        output.cell(hit.external_id),
        output.cell(hit.id),
        moment(hit.created_at),
    )
