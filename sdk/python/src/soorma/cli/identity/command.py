"""`soorma keys`: creates, lists, rotates and revokes API keys."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.output import Column
from soorma.cli.parameters import Json

if TYPE_CHECKING:
    from datetime import datetime

    from soorma_common.identity import CreatedKey, KeyInfo

T = TypeVar("T")

app = command_group("keys")

PATH = "/v1/identity/keys"
PAGE = 1_000
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_duration = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])").fullmatch

Database = Annotated[
    Path | None,
    typer.Option(
        "--database",
        metavar="FILE",
        help="Work on this database itself, while no platform runs on it.",
    ),
]
_Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="ID", help="Of this tenant only.", show_default="all"),
]
_KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as it is listed.")]

_CREATE = """\
Create a key, and print its credential, which is shown this once.

The roles are app (memories, events and event types), agent (takes deliveries, and acts for the \
user of each while it is in hand), viewer (reads) and operator (everything but taking deliveries). \
An agent's key names the agents that may have it, and the events that they take and publish.

\b
Examples:
  soorma keys create ops --role operator --database .soorma/soorma.db
  soorma keys create shop --role app --tenant acme
  soorma keys create packers --role agent --tenant acme --agent packer \\
      --subscribe order.paid@business-facts --publish order.packed@business-facts
