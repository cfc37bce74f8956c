"""`soorma memory audit`: how many memories there are, and how clean they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.memory.fields import counted, moment, say_facts
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.audit import MOST_AUDITED, MemoryAudit

app = command_group()

MUCH_RECALLED, MUCH_RESTATED, MUCH_CLOSED, MUCH_ALIKE = 0.1, 0.5, 0.7, 0.1
"""Shares from which on something is worth a look; no law of nature, but rarely meant so."""

_HELP = """Count what memories hold, and say what looks wrong.

\b
Examples:
  soorma memory audit
  soorma memory audit --user bob --json
  soorma memory audit --everybody
"""


@app.command(help=_HELP)
def audit(
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Of all users of the tenant, without names.")
    ] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if everybody and user is not None:
        raise typer.BadParameter("it is of all users; leave --user out", param_hint="--everybody")

    async def ask(platform: PlatformConnection) -> MemoryAudit:
        return await platform.memory.audit(everybody=everybody)

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
        return
    say_facts(_facts(found))
    for advice in _advice(found):
        output.note(advice)


def _facts(found: MemoryAudit) -> Iterator[tuple[str, str]]:
    yield "Passages", f"{found.passages:,} and {found.closed:,} closed{_share(found.closed_share)}"
    restated = f"{found.restated:,} restated{_share(found.restated_share)}"
    recalled = f"{found.recalled:,} recalled{_share(found.recalled_share)}"
    yield "Statements", f"{found.statements:,}, of these {restated} and {recalled}"
    yield "Alike", f"{found.alike:,}"
    yield "Derived", f"{found.derived:,}"
    yield "Public", f"{found.public:,} and {found.proposed:,} proposed"
    yield "Stored by", _listed([(f"{who}s", count) for who, count in found.by_trust.items()])
    if found.by_source:
        sources = [(output.cell(one.source), one.passages) for one in found.by_source]
        yield "Sources", _listed(sources)
    yield "Sessions", f"{found.sessions:,} of {counted(found.interactions, 'interaction')}"
    states = f"{found.active:,} active and {found.proposed_versions:,} proposed"
    versions = counted(found.versions, "version")
    yield "Procedures", f"{found.procedures:,} in {versions}, {states}"
    yield "Parts", f"{found.parts:,} and {found.unembedded:,} of them not embedded"
    yield "Text", f"{found.bytes:,} bytes"
    yield "Secrets", f"{found.redacted:,} redacted and {found.refused:,} refused since the start"
    yield "Oldest", moment(found.oldest)
    yield "Newest", moment(found.newest)


def _share(share: float) -> str:
    return f" ({share:.0%})" if share else ""


def _listed(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts) or "-"


def _advice(found: MemoryAudit) -> Iterator[str]:
    """Says what looks wrong, and what to do next."""
    if found.recalled_share > MUCH_RECALLED:
        yield (
            "agents store what they have just recalled: let them store only what is new; "
            "soorma memory show ID says of a passage what it is derived from"
        )
    if found.restated_share > MUCH_RESTATED:
        yield (
            "most of what is stored is there already: give documents an external id, and store "
            "them again only when they have changed"
        )
    if found.closed_share > MUCH_CLOSED:
        yield "most passages were replaced: soorma memory forget --before TIME removes old ones"
    if found.alike > MUCH_ALIKE * max(found.passages, 1):
        yield (
            "passages seem to state the same: soorma memory show ID names those alike; let one "
            "supersede the others"
        )
    if found.proposed:
        yield (
            f"{counted(found.proposed, 'proposal')} to be looked at: soorma memory list "
            "--proposed, then soorma memory publish ID or soorma memory forget ID"
        )
    if found.unembedded:
        yield (
            f"{counted(found.unembedded, 'part')} found by words alone so far: an embedding model "
            "(SOORMA_EMBEDDINGS), if one is in use, embeds them soon"
        )
    if found.redacted or found.refused:
        yield (
            "secrets were about to be stored: soorma_memory_secrets_total in the metrics says of "
            "which kinds; keep them out of prompts, and replace those that were exposed"
        )
    if not found.is_whole:
        yield f"there are more: these are counts of the first {MOST_AUDITED:,}"
