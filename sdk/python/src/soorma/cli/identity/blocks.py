"""`soorma blocks`: blocks tokens of the issuer, lists the blocks, and lifts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.identity.command import pages_of, seconds_of, until
from soorma.cli.output import Column
from soorma.cli.parameters import Json

if TYPE_CHECKING:
    from soorma_common.blocks import BlockInfo

app = command_group("blocks")

PATH = "/v1/identity/blocks"

_Tenant = Annotated[
    str | None,
    typer.Option("--tenant", metavar="ID", help="Of this tenant only.", show_default="all"),
]

_CREATE = """\
Block the tokens of a user, or one token by its id, within two seconds.

An issuer cannot take a token back. What is blocked is refused here although it is signed and \
valid, and what it was admitted to ends. Keys are not blocked but revoked: soorma keys revoke.

\b
Examples:
  soorma blocks create --user alice --tenant acme
  soorma blocks create --token 8c1f0e --expires 1h
"""


@app.command(help=_CREATE)
def create(
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="ID", help="All tokens of this user, of now and later."),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="JTI", help="The token of this id.")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant", metavar="ID", help="In this tenant.", show_default="in all of the key's"
        ),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(
            "--issuer", metavar="NAME", help="Of this issuer.", show_default="the platform's"
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Blocked for so long, as 90d or 12h."),
    ] = None,
    as_json: Json = False,
) -> None:
    from soorma_common.blocks import BlockInfo, NewBlock  # noqa: PLC0415 - --help does without

    if (user is None) == (token is None):
        raise typer.BadParameter("give one of the two", param_hint="--user, --token")
    body = NewBlock(
        subject=user,
        jti=token,
        tenant_id=tenant,
        issuer=issuer,
        expires_in=None if expires is None else seconds_of("--expires", expires),
    )
    done = _asked(lambda platform: platform.send("identity", "POST", PATH, body, BlockInfo))
    _say("Blocked", done, as_json=as_json)


@app.command("list", help="List blocks of tokens: of whom, until when, and who has made them.")
def list_blocks(tenant: _Tenant = None, as_json: Json = False) -> None:
    from soorma_common.blocks import TokenBlocks  # noqa: PLC0415 - --help does without

    pages = _asked(lambda platform: pages_of(platform, PATH, TokenBlocks, tenant))
    found = [block for page in pages for block in page.blocks]
    if as_json:
        output.say_json({"blocks": found})
    elif not found:
        output.note("no token is blocked; soorma blocks create blocks some")
    else:
        output.table(
            (
                Column("Block", 0),
                Column("User", 0, is_text=True),
                Column("Token", 1, is_text=True),
                Column("Tenant", 1),
                Column("State", 0),
                Column("Issuer", 3, is_text=True),
                Column("By", 2),
            ),
            [_row(one) for one in found],
        )


@app.command(help="Lift a block: its tokens are accepted again until they expire.")
def lift(
    block: Annotated[str, typer.Argument(metavar="BLOCK", help="The block's id, as it is listed.")],
    as_json: Json = False,
) -> None:
    from soorma_common.blocks import BlockInfo  # noqa: PLC0415 - --help does without

    path = f"{PATH}/{quote(block, safe='')}"
    done = _asked(lambda platform: platform.send("identity", "DELETE", path, None, BlockInfo))
    _say("Lifted", done, as_json=as_json)


def _asked(work: Callable[[PlatformConnection], Any]) -> Any:
    return on_platform(None, None, work)


def _say(what: str, block: BlockInfo, *, as_json: bool) -> None:
    if as_json:
        output.say_json(block)
        return
    whose = f"user {block.subject}" if block.subject is not None else f"token {block.jti}"
    where = "all tenants" if block.tenant_id is None else f"tenant {block.tenant_id}"
    output.say(f"{what} {output.cell(block.id)}: {output.text(whose)}, in {output.cell(where)}")


def _row(block: BlockInfo) -> tuple[str, ...]:
    return (
        output.cell(block.id),
        output.text(block.subject or "-"),
        output.text(block.jti or "-"),
        output.cell(block.tenant_id or "all"),
        _state_of(block),
        output.text(block.issuer),
        output.cell(block.created_by or "-"),
    )


def _state_of(block: BlockInfo) -> str:
    """Returns whether a block holds, in words."""
    if block.lifted_at is not None:
        return "lifted"
    return "blocked" if block.expires_at is None else until(block.expires_at, "over")
