"""Requirements for quotas of what a tenant stores."""

from __future__ import annotations

from random import Random

import pytest
from record import ALICE, BOB, STRANGER, Record, delete, part, put

from soorma_common.episodic import LogInteraction
from soorma_common.errors import LimitExceeded
from soorma_common.forgetting import ForgetBody
from soorma_common.names import Scope
from soorma_common.operations import Cleanup
from soorma_common.procedural import StoreProcedure
from soorma_common.semantic import ForgetKnowledge
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.usage import Usage, UsageNeed
from soorma_platform.work.forgetting import Forgetting

HUGE = 10**12


class _Ask:
    """Asks what a tenant has stored, and changes nothing."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def needs(self) -> list[Need]:
        return [UsageNeed()]

    def decide(self, found: Snapshot) -> Decision[Usage]:
        return Decision(found.part(Usage))


async def usage(record: Record, scope: Scope = ALICE) -> tuple[int, int]:
    found = await record.store.transact(_Ask(scope))
    return found.plans, found.stored_bytes


class QuotaSuite:
    @pytest.mark.behaviour("quotas.stored")
    async def test_a_plan_too_many_is_refused(self, record: Record) -> None:
        await record.limit(plans=2)
        await record.do("one", put("k", 1))
        await record.do("two", put("k", 1), scope=BOB)  # of the same tenant
        for scope in (ALICE, BOB):
            with pytest.raises(LimitExceeded, match="quota of 2 plans") as refused:
                await record.do("three", put("k", 1), scope=scope)
            assert (refused.value.limit, refused.value.maximum) == ("quota_plans", 2)
        assert await record.state("three") == {}
        await record.do("one", put("k", 2), put("more", 3))
        await record.do("three", put("k", 1), scope=STRANGER)
        await record.do("one", Cleanup())
        await record.do("three", put("k", 1))
        assert await record.state("three") == {"k": 1}

    @pytest.mark.behaviour("quotas.stored")
    async def test_two_plans_in_one_commit_are_two(self, record: Record) -> None:
        await record.limit(plans=1)
        with pytest.raises(LimitExceeded):
            await record.commit(part("one", put("k", 1)), part("two", put("k", 1)))
        assert await usage(record) == (0, 0)
        await record.commit(part("one", put("k", 1)))

    @pytest.mark.behaviour("quotas.stored")
    async def test_bytes_beyond_are_refused_and_removals_are_not(self, record: Record) -> None:
        await record.limit(stored_bytes=10_000)
        await record.do("p", put("a", "x" * 12_000), put("b", "y" * 100))
        passage = "Tides follow the moon."
        for refused in (
            record.do("p", put("c", 1)),
            record.do("q", put("k", 1), scope=BOB),
            record.know(passage),
        ):
            with pytest.raises(LimitExceeded, match="SOORMA_QUOTA_STORED_BYTES"):
                await refused
        await record.do("q", put("k", 1), scope=STRANGER)
        await record.do("p", put("b", "z" * 100))  # as large as before
        await record.do("p", delete("a"))
        with pytest.raises(LimitExceeded):
            await record.know(passage)  # what it was is still in the history
        await record.do("p", Cleanup())
        assert await record.know(passage)

    @pytest.mark.behaviour("quotas.stored")
    async def test_memories_and_their_files_count_until_they_are_gone(self, record: Record) -> None:
        await record.limit(stored_bytes=HUGE)
        known = await record.know("Tides follow the moon.")
        await record.remember(LogInteraction(role="user", content="When is high water?"))
        _, before = await usage(record)
        assert before == len("Tides follow the moon.") + len("When is high water?")
        files = {"table.md": b"| high | low |"}
        await record.remember(StoreProcedure(name="tides", content="Read it.", files=files))
        _, after = await usage(record)
        assert after == before + len("Read it.") + len("| high | low |")
        await record.remember(ForgetKnowledge(known))
        await Forgetting(record.store).forget(ALICE, ForgetBody(everything=True))
        while await record.upkeep():
            pass
        assert await usage(record) == (0, 0)

    @pytest.mark.behaviour("quotas.stored")
    @pytest.mark.parametrize("seed", range(3))
    async def test_what_is_counted_is_what_is_there(self, record: Record, seed: int) -> None:
        random = Random(seed)
        await record.limit(stored_bytes=HUGE)
        ids: list[tuple[Scope, str]] = []
        for step in range(120):
            scope = random.choice([ALICE, BOB, STRANGER])
            plan, key = random.choice("pqr"), random.choice("abc")
            match random.randrange(7):
                case 0 | 1:
                    await record.do(plan, put(key, "x" * random.randrange(300)), scope=scope)
                case 2:
                    await record.do(plan, delete(key), scope=scope)
                case 3:
                    await record.do(plan, Cleanup(), scope=scope)
                case 4:
                    ids.append((scope, await record.know(f"Fact {step} of {seed}.", scope=scope)))
                case 5 if ids:
                    scope, known = ids.pop(random.randrange(len(ids)))
                    await record.remember(ForgetKnowledge(known), scope=scope)
                case _:
                    await record.upkeep()
        counted = [await usage(record, scope) for scope in (ALICE, STRANGER)]
        await record.reopen()
        assert counted == [await usage(record, scope) for scope in (ALICE, STRANGER)]
        assert all(stored > 0 for _, stored in counted)
