"""Parameters of the data commands: tenant and user, values as JSON, the form of the output."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from soorma.cli.exits import CommandError, Exit
from soorma_common import json_text
from soorma_common.errors import InvalidValue
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER
from soorma_common.terminal import plain

Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        metavar="ID",
        envvar="SOORMA_TENANT_ID",
        show_default=f"…{DEFAULT_TENANT[-4:]}",
        help="Whose data: the tenant.",
    ),
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="ID",
        envvar="SOORMA_USER_ID",
        show_default=f"…{DEFAULT_USER[-4:]}",
        help="Whose data: the tenant's user.",
    ),
]
Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's id.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print a line of JSON each, for programs.")]

Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, metavar="N", help="So many only.", show_default="100; with --json all"
    ),
]

STANDARD_INPUT = "-"


def text_of(what: str, argument: str) -> str:
    """Returns the argument, or the text of standard input if it is `-`."""
    if argument != STANDARD_INPUT:
        return argument
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise CommandError(
            Exit.USAGE, f"{what} from standard input is no UTF-8: {error}"
        ) from error


def json_of(what: str, argument: str, hint: str) -> Any:
    """Decodes an argument as JSON, or standard input if it is `-`.

    Text that is not JSON is refused: a typing error must not become data.
    """
    text = text_of(what, argument)
    try:
        return json_text.decode(json_text.check(text.encode(errors="surrogateescape"), what))
    except InvalidValue as error:
        raise CommandError(Exit.USAGE, plain(f"{error.message}; {hint}")) from error
