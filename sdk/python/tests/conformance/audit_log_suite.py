"""Requirements for the audit of actions in a store: who has done what, when, to which thing."""

from __future__ import annotations

import json

import pytest
from record import ALICE, ONCE, STRANGER, Record, event, put

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict, NotFound, Unauthorized
from soorma_common.forgetting import ForgetBody
from soorma_common.identity import AuditAction
from soorma_common.limits import Limits
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import All, Owner, Scope
from soorma_common.operations import Cleanup
from soorma_common.quarantine import source_origin
from soorma_common.semantic import ForgetKnowledge
from soorma_platform.engine.blocks import BlockTokens, LiftBlock
from soorma_platform.engine.commits import ApplyCommit
from soorma_platform.engine.dead_letters import ReplayDeadLetter
from soorma_platform.engine.keys import CreateKey, RevokeKey, RotateKey
from soorma_platform.engine.quarantine import BeginQuarantine, EndQuarantine
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, AuditLogRow, Author
from soorma_platform.engine.rows.blocks import BlockRow
from soorma_platform.engine.rows.keys import CredentialNeed, Grants, KeyRow
from soorma_platform.services.groups import unsubscribe
from soorma_platform.work.forgetting import Forgetting

OPS = Author("0aa7ed319a9683fa", "ops")
DAY = 86_400
NEWEST = 10**18
MAIL = source_origin("mail")


def key(key_id: str = "one", tenant_id: str = "acme", user_id: str | None = None) -> KeyRow:
    return KeyRow(
        id=key_id,
        family=key_id,
        name="shop",
        tenant_id=tenant_id,
        user_id=user_id,
        role="app",
        grants=Grants(("memory:read",)),
        digest=b"s" * 32,
    )


async def rows(
    record: Record, owner: Owner = All.TENANTS, action: AuditAction | None = None
) -> list[AuditLogRow]:
    return await record.store.audit_log.list(owner, action, NEWEST, 1_000)


async def told(record: Record) -> list[tuple[object, ...]]:
    """Returns the audit without times and detail, the first row first."""
    return [
        (row.action, row.tenant_id, row.user_id, row.author, row.subject)
        for row in reversed(await rows(record))
    ]


async def apply(record: Record, commit: Commit, **more: object) -> None:
    command = ApplyCommit(ALICE, commit, "f", limits=Limits(), **more)  # type: ignore[arg-type]
    command.prepare(lambda: "id")
    command.prepare_memories(lambda: "id")
    await record.store.transact(command)


