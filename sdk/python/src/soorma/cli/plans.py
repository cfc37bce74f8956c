"""`soorma state`: the plans of a user, their keys, and what happened to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from soorma.cli import endings, past, screen, shown
from soorma.cli.given import Json, JsonLines, Key, Limit, Plan, Tenant, User, json_of, text_of
from soorma.cli.reach import Platform, on_platform, until_interrupted
from soorma.cli.tables import Column
from soorma_common.json_text import decode
from soorma_common.names import check_name
from soorma_common.operations import AnyOperation, Cleanup, Delete

app = typer.Typer(
    name="state",
    help="Look at plans, their keys and their history, and change them.",
    epilog="Exit codes are listed by: soorma dev --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(past.app)
app.add_typer(endings.app)

PAGE = 1000


class Status(StrEnum):
    """How far a plan's life has come."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_IfRevision = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Only if the key is at this revision; 0: if it is missing.")
]
_After = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Begin behind this revision.", show_default="all that is kept")
]
_AfterNow = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Begin behind this revision.", show_default="now")
]


@app.command("plans", help="List the user's plans, those changed last first.")
def list_plans(
    status: Annotated[Status | None, typer.Option(help="Those of this status only.", show_default="all")] = None,
    stalled: Annotated[
        bool, typer.Option("--stalled", help="Those only that wait for nothing, and have not ended.")
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: Platform) -> dict[str, Any]:
        wanted = {"status": status and status.value, "stalled": "true" if stalled else None}
        return await platform.whole("memory", "/v1/memory/working", "plans", limit=PAGE, **wanted)

    found = on_platform(tenant, user, ask)
    if as_json:
        shown.as_document({**found, "plans": shown.some(found["plans"], "updatedAt", limit)})
    elif not found["plans"]:
        screen.note(f"this user of this tenant has no {'such ' if status or stalled else ''}plans")
    else:
        screen.table(
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
            [_plan_row(plan) for plan in shown.newest(found["plans"], "updatedAt", limit)],
        )


@app.command("list", help="List a plan's keys with their values.")
def list_keys(
    plan: Plan,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.", show_default="all")] = "",
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: Platform) -> dict[str, Any]:
        return await platform.whole("memory", _path("working", plan), "entries", prefix=prefix, limit=PAGE)

    found = on_platform(tenant, user, ask)
    if as_json:
        shown.as_document(found)
    elif not found["entries"]:
        screen.note(f"plan {shown.cell(plan)} has no such keys for this user of this tenant")
    else:
        screen.table(
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
    at: Annotated[int | None, typer.Option(min=0, metavar="REVISION", help="As it was at this revision.")] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: Platform) -> Any:
        return await platform.read("memory", _path("working", plan, key), revision=at)

    found = on_platform(tenant, user, ask)
    if as_json:
        shown.as_document(found)
    else:
        shown.as_value(found["value"])


# A negative number is a value, not an option.
@app.command("set", help="Give a key a value.", context_settings={"ignore_unknown_options": True})
def set_key(
    plan: Plan,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON; - reads standard input.")],
    text: Annotated[bool, typer.Option("--string", help="VALUE is plain text, not JSON.")] = False,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long it lives.", show_default="for ever")
    ] = None,
    if_revision: _IfRevision = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    hint = """quote a text, as '"text"', or say --string"""
    content = text_of("VALUE", value) if text else json_of("VALUE", value, hint)

    async def change(platform: Platform) -> dict[str, Any]:
        done = await platform.memory.set_plan_state(plan, key, content, ttl=ttl, expected_revision=if_revision)
        return {
            "id": done.id,
            "tenantId": done.tenant_id,
            "userId": done.user_id,
            "planId": done.plan_id,
            "key": done.key,
            "value": done.value,
            "revision": done.revision,
            "updatedAt": done.updated_at,
        }

    done = on_platform(tenant, user, change)
    if as_json:
        shown.as_document(done)
    else:
        screen.say(f"Set {shown.cell(key)} of plan {shown.cell(plan)} at revision {done['revision']}")


@app.command(help="Remove keys in one commit, or with --all the whole plan; that they are missing is fine.")
def delete(
    plan: Plan,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY…", help="The keys.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Keys, actions and history of the plan.")] = False,
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

    async def change(platform: Platform) -> list[Any]:
        operations: list[AnyOperation] = [Cleanup()] if everything else []
        operations += [Delete(key=check_name("key", key), expected_revision=if_revision) for key in wanted]
        return await platform.memory.apply(plan, operations)

    results = on_platform(tenant, user, change)
    missing = [key for key, was_there in zip(wanted, results, strict=False) if not was_there]
    deleted = int(results[0]) if everything else len(wanted) - len(missing)
    if as_json:
        shown.as_document({"planId": plan, "deleted": deleted, "missing": missing})
    else:
        screen.say(f"Deleted {deleted} {'key' if deleted == 1 else 'keys'} of plan {shown.cell(plan)}")
        for key in missing:
            screen.note(f"there was no key {shown.cell(key)}")


@app.command(help="List the changes of a plan, the last first.")
def history(
    plan: Plan,
    key: Annotated[str | None, typer.Option(help="Those of this key only.")] = None,
    after: _After = None,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: Platform) -> dict[str, Any]:
        return await platform.whole("memory", _path("history", plan), "changes", key=key, after=after, limit=PAGE)

    found = on_platform(tenant, user, ask)
    if as_json:
        shown.as_document({**found, "changes": shown.some(found["changes"], "revision", limit)})
    elif not found["changes"]:
        screen.note(f"plan {shown.cell(plan)} has no such changes for this user of this tenant")
    else:
        screen.table(
            (
                Column("Revision", 0),
                Column("Time", 3),
                Column("Operation", 0),
                Column("Key", 0),
                Column("Argument", 1, is_text=True),
                Column("Agent", 2),
                Column("Event", 4),
            ),
            [_change_row(change) for change in shown.newest(found["changes"], "revision", limit)],
        )


@app.command(help="List the actions that agents have recorded in a plan, the last first.")
def actions(plan: Plan, limit: Limit = None, as_json: Json = False, tenant: Tenant = None, user: User = None) -> None:
    async def ask(platform: Platform) -> dict[str, Any]:
        return await platform.whole("memory", _path("actions", plan), "actions", limit=PAGE)

    found = on_platform(tenant, user, ask)
    if as_json:
        shown.as_document({**found, "actions": shown.some(found["actions"], "number", limit)})
    elif not found["actions"]:
        screen.note(f"plan {shown.cell(plan)} has no actions for this user of this tenant")
    else:
        screen.table(
            (Column("Number", 0), Column("Time", 2), Column("Action", 0), Column("Agent", 1), Column("Event", 3)),
            [_action_row(action) for action in shown.newest(found["actions"], "number", limit)],
        )


@app.command(
    help="Print the changes of a plan as they are committed, until Ctrl+C; with --json a line for each commit."
)
def watch(
    plan: Plan,
    after: _AfterNow = None,
    as_json: JsonLines = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def lines(platform: Platform) -> AsyncGenerator[None, None]:
        async for _, data in platform.follow("memory", _path("watch", plan), after=after):
            if as_json:
                shown.as_line(decode(data))
            else:
                for change in decode(data)["changes"]:
                    screen.say("  ".join(_change_row(change)))
            yield

    until_interrupted(tenant, user, lines)


def _path(face: str, plan: str, key: str | None = None) -> str:
    from soorma.transport.calls import segment  # noqa: PLC0415 - imports aiohttp, which --help does without

    path = f"/v1/memory/{face}/{segment(check_name('plan_id', plan))}"
    return path if key is None else f"{path}/{segment(check_name('key', key))}"


def _plan_row(plan: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        shown.cell(plan["planId"]),
        "stalled" if plan.get("stalled") else plan.get("status", Status.ACTIVE.value),
        *(str(plan[name]) for name in ("keys", "actions", "sizeBytes", "revision")),
        shown.moment(plan["updatedAt"]),
        shown.moment(plan.get("expiresAt")),
    )


def _entry_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        shown.cell(entry["key"]),
        shown.value(entry["value"]),
        str(entry["revision"]),
        shown.moment(entry["updatedAt"]),
        shown.moment(entry.get("expiresAt")),
    )


def _change_row(change: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(change["revision"]),
        shown.moment(change["at"]),
        change["op"],
        shown.cell(change.get("key")),
        shown.value(change["argument"]) if "argument" in change else "-",
        shown.cell(change.get("actor")),
        shown.cell(change.get("eventId")),
    )


def _action_row(action: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(action["number"]),
        shown.moment(action["at"]),
        *(shown.cell(action.get(name)) for name in ("name", "actor", "eventId")),
    )
