"""`soorma state complete`, `fail` and `cancel`: the ends of a plan."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.parameters import Json, Plan, Tenant, User, json_of, text_of
from soorma_common.operations import ENDINGS, AnyEnding, Cancel, Complete, Fail
from soorma_common.terminal import plain
from soorma_common.values import encode

app = command_group()

_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; - reads standard input.")]
_Force = Annotated[bool, typer.Option("--force", help="Even if nothing was ever written to it.")]


# A negative number is a result, not an option.
@app.command(
    help="End a plan: its goal is reached.", context_settings={"ignore_unknown_options": True}
)
def complete(
    plan: Plan,
    result: Annotated[
        str | None, typer.Argument(metavar="RESULT", help="JSON; - reads standard input.")
    ] = None,
    force: _Force = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    content = (
        None if result is None else json_of("RESULT", result, """a text is quoted, as '"text"'""")
    )
    ending = Complete(msgspec.Raw(encode(content).encode()))
    _end(plan, ending, force=force, as_json=as_json, tenant=tenant, user=user)


@app.command(
    help="End a plan: its goal will not be reached. What its handlers have registered to undo it "
    "is published."
)
def fail(
    plan: Plan,
    reason: _Reason,
    force: _Force = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    _end(
        plan,
        Fail(text_of("--reason", reason)),
        force=force,
        as_json=as_json,
        tenant=tenant,
        user=user,
    )


@app.command(help="End a plan: it is not wanted any more. What waits for its handlers is dropped.")
def cancel(
    plan: Plan,
    reason: _Reason = "",
    force: _Force = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    _end(
        plan,
        Cancel(text_of("--reason", reason)),
        force=force,
        as_json=as_json,
        tenant=tenant,
        user=user,
    )


def _end(
    plan: str,
    ending: AnyEnding,
    *,
    force: bool,
    as_json: bool,
    tenant: str | None,
    user: str | None,
) -> None:
    async def change(platform: PlatformConnection) -> Any:
        from soorma.workflow import WorkflowState  # noqa: PLC0415 - --help does without

        if not force and not await WorkflowState(platform.memory, plan).revision():
            raise CommandError(
                Exit.NOT_FOUND,
                plain(
                    f"there is no plan {plan!r} of this user of this tenant: nothing was ever "
                    "written to it; --force ends it all the same, where events of it are under way"
                ),
            )
        await platform.memory.apply(plan, [ending])

    on_platform(tenant, user, change)
    status = ENDINGS[type(ending)]
    if as_json:
        output.say_json({"plan_id": plan, "status": status})
    else:
        output.say(f"Plan {output.cell(plan)} is {status}")