async def dead_letter(record: Record, scope: Scope = ALICE) -> int:
    member = await record.subscribe("g", Subscription("e", retry=ONCE))
    await record.commit(events=[event("e", "p")], scope=scope)
    (claimed,) = await record.claim(member)
    await record.fail(claimed)
    (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
    return letter.id


class AuditLogSuite:
    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_of_keys(self, record: Record) -> None:
        transact = record.store.transact
        await transact(CreateKey(key(), author=OPS))
        await transact(CreateKey(key(), author=OPS))  # it is there
        await transact(
            RotateKey("acme", "one", new_id="two", digest=b"t" * 32, overlap=0, author=OPS)
        )
        await transact(RevokeKey(All.TENANTS, "two"))
        await transact(RevokeKey(All.TENANTS, "two", author=OPS))  # it is revoked
        await transact(CreateKey(key("all", ""), author=Author(by_name="bootstrap")))
        await transact(CreateKey(key("users", user_id="alice"), author=OPS))
        assert await told(record) == [
            ("key.created", "acme", None, OPS, "one"),
            ("key.rotated", "acme", None, OPS, "one"),
            ("key.revoked", "acme", None, NOBODY_KNOWN, "two"),
            ("key.created", "", None, Author(None, "bootstrap"), "all"),
            ("key.created", "acme", "alice", OPS, "users"),
        ]
        details = [json.loads(row.detail) for row in await rows(record)]
        assert details[-2] == {"name": "shop", "successor": "two"}
        assert details[-1] == {"name": "shop", "role": "app"}

    @pytest.mark.behaviour("identity.audit")
    async def test_what_was_refused_is_not_in_the_audit(self, record: Record) -> None:
        with pytest.raises(NotFound):
            await record.store.transact(RevokeKey("acme", "none", author=OPS))
        await record.store.transact(CreateKey(key(), author=OPS))
        await record.store.transact(RevokeKey("acme", "one", author=OPS))
        with pytest.raises(Conflict):
            await record.store.transact(
                RotateKey("acme", "one", new_id="two", digest=b"t" * 32, overlap=0, author=OPS)
            )
        with pytest.raises(Unauthorized):
            await apply(
                record,
                Commit(plans=[PlanCommit("p", [Cleanup()])]),
                shown=CredentialNeed("one"),
                author=OPS,
            )
        assert [row.action for row in await rows(record)] == ["key.revoked", "key.created"]

    @pytest.mark.behaviour("identity.audit")
    async def test_a_replayed_dead_letter_is_in_the_audit(self, record: Record) -> None:
        number = await dead_letter(record)
        for _ in range(2):  # once under one idempotency key
            await record.store.transact(ReplayDeadLetter("acme", number, "k", author=OPS))
        assert not await record.store.transact(ReplayDeadLetter("acme", 99, author=OPS))
        assert await told(record) == [
            ("deadletter.replayed", "acme", "alice", OPS, f"{number}"),
        ]

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_of_deleted_plans_and_forgotten_passages(self, record: Record) -> None:
        passage = await record.know("The sea is salty.")
        await record.do("p", put("k", 1), put("l", 2))
        await apply(
            record,
            Commit(
                plans=[PlanCommit("p", [Cleanup()]), PlanCommit("q", [put("k", 1)])],
                memories=[ForgetKnowledge(id=passage), ForgetKnowledge(id="none")],
            ),
            author=OPS,
        )
        assert await told(record) == [
            ("plan.deleted", "acme", "alice", OPS, "p"),
            ("memories.forgotten", "acme", "alice", OPS, passage),
        ]
        assert [json.loads(row.detail) for row in await rows(record)] == [
            {"passages": 1},
            {"keys": 2},
        ]

    @pytest.mark.behaviour("identity.audit")
    async def test_a_repeated_commit_is_in_the_audit_once_and_a_handlers_is_not(
        self, record: Record
    ) -> None:
        commit = Commit(plans=[PlanCommit("p", [Cleanup()])])
        for _ in range(2):
            await apply(record, commit, idempotency_key="k", author=OPS)
        await apply(record, commit)
        assert len(await rows(record)) == 1

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_of_memories_forgotten_by_a_description(self, record: Record) -> None:
        forgetting = Forgetting(record.store)
        for scope in (ALICE, STRANGER):
            await record.know("The sea is salty.", scope=scope, source="mail")
        await forgetting.forget(ALICE, ForgetBody(source="mail", preview=True), OPS)
        await forgetting.forget(ALICE, ForgetBody(source="web"), OPS)
        assert await rows(record) == []
        await forgetting.forget(ALICE, ForgetBody(source="mail", kind="knowledge"), OPS)
        await forgetting.forget_tenant(STRANGER.tenant_id, ForgetBody(everything=True), OPS)
        whose = (STRANGER.tenant_id, STRANGER.user_id)
        assert await told(record) == [
            ("memories.forgotten", "acme", "alice", OPS, "knowledge by source"),
            ("memories.forgotten", *whose, OPS, "all memories"),
        ]
        assert {row.detail for row in await rows(record)} == {'{"passages":1}'}

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_of_quarantines(self, record: Record) -> None:
        transact = record.store.transact
        await transact(BeginQuarantine(ALICE, MAIL, "instructions", author=OPS))
        await transact(BeginQuarantine(ALICE, MAIL, "again", author=OPS))
        await transact(EndQuarantine(ALICE, MAIL, author=OPS))
        await transact(BeginQuarantine("acme", MAIL, None, author=OPS))
        assert await told(record) == [
            ("quarantine.begun", "acme", "alice", OPS, MAIL),
            ("quarantine.ended", "acme", "alice", OPS, MAIL),
            ("quarantine.begun", "acme", None, OPS, MAIL),
        ]
        assert {row.detail for row in await rows(record)} == {"{}"}

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_of_blocked_tokens(self, record: Record) -> None:
        row = BlockRow("b", "https://issuer.example", "acme", subject="alice")
        await record.store.transact(BlockTokens(row, author=OPS))
        for _ in range(2):
            await record.store.transact(LiftBlock("acme", "b", author=OPS))
        assert await told(record) == [
            ("block.created", "acme", None, OPS, "b"),
            ("block.lifted", "acme", None, OPS, "b"),
        ]
        assert {row.detail for row in await rows(record)} == {'{"user":"alice"}'}

    @pytest.mark.behaviour("identity.audit")
    async def test_an_ended_subscription_is_in_the_audit(self, record: Record) -> None:
        await record.subscribe("g", Subscription("e"))
        await record.commit(events=[event("e", "p", id=f"e{number}") for number in range(900)])

        async def end(topic: str) -> int | None:
            groups = record.store.groups
            return await unsubscribe(groups, "acme", "g", "e", topic, drop=True, author=OPS)

        assert await end("elsewhere") is None
        assert await end("*") == 900
        (row,) = await rows(record)
        assert (row.action, row.tenant_id, row.author) == ("subscription.ended", "", OPS)
        assert row.subject == "g"
        assert json.loads(row.detail) == {
            "type": "e",
            "topic": "*",
            "waited": 900,
            "waiting": "drop",
        }

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_is_listed_by_tenant_and_action_the_last_first(
        self, record: Record
    ) -> None:
        for key_id, tenant_id in (("a", "acme"), ("b", "other"), ("c", "acme"), ("d", "")):
            await record.store.transact(CreateKey(key(key_id, tenant_id)))
        await record.store.transact(RevokeKey(All.TENANTS, "a"))
        await record.reopen()

        async def subjects(
            owner: Owner, action: AuditAction | None = None, before: int = NEWEST, limit: int = 9
        ) -> list[str | None]:
            found = await record.store.audit_log.list(owner, action, before, limit)
            return [row.subject for row in found]

        assert await subjects(All.TENANTS) == ["a", "d", "c", "b", "a"]
        assert await subjects("acme") == ["a", "c", "a"]
        assert await subjects("acme", "key.created") == ["c", "a"]
        assert await subjects(All.TENANTS, "key.revoked") == ["a"]
        assert await subjects(All.TENANTS, before=4, limit=2) == ["c", "b"]
        assert await subjects("nobody") == []

    @pytest.mark.behaviour("identity.audit")
    async def test_the_audit_is_kept_for_400_days(self, record: Record) -> None:
        for number in range(230):
            await record.store.transact(CreateKey(key(f"k{number}")))
        record.clock.advance(399 * DAY)
        await record.store.transact(RevokeKey("acme", "k1"))
        await record.sweep()
        assert len(await rows(record)) == 231
        record.clock.advance(2 * DAY)
        await record.sweep()
        (left,) = await rows(record)
        assert left.action == "key.revoked"
        await record.store.transact(RevokeKey("acme", "k2"))
        assert (await rows(record))[0].id == left.id + 1
