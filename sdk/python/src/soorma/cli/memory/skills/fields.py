"""What names a procedure, as arguments and options, and what is told of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from soorma_common import json_text
from soorma_common.errors import InvalidValue
from soorma_common.procedural import Kind
from soorma_common.terminal import plain

if TYPE_CHECKING:
    from soorma_common.procedural import ProcedureInfo, VersionInfo

Whose: TypeAlias = Literal["any", "own", "public"]
"""That of the SDK, which is not imported for `--help`."""

ProcedureName = Annotated[str, typer.Argument(metavar="NAME", help="The procedure's name.")]
OfKind = Annotated[Kind, typer.Option("--kind", help="What it is; each kind has names of its own.")]
VersionNumber = Annotated[
    int | None,
    typer.Option(
        "--version", min=1, metavar="N", help="This version.", show_default="the active one"
    ),
]
OfWhom = Annotated[
    Whose,
    typer.Option("--whose", help="The user's own, the tenant's, or the first of these."),
]
OfTenant = Annotated[
    bool, typer.Option("--public", help="That of the tenant, which serves all of its users.")
]


def values_of(option: str, given: list[str] | None) -> dict[str, Any] | None:
    """Returns the values of options such as --condition NAME=VALUE, by name; None without one.

    A value is JSON. BadParameter for anything else, and for a name that is given twice.
    """
    values: dict[str, Any] = {}
    for one in given or ():
        name, equals, text = one.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{plain(one)} is no NAME=VALUE", param_hint=option)
        if name in values:
            raise typer.BadParameter(
                f"{plain(name)} is given twice: give a list", param_hint=option
            )
        try:
            value = json_text.check(text.encode(errors="surrogateescape"), f"the value of {name}")
        except InvalidValue as error:
            raise typer.BadParameter(
                plain(f"{error.message}; quote a text, as '{name}=\"text\"'"), param_hint=option
            ) from error
        values[name] = json_text.decode(value)
    return values or None


# --- Cells -----------------------------------------------------------------------------------


def success_of(one: ProcedureInfo | VersionInfo) -> str:
    """Formats the lower bound, and what it follows from; a dash for what was never tried."""
    tried = one.succeeded + one.failed
    return f"{one.success:.2f} ({one.succeeded:,} of {tried:,})" if tried else "-"


def state_of(one: VersionInfo) -> str:
    if one.is_active:
        return "active"
    return "proposed" if one.is_proposed else "-"


def whose_of(one: ProcedureInfo | VersionInfo) -> str:
    return "tenant" if one.is_public else "user"


# --- The next command ------------------------------------------------------------------------


def words_of(name: str) -> str:
    """Formats a name as a word of a shell."""
    return plain(shlex.quote(name))


def options(kind: str, *, is_public: bool) -> str:
    """Formats the options without which another procedure would be meant."""
    return ("" if kind == "skill" else f" --kind {kind}") + (" --public" if is_public else "")
