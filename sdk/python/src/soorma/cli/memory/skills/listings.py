"""`soorma memory skills list`, `show` and `versions`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import excerpt, moment, say_facts
from soorma.cli.memory.skills.fields import (
    OfKind,
    OfWhom,
    ProcedureName,
    VersionNumber,
    options,
    state_of,
    success_of,
    whose_of,
    words_of,
)
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Limit, Tenant, User
from soorma_common.procedural import Kind
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from soorma_common.procedural import ProcedureInfo, ProcedureVersion, VersionInfo

app = command_group()

# --- All of them -----------------------------------------------------------------------------


@app.command(
    "list",
    help="List the user's skills, prompts and rules and the tenant's, those changed last first.",
)
def list_procedures(
    kind: Annotated[
        Kind | None, typer.Option(help="Those of this kind only.", show_default="all")
    ] = None,
    proposed: Annotated[
        bool,
        typer.Option("--proposed", help="Those only of which a handler has proposed a version."),
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> list[ProcedureInfo]:
        async with aclosing(
            platform.memory.list_procedures(kind=kind, proposed=proposed)
        ) as procedures:
            return [one async for one in procedures]

    found = sorted(on_platform(tenant, user, ask), key=lambda one: one.updated_at, reverse=True)
    most = output.MOST_ROWS if limit is None and not as_json else limit
    if as_json:
        output.say_json({"procedures": found[:most]})
    elif not found:
        output.note(_nothing_listed(kind, proposed=proposed))
    else:
        if limit is None and len(found) > output.MOST_ROWS:
            output.note(
                f"the newest {output.MOST_ROWS} of {len(found)}; --limit {len(found)} shows all"
            )
        output.table(_LISTED, [_row(one) for one in found[:most]])
        if any(one.proposed for one in found[:most]):
            output.note(
                "soorma memory skills versions NAME shows which versions are proposed, and "
                "soorma memory skills activate NAME makes one active"
            )


_LISTED = (
    Column("Name", 0),
    Column("Kind", 1),
    Column("Active", 1),
    Column("Versions", 3),
    Column("Proposed", 3),
    Column("Success", 2),
    Column("Whose", 4),
    Column("Description", 2, is_text=True, least=24),
)


def _row(one: ProcedureInfo) -> tuple[str, ...]:
    return (
        output.cell(one.name),
        one.kind,
        output.cell(one.active),
        str(one.versions),
        str(one.proposed) if one.proposed else "-",
        success_of(one),
        whose_of(one),
        "-" if one.description is None else excerpt(one.description),
    )


def _nothing_listed(kind: Kind | None, *, proposed: bool) -> str:
    if proposed:
        return f"no handler has proposed a {kind or 'skill, prompt or rule'} of this user"
    what = "skills, prompts or rules" if kind is None else f"{kind}s"
    return f"this user of this tenant has no {what}, nor has the tenant"


# --- One -------------------------------------------------------------------------------------


@app.command(help="Show a version with all that is stored of it, the active one without --version.")
def show(
    name: ProcedureName,
    version: VersionNumber = None,
    kind: OfKind = "skill",
    whose: OfWhom = "any",
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: PlatformConnection) -> ProcedureVersion:
        return await platform.memory.get_procedure(name, version, kind=kind, whose=whose)

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
        return
    say_facts(_facts(found))
    output.say(f"\n{plain(found.content)}")
    _tell_proposals([found])


@app.command(help="List the versions of a procedure, the newest first.")
def versions(
    name: ProcedureName,
    kind: OfKind = "skill",
    whose: OfWhom = "any",
    quarantined: Annotated[
        bool,
        typer.Option("--quarantined", help="Those in quarantine, instead of those that count."),
    ] = False,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    most = output.MOST_ROWS if limit is None and not as_json else limit

    async def ask(platform: PlatformConnection) -> list[VersionInfo]:
        listed = platform.memory.list_versions(
            name, kind=kind, whose=whose, quarantined=quarantined
        )
        async with aclosing(listed) as stream:
            return [one async for one in stream]

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({"versions": found[:most]})
        return
    if limit is None and len(found) > output.MOST_ROWS:
        output.note(
            f"the newest {output.MOST_ROWS} of {len(found)}; --limit {len(found)} shows all"
        )
    output.table(
        (
            Column("Version", 0),
            Column("State", 0),
            Column("Success", 1),
            Column("Stored", 2),
            Column("By", 3),
            Column("Whose", 4),
            Column("Description", 2, is_text=True, least=24),
        ),
        [_version_row(one) for one in found[:most]],
    )
    _tell_proposals(found[:most])


def _version_row(one: VersionInfo) -> tuple[str, ...]:
    return (
        str(one.version),
        state_of(one),
        success_of(one),
        moment(one.created_at),
        output.cell(one.cause.actor if one.trust == "agent" else one.trust),
        whose_of(one),
        "-" if one.description is None else excerpt(one.description),
    )


def _tell_proposals(found: list[VersionInfo] | list[ProcedureVersion]) -> None:
    """Notes how the newest proposal is made active."""
    one = next((version for version in found if version.is_proposed), None)
    if one is not None:
        output.note(
            f"soorma memory skills activate {words_of(one.name)} --version "
            f"{one.version}{options(one.kind, is_public=one.is_public)} makes the "
            "proposal active"
        )


def _facts(one: ProcedureVersion) -> Iterator[tuple[str, str]]:
    """Yields what is stored of a version, except its content."""
    files = ", ".join(f"{path} ({size:,} bytes)" for path, size in sorted(one.files.items()))
    yield "Name", output.cell(one.name)
    yield "Kind", one.kind
    yield "Version", str(one.version)
    yield "State", state_of(one)
    yield "Whose", whose_of(one)
    yield "Description", output.cell(one.description)
    yield "Agents", output.cell(", ".join(one.agents)) if one.agents else "all"
    yield "Conditions", "none" if not one.conditions else output.cell(_json(one.conditions))
    yield "Files", output.cell(files)
    yield "Success", success_of(one)
    yield "Tags", output.cell(", ".join(one.tags))
    yield "Source", output.cell(one.source)
    yield "Metadata", output.cell(one.metadata and _json(one.metadata))
    yield "Derived from", output.cell(", ".join(one.derived_from))
    yield "Stored", moment(one.created_at)
    yield "Updated", moment(one.updated_at)
    yield "Id", output.cell(one.id)
    yield "Trust", output.cell(one.trust)
    yield "Plan", output.cell(one.plan_id)
    yield "Agent", output.cell(one.cause.actor)
    yield "Event", output.cell(one.cause.event_id)


def _json(content: object) -> str:
    return msgspec.json.encode(content).decode()
