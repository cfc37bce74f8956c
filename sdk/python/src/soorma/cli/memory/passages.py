"""`soorma memory list`, `show`, `update` and `publish`: the passages that are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import (
    TEXT_COLUMN,
    AliasNames,
    MetadataText,
    PassageId,
    Source,
    Tags,
    ValidFrom,
    ValidUntil,
    excerpt,
    metadata_of,
    moment,
    say_facts,
)
from soorma.cli.output import Column
from soorma.cli.parameters import Json, Limit, Tenant, User
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from soorma_common.semantic import Passage

app = command_group()


class Clearable(StrEnum):
    """What can be taken away from a passage."""

    ALIASES = "aliases"
    TAGS = "tags"
    SOURCE = "source"
    METADATA = "metadata"
    VALID_FROM = "valid-from"
    VALID_UNTIL = "valid-until"


_FIELDS = "\b\nFields of --clear:\n" + "\n".join(f"  {field}" for field in Clearable)


@app.command(
    "list",
    help="List the user's own passages that count, those stored last first. Public ones are not "
    "among them.",
)
def list_passages(
    proposed: Annotated[
        bool,
        typer.Option("--proposed", help="Those only that a handler has proposed to make public."),
    ] = False,
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
    kept: deque[Passage] = deque(maxlen=most)  # only these: passages may be large, and many

    async def ask(platform: PlatformConnection) -> int:
        count = 0
        listed = platform.memory.list_knowledge(proposed=proposed, quarantined=quarantined)
        async with aclosing(listed) as passages:
            async for passage in passages:
                kept.append(passage)
                count += 1
        return count

    count = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({"passages": list(kept)})
    elif not count:
        output.note(
            "this user of this tenant has no "
            + ("proposed passages" if proposed else "passages of their own")
        )
    else:
        if limit is None and count > len(kept):
            output.note(f"the newest {len(kept)} of {count}; --limit {count} shows all")
        output.table(
            (
                Column("Id", 0),
                TEXT_COLUMN,
                Column("Tags", 3, is_text=True),
                Column("Source", 4),
                Column("External id", 5),
                Column("Stored", 2),
            ),
            [_row(passage) for passage in reversed(kept)],
        )
        if proposed:
            output.note("soorma memory publish ID shows one to all users of the tenant")


@app.command(help="Show a passage with all that is stored of it, also one that counts no more.")
def show(
    passage_id: PassageId, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    found = read_passage(passage_id, tenant, user)
    if as_json:
        output.say_json(found)
        return
    say_facts(_facts(found))
    output.say(f"\n{plain(found.content)}")


@app.command(
    help="Change what is given of a passage: it takes the place of what it had. To change what it "
    "says, add another one that supersedes it.",
    epilog=_FIELDS,
)
def update(
    passage_id: PassageId,
    aliases: AliasNames = None,
    tags: Tags = None,
    source: Source = None,
    metadata: MetadataText = None,
    valid_from: ValidFrom = None,
    valid_until: ValidUntil = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(metavar="FIELD", help="Take this away from it; can be repeated."),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    given: dict[str, Any] = {
        "aliases": aliases,
        "tags": tags,
        "source": source,
        "metadata": metadata_of(metadata),
        "valid_from": valid_from,
        "valid_until": valid_until,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    for field in clear or ():
        name = field.value.replace("-", "_")
        if changes.get(name):
            raise typer.BadParameter(
                f"{field.value} is given and cleared at once", param_hint="--clear"
            )
        changes[name] = () if field in (Clearable.ALIASES, Clearable.TAGS) else None
    if not changes:
        raise typer.BadParameter("say what to change, or to --clear", param_hint="OPTIONS")

    async def change(platform: PlatformConnection) -> Passage | None:
        await platform.memory.update_knowledge(passage_id, **changes)
        return await platform.memory.get_knowledge(passage_id) if as_json else None

    changed = on_platform(tenant, user, change)
    if as_json:
        output.say_json(changed)
    else:
        output.say(f"Updated passage {output.cell(passage_id)}")


@app.command(
    help="Show a passage that a handler has proposed to all users of the tenant. It closes what it "
    "replaces there."
)
def publish(
    passage_id: PassageId, as_json: Json = False, tenant: Tenant = None, user: User = None
) -> None:
    async def change(platform: PlatformConnection) -> str:
        return await platform.memory.publish_knowledge(passage_id)

    public = on_platform(tenant, user, change)
    if as_json:
        output.say_json({"id": public})
    elif public == passage_id:
        output.say(f"Published passage {output.cell(passage_id)}")
    else:
        output.say(
            f"Published passage {output.cell(passage_id)}: it counts with {output.cell(public)}, "
            "which says the same"
        )


def read_passage(passage_id: str, tenant: str | None, user: str | None) -> Passage:
    """Returns a passage; CommandError if there is none."""

    async def ask(platform: PlatformConnection) -> Passage:
        return await platform.memory.get_knowledge(passage_id)

    return on_platform(tenant, user, ask)


def _row(passage: Passage) -> tuple[str, ...]:
    return (
        output.cell(passage.id),
        excerpt(passage.content),
        output.text(", ".join(passage.tags)),
        output.cell(passage.source),
        output.cell(passage.external_id),
        moment(passage.created_at),
    )


def _facts(passage: Passage) -> Iterator[tuple[str, str]]:
    """Yields what is stored of a passage, except its text."""
    metadata = passage.metadata and msgspec.json.encode(passage.metadata).decode()
    seen_by = "all users of the tenant" if passage.is_public else "its user"
    proposed = " (it was proposed for all of the tenant)" if passage.is_proposed else ""
    yield "Id", output.cell(passage.id)
    yield "External id", output.cell(passage.external_id)
    yield "Aliases", output.cell(", ".join(passage.aliases))
    yield "Tags", output.cell(", ".join(passage.tags))
    yield "Source", output.cell(passage.source)
    yield "Metadata", output.cell(metadata)
    yield "Found by", seen_by + proposed
    yield "Subject", output.cell(passage.subject)
    yield "Attribute", output.cell(passage.attribute)
    yield "Valid from", moment(passage.valid_from)
    yield "Valid until", moment(passage.valid_until)
    yield "Stored", moment(passage.created_at)
    again = ", only said again from memory" if passage.is_recalled else ""
    yield "Stated", f"{passage.stated} time{'' if passage.stated == 1 else 's'}{again}"
    yield "Updated", moment(passage.updated_at)
    yield "Revision", str(passage.revision)
    yield "Closed", moment(passage.closed_at)
    yield "Closed by", output.cell(passage.closed_by)
    yield "Derived from", output.cell(", ".join(passage.derived_from))
    yield "Trust", output.cell(passage.trust)
    yield "Plan", output.cell(passage.plan_id)
    yield "Agent", output.cell(passage.cause.actor)
    yield "Event", output.cell(passage.cause.event_id)
