"""`soorma memory skills add`, `import` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, exit_of
from soorma.cli.memory.fields import MetadataText, Source, Tags, counted, metadata_of
from soorma.cli.memory.skills.fields import (
    OfKind,
    OfWhom,
    ProcedureName,
    VersionNumber,
    options,
    values_of,
    words_of,
)
from soorma.cli.parameters import Json, Tenant, User, text_of
from soorma_common.errors import Forbidden, InvalidRequest, LimitExceeded, SoormaError
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from soorma_common.procedural import Kind
    from soorma_common.semantic import MemoryDone

app = command_group()

_ADD_HELP = """Store a skill, prompt or rule, or a new version of it, and make it the active one.

A version that is equal to an earlier one is not stored again.

\b
Examples:
  soorma memory skills add refund "Up to 50 EUR: at once." \\
    --description "How a customer gets money back." --agent support
  soorma memory skills add polite "Never promise a date." --kind rule
  soorma memory skills add gold - --condition 'tier="gold"' <gold.md
"""
_Draft = Annotated[
    bool, typer.Option("--draft", help="Do not make it active; what was active stays so.")
]
_Public = Annotated[bool, typer.Option("--public", help="Store it for all users of the tenant.")]
_OF_A_FOLDER = (InvalidRequest, LimitExceeded, Forbidden)
"""What concerns one folder: an outage concerns all, and ends an import."""

# --- Stored ----------------------------------------------------------------------------------


@app.command(help=_ADD_HELP)
def add(
    name: ProcedureName,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What it says; - reads standard input.")
    ],
    kind: OfKind = "skill",
    description: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What it is for, and when: what it is found by.",
            show_default="found by what it says",
        ),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="An agent that it is for; can be repeated.",
            show_default="all agents",
        ),
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME=VALUE",
            help="It applies where this is a fact: a value in JSON, or a list of values; can be "
            "repeated.",
        ),
    ] = None,
    tags: Tags = None,
    source: Source = None,
    metadata: MetadataText = None,
    derived_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="A passage that it was made of, and is forgotten with; can be repeated.",
        ),
    ] = None,
    public: _Public = False,
    draft: _Draft = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    fields: dict[str, Any] = {
        "kind": kind,
        "description": description,
        "agents": agents or (),
        "conditions": values_of("--condition", conditions),
        "tags": tags or (),
        "source": source,
        "metadata": metadata_of(metadata),
        "derived_from": derived_from or (),
        "is_public": public,
        "activate": not draft,
    }
    content = text_of("TEXT", text)

    async def store(platform: PlatformConnection) -> MemoryDone:
        return await platform.memory.store_procedure(name, content, **fields)

    done = on_platform(tenant, user, store)
    if as_json:
        output.say_json(done)
        return
    output.say(_stored(done, name, kind, draft=draft))
    _tell_next(done, name, kind, public=public, draft=draft)


def _stored(done: MemoryDone, name: str, kind: Kind, *, draft: bool) -> str:
    """Formats what became of a version that was to be stored."""
    what = f"version {done.version} of {kind} {output.cell(name)}"
    if done.outcome == "stored":
        return f"Stored {what}" + ("" if draft else ", which is active now")
    return f"Not stored again: {what} says the same"


def _tell_next(done: MemoryDone, name: str, kind: Kind, *, public: bool, draft: bool) -> None:
    is_old = done.outcome != "stored"
    if draft or is_old:
        unless = ", unless it is" if is_old else ""
        output.note(
            f"soorma memory skills activate {words_of(name)} --version {done.version}"
            f"{options(kind, is_public=public)} makes it active{unless}"
        )


# --- Folders ---------------------------------------------------------------------------------


@app.command(
    "import",
    help="Store the skills of folders with a SKILL.md and other files, each as a new version, and "
    "make it the active one. Nothing of a folder is executed.",
)
def import_folders(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER…", help="The folders of the skills.")
    ],
    source: Source = None,
    public: _Public = False,
    draft: _Draft = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    importing = _Importing(as_json=as_json, public=public, draft=draft)

    async def store(platform: PlatformConnection) -> None:
        for folder in folders:
            try:
                done = await platform.memory.import_skill(
                    folder, is_public=public, activate=not draft, source=source
                )
            except _OF_A_FOLDER as error:
                importing.failed(folder, error)
            else:
                importing.stored(folder, done)

    try:
        on_platform(tenant, user, store)
    finally:
        if as_json and importing.imported:
            output.say_json({"imported": importing.imported})
    importing.end()


class _Importing:
    """What becomes of folders, told as it happens or gathered for a document."""

    def __init__(self, *, as_json: bool, public: bool, draft: bool) -> None:
        self.imported: list[dict[str, Any]] = []
        self._as_json = as_json
        self._public = public
        self._draft = draft
        self._errors: list[SoormaError] = []

    def stored(self, folder: Path, done: MemoryDone) -> None:
        """Tells of a skill, whose name is that of its folder."""
        name = folder.expanduser().resolve().name
        self.imported.append(
            {
                "folder": str(folder),
                "name": name,
                "id": done.id,
                "outcome": done.outcome,
                "version": done.version,
            }
        )
        if not self._as_json:
            output.say(_stored(done, name, "skill", draft=self._draft))
            _tell_next(done, name, "skill", public=self._public, draft=self._draft)

    def failed(self, folder: Path, error: SoormaError) -> None:
        """Keeps an error, and tells it where there may be several."""
        self._errors.append(error)
        self.imported.append({"folder": str(folder), "error": error.message})

    def end(self) -> None:
        """Raises CommandError if not all were stored, with the first error's exit code."""
        if not self._errors:
            return
        first = self._errors[0]
        count = len(self.imported)
        if count == 1:
            raise CommandError(exit_of(first), " ".join(plain(first.message).split()))
        for error in self._errors:
            output.note(f"not imported: {' '.join(plain(error.message).split())}")
        raise CommandError(
            exit_of(first),
            f"{len(self._errors):,} of {counted(count, 'folder')} could not be imported"
            + ("; the others were" if len(self._errors) < count else ""),
        )


@app.command(
    help="Write a version of a skill into PARENT, as a folder with a SKILL.md and its files; the "
    "active one without --version."
)
def export(
    name: ProcedureName,
    parent: Annotated[
        Path, typer.Argument(metavar="PARENT", help="The folder in which the skill's is made.")
    ],
    version: VersionNumber = None,
    whose: OfWhom = "any",
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def write(platform: PlatformConnection) -> Path:
        return await platform.memory.export_skill(name, parent, version, whose=whose)

    folder = on_platform(tenant, user, write)
    if as_json:
        output.say_json({"folder": str(folder)})
    else:
        output.say(plain(str(folder)))
