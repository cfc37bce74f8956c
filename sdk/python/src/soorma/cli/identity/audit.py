"""`soorma audit`: who has done what that people may have to account for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.identity.command import Database
from soorma.cli.output import Column
from soorma.cli.parameters import Json

if TYPE_CHECKING:
    from soorma_common.identity import AuditEntry, AuditPage

app = command_group()

PATH = "/v1/identity/audit"
PAGE = 1_000
SHOWN = 50

_HELP = """\
List who has done what: keys, dead letters, plans deleted, memories forgotten.

The last comes first. Blocks of tokens, quarantines and ended subscriptions are in it, too. \
What agents do in their handlers is in the history of their plans. Rows are kept for \
400 days.

\b
Examples:
  soorma audit
  soorma audit --action key.revoked --tenant acme
  soorma audit --limit 1000 --json
  soorma audit --database /var/lib/soorma/soorma.db
"""


@app.command(help=_HELP)
def audit(
    action: Annotated[
        str | None,
        typer.Option("--action", metavar="ACTION", help="Of this kind only, as key.revoked."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="ID", help="Of this tenant only.", show_default="all"),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="COUNT", help="At most so many.", min=1)
    ] = SHOWN,
    database: Database = None,
    as_json: Json = False,
) -> None:
    from soorma_common.identity import AUDIT_ACTIONS  # noqa: PLC0415 - --help does without

    if action is not None and action not in AUDIT_ACTIONS:
        raise typer.BadParameter(f"one of {', '.join(AUDIT_ACTIONS)}", param_hint="--action")
    if database is not None:
        from soorma.cli.identity import record  # noqa: PLC0415

        found = record.audit(database, action, tenant, limit)
    else:
        found = on_platform(None, None, lambda platform: _rows(platform, action, tenant, limit))
    if as_json:
        output.say_json(found)
    elif not found.entries:
        output.note("nobody has done anything of which there is a row")
    else:
        output.table(
            (
                Column("Time", 0),
                Column("Action", 0),
                Column("By", 0, is_text=True),
                Column("Subject", 0, is_text=True),
                Column("Tenant", 1),
                Column("User", 2),
                Column("Detail", 3, is_text=True),
            ),
            [_row(one) for one in found.entries],
        )
        if found.next is not None:
            output.note(f"there are older ones; --limit {10 * limit} shows more")


async def _rows(
    platform: PlatformConnection, action: str | None, tenant: str | None, limit: int
) -> AuditPage:
    from soorma_common.identity import AuditPage  # noqa: PLC0415 - --help does without

    found, before = AuditPage([]), None
    while True:
        size = min(PAGE, limit - len(found.entries))
        query = {"tenant_id": tenant, "action": action, "before": before, "limit": size}
        page = await platform.send("identity", "GET", PATH, None, AuditPage, **query)
        found.entries += page.entries
        found.next = before = page.next
        if before is None or len(found.entries) >= limit:
            return found


def _row(entry: AuditEntry) -> tuple[str, ...]:
    return (
        output.moment(entry.at.isoformat()),
        output.cell(entry.action),
        output.text(_who(entry)),
        output.text(entry.subject or "-"),
        output.cell(entry.tenant_id or "all"),
        output.cell(entry.user_id or "all"),
        output.text(", ".join(f"{name} {value}" for name, value in entry.detail.items())),
    )


def _who(entry: AuditEntry) -> str:
    """Returns the name and the id of a key, or what else there is; - on an open platform."""
    if entry.by is None:
        return entry.by_name or "-"
    return f"{entry.by_name} ({entry.by})"
