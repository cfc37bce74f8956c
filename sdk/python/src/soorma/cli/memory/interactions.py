"""`soorma memory history` and `log`: what was said, in the order in which it happened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory import lines
from soorma.cli.memory.fields import (
    SAID_COLUMN,
    AgentId,
    MetadataText,
    MostTokens,
    OfAgent,
    OfSession,
    SessionId,
    counted,
    excerpt,
    metadata_of,
    moment,
)
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User, text_of
from soorma_common.episodic import MOST_MESSAGES, History, Role, Said
from soorma_common.terminal import plain

app = command_group()

_LOG_HELP = """Log what was said or done and print its id, or log the interactions of a file's \
lines.

\b
Examples:
  soorma memory log user "I am a vegetarian." --session s-1 --agent cook
  soorma memory log --lines conversation.jsonl

A line of --lines is an object of the arguments of log_interaction, such as {"role": "user", \
"content": "Hello", "session_id": "s-1"}. What stands before a line with an error is logged, and \
stays.
"""


@app.command(help="List what was said last, in the order in which it happened.")
def history(
    session: OfSession = None,
    agent: OfAgent = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MOST_MESSAGES, metavar="N", help="So many at most.")
    ] = 50,
    max_tokens: MostTokens = None,
    before: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", help="Only what is older than this one.", show_default="now"
        ),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> History:
        return await platform.memory.get_recent_history(
            agent, limit, session_id=session, max_tokens=max_tokens, before=before
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
        return
    if found.interactions:
        output.table(
            (
                Column("Number", 3),
                Column("Time", 2),
                Column("Session", 5),
                Column("Agent", 4),
                Column("Role", 0),
                SAID_COLUMN,
            ),
            [_row(said) for said in found.interactions],
        )
    _tell_more(found, is_narrowed=(session, agent, before) != (None, None, None))


def _tell_more(found: History, *, is_narrowed: bool) -> None:
    """Notes how to get at what was said before, or that nothing was."""
    if found.next is not None and found.interactions:
        output.note(f"--before {found.next} lists what was said before")
    elif found.next is not None:
        output.note(
            f"number {found.next} alone has more tokens; --before {found.next} lists what was said "
            "before it"
        )
    elif not found.interactions:
        output.note(
            f"nothing {'such ' if is_narrowed else ''}was logged for this user of this tenant"
        )


@app.command(help=_LOG_HELP)
def log(
    role: Annotated[
        Role | None,
        typer.Argument(metavar="ROLE", help="Who says it: user, assistant, tool or system."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What was said; - reads standard input."),
    ] = None,
    session: SessionId = None,
    agent: AgentId = None,
    metadata: MetadataText = None,
    plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="The plan that it belongs to.")
    ] = None,
    many: Annotated[
        Path | None,
        typer.Option(
            "--lines",
            metavar="FILE",
            help="A JSON Lines file, an interaction in each line; - reads standard input.",
        ),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if many is not None:
        if any(one is not None for one in (role, session, agent, metadata, plan)):
            raise typer.BadParameter(
                "the lines say all of their interactions; nothing else describes them",
                param_hint="--lines",
            )
        _log_lines(many, as_json=as_json, tenant=tenant, user=user)
        return
    if role is None or text is None:
        raise typer.BadParameter("give ROLE and TEXT, or --lines", param_hint="ROLE TEXT")
    spoken: Role = role
    content, fields = text_of("TEXT", text), metadata_of(metadata)

    async def append(platform: PlatformConnection) -> str:
        return await platform.memory.log_interaction(
            agent, spoken, content, metadata=fields, session_id=session, plan_id=plan
        )

    logged = on_platform(tenant, user, append)
    if as_json:
        output.say_json({"id": logged})
    else:
        output.say(plain(logged))


def _log_lines(path: Path, *, as_json: bool, tenant: str | None, user: str | None) -> None:
    ids = lines.add_lines(path, lines.INTERACTIONS, tenant, user)
    if as_json:
        output.say_json({"ids": ids})
    else:
        output.say(f"Logged {counted(len(ids), 'interaction')}")


def _row(said: Said) -> tuple[str, ...]:
    return (
        str(said.number),
        moment(said.created_at),
        output.cell(said.session_id),
        output.cell(said.agent_id),
        output.cell(said.role),
        excerpt(said.content),
    )
