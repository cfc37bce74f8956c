"""Requirements for API keys in a store."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from record import ALICE, Record, put

from soorma_common.errors import Conflict, LimitExceeded, NotFound, Unauthorized
from soorma_common.identity import MOST_KEYS
from soorma_common.limits import Limits
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import All
from soorma_platform.engine.commits import ApplyCommit
from soorma_platform.engine.keys import CreateKey, RevokeKey, RotateKey
from soorma_platform.engine.rows.keys import CredentialNeed, Grants, KeyRow

HOUR = 3_600_000


def row(key_id: str = "one", tenant_id: str = "acme", secret: str = "s") -> KeyRow:
    return KeyRow(
        id=key_id,
        family=key_id,
        name="shop",
        tenant_id=tenant_id,
        user_id=None,
        role="app",
        grants=Grants(("memory:read",), ("packer",), ("order.paid@business-facts",), ("*",)),
        digest=secret.encode() * 32,
    )


async def create(record: Record, key_id: str = "one", **more: object) -> KeyRow:
    return await record.store.transact(CreateKey(row(key_id, **more)))  # type: ignore[arg-type]


async def valid(record: Record, key_id: str) -> bool:
    found = await record.store.keys.find(All.TENANTS, key_id)
    return found is not None and found.is_valid(record.store.keys.now())


class KeysSuite:
    @pytest.mark.behaviour("identity.keys")
    async def test_a_key_is_kept_as_it_was_created(self, record: Record) -> None:
        made = await record.store.transact(CreateKey(row(), 2 * HOUR))
        await record.reopen()
        found = await record.store.keys.find("acme", "one")
        assert found == replace(made, change=1)
        assert found.expires_at == made.created_at + 2 * HOUR
        assert await record.store.keys.find("umbrella", "one") is None

    @pytest.mark.behaviour("identity.keys")
    async def test_creating_it_again_changes_nothing_and_another_secret_is_a_conflict(
        self, record: Record
    ) -> None:
        first = await create(record)
        await record.store.transact(RevokeKey(All.TENANTS, "one"))
        again = await create(record)
        assert (again.created_at, again.revoked_at is None) == (first.created_at, False)
        with pytest.raises(Conflict, match="another secret"):
            await create(record, secret="x")

    @pytest.mark.behaviour("identity.expiry")
    async def test_it_expires(self, record: Record) -> None:
        await record.store.transact(CreateKey(row(), HOUR))
        record.clock.advance(3_599)
        assert await valid(record, "one")
        record.clock.advance(1)
        assert not await valid(record, "one")

    @pytest.mark.behaviour("identity.rotation")
    async def test_its_successor_permits_the_same_and_both_are_valid_for_a_while(
        self, record: Record
    ) -> None:
        old = await create(record)
        new = await record.store.transact(
            RotateKey("acme", "one", new_id="two", digest=b"t" * 32, overlap=HOUR)
        )
        assert (new.family, new.grants, new.name) == (old.family, old.grants, old.name)
        assert await valid(record, "one")
        assert await valid(record, "two")
        record.clock.advance(3_600)
        assert not await valid(record, "one")
        assert await valid(record, "two")
        with pytest.raises(Conflict, match="not valid any more"):
            await record.store.transact(
                RotateKey("acme", "one", new_id="three", digest=b"t" * 32, overlap=0)
            )

    @pytest.mark.behaviour("identity.rotation")
    async def test_a_rotation_does_not_prolong_it(self, record: Record) -> None:
        await record.store.transact(CreateKey(row(), HOUR))
        new = await record.store.transact(
            RotateKey("acme", "one", new_id="two", digest=b"t" * 32, overlap=9 * HOUR)
        )
        found = await record.store.keys.find("acme", "one")
        assert found is not None
        assert found.expires_at == new.expires_at == new.created_at + HOUR

    @pytest.mark.behaviour("identity.revoked")
    async def test_a_revoked_key_stays_revoked(self, record: Record) -> None:
        await create(record)
        first = await record.store.transact(RevokeKey("acme", "one"))
        record.clock.advance(60)
        again = await record.store.transact(RevokeKey("acme", "one"))
        assert again.revoked_at == first.revoked_at
        assert not await valid(record, "one")

    @pytest.mark.behaviour("identity.tenants")
    async def test_another_tenants_key_is_none(self, record: Record) -> None:
        await create(record)
        with pytest.raises(NotFound):
            await record.store.transact(RevokeKey("umbrella", "one"))
        with pytest.raises(NotFound):
            await record.store.transact(
                RotateKey("umbrella", "one", new_id="two", digest=b"t" * 32, overlap=0)
            )
        assert await valid(record, "one")
        assert await record.store.keys.list("umbrella", 0, 10) == []

    @pytest.mark.behaviour("identity.keys")
    async def test_keys_are_listed_and_followed_in_the_order_of_their_changes(
        self, record: Record
    ) -> None:
        for key_id, tenant_id in (("a", "acme"), ("b", "umbrella"), ("c", ""), ("d", "acme")):
            await create(record, key_id, tenant_id=tenant_id)
        keys = record.store.keys
        assert [one.id for one in await keys.changed(0, 10)] == ["a", "b", "c", "d"]
        await record.store.transact(RevokeKey(All.TENANTS, "b"))
        assert [(one.id, one.change) for one in await keys.changed(4, 10)] == [("b", 5)]
        assert [one.id for one in await keys.list("acme", 0, 10)] == ["a", "d"]
        assert [one.id for one in await keys.list(All.TENANTS, 1, 2)] == ["c", "d"]

    @pytest.mark.behaviour("identity.keys")
    async def test_old_keys_are_removed_and_no_change_is_counted_twice(
        self, record: Record
    ) -> None:
        for key_id in ("a", "b", "c"):
            await create(record, key_id)
        for key_id in ("a", "b", "c"):
            await record.store.transact(RevokeKey(All.TENANTS, key_id))
        record.clock.advance(60)
        await record.store.keys.remove_old(record.store.keys.now())
        assert [one.id for one in await record.store.keys.changed(0, 10)] == ["c"]
        await create(record, "d")
        assert [one.id for one in await record.store.keys.changed(6, 10)] == ["d"]

    @pytest.mark.behaviour("identity.keys")
    async def test_its_use_is_noted_without_a_change(self, record: Record) -> None:
        await create(record)
        await record.store.keys.note_use({"one": 5_000, "gone": 1})
        await record.store.keys.note_use({"one": 4_000})
        found = await record.store.keys.find("acme", "one")
        assert found is not None
        assert (found.used_at, found.change) == (5_000, 1)

    @pytest.mark.behaviour("identity.keys")
    async def test_a_tenant_has_so_many_keys(self, record: Record) -> None:
        for number in range(MOST_KEYS):
            await create(record, f"k{number}")
        with pytest.raises(LimitExceeded, match="revoke those that are not in use"):
            await create(record, "more")
        await create(record, "others", tenant_id="umbrella")
        await record.store.transact(RevokeKey("acme", "k7"))
        await create(record, "more")

    @pytest.mark.behaviour("identity.revoked")
    async def test_nothing_is_changed_by_a_key_after_its_revocation(self, record: Record) -> None:
        await create(record)

        async def change(value: int) -> None:
            commit = Commit(plans=[PlanCommit("p", [put("k", value)])])
            await record.store.transact(
                ApplyCommit(ALICE, commit, "", limits=Limits(), shown=CredentialNeed("one"))
            )

        await change(1)
        await record.store.transact(RevokeKey("acme", "one"))
        with pytest.raises(Unauthorized, match="nothing was changed"):
            await change(2)
        assert await record.get("p", "k") == 1
