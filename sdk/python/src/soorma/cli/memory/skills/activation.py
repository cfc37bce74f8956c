"""`soorma memory skills activate`, `roll-back`, `retire`, `outcome` and `forget`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import counted
from soorma.cli.memory.forgetting import Yes, ask_first, memories_of, receipt_of, say_erased
from soorma.cli.memory.skills.fields import OfKind, OfTenant, ProcedureName, options, words_of
from soorma.cli.parameters import Json, Tenant, User

if TYPE_CHECKING:
    from soorma_common.forgetting import Receipt
    from soorma_common.procedural import Kind
    from soorma_common.semantic import MemoryDone

app = command_group()

# --- Active or not ---------------------------------------------------------------------------


@app.command(
    help="Make a version the active one, also one that a handler has proposed; without --version "
    "the newest."
)
def activate(
    name: ProcedureName,
    version: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="This version.", show_default="the newest"),
    ] = None,
    kind: OfKind = "skill",
    public: OfTenant = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> MemoryDone:
        return await platform.memory.activate_procedure(name, version, kind=kind, is_public=public)

    done = on_platform(tenant, user, change)
    _tell(done, name, kind, as_json=as_json)
    if as_json:
        return
    output.note(
        f"soorma memory skills roll-back {words_of(name)}{options(kind, is_public=public)} goes "
        "back to what was active before"
    )


@app.command(
    "roll-back", help="Go back to what was active before the last activation or retirement."
)
def roll_back(
    name: ProcedureName,
    kind: OfKind = "skill",
    public: OfTenant = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> MemoryDone:
        return await platform.memory.roll_back_procedure(name, kind=kind, is_public=public)

    _tell(on_platform(tenant, user, change), name, kind, as_json=as_json)


@app.command(help="Make no version active; all of them stay, and can be activated again.")
def retire(
    name: ProcedureName,
    kind: OfKind = "skill",
    public: OfTenant = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def change(platform: PlatformConnection) -> MemoryDone:
        return await platform.memory.retire_procedure(name, kind=kind, is_public=public)

    done = on_platform(tenant, user, change)
    _tell(done, name, kind, as_json=as_json)
    if done.id and not as_json:
        output.note(
            f"soorma memory skills roll-back {words_of(name)}{options(kind, is_public=public)} "
            "makes active what was"
        )


def _tell(done: MemoryDone, name: str, kind: Kind, *, as_json: bool) -> None:
    """Says which version is active now."""
    if as_json:
        output.say_json(done)
        return
    which = f"Version {done.version}" if done.version else "No version"
    output.say(f"{which} of {kind} {output.cell(name)} is active now")


# --- Outcomes --------------------------------------------------------------------------------


@app.command(
    help="Count that something done by a version has succeeded, or failed. Plans whose handlers "
    "have read it are counted anyway."
)
def outcome(
    name: ProcedureName,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", min=1, help="The number of the version.")
    ],
    succeeded: Annotated[
        bool | None, typer.Option("--succeeded/--failed", help="How it has ended.")
    ] = None,
    kind: OfKind = "skill",
    public: OfTenant = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if succeeded is None:
        raise typer.BadParameter("say how it has ended", param_hint="--succeeded / --failed")
    ended = succeeded

    async def change(platform: PlatformConnection) -> MemoryDone:
        return await platform.memory.count_outcome(
            name, version, succeeded=ended, kind=kind, is_public=public
        )

    done = on_platform(tenant, user, change)
    if as_json:
        output.say_json(done)
    else:
        how = "success" if ended else "failure"
        output.say(f"Counted a {how} of version {done.version} of {kind} {output.cell(name)}")


# --- Forgotten -------------------------------------------------------------------------------


@app.command(
    help="Forget a procedure with all its versions and what was derived from them, for good; asks "
    "first."
)
def forget(
    name: ProcedureName,
    kind: OfKind = "skill",
    public: OfTenant = False,
    yes: Yes = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    whose: Any = "public" if public else "own"

    def question() -> str:
        async def count(platform: PlatformConnection) -> int:
            stream = platform.memory.list_versions(name, kind=kind, whose=whose)
            return len([one async for one in stream])

        versions = counted(on_platform(tenant, user, count), "version")
        serving = ", and serves all users of the tenant" if public else ""
        return (
            f"{kind.capitalize()} {output.cell(name)} has {versions}{serving}. This removes it "
            "with all that was derived from it."
        )

    if not yes:
        ask_first("forget removes all versions, and all that was derived from them", question)

    async def remove(platform: PlatformConnection) -> Receipt:
        return await platform.memory.delete_procedure(name, kind=kind, is_public=public)

    receipt = receipt_of(tenant, user, remove)
    if as_json:
        output.say_json(receipt)
        return
    output.say(f"Forgot {kind} {output.cell(name)}: {memories_of(receipt)}")
    say_erased(receipt)
