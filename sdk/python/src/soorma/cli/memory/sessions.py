"""`soorma memory sessions`: lists the sessions of a user, shows, names, exports and deletes one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from soorma.cli import output
from soorma.cli.commands import command_group, listing_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import counted, moment, say_facts
from soorma.cli.memory.forgetting import Yes, ask_first, memories_of, receipt_of, say_erased
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Limit, Tenant, User
from soorma_common.episodic import MOST_MESSAGES, History, Said, SessionInfo

if TYPE_CHECKING:
    from soorma.memory.client import MemoryClient
    from soorma_common.forgetting import Receipt

_Session = Annotated[str, typer.Argument(metavar="ID", help="The session's id.")]


app = command_group()
_sessions = listing_group(
    "sessions",
    "List the user's sessions; show, name, export or delete one. Without a command, list.",
)
app.add_typer(_sessions)


@_sessions.command("list", help="List the user's sessions, those begun last first.")
def list_sessions(
    limit: Limit = None, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    most = output.MOST_ROWS if limit is None and not as_json else limit
    kept: list[SessionInfo] = []

    async def ask(platform: PlatformConnection) -> int:
        count = 0
        async with aclosing(platform.memory.list_sessions()) as sessions:
            async for session in sessions:
                count += 1
                if most is None or count <= most:
                    kept.append(session)
                if count == limit:
                    break
        return count

    count = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({"sessions": kept})
    elif not count:
        output.note("this user of this tenant has no sessions")
    else:
        if count > len(kept):
            output.note(f"the newest {len(kept)} of {count}; --limit {count} shows all")
        output.table(
            (
                Column("Session", 0),
                Column("Name", 0, is_text=True),
                Column("Interactions", 1),
                Column("Began", 3),
                Column("Last", 2),
            ),
            [_row(session) for session in kept],
        )


@_sessions.command(help="Show a session: its name, how many interactions it has, and when.")
def show(
    session_id: _Session, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    found = _read(session_id, tenant, user)
    if as_json:
        output.say_json(found)
        return
    titles = ("Session", "Name", "Interactions", "Began", "Last")
    say_facts(zip(titles, _row(found), strict=True))
    output.note("soorma memory history --session ID shows what was said")


@_sessions.command(help="Name a session, or take its name away with --clear.")
def name(
    session_id: _Session,
    name_: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name from now on.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take its name away.")] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if (name_ is None) != clear:
        raise typer.BadParameter("give either NAME or --clear", param_hint="NAME")

    async def change(platform: PlatformConnection) -> SessionInfo:
        await platform.memory.name_session(session_id, name_)
        return await platform.memory.get_session(session_id)

    changed = on_platform(tenant, user, change)
    if as_json:
        output.say_json(changed)
    elif clear:
        output.say(f"Session {output.cell(session_id)} has no name")
    else:
        output.say(f"Named session {output.cell(session_id)} {output.cell(name_)}")


@_sessions.command(help="Forget a session with all that was said in it, for good; asks first.")
def delete(
    session_id: _Session,
    yes: Yes = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    def question() -> str:
        found = _read(session_id, tenant, user)
        told = "" if found.name is None else f" ({output.cell(found.name)})"
        return (
            f"Session {output.cell(session_id)}{told} has "
            f"{counted(found.interactions, 'interaction')}. This removes it with them."
        )

    if not yes:
        ask_first("delete removes the session with all that was said in it", question)

    async def remove(platform: PlatformConnection) -> Receipt:
        return await platform.memory.delete_session(session_id)

    receipt = receipt_of(tenant, user, remove)
    if as_json:
        output.say_json(receipt)
        return
    output.say(f"Deleted session {output.cell(session_id)} with {memories_of(receipt)}")
    say_erased(receipt)


@_sessions.command(
    help="Print all interactions of a session as JSON Lines, the oldest first; with --json as one "
    "document, with what `show` knows of the session."
)
def export(
    session_id: _Session, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    async def write(platform: PlatformConnection) -> None:
        session = await platform.memory.get_session(session_id)
        async with aclosing(oldest_first(platform.memory, session_id)) as pages:
            if as_json:
                await _say_document(session, pages)
            else:
                async for page in pages:
                    output.say_encoded(b"\n".join(map(msgspec.json.encode, page)))

    on_platform(tenant, user, write)


async def _say_document(session: SessionInfo, pages: AsyncGenerator[list[Said], None]) -> None:
    """Prints a session as a JSON document that is never held as a whole."""
    output.say_encoded(b'{"session":' + msgspec.json.encode(session) + b',"interactions":[')
    separator = b""
    async for page in pages:
        output.say_encoded(separator + b",\n".join(map(msgspec.json.encode, page)))
        separator = b","
    output.say_encoded(b"]}")


async def oldest_first(memory: MemoryClient, session_id: str) -> AsyncGenerator[list[Said], None]:
    """Yields what was said in a session until now, the oldest first, page by page.

    The platform lists the newest first. So this walks back once, and keeps of each page only the
    number it begins with; then it reads the pages again on its way forward. However long the
    session is, no more than a page is held.
    """
    page = await _page(memory, session_id, None)
    if not page.interactions:
        return
    ends = [_number(page.interactions[-1]) + 1]  # what is logged meanwhile comes after it
    while page.next is not None:
        ends.append(page.next)
        page = await _page(memory, session_id, page.next)
    if page.interactions:
        yield page.interactions
    for end, begin in zip(ends[-2::-1], ends[:0:-1], strict=True):
        page = await _page(memory, session_id, end)
        # If some were forgotten meanwhile, older ones have moved up, which were yielded before.
        kept = [one for one in page.interactions if _number(one) >= begin]
        if kept:
            yield kept


def _number(said: Said) -> int:
    """Returns its number; outside of transactions, each has one."""
    return said.number or 0


async def _page(memory: MemoryClient, session_id: str, before: int | None) -> History:
    return await memory.get_recent_history(
        None, MOST_MESSAGES, session_id=session_id, before=before
    )


def _read(session_id: str, tenant: str | None, user: str | None) -> SessionInfo:
    async def ask(platform: PlatformConnection) -> SessionInfo:
        return await platform.memory.get_session(session_id)

    return on_platform(tenant, user, ask)


def _row(session: SessionInfo) -> tuple[str, ...]:
    return (
        output.cell(session.session_id),
        output.text(session.name),
        f"{session.interactions:,}",
        moment(session.created_at),
        moment(session.updated_at),
    )
