"""`soorma memory skills relevant`: what an agent would get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import (
    LeastScore,
    MostHits,
    MostTokens,
    SearchMode,
    WaitSeconds,
    excerpt,
)
from soorma.cli.memory.searches import check_utf8, tell_how
from soorma.cli.memory.skills.fields import OfKind, success_of, values_of, whose_of
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.procedural import Kind

if TYPE_CHECKING:
    from soorma_common.procedural import ProcedureHit, ProcedureHits

app = command_group()


@app.command(
    help="List what an agent would get for a context, in its order: the active skills that are "
    "about it, the most successful first. Rules apply without a context."
)
def relevant(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    context: Annotated[
        str | None, typer.Argument(metavar="CONTEXT", help="What is to be done, in any words.")
    ] = None,
    kind: OfKind = "skill",
    facts: Annotated[
        list[str] | None,
        typer.Option(
            "--fact", metavar="NAME=VALUE", help="What is known, in JSON; can be repeated."
        ),
    ] = None,
    limit: MostHits = 5,
    mode: SearchMode = "hybrid",
    min_score: LeastScore = None,
    max_tokens: MostTokens = None,
    wait: WaitSeconds = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    known = values_of("--fact", facts)
    if context is not None:
        check_utf8(context, "CONTEXT")
    elif kind != "rule":
        raise typer.BadParameter(
            f"say what is to be done: that is what {kind}s are looked for by. Rules apply without: "
            "--kind rule",
            param_hint="CONTEXT",
        )

    async def ask(platform: PlatformConnection) -> ProcedureHits:
        memory = platform.memory
        if context is None:
            return await memory.get_rules(agent, facts=known, limit=limit, max_tokens=max_tokens)
        return await memory.get_relevant_skills(
            agent,
            context,
            limit,
            kind=kind,
            facts=known,
            max_tokens=max_tokens,
            min_score=min_score,
            mode=mode,
            wait=wait,
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
        return
    if found.procedures:
        output.table(_RELEVANT, [_hit_row(hit) for hit in found])
    _tell_applying(found, agent, kind, is_cut=min_score is None and context is not None)
    if context is not None and found.applying:
        tell_how(found, asked=mode)


_RELEVANT = (
    Column("Name", 0),
    Column("Version", 1),
    Column("Success", 1),
    Column("Score", 1),
    Column("Whose", 3),
    Column("Description", 2, is_text=True, least=24),
)


def _hit_row(hit: ProcedureHit) -> tuple[str, ...]:
    return (
        output.cell(hit.name),
        str(hit.version),
        success_of(hit),
        "-" if hit.score is None else f"{hit.score:.2f}",
        whose_of(hit),
        excerpt(hit.description or hit.content),
    )


def _tell_applying(found: ProcedureHits, agent: str, kind: Kind, *, is_cut: bool) -> None:
    """Notes how many apply, where not all of them are shown."""
    told = output.cell(agent)
    many = found.applying > 1
    applying = (
        f"{found.applying:,} active {kind}{'s' if many else ''} that appl{'y' if many else 'ies'}"
    )
    if not found.applying:
        output.note(f"no active {kind} applies to agent {told} with these facts")
    elif not found.procedures:
        widen = "; --min-score 0 shows the best all the same" if is_cut else ""
        output.note(f"none of {applying} to agent {told} is about this{widen}")
    elif len(found) < found.applying:
        output.note(f"shown: {len(found):,} of {applying} to agent {told}")
