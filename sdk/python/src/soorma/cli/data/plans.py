"""`soorma state`: the plans of a user, and their keys. `history` and `endings` add to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import LONGEST_PAGE, PlatformConnection, on_platform, plan_path
from soorma.cli.data import endings, history
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Key, Limit, Plan, Tenant, User, json_of, text_of
from soorma_common.names import check_name
from soorma_common.operations import AnyOperation, Cleanup, Delete

app = command_group("state")

app.add_typer(history.app)
app.add_typer(endings.app)


class Status(StrEnum):
    """The statuses of a plan."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_IfRevision = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Only if the key is at this revision; 0: if it is missing."
    ),
]


@app.command("plans", help="List the user's plans, those changed last first.")
def list_plans(
    status: Annotated[
        Status | None, typer.Option(help="Those of this status only.", show_default="all")
    ] = None,
    stalled: Annotated[
        bool,
        typer.Option("--stalled", help="Those only that wait for nothing, and have not ended."),
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        wanted = {"status": status and status.value, "stalled": "true" if stalled else None}
        return await platform.whole(
            "memory", "/v1/memory/working", "plans", limit=LONGEST_PAGE, **wanted
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "plans": output.some(found["plans"], "updated_at", limit)})
    elif not found["plans"]:
        output.note(f"this user of this tenant has no {'such ' if status or stalled else ''}plans")
    else:
        output.table(
            (
                Column("Plan", 0),
                Column("Status", 1),
                Column("Keys", 3),
                Column("Actions", 3),
                Column("Bytes", 5),
                Column("Revision", 4),
                Column("Updated", 2),
                Column("Expires", 6),
            ),
            [_plan_row(plan) for plan in output.newest(found["plans"], "updated_at", limit)],
        )


@app.command("list", help="List a plan's keys with their values.")
def list_keys(
    plan: Plan,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.", show_default="all")] = "",
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await platform.whole(
            "memory", plan_path("working", plan), "entries", prefix=prefix, limit=LONGEST_PAGE
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    elif not found["entries"]:
        output.note(f"plan {output.cell(plan)} has no such keys for this user of this tenant")
    else:
        output.table(
            (
                Column("Key", 0),
                Column("Value", 0, is_text=True),
                Column("Revision", 2),
                Column("Updated", 3),
                Column("Expires", 4),
            ),
            [_entry_row(entry) for entry in found["entries"]],
        )


@app.command(help="Print a key's value as JSON; with --json all that is known of the key.")
def get(
    plan: Plan,
    key: Key,
    at: Annotated[
        int | None, typer.Option(min=0, metavar="REVISION", help="As it was at this revision.")
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        found = await platform.read("memory", plan_path("working", plan, key), revision=at)
        return {
            re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value
            for name, value in found.items()
        }

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    else:
        output.say_json_value(found["value"])


# A negative number is a value, not an option.
@app.command("set", help="Give a key a value.", context_settings={"ignore_unknown_options": True})
def set_key(
    plan: Plan,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON; - reads standard input.")],
    text: Annotated[bool, typer.Option("--string", help="VALUE is plain text, not JSON.")] = False,
    ttl: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long it lives.", show_default="for ever"),
    ] = None,
    if_revision: _IfRevision = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    hint = """quote a text, as '"text"', or say --string"""
    content = text_of("VALUE", value) if text else json_of("VALUE", value, hint)

    async def change(platform: PlatformConnection) -> dict[str, Any]:
        done = await platform.memory.set_plan_state(
            plan, key, content, ttl=ttl, expected_revision=if_revision
        )
        return {
            "id": done.id,
            "tenant_id": done.tenant_id,
            "user_id": done.user_id,
            "plan_id": done.plan_id,
            "key": done.key,
            "value": done.value,
            "revision": done.revision,
            "updated_at": done.updated_at,
        }

    done = on_platform(tenant, user, change)
    if as_json:
        output.say_json(done)
    else:
        output.say(
            f"Set {output.cell(key)} of plan {output.cell(plan)} at revision {done['revision']}"
        )


@app.command(
    help="Remove keys in one commit, or with --all the whole plan; that they are missing is fine."
)
def delete(
    plan: Plan,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY…", help="The keys.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Keys, actions and history of the plan.")
    ] = False,
    if_revision: _IfRevision = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    wanted = list(dict.fromkeys(keys or []))
    if bool(wanted) == everything:
        raise typer.BadParameter("name keys, or say --all", param_hint="KEY…")
    if if_revision is not None and len(wanted) != 1:
        raise typer.BadParameter("it goes with one key only", param_hint="--if-revision")

    async def change(platform: PlatformConnection) -> list[Any]:
        operations: list[AnyOperation] = [Cleanup()] if everything else []
        operations += [
            Delete(key=check_name("key", key), expected_revision=if_revision) for key in wanted
        ]
        return await platform.memory.apply(plan, operations)

    results = on_platform(tenant, user, change)
    missing = [key for key, was_there in zip(wanted, results, strict=False) if not was_there]
    deleted = int(results[0]) if everything else len(wanted) - len(missing)
    if as_json:
        output.say_json({"plan_id": plan, "deleted": deleted, "missing": missing})
    else:
        output.say(
            f"Deleted {deleted} {'key' if deleted == 1 else 'keys'} of plan {output.cell(plan)}"
        )
        for key in missing:
            output.note(f"there was no key {output.cell(key)}")


def _plan_row(plan: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        output.cell(plan["plan_id"]),
        "stalled" if plan.get("stalled") else plan.get("status", Status.ACTIVE.value),
        *(str(plan[name]) for name in ("keys", "actions", "size_bytes", "revision")),
        output.moment(plan["updated_at"]),
        output.moment(plan.get("expires_at")),
    )


def _entry_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        output.cell(entry["key"]),
        output.value(entry["value"]),
        str(entry["revision"]),
        output.moment(entry["updated_at"]),
        output.moment(entry.get("expires_at")),
    )
