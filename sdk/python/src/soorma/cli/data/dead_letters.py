"""`soorma events dead-letters` and `replay`: events that groups gave up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Limit, Tenant, User
from soorma_common.errors import NotFound

app = command_group()

_Group = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Of this group only.")]


@app.command(help="List the events that groups gave up, and why, the last first.")
def dead_letters(
    group: _Group = None,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await _dead_letters(platform, group)

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "dead_letters": output.some(found["dead_letters"], "id", limit)})
    elif not found["dead_letters"]:
        output.note("there are no dead letters")
    else:
        output.table(
            (
                Column("Id", 0),
                Column("Group", 1),
                Column("Type", 1),
                Column("Topic", 6),
                Column("Plan", 4),
                Column("Attempts", 2),
                Column("Reason", 0, is_text=True),
                Column("Time", 3),
                Column("Parked", 5),
            ),
            [
                _dead_letter_row(letter)
                for letter in output.newest(found["dead_letters"], "id", limit)
            ],
        )


@app.command(help="Give dead letters to their groups again, as if they came now.")
def replay(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID…", help="Those of soorma events dead-letters.", min=1),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that there are now.")] = False,
    group: _Group = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if bool(numbers) == every:
        raise typer.BadParameter("name the ids of dead letters, or say --all", param_hint="ID…")
    if group is not None and not every:
        raise typer.BadParameter("it goes with --all only", param_hint="--group")

    async def again(platform: PlatformConnection) -> tuple[list[int], list[int]]:
        wanted = numbers or [
            letter["id"] for letter in (await _dead_letters(platform, group))["dead_letters"]
        ]
        done = {number: await _replay(platform, number) for number in dict.fromkeys(wanted)}
        return [number for number in done if done[number]], [
            number for number in done if not done[number]
        ]

    replayed, missing = on_platform(tenant, user, again)
    if as_json:
        output.say_json({"replayed": replayed, "missing": missing})
    else:
        output.say(f"Replayed {_listed(replayed)}" if replayed else "Replayed none")
    if missing and not every:  # with --all, another has replayed them meanwhile
        raise CommandError(
            Exit.NOT_FOUND,
            f"not replayed: {_listed(missing)}; this tenant has none of that number (see soorma "
            "events dead-letters)",
        )


async def _dead_letters(platform: PlatformConnection, group: str | None) -> dict[str, Any]:
    return await platform.whole(
        "events",
        "/v1/events/dead-letters",
        "dead_letters",
        tenant_id=platform.scope.tenant_id,
        group=group,
    )


async def _replay(platform: PlatformConnection, number: int) -> bool:
    """Replays a dead letter; False if there is none of this number."""
    path = f"/v1/events/dead-letters/{number}/replay"
    try:
        await platform.post("events", path, tenant_id=platform.scope.tenant_id)
    except NotFound:
        return False
    return True


def _listed(numbers: list[int]) -> str:
    return f"dead letter{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _dead_letter_row(letter: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(letter["id"]),
        *(output.cell(letter[name]) for name in ("group", "type", "topic", "plan_id", "attempts")),
        output.text(letter["reason"]),
        output.moment(letter["at"]),
        "yes" if letter["parked"] else "no",
    )
