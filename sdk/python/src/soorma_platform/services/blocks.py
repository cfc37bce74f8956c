"""Blocks of tokens, as endpoints of the identity service."""

from __future__ import annotations

import msgspec

from soorma_common.blocks import BlockInfo, NewBlock, TokenBlocks, check_new_block
from soorma_common.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound
from soorma_common.times import time_of
from soorma_platform import http
from soorma_platform.engine.blocks import BlockTokens, LiftBlock, block_id
from soorma_platform.engine.rows.blocks import BlockRow
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.identity.authenticator import Tokens
from soorma_platform.logs import Log
from soorma_platform.stores.ports.blocks import BlockStore
from soorma_platform.stores.ports.store import Commits

_MANAGERS = frozenset({Access.TENANT, Access.OPERATOR})
_AFTER = http.Number("after", "From behind this block: `next` of the page before.", default=0)
_LIMIT = http.page_limit()
_new_block = msgspec.json.Decoder(NewBlock)
_A_BLOCK = {"subject": "mallory", "issuer": "https://login.example"}

log = Log("soorma.identity")


def block_endpoints(
    commits: Commits, blocks: BlockStore, tokens: Tokens | None = None
) -> list[Endpoint]:
    """Returns the endpoints of blocks."""
    faces = _Blocks(commits, blocks, tokens)
    path, tenant = "/v1/identity/blocks", (http.TENANT_ID,)
    one = f"{path}/{{block_id}}"
    return [
        Endpoint("GET", path, _MANAGERS, faces.list_blocks, TokenBlocks,
                 query=(*tenant, _AFTER, _LIMIT)),
        Endpoint("POST", path, _MANAGERS, faces.create_block, BlockInfo, NewBlock, query=tenant,
                 examples={http.JSON: _A_BLOCK}, gives={"block_id": "/id"},
                 errors=(Forbidden, LimitExceeded)),
        Endpoint("GET", one, _MANAGERS, faces.get_block, BlockInfo, query=tenant,
                 errors=(NotFound,)),
        Endpoint("DELETE", one, _MANAGERS, faces.lift_block, BlockInfo, query=tenant,
                 errors=(NotFound,)),
    ]  # fmt: skip


class _Blocks:
    def __init__(self, commits: Commits, blocks: BlockStore, tokens: Tokens | None) -> None:
        self._commits = commits
        self._blocks = blocks
        self._tokens = tokens

    async def list_blocks(self, request: Request) -> Response:
        """Lists blocks of tokens, those changed last at the end."""
        owner = http.TENANT_ID.owner(request)
        size = _LIMIT.size(request)
        rows = await self._blocks.list(owner, _AFTER.value(request), size.to_read)
        page, following = size.cut(rows, lambda row: row.change)
        return http.json_response(TokenBlocks([_info(row) for row in page], following))

    async def get_block(self, request: Request) -> Response:
        """Returns a block of tokens."""
        one = request.name("block_id")
        row = await self._blocks.find(http.TENANT_ID.owner(request), one)
        if row is None:
            raise NotFound(f"there is no block {one!r}")
        return http.json_response(_info(row))

    async def create_block(self, request: Request) -> Response:
        """Blocks the tokens of a user, or one token by its id, within two seconds everywhere.

        They are refused, and what they were admitted to ends. A block that is there begins anew.
        """
        body = http.decode(await request.body(), _new_block)
        body.tenant_id = http.TENANT_ID.of_new(request, body.tenant_id)
        check_new_block(body)
        issuer = body.issuer or (None if self._tokens is None else self._tokens.issuer)
        if issuer is None:
            raise InvalidRequest(
                "say whose tokens are meant: name their issuer, as SOORMA_OIDC_ISSUER names none"
            )
        tenant = body.tenant_id or ""
        author = request.principal.author
        row = BlockRow(
            id=block_id(issuer, tenant, body.subject, body.jti),
            issuer=issuer,
            tenant_id=tenant,
            subject=body.subject,
            jti=body.jti,
            created_by=author.by_id,
        )
        life = None if body.expires_in is None else round(body.expires_in * 1000)
        row = await self._changed(BlockTokens(row, life, author=author))
        log.info("tokens blocked", block=row.id, tenant_id=tenant or "all", by=row.created_by)
        return http.json_response(_info(row))

    async def lift_block(self, request: Request) -> Response:
        """Lifts a block: its tokens are accepted again until they expire."""
        owner = http.TENANT_ID.owner(request)
        author = request.principal.author
        row = await self._changed(LiftBlock(owner, request.name("block_id"), author=author))
        by = author.by_id
        log.info("block of tokens lifted", block=row.id, tenant_id=row.tenant_id or "all", by=by)
        return http.json_response(_info(row))

    async def _changed(self, command: BlockTokens | LiftBlock) -> BlockRow:
        row = await self._commits.transact(command)
        if self._tokens is not None:
            await self._tokens.follow()
        return row


def _info(row: BlockRow) -> BlockInfo:
    return BlockInfo(
        id=row.id,
        issuer=row.issuer,
        subject=row.subject,
        jti=row.jti,
        tenant_id=row.tenant_id or None,
        created_at=time_of(row.created_at),
        created_by=row.created_by,
        expires_at=None if row.expires_at is None else time_of(row.expires_at),
        lifted_at=None if row.lifted_at is None else time_of(row.lifted_at),
    )