"""


@app.command(help=_CREATE)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called in lists.")],
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="app, agent, viewer or operator.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="A single scope instead of a role; often."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="ID", help="For this tenant.", show_default="for all"),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="ID", help="For this user.", show_default="for all"),
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option(
            "--agent", metavar="NAME", help="An agent that may have it, * for any; often."
        ),
    ] = None,
    subscribe: Annotated[
        list[str] | None,
        typer.Option("--subscribe", metavar="TYPE[@TOPIC]", help="Events it may take; often."),
    ] = None,
    publish: Annotated[
        list[str] | None,
        typer.Option("--publish", metavar="TYPE[@TOPIC]", help="Events it may publish; often."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Valid for so long, as 90d or 12h."),
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    from soorma_common.identity import ROLES, CreatedKey, NewKey  # noqa: PLC0415

    named = next((one for one in ROLES if one == role), None)
    if role is not None and named is None:
        raise typer.BadParameter(f"one of {', '.join(ROLES)}", param_hint="--role")
    body = NewKey(
        name=name,
        role=named,
        scopes=scope or [],
        tenant_id=tenant,
        user_id=user,
        agents=agent or [],
        subscribe=subscribe or [],
        publish=publish or [],
        expires_in=None if expires is None else seconds_of("--expires", expires),
    )
    if database is not None:
        from soorma.cli.identity import record  # noqa: PLC0415

        created = _in_record(lambda: record.create(database, body))
    else:
        created = _asked(lambda platform: platform.send("identity", "POST", PATH, body, CreatedKey))
    _say_created(created, as_json=as_json)


@app.command(
    help="Print a new credential that no platform knows yet, for a file of keys to begin with "
    "(SOORMA_BOOTSTRAP_KEYS_FILE)."
)
def generate() -> None:
    from soorma_platform.identity.credentials import fresh_key  # noqa: PLC0415

    output.say(fresh_key().credential)


@app.command("list", help="List keys: what they permit, until when, and when they were last used.")
def list_keys(tenant: _Tenant = None, database: Database = None, as_json: Json = False) -> None:
    from soorma_common.identity import ApiKeys  # noqa: PLC0415 - --help does without

    if database is not None:
        from soorma.cli.identity import record  # noqa: PLC0415

        found = [
            one
            for one in _in_record(lambda: record.all_keys(database))
            if tenant in (None, one.tenant_id)
        ]
    else:
        pages = _asked(lambda platform: pages_of(platform, PATH, ApiKeys, tenant))
        found = [key for page in pages for key in page.keys]
    found.sort(key=lambda one: one.created_at)
    if as_json:
        output.say_json({"keys": found})
    elif not found:
        output.note("there is no key; soorma keys create makes one")
    else:
        output.table(
            (
                Column("Key", 0),
                Column("Name", 0, is_text=True),
                Column("Role", 1),
                Column("Tenant", 1),
                Column("User", 3),
                Column("State", 1),
                Column("Last used", 2),
                Column("Created", 4),
            ),
            [_row(one) for one in found],
        )


@app.command(
    help="Create the successor of a key and print its credential. The key stays valid beside it "
    "for a while, so that nothing fails while it is replaced."
)
def rotate(
    key: _KeyId,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="TIME", help="How long both are valid.")
    ] = "24h",
    database: Database = None,
    as_json: Json = False,
) -> None:
    from soorma_common.identity import CreatedKey, RotateBody  # noqa: PLC0415

    seconds = seconds_of("--overlap", overlap)
    if database is not None:
        from soorma.cli.identity import record  # noqa: PLC0415

        created = _in_record(lambda: record.rotate(database, key, seconds))
    else:
        path = f"{PATH}/{quote(key, safe='')}/rotate"
        created = _asked(
            lambda platform: platform.send(
                "identity", "POST", path, RotateBody(seconds), CreatedKey
            )
        )
    _say_created(created, as_json=as_json)


@app.command(
    help="Revoke a key, for good. Its next request is refused, and its connections end; events in "
    "the hands of its agents go to others, at no cost of an attempt."
)
def revoke(
    key: _KeyId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    from soorma_common.identity import KeyInfo  # noqa: PLC0415 - --help does without

    if not yes and not typer.confirm(f"Revoke the key {key}? That cannot be undone."):
        raise typer.Abort
    if database is not None:
        from soorma.cli.identity import record  # noqa: PLC0415

        done = _in_record(lambda: record.revoke(database, key))
    else:
        path = f"{PATH}/{quote(key, safe='')}"
        done = _asked(lambda platform: platform.send("identity", "DELETE", path, None, KeyInfo))
    if as_json:
        output.say_json(done)
    else:
        output.say(f"Revoked {output.cell(done.id)} ({output.cell(done.name)})")


def seconds_of(option: str, text: str) -> float:
    """Returns the seconds that a text such as 90d, 12h, 30m or 10s names."""
    found = _duration(text.strip())
    if found is None or not math.isfinite(float(found[1])):
        raise typer.BadParameter("a time such as 90d, 12h, 30m or 10s", param_hint=option)
    return float(found[1]) * _UNITS[found[2]]


def _asked(work: Callable[[PlatformConnection], Awaitable[T]]) -> T:
    return on_platform(None, None, work)


def _in_record(work: Callable[[], T]) -> T:
    from soorma.cli.exits import CommandError, exit_of  # noqa: PLC0415
    from soorma_common.errors import SoormaError  # noqa: PLC0415

    try:
        return work()
    except SoormaError as error:
        raise CommandError(exit_of(error), error.message) from error


async def pages_of(
    platform: PlatformConnection, path: str, kind: type[T], tenant: str | None
) -> list[T]:
    """Returns all pages of a listing of the identity service, each with its `next`."""
    pages: list[Any] = []
    after: int | None = None
    while True:
        query = {"tenant_id": tenant, "after": after, "limit": PAGE}
        pages.append(await platform.send("identity", "GET", path, None, kind, **query))
        after = pages[-1].next
        if after is None:
            return pages


def _say_created(created: CreatedKey, *, as_json: bool) -> None:
    if as_json:
        output.say_json(created)
        return
    key = created.key
    what = key.role or ", ".join(key.scopes)
    whose = "all tenants" if key.tenant_id is None else f"tenant {key.tenant_id}"
    whom = "" if key.user_id is None else f", user {key.user_id}"
    output.note(f"{output.cell(key.name)}: {what}, for {output.cell(whose + whom)}")
    output.note("this is the only time that it is shown; programs read it from SOORMA_API_KEY")
    output.say(created.credential)


def _row(key: KeyInfo) -> tuple[str, ...]:
    return (
        output.cell(key.id),
        output.text(key.name),
        output.cell(key.role or ", ".join(key.scopes)),
        output.cell(key.tenant_id or "all"),
        output.cell(key.user_id or "all"),
        state_of(key),
        output.moment(None if key.last_used_at is None else key.last_used_at.isoformat()),
        output.moment(key.created_at.isoformat()),
    )


def state_of(key: KeyInfo) -> str:
    """Returns whether a key is valid, in words."""
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.expires_at is None else until(key.expires_at, "expired")


def until(end: datetime, over: str) -> str:
    """Returns until when something holds, or since when it is over, in words."""
    from datetime import UTC, datetime  # noqa: PLC0415 - --help does without

    return f"{over if end <= datetime.now(UTC) else 'until'} {output.moment(end.isoformat())}"
