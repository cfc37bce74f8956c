"""The fields of a passage as options, and its text as a cell of a table."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.output import Column
from soorma.cli.parameters import json_of

PassageId = Annotated[str, typer.Argument(metavar="ID", help="The passage's id.")]
AliasNames = Annotated[
    list[str] | None,
    typer.Option("--alias", metavar="NAME", help="A name by which it is found; can be repeated."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="What it can be filtered by; can be repeated."),
]
Source = Annotated[str | None, typer.Option(metavar="NAME", help="Where it comes from.")]
MetadataText = Annotated[
    str | None,
    typer.Option("--metadata", metavar="JSON", help="An object; - reads standard input."),
]
ValidFrom = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When it becomes true, as 2030-01-01T12:00:00Z."),
]
ValidUntil = Annotated[
    str | None, typer.Option(metavar="TIME", help="From when on it is not true any more.")
]

LONGEST_EXCERPT = 100
"""The most characters of a passage in a table; `memory show` and --json show it whole."""

TEXT_COLUMN = Column("Passage", 0, is_text=True, least=32)


def metadata_of(argument: str | None) -> dict[str, Any] | None:
    """Returns the object of --metadata, None without one; BadParameter if it is no object."""
    if argument is None:
        return None
    example = """as '{"page": 7}'"""
    content = json_of("--metadata", argument, f"it is an object, {example}")
    if not isinstance(content, dict):
        raise typer.BadParameter(f"it is an object, {example}", param_hint="--metadata")
    return content


def excerpt(content: str, *, begins: bool = True) -> str:
    """Formats the beginning of a passage, or of a part within it, on a line."""
    # As many words are enough, and a mebibyte of them would take a while.
    words = " ".join(content.split(None, LONGEST_EXCERPT)[:LONGEST_EXCERPT])
    told = output.cell(words[: LONGEST_EXCERPT + 1] if begins else f"…{words[:LONGEST_EXCERPT]}")
    return told if len(told) <= LONGEST_EXCERPT else f"{told[: LONGEST_EXCERPT - 1]}…"


def moment(when: datetime | None) -> str:
    """Formats a time of a passage in the local time zone; a dash for none."""
    return output.moment(None if when is None else when.isoformat())
