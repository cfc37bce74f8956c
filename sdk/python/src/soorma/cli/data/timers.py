"""`soorma events timers` and `cancel`: events that wait to be published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import LONGEST_PAGE, PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Limit, Tenant, User
from soorma_common.times import RFC_3339

app = command_group()


@app.command(help="List the events that wait to be published, in the order they were set.")
def timers(
    plan: Annotated[str | None, typer.Option(metavar="PLAN", help="Of this plan only.")] = None,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await platform.whole(
            "events", "/v1/events/timers", "timers", plan_id=plan, limit=LONGEST_PAGE
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "timers": found["timers"][:limit]})
    elif not found["timers"]:
        output.note("no event of this user of this tenant waits to be published")
    else:
        output.table(
            (Column("Id", 0), Column("Due"), Column("Type"), Column("Topic", 3), Column("Plan", 2)),
            [_timer_row(timer) for timer in output.first(found["timers"], limit, "first")],
        )


@app.command(help="Take back an event that waits to be published.")
def cancel(
    event_id: Annotated[
        str, typer.Argument(metavar="ID", help="Its id, as soorma events timers lists it.")
    ],
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> bool | None:
        return await platform.bus.cancel(event_id)

    cancelled = on_platform(tenant, user, change)
    if as_json:
        output.say_json({"id": event_id, "cancelled": cancelled})
    elif cancelled:
        output.say(f"Event {output.cell(event_id)} will not be published")
    if not cancelled:
        raise CommandError(
            Exit.NOT_FOUND,
            f"no event {output.cell(event_id)} waits: it was published, or taken back",
        )


def moment_of(text: str) -> datetime:
    """Returns the time of --at; BadParameter if it is not RFC 3339, or has no zone."""
    hint = "a time with its zone, as 2030-01-01T12:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not {hint}", param_hint="--at") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} could be anywhere: say {hint}", param_hint="--at")
    if not RFC_3339.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not RFC 3339: say {hint}", param_hint="--at")
    return moment


def _timer_row(timer: Mapping[str, Any]) -> tuple[str, ...]:
    names = (output.cell(timer.get(name)) for name in ("type", "topic", "plan_id"))
    return (output.cell(timer["id"]), output.moment(timer["due_at"]), *names)
