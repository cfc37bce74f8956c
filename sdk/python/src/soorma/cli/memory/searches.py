"""`soorma memory search` and `said`: the passages and the interactions that answer a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import (
    SAID_COLUMN,
    TEXT_COLUMN,
    AsOf,
    KnownAt,
    LeastScore,
    MostHits,
    MostTokens,
    OfAgent,
    OfMetadata,
    OfSession,
    OfSource,
    OfTags,
    QueryText,
    SearchMode,
    Since,
    Until,
    WaitSeconds,
    excerpt,
    metadata_of,
    moment,
)
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.episodic import Role

if TYPE_CHECKING:
    from soorma_common.episodic import SaidHit, SaidHits
    from soorma_common.procedural import ProcedureHits
    from soorma_common.semantic import Hit, Hits, Mode

app = command_group()

MOST_COUNTED = 1_000
"""The parts of a collection up to which the platform counts those that are not embedded."""


@app.command(
    help="Find the passages that answer a query, the best first: few and right ones, or none."
)
def search(
    query: QueryText,
    limit: MostHits = 10,
    mode: SearchMode = "hybrid",
    tags: OfTags = None,
    source: OfSource = None,
    metadata: OfMetadata = None,
    since: Since = None,
    until: Until = None,
    min_score: LeastScore = None,
    max_tokens: MostTokens = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    wait: WaitSeconds = None,
    no_public: Annotated[
        bool, typer.Option("--no-public", help="Only the user's own, not what is public.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    check_utf8(query)
    fields = metadata_of(metadata)

    async def ask(platform: PlatformConnection) -> Hits:
        return await platform.memory.search_knowledge(
            query,
            limit=limit,
            mode=mode,
            tags=tags or (),
            source=source,
            metadata=fields,
            since=since,
            until=until,
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
    elif not found.is_known:
        output.note(
            "nothing was ever stored for this user of this tenant"
            + ("" if no_public else ", nor publicly")
        )
    else:
        _tell_hits(found, is_cut=min_score is None)
        tell_how(found, asked=mode)


def _tell_hits(found: Hits, *, is_cut: bool) -> None:
    if not found.hits:
        widen = "; --min-score 0 shows the best all the same" if is_cut else ""
        output.note(f"nothing good enough was found{widen}")
        return
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


# A command of its own: of what limits a search, passages and interactions share little, and these
# are not cut off where they are no longer good enough.
@app.command(
    help="Find what was said: the interactions that have to do with a query, the best first."
)
def said(
    query: QueryText,
    limit: MostHits = 10,
    mode: SearchMode = "hybrid",
    session: OfSession = None,
    agent: OfAgent = None,
    role: Annotated[Role | None, typer.Option(help="Only what this role has said.")] = None,
    metadata: OfMetadata = None,
    since: Since = None,
    until: Until = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, metavar="X", help="Only what reaches this score.")
    ] = 0.0,
    max_tokens: MostTokens = None,
    wait: WaitSeconds = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    check_utf8(query)
    fields = metadata_of(metadata)

    async def ask(platform: PlatformConnection) -> SaidHits:
        return await platform.memory.search_interactions(
            query,
            limit=limit,
            mode=mode,
            session_id=session,
            agent_id=agent,
            role=role,
            metadata=fields,
            since=since,
            until=until,
            min_score=min_score,
            max_tokens=max_tokens,
            wait=wait,
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    elif not found.is_known:
        output.note("nothing was ever logged for this user of this tenant")
    else:
        _tell_said(found)
        tell_how(found, asked=mode)


def _tell_said(found: SaidHits) -> None:
    if not found.hits:
        output.note("nothing that has to do with it was said")
        return
    output.table(
        (
            Column("Score", 0),
            Column("Role", 0),
            SAID_COLUMN,
            Column("Agent", 3),
            Column("Session", 1),
            Column("Time", 2),
        ),
        [_said_row(hit) for hit in found],
    )


def check_utf8(query: str, what: str = "QUERY") -> None:
    """Raises BadParameter for what a shell has passed as bytes that are no UTF-8."""
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter("it is no UTF-8", param_hint=what) from error


def tell_how(found: Hits | SaidHits | ProcedureHits, *, asked: Mode) -> None:
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


def _said_row(hit: SaidHit) -> tuple[str, ...]:
    return (
        f"{hit.score:.2f}",
        output.cell(hit.role),
        excerpt(hit.content, begins=hit.place.start == 0),
        output.cell(hit.agent_id),
        output.cell(hit.session_id),
        moment(hit.created_at),
    )
