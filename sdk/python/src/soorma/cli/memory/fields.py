"""The fields of memories as options, what limits a search, and texts as cells of a table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.output import Column
from soorma.cli.parameters import json_of
from soorma_common.semantic import LONGEST_WAIT, MOST_HITS, Mode

# --- A passage -------------------------------------------------------------------------------

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


# --- An interaction --------------------------------------------------------------------------

AgentId = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="The agent that it belongs to.")
]
SessionId = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="The session that it belongs to.")
]

# --- A search --------------------------------------------------------------------------------

QueryText = Annotated[
    str, typer.Argument(metavar="QUERY", help="A question or words; it has no syntax.")
]
MostHits = Annotated[
    int, typer.Option("--limit", min=1, max=MOST_HITS, metavar="N", help="So many at most.")
]
MostTokens = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Those of so many tokens together.")
]
SearchMode = Annotated[Mode, typer.Option(help="Whether it goes by words, by meaning, or by both.")]
OfTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only what has this tag; can be repeated."),
]
OfSource = Annotated[str | None, typer.Option(metavar="NAME", help="Only what has this source.")]
OfMetadata = Annotated[
    str | None,
    typer.Option(
        "--metadata", metavar="JSON", help="Only what has these fields; - reads standard input."
    ),
]
OfAgent = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="Only what belongs to this agent.")
]
OfSession = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Only what was said in this session.")
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only what is from then or later, as 2030-01-01T12:00:00Z."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only what is older.")]
LeastScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        min=0,
        max=1,
        metavar="X",
        help="Everything that reaches this score.",
        show_default="what is good enough",
    ),
]
AsOf = Annotated[
    str | None, typer.Option(metavar="TIME", help="What was true then.", show_default="now")
]
KnownAt = Annotated[
    str | None, typer.Option(metavar="TIME", help="What was known then.", show_default="now")
]
WaitSeconds = Annotated[
    float | None,
    typer.Option(
        "--wait",
        min=0,
        max=LONGEST_WAIT,
        metavar="SECONDS",
        help="Wait so long until all that is stored is embedded.",
    ),
]

# --- For eyes --------------------------------------------------------------------------------

LONGEST_EXCERPT = 100
"""The most characters of a passage in a table; `memory show` and --json show it whole."""

TEXT_COLUMN = Column("Passage", 0, is_text=True, least=32)
SAID_COLUMN = Column("Text", 0, is_text=True, least=32)


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


def counted(count: int, what: str) -> str:
    """Formats how many there are of something, as `1 passage` or `1,200 passages`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def say_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Prints titles and values, a line each, in two columns."""
    told = list(facts)
    width = max(len(title) for title, _ in told) + output.GAP
    for title, value in told:
        output.say(f"{title:<{width}}{value}")
