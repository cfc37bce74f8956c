"""`soorma memory add`: stores a passage, or those of a JSON Lines file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.memory import lines
from soorma.cli.memory.fields import (
    AliasNames,
    MetadataText,
    Source,
    Tags,
    ValidFrom,
    ValidUntil,
    counted,
    metadata_of,
)
from soorma.cli.parameters import Json, Tenant, User, text_of
from soorma_common.terminal import plain

app = command_group()

_HELP = """Store a passage and print its id, or store the passages of a file's lines.

A passage with the same external id, the one that it supersedes, and the current one with the same \
subject and attribute count no more. An equal passage is not stored twice: it counts one more.

\b
Examples:
  soorma memory add "Dogs travel free of charge." --tag fares
  soorma memory add --file handbook.txt --external-id handbook
  soorma memory add --lines faq.jsonl

A line of --lines is a text in JSON, or an object of the arguments of store_knowledge. What stands \
before a line with an error is stored, and stays.
"""


@app.command(help=_HELP)
def add(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What is to be known; - reads standard input."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="A file with the text."
        ),
    ] = None,
    many: Annotated[
        Path | None,
        typer.Option(
            "--lines",
            metavar="FILE",
            help="A JSON Lines file, a passage in each line; - reads standard input.",
        ),
    ] = None,
    external_id: Annotated[str | None, typer.Option(metavar="ID", help="Its id elsewhere.")] = None,
    aliases: AliasNames = None,
    tags: Tags = None,
    source: Source = None,
    metadata: MetadataText = None,
    public: Annotated[
        bool, typer.Option("--public", help="All users of the tenant find it.")
    ] = False,
    valid_from: ValidFrom = None,
    valid_until: ValidUntil = None,
    supersedes: Annotated[
        str | None, typer.Option(metavar="ID", help="The passage in whose place it is.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What it is about; goes with --attribute."),
    ] = None,
    attribute: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What of the subject has one current value."),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if [text, file, many].count(None) != 2:
        raise typer.BadParameter("give one of TEXT, --file and --lines", param_hint="TEXT")
    given: dict[str, Any] = {
        "external_id": external_id,
        "aliases": aliases,
        "tags": tags,
        "source": source,
        "metadata": metadata_of(metadata),
        "is_public": public or None,
        "valid_from": valid_from,
        "valid_until": valid_until,
        "supersedes": supersedes,
        "subject": subject,
        "attribute": attribute,
    }
    fields = {name: value for name, value in given.items() if value is not None}
    if many is not None:
        if fields:
            raise typer.BadParameter(
                "the lines say all of their passages; no other option describes them",
                param_hint="--lines",
            )
        _add_lines(many, as_json=as_json, tenant=tenant, user=user)
        return
    content = text_of("TEXT", text) if text is not None else _content(file)

    async def store(platform: PlatformConnection) -> str:
        return await platform.memory.store_knowledge(content, **fields)

    stored = on_platform(tenant, user, store)
    if as_json:
        output.say_json({"id": stored})
    else:
        output.say(plain(stored))


def _content(file: Path | None) -> str:
    assert file is not None  # noqa: S101 - one of three is given
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(Exit.USAGE, plain(f"{file} is no UTF-8: {error}")) from error


def _add_lines(path: Path, *, as_json: bool, tenant: str | None, user: str | None) -> None:
    ids = lines.add_lines(path, lines.PASSAGES, tenant, user)
    if as_json:
        output.say_json({"ids": ids})
        return
    output.say(f"Stored {counted(len(ids), 'passage')}")
    if equal := len(ids) - len(set(ids)):
        output.note(f"{equal:,} of them equal another one, and were counted with it")
