"""`soorma state history`, `diff`, `restore` and others: a plan's past, and ways back to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import (
    LONGEST_PAGE,
    PlatformConnection,
    on_platform,
    plan_path,
    until_interrupted,
)
from soorma.cli.output import Column
from soorma.cli.parameters import Json, JsonLines, Key, Limit, Plan, Tenant, User
from soorma_common.json_text import decode

if TYPE_CHECKING:
    from soorma.workflow import Difference, WorkflowState

app = command_group()

_Revision = Annotated[int, typer.Argument(metavar="REVISION", min=0, help="The plan's revision.")]
_After = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Begin behind this revision.", show_default="all that is kept"
    ),
]
_AfterNow = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Begin behind this revision.", show_default="now"),
]


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
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await platform.whole(
            "memory",
            plan_path("history", plan),
            "changes",
            key=key,
            after=after,
            limit=LONGEST_PAGE,
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "changes": output.some(found["changes"], "revision", limit)})
    elif not found["changes"]:
        output.note(f"plan {output.cell(plan)} has no such changes for this user of this tenant")
    else:
        output.table(
            (
                Column("Revision", 0),
                Column("Time", 3),
                Column("Operation", 0),
                Column("Key", 0),
                Column("Argument", 1, is_text=True),
                Column("Agent", 2),
                Column("Event", 4),
            ),
            [_change_row(change) for change in output.newest(found["changes"], "revision", limit)],
        )


@app.command(help="List the actions that agents have recorded in a plan, the last first.")
def actions(
    plan: Plan, limit: Limit = None, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    async def ask(platform: PlatformConnection) -> dict[str, Any]:
        return await platform.whole(
            "memory", plan_path("actions", plan), "actions", limit=LONGEST_PAGE
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "actions": output.some(found["actions"], "number", limit)})
    elif not found["actions"]:
        output.note(f"plan {output.cell(plan)} has no actions for this user of this tenant")
    else:
        output.table(
            (
                Column("Number", 0),
                Column("Time", 2),
                Column("Action", 0),
                Column("Agent", 1),
                Column("Event", 3),
            ),
            [_action_row(action) for action in output.newest(found["actions"], "number", limit)],
        )


@app.command(
    help="Print the changes of a plan as they are committed, until Ctrl+C; with --json a line for "
    "each commit."
)
def watch(
    plan: Plan,
    after: _AfterNow = None,
    as_json: JsonLines = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def lines(platform: PlatformConnection) -> AsyncGenerator[None, None]:
        async for _, data in platform.follow("memory", plan_path("watch", plan), after=after):
            if as_json:
                output.say_json_line(decode(data))
            else:
                for change in decode(data)["changes"]:
                    output.say("  ".join(_change_row(change)))
            yield

    until_interrupted(tenant, user, lines)


@app.command(
    help="List a plan's keys with their values as they were at a revision, or print the value of "
    "one."
)
def at(
    plan: Plan,
    revision: _Revision,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Of this key only.")] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> Any:
        past = _state(platform, plan).at(revision)
        if key is None:
            return await past.all()
        return await platform.memory.get_value_at(plan, key, revision)

    found = on_platform(tenant, user, ask)
    about = {"plan_id": plan, "at": revision}
    if key is not None:
        output.say_json(
            {**about, "key": key, "value": found}
        ) if as_json else output.say_json_value(found)
    elif as_json:
        output.say_json(
            {**about, "entries": [{"key": name, "value": value} for name, value in found.items()]}
        )
    elif not found:
        output.note(
            f"plan {output.cell(plan)} had no keys at revision {revision} for this user of this "
            "tenant"
        )
    else:
        output.table(
            (Column("Key", 0), Column("Value", 0, is_text=True)),
            [(output.cell(name), output.value(value)) for name, value in found.items()],
        )


@app.command(
    help="List the keys that two revisions of a plan differ in, with their values before and after."
)
def diff(
    plan: Plan,
    a: Annotated[int, typer.Argument(metavar="A", min=0, help="The one revision.")],
    b: Annotated[
        int | None, typer.Argument(metavar="B", min=0, help="The other.", show_default="now")
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> tuple[int, list[Difference]]:
        state = _state(platform, plan)
        until = await state.revision() if b is None else b
        if until == 0:
            await state.info()  # NotFound for a plan that never began, instead of "the same"
        return until, await state.diff(a, until)

    until, found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(
            {
                "plan_id": plan,
                "from": a,
                "to": until,
                "changes": [_difference(one) for one in found],
            }
        )
    elif not found:
        output.note(
            f"the keys of plan {output.cell(plan)} are the same at revisions {a} and {until}"
        )
    else:
        output.table(
            (
                Column("Key", 0),
                Column("Change", 1),
                Column("Before", 0, is_text=True),
                Column("After", 0, is_text=True),
            ),
            [_difference_row(one) for one in found],
        )


@app.command(
    help="Give a key the value that it had at a revision, or remove it if it was missing then."
)
def restore(
    plan: Plan,
    key: Key,
    revision: _Revision,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> bool:
        return await _state(platform, plan).restore(key, revision)

    was_there = on_platform(tenant, user, change)
    if as_json:
        output.say_json({"plan_id": plan, "key": key, "at": revision, "was_there": was_there})
    elif was_there:
        output.say(
            f"Set {output.cell(key)} of plan {output.cell(plan)} to what it was at revision "
            f"{revision}"
        )
    else:
        output.say(
            f"Removed {output.cell(key)} of plan {output.cell(plan)}: it was missing at revision "
            f"{revision}"
        )


@app.command(help="Begin a new plan with the keys of another as they are, or were at a revision.")
def fork(
    plan: Plan,
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="The new plan's id: unused, or cleaned up.")
    ],
    revision: Annotated[
        int | None,
        typer.Option(
            "--at", min=0, metavar="REVISION", help="As of this revision.", show_default="now"
        ),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> Any:
        from soorma_common.operations import Fork  # noqa: PLC0415 - --help does without

        return (await platform.memory.apply(new, [Fork(plan, revision)]))[0]

    at_ = on_platform(tenant, user, change)
    if as_json:
        output.say_json({"plan_id": new, "from": plan, "at": at_})
    else:
        output.say(
            f"Plan {output.cell(new)} begins with the keys of plan {output.cell(plan)} at revision "
            f"{at_}"
        )


def _state(platform: PlatformConnection, plan: str) -> WorkflowState:
    from soorma.workflow import WorkflowState  # noqa: PLC0415 - imports aiohttp, which --help does without

    return WorkflowState(platform.memory, plan)


def _difference(one: Difference) -> dict[str, Any]:
    """Returns a key with its values; one is left out if the key was missing."""
    from soorma.workflow import MISSING  # noqa: PLC0415

    values = {"before": one.before, "after": one.after}
    return {
        "key": one.key,
        "change": one.kind,
        **{name: v for name, v in values.items() if v is not MISSING},
    }


def _difference_row(one: Difference) -> tuple[str, ...]:
    told = _difference(one)
    values = (output.value(told[name]) if name in told else "-" for name in ("before", "after"))
    return (output.cell(one.key), one.kind, *values)


def _change_row(change: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(change["revision"]),
        output.moment(change["at"]),
        change["op"],
        output.cell(change.get("key")),
        output.value(change["argument"]) if "argument" in change else "-",
        output.cell(change.get("actor")),
        output.cell(change.get("event_id")),
    )


def _action_row(action: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(action["number"]),
        output.moment(action["at"]),
        *(output.cell(action.get(name)) for name in ("name", "actor", "event_id")),
    )
