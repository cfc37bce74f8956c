"""`soorma agents`: the agents that are alive, and what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import LONGEST_PAGE, PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.terminal import plain

app = command_group()


@app.command(
    help="List the agents that are alive, and what they can do.\n\nThose that serve the tenant, "
    "and match all filters.",
    epilog="Exit codes are listed by: soorma dev --help",
)
def agents(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The agent of this name only.")
    ] = None,
    capability: Annotated[str | None, typer.Option(help="Those with this capability only.")] = None,
    consumes: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Those that take such events only.")
    ] = None,
    produces: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Those that publish such events only.")
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    wanted = {"name": name, "capability": capability, "consumes": consumes, "produces": produces}

    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await platform.whole(
            "registry", "/v1/registry/agents", "agents", limit=LONGEST_PAGE, **wanted
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    elif found["agents"]:
        output.table(
            (
                Column("Agent", 0),
                Column("Description", 4, is_text=True),
                Column("Capabilities", 2, is_text=True),
                Column("Consumes", 1, is_text=True),
                Column("Produces", 3, is_text=True),
                Column("Instances", 1),
                Column("Last heard", 5),
            ),
            [_row(agent) for agent in found["agents"]],
        )
    elif name is None:
        narrowed = any(wanted.values())
        output.note(
            "no such agent is alive"
            if narrowed
            else "no agent is alive; start one, and it announces itself"
        )
    if name is not None and not found["agents"]:
        raise CommandError(
            Exit.NOT_FOUND,
            plain(f"no such agent {name} is alive; soorma agents lists those that are"),
        )


def _row(agent: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        output.cell(agent["name"]),
        output.text(agent["description"]),
        output.cell(", ".join(capability["name"] for capability in agent["capabilities"])),
        output.cell(", ".join(agent["events_consumed"])),
        output.cell(", ".join(agent["events_produced"])),
        str(len(agent["instances"])),
        output.moment(max((instance["heard_at"] for instance in agent["instances"]), default=None)),
    )
