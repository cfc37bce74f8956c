"""Requirements for procedural memory in a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random

import pytest
from record import ALICE, BOB, STRANGER, Record, raw

from soorma_common.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound
from soorma_common.forgetting import ForgetBody
from soorma_common.limits import Limits
from soorma_common.memory import Commit, PlanCommit
from soorma_common.names import Scope
from soorma_common.operations import Cleanup, Complete, Fail, Set
from soorma_common.procedural import (
    ActivateProcedure,
    ProcedureHits,
    RelevantBody,
    RetireProcedure,
    RollBackProcedure,
    StoreProcedure,
    UseProcedure,
)
from soorma_common.semantic import StoreKnowledge
from soorma_platform.engine.rows.procedures import ProcedureKey
from soorma_platform.stores.ports import Store
from soorma_platform.work.forgetting import Forgetting

SKILL = ProcedureKey(False, "skill", "refund")


def skill(content: str = "At once.", **more: object) -> StoreProcedure:
    return StoreProcedure(**{"name": "refund", "content": content, **more})  # type: ignore[arg-type]


async def active(record: Record, scope: Scope = ALICE, key: ProcedureKey = SKILL) -> int:
    """Returns the number of the active version, 0 if there is none."""
    row = await record.store.memories.procedural.version(scope, key, None)
    return 0 if row is None else row.version


async def versions(record: Record, scope: Scope = ALICE, key: ProcedureKey = SKILL) -> list[int]:
    rows = await record.store.memories.procedural.versions(scope, key, None, 100)
    return [row.version for row in rows]


async def relevant(
    record: Record, context: str | None = "refund", scope: Scope = ALICE, **more: object
) -> ProcedureHits:
    body = RelevantBody(context=context, **more)  # type: ignore[arg-type]
    return await record.recall.procedures(scope, body)


async def end(record: Record, plan_id: str, operation: Complete | Fail) -> None:
    await record.apply(Commit([PlanCommit(plan_id, [Set("k", raw(1)), operation])]))


class ProceduralSuite(ABC):
    @abstractmethod
    async def count_rows(self, store: Store, table: str) -> int:
        """Returns how many rows of a table the store holds."""

    @pytest.mark.behaviour("procedures.rollback", "procedures.versions")
    @pytest.mark.parametrize("seed", range(6))
    async def test_any_changes_leave_what_a_list_of_activations_says(
        self, record: Record, seed: int
    ) -> None:
        dice = Random(seed)
        texts: list[str] = []  # by version
        activated: list[int] = []
        gone: set[int] = set()
        for number in range(60):
            action = dice.choice(("store", "store", "activate", "back", "retire", "forget", "open"))
            there = [one for one in range(1, len(texts) + 1) if one not in gone]
            if action == "store":
                text, is_on = dice.choice((f"new {number}", *texts)), dice.random() < 0.6
                known = [one for one in there if texts[one - 1] == text]
                (done,) = await record.remember(
                    skill(text, activate=is_on, source=f"s-{text}", name="refund")
                )
                if not known:
                    if not there:  # it begins anew
                        texts, activated, gone = [], [], set()
                    texts.append(text)
                wanted = known[0] if known else len(texts)
                assert (done.outcome, done.version) == ("restated" if known else "stored", wanted)
                if is_on and not known:
                    activated.append(wanted)
            elif action == "forget" and there:
                one = dice.choice(there)
                source = f"s-{texts[one - 1]}"
                receipt = await Forgetting(record.store).forget(ALICE, ForgetBody(source=source))
                gone |= {two for two in there if texts[two - 1] == texts[one - 1]}
                assert receipt.procedures == 1
            elif action == "open":
                await record.reopen()
            elif action == "activate":
                one = dice.randrange(1, len(texts) + 2)
                operation = ActivateProcedure(name="refund", version=one)
                if one in there:
                    await record.remember(operation)
                    if _now(activated, gone) != one:
                        activated.append(one)
                else:
                    with pytest.raises(NotFound):
                        await record.remember(operation)
            elif action in ("back", "retire") and not there:
                with pytest.raises(NotFound):
                    await record.remember(RollBackProcedure(name="refund"))
            elif action == "retire":
                await record.remember(RetireProcedure(name="refund"))
                if _now(activated, gone):
                    activated.append(0)
            elif action == "back":
                kept = [one for one in activated if one not in gone]
                if not kept:
                    with pytest.raises(InvalidRequest):
                        await record.remember(RollBackProcedure(name="refund"))
                    continue
                now = _now(activated, gone)
                while kept and kept[-1] == now:
                    kept.pop()
                activated = kept
                await record.remember(RollBackProcedure(name="refund"))
            assert await active(record) == _now(activated, gone), (number, action)
            there = [one for one in range(1, len(texts) + 1) if one not in gone]
            assert await versions(record) == there[::-1]
            hits = await relevant(record, min_score=0.0)
            assert [hit.version for hit in hits] == [one for one in [_now(activated, gone)] if one]

    @pytest.mark.behaviour("procedures.versions")
    async def test_one_commit_stores_and_activates_in_its_order(self, record: Record) -> None:
        first, second, third, last = await record.remember(
            skill("one"), skill("two"), skill("three", activate=False), skill("one")
        )
        assert [one.version for one in (first, second, third, last)] == [1, 2, 3, 1]
        assert (last.id, last.outcome) == (first.id, "restated")
        assert await active(record) == 2
        await record.remember(RollBackProcedure(name="refund"), skill("four", kind="rule"))
        assert await active(record) == 1
        assert await active(record, key=ProcedureKey(False, "rule", "refund")) == 1
        assert await self.count_rows(record.store, "procedures") == 2

    @pytest.mark.behaviour("procedures.refusals")
    async def test_an_id_is_of_one_version(self, record: Record) -> None:
        (done,) = await record.remember(skill("one", id="mine"))
        assert done.id == "mine"
        (again,) = await record.remember(skill("one", id="mine"))
        assert (again.id, again.outcome) == ("mine", "restated")
        for given in ([skill("two", id="mine")], [skill("a", id="x"), skill("b", id="x")]):
            with pytest.raises(InvalidRequest, match="is stored already, and is another one"):
                await record.remember(*given)
        await record.remember(skill("two", id="mine", is_public=True), skill("three", id="other"))
        assert await versions(record) == [2, 1]

    @pytest.mark.behaviour("procedures.outcomes")
    async def test_ends_of_plans_are_counted_once(self, record: Record) -> None:
        (done,) = await record.remember(skill())
        for plan in ("won", "lost", "cleaned"):
            for _ in range(2):
                await record.remember(UseProcedure(id=done.id, plan_id=plan))
        await record.remember(UseProcedure(id="unknown", plan_id="won"))
        await record.remember(UseProcedure(id=done.id, plan_id="won"), scope=BOB)
        assert await self.count_rows(record.store, "procedure_uses") == 3
        await end(record, "won", Complete())
        await end(record, "lost", Fail(reason="no"))
        await record.apply(Commit([PlanCommit("cleaned", [Set("k", raw(1)), Cleanup()])]))
        await end(record, "cleaned", Complete())
        row = await record.store.memories.procedural.version(ALICE, SKILL, None)
        assert row is not None
        assert (row.succeeded, row.failed) == (1, 1)
        assert await self.count_rows(record.store, "procedure_uses") == 0
        with pytest.raises(InvalidRequest, match="names a plan"):
            await record.remember(UseProcedure(id=done.id))

    @pytest.mark.behaviour("procedures.public", "tenants.share-nothing")
    async def test_each_reads_what_is_theirs(self, record: Record) -> None:
        await record.remember(skill("Alice's."))
        await record.remember(skill("All's.", is_public=True))
        public = ProcedureKey(True, "skill", "refund")
        assert [await active(record, scope) for scope in (ALICE, BOB, STRANGER)] == [1, 0, 0]
        found = [await active(record, scope, public) for scope in (ALICE, BOB, STRANGER)]
        assert found == [1, 1, 0]
        found_by = [[hit.content for hit in await relevant(record, scope=scope)]
                    for scope in (ALICE, BOB, STRANGER)]  # fmt: skip
        assert found_by == [["Alice's."], ["All's."], []]
        port = record.store.memories.procedural
        listed = [[row.is_public for row in await port.list(scope, None, 0, 10)]
                  for scope in (ALICE, BOB, STRANGER)]  # fmt: skip
        assert listed == [[False, True], [True], []]

    @pytest.mark.behaviour("procedures.proposals")
    async def test_what_a_handler_stores_is_not_active(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (claimed,) = await record.claim(member)
        for forbidden in (
            ActivateProcedure(name="refund"),
            RollBackProcedure(name="refund"),
            RetireProcedure(name="refund"),
        ):
            with pytest.raises(Forbidden, match="for an application to say"):
                await record.remember(skill(is_public=True), forbidden, fence=claimed.fence)
        await record.remember(skill(is_public=True), fence=claimed.fence)
        public = ProcedureKey(True, "skill", "refund")
        assert [await versions(record, scope, public) for scope in (ALICE, BOB)] == [[1], []]
        assert await active(record, ALICE, public) == 0
        await record.remember(ActivateProcedure(name="refund", is_public=True))
        assert [await versions(record, scope, public) for scope in (ALICE, BOB)] == [[1], [1]]
        assert len(await relevant(record, scope=BOB)) == 1

    @pytest.mark.behaviour("procedures.forgotten")
    async def test_nothing_is_left_of_what_is_forgotten(self, record: Record) -> None:
        (source,) = await record.remember(StoreKnowledge(content="A lesson."))
        await record.remember(
            skill("one", files={"a": b"x"}), skill("two", derived_from=[source.id])
        )
        (done,) = await record.remember(skill("one", files={"a": b"x"}))
        await record.remember(UseProcedure(id=done.id, plan_id="p"))
        forgetting = Forgetting(record.store)
        receipt = await forgetting.forget(ALICE, ForgetBody(kind="knowledge", everything=True))
        assert (receipt.passages, receipt.procedures) == (1, 1)
        assert await versions(record) == [1]
        receipt = await forgetting.forget(ALICE, ForgetBody(everything=True))
        assert (receipt.passages, receipt.procedures) == (0, 1)
        for table in ("procedures", "procedure_versions", "procedure_files", "procedure_uses",
                      "passages", "passage_sources"):  # fmt: skip
            assert await self.count_rows(record.store, table) == 0, table

    @pytest.mark.behaviour("procedures.refusals")
    async def test_there_are_limits(self, record: Record) -> None:
        record.limits = Limits(procedures=2, procedure_versions=2)
        await record.reopen()
        await record.remember(skill("one"), skill("two"))
        with pytest.raises(LimitExceeded, match="versions of skill 'refund' would be 3"):
            await record.remember(skill("three"))
        await record.remember(skill("one"), skill(name="other"))
        with pytest.raises(LimitExceeded, match="procedures in one collection would be 3"):
            await record.remember(skill(name="third"))
        await record.remember(skill(name="third", is_public=True))
        await record.remember(skill(name="third"), scope=BOB)


def _now(activated: list[int], gone: set[int]) -> int:
    """Returns what is active after these activations: 0 if the last of them was forgotten."""
    return activated[-1] if activated and activated[-1] not in gone else 0
