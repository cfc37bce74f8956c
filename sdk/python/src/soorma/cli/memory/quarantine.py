"""`soorma memory quarantine`: lists what is in quarantine, adds to it, and releases from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group, listing_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import moment
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User

if TYPE_CHECKING:
    from soorma_common.quarantine import Quarantine

app = command_group()
_quarantine = listing_group(
    "quarantine",
    "List the sources and agents in quarantine: what comes from them counts for nothing. Put one "
    "there, or release it. Without a command, list.",
)
app.add_typer(_quarantine)

_Source = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="What has this source.")
]
_Agent = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="What comes from this agent.")
]
_AllUsers = Annotated[bool, typer.Option("--all-users", help="For all users of the tenant.")]


@_quarantine.command("list", help="List what is in quarantine for the user, the oldest first.")
def list_quarantines(
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Only what is so for all users of the tenant.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> list[Quarantine]:
        return await platform.memory.list_quarantines(all_users=all_users)

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({"quarantines": found})
    elif not found:
        output.note("nothing is in quarantine")
    else:
        output.table(
            (
                Column("From", 0),
                Column("For", 1),
                Column("Since", 2),
                Column("Reason", 3, is_text=True),
            ),
            [
                (
                    _told(one),
                    "all users" if one.all_users else "this user",
                    moment(one.since),
                    output.text(one.reason),
                )
                for one in found
            ],
        )


@_quarantine.command(
    help="Put a source or an agent into quarantine. What is stored stays as it is, and counts "
    "again once it is released."
)
def add(
    source: _Source = None,
    agent: _Agent = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for whoever reads it.")
    ] = None,
    all_users: _AllUsers = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    _check_one(source, agent)

    async def put(platform: PlatformConnection) -> Quarantine:
        return await platform.memory.quarantine(
            source=source, agent_id=agent, reason=reason, all_users=all_users
        )

    done = on_platform(tenant, user, put)
    if as_json:
        output.say_json(done)
        return
    output.say(f"In quarantine since {moment(done.since)}: {_told(done)}")
    output.note(
        "soorma memory list --quarantined shows the passages that it hides, and soorma memory "
        "forget removes them for good"
    )


@_quarantine.command(help="Release a source or an agent: what comes from it counts again.")
def release(
    source: _Source = None,
    agent: _Agent = None,
    all_users: _AllUsers = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    _check_one(source, agent)

    async def end(platform: PlatformConnection) -> Quarantine:
        return await platform.memory.release(source=source, agent_id=agent, all_users=all_users)

    done = on_platform(tenant, user, end)
    if as_json:
        output.say_json(done)
        return
    output.say(f"Released {_told(done)}")


def _check_one(source: str | None, agent: str | None) -> None:
    if (source is None) == (agent is None):
        raise typer.BadParameter("give one of the two", param_hint="--source, --agent")


def _told(one: Quarantine) -> str:
    return output.cell(
        f"source {one.source}" if one.source is not None else f"agent {one.agent_id}"
    )
