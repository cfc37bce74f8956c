"""`soorma events groups` and `unsubscribe`: who takes events, and what waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.topics import Topic

app = command_group()


@app.command(help="List the groups of agents that take events, and what waits for them.")
def groups(as_json: Json = False, tenant: Tenant = None, user: User = None) -> None:
    async def ask(platform: PlatformConnection) -> Any:
        return await platform.read(
            "events", "/v1/events/groups", tenant_id=platform.scope.tenant_id
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    elif not found["groups"]:
        output.note("no agent of this tenant has subscribed yet")
    else:
        output.table(
            (
                Column("Group", 0),
                Column("Tenant", 4),
                Column("Waiting", 1),
                Column("Ready", 2),
                Column("In hand", 2),
                Column("Oldest", 3),
                Column("Takes", 1, is_text=True),
                Column("Replicas", 1),
            ),
            [_group_row(group) for group in found["groups"]],
        )


@app.command(help="End a group's subscription: it takes no further events of that type.")
def unsubscribe(
    group: Annotated[str, typer.Argument(help="The group, which has the name of its agent.")],
    kind: Annotated[
        str,
        typer.Argument(metavar="TYPE", help="The type of the subscription; * is one of its own."),
    ],
    topic: Annotated[
        Topic | None,
        typer.Option(help="The topic of the subscription.", show_default="one to any topic"),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Drop what waits for it. Otherwise that becomes dead letters."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    place = f"{kind!r} on {topic.value if topic else 'any topic'}"
    fate = (
        "are dropped, with its dead letters"
        if drop
        else "become dead letters, which can be replayed"
    )
    if not yes and not typer.confirm(
        f"End the subscription of {group} to {place}? Events that wait for it {fate}."
    ):
        raise typer.Abort

    async def end(platform: PlatformConnection) -> Any:
        path = f"/v1/events/groups/{quote(group, safe='')}/subscriptions/{quote(kind, safe='')}"
        query = {
            "topic": topic.value if topic else "*",
            "waiting": "drop" if drop else "dead-letters",
        }
        return await platform.delete("events", path, tenant_id=platform.scope.tenant_id, **query)

    found = on_platform(tenant, user, end)
    if as_json:
        output.say_json(found)
    else:
        waited = found["waited"]
        became = "dropped" if drop else "now dead letters"
        output.say(
            f"Ended; {waited} event{'' if waited == 1 else 's'} had waited for "
            f"it{f', {became}' if waited else ''}"
        )


def _group_row(group: Mapping[str, Any]) -> tuple[str, ...]:
    takes = ", ".join(_subscription(one) for one in group["subscriptions"])
    return (
        output.cell(group["name"]),
        output.cell(group["tenant_id"]),
        str(group["waiting"]),
        str(group["ready"]),
        str(group["in_hand"]),
        output.moment(group["oldest_at"]),
        output.text(takes),
        str(len(group["replicas"])),
    )


def _subscription(one: Mapping[str, Any]) -> str:
    told = f"{one['type']} on {one['topic']}"
    if one["served"] and not one["set_aside"]:
        return told
    return f"{told} (no connected agent handles it: {one['set_aside']} set aside)"
