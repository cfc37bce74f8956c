"""Requirements for blocked tokens in a store."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from record import ALICE, Record, put

from soorma_common.blocks import MOST_BLOCKS
from soorma_common.errors import LimitExceeded, NotFound, Unauthorized
from soorma_common.limits import Limits
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import All
from soorma_platform.engine.blocks import BlockTokens, LiftBlock, block_id
from soorma_platform.engine.commits import ApplyCommit
from soorma_platform.engine.rows.blocks import BlockRow, TokenNeed

HOUR = 3_600_000
ISSUER = "https://login.example"


def row(subject: str | None = "alice", tenant_id: str = "acme", jti: str | None = None) -> BlockRow:
    return BlockRow(block_id(ISSUER, tenant_id, subject, jti), ISSUER, tenant_id, subject, jti)


async def block(record: Record, one: BlockRow, life: int | None = None) -> BlockRow:
    return await record.store.transact(BlockTokens(one, life))


async def change(record: Record, value: int, **more: object) -> None:
    """A change that was requested with a token."""
    expires_at = record.store.keys.now() + HOUR
    token = TokenNeed(ISSUER, "acme", "alice", "t1", expires_at)
    commit = Commit(plans=[PlanCommit("p", [put("k", value)])])
    await record.store.transact(
        ApplyCommit(ALICE, commit, "", limits=Limits(), shown=replace(token, **more))
    )


class BlocksSuite:
    @pytest.mark.behaviour("identity.token-ends")
    async def test_a_block_is_kept_as_it_was_made(self, record: Record) -> None:
        made = await block(record, row(), HOUR)
        await record.reopen()
        found = await record.store.keys.blocks.find("acme", made.id)
        assert found == replace(made, change=1)
        assert found.expires_at == found.created_at + HOUR
        assert await record.store.keys.blocks.find("umbrella", made.id) is None
        assert await record.store.keys.blocks.find(All.TENANTS, made.id) == found

    @pytest.mark.behaviour("identity.token-ends")
    async def test_a_block_begins_anew_and_is_lifted(self, record: Record) -> None:
        first = await block(record, row(), HOUR)
        lifted = await record.store.transact(LiftBlock("acme", first.id))
        record.clock.advance(60)
        again = await record.store.transact(LiftBlock(All.TENANTS, first.id))
        assert again.lifted_at == lifted.lifted_at == first.created_at
        await block(record, row())
        found = await record.store.keys.blocks.find("acme", first.id)
        assert found is not None
        assert (found.lifted_at, found.expires_at) == (None, None)
        assert found.created_at == first.created_at + 60_000
        for owner, one in (("umbrella", first.id), ("acme", "x")):
            with pytest.raises(NotFound):
                await record.store.transact(LiftBlock(owner, one))

    @pytest.mark.behaviour("identity.token-ends")
    async def test_nothing_is_changed_by_a_token_after_its_block(self, record: Record) -> None:
        await change(record, 1)
        for one in (row(), row(tenant_id=""), row(None, jti="t1"), row(None, "", "t1")):
            made = await block(record, one)
            with pytest.raises(Unauthorized, match="nothing was changed"):
                await change(record, 2)
            await record.store.transact(LiftBlock(All.TENANTS, made.id))
        for one in (row("bob"), row(tenant_id="umbrella"), row(None, jti="t2"), row(None, jti="")):
            await block(record, one)
        await change(record, 3)
        await change(record, 4, jti=None)
        await block(record, row(), HOUR)
        await change(record, 5, issuer="https://other.example")
        record.clock.advance(3_600)
        await change(record, 6)
        assert await record.get("p", "k") == 6

    @pytest.mark.behaviour("identity.token-ends")
    async def test_nothing_is_changed_by_a_token_after_its_end(self, record: Record) -> None:
        now = record.store.keys.now()
        await change(record, 1, expires_at=now + 1)
        with pytest.raises(Unauthorized, match="has expired; nothing was changed"):
            await change(record, 2, expires_at=now)
        assert await record.get("p", "k") == 1

    @pytest.mark.behaviour("identity.token-ends")
    async def test_blocks_are_followed_and_old_ones_removed(self, record: Record) -> None:
        blocks = record.store.keys.blocks
        made = [await block(record, row(name)) for name in ("a", "b", "c")]
        await block(record, row("d", "umbrella"))
        assert [one.subject for one in await blocks.changed(0, 10)] == ["a", "b", "c", "d"]
        assert [one.subject for one in await blocks.list("acme", 1, 1)] == ["b"]
        assert [one.subject for one in await blocks.list(All.TENANTS, 2, 9)] == ["c", "d"]
        for one in made:
            await record.store.transact(LiftBlock("acme", one.id))
        assert [(one.subject, one.change) for one in await blocks.changed(5, 10)] == [
            ("b", 6),
            ("c", 7),
        ]
        record.clock.advance(60)
        await blocks.remove_old(record.store.keys.now())
        assert [one.subject for one in await blocks.changed(0, 10)] == ["d", "c"]
        await block(record, row("e"))
        assert [one.subject for one in await blocks.changed(7, 10)] == ["e"]

    @pytest.mark.behaviour("identity.token-ends")
    async def test_a_tenant_has_so_many_blocks(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert MOST_BLOCKS == 10_000
        monkeypatch.setattr("soorma_platform.engine.blocks.MOST_BLOCKS", 2)
        first = await block(record, row("a"))
        await block(record, row("b"))
        with pytest.raises(LimitExceeded, match="lift those"):
            await block(record, row("c"))
        await block(record, row("a"))
        await block(record, row("c", "umbrella"))
        await record.store.transact(LiftBlock("acme", first.id))
        await block(record, row("c"))
