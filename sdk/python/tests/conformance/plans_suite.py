"""Requirements for plans in a store: operations, revisions, checks, and visibility."""

from __future__ import annotations

from typing import Any

import pytest
from record import (
    ALICE,
    ALL,
    BOB,
    MISSING,
    STRANGER,
    Record,
    append,
    delete,
    event,
    extend,
    increment,
    merge,
    part,
    put,
)

from soorma_common.errors import Conflict, InvalidName, InvalidRequest, InvalidValue, WrongType
from soorma_common.operations import Cleanup, ExpirePlan, RecordAction

VALUES = [
    None, False, True, 0, -1, 2**63, 2**64 + 1, -(10**40), 0.1, 1e300, "", "text",
    '\u2028 ünïcode 🎉 \\ " \n', [], {},
    [1, [2, [None]]], {"z": 1, "a": {"y": [], "b": None}, "ä": "ö"},
]  # fmt: skip

CHANGES: list[tuple[Any, Any, Any, Any]] = [
    # an operation, the value before, the value after, its result
    (put("k", [1]), MISSING, [1], None),
    (put("k", None), 5, None, None),
    (delete("k"), 5, MISSING, True),
    (delete("k"), None, MISSING, True),
    (delete("k"), MISSING, MISSING, False),
    (increment("k"), MISSING, 1, 1),
    (increment("k", -3), 10, 7, 7),
    (increment("k", 0.5), 1, 1.5, 1.5),
    (increment("k", 1), 2**64, 2**64 + 1, 2**64 + 1),
    (append("k", {"a": None}), MISSING, [{"a": None}], [{"a": None}]),
    (append("k", [2]), [1], [1, [2]], [1, [2]]),
    (extend("k", []), MISSING, [], []),
    (extend("k", [2, 3]), [1], [1, 2, 3], [1, 2, 3]),
    (extend("k", []), [1], [1], [1]),
    (merge("k", {"a": 1}), MISSING, {"a": 1}, {"a": 1}),
    (merge("k", {"b": None, "c": {"x": 1}}), {"a": 1, "c": {"y": 2}},
     {"a": 1, "c": {"x": 1}, "b": None}, {"a": 1, "c": {"x": 1}, "b": None}),
    (increment("k", blind=True), 1, 2, None),
    (append("k", 2, blind=True), [1], [1, 2], None),
    (extend("k", [2], blind=True), [1], [1, 2], None),
    (merge("k", {"b": 2}, blind=True), {"a": 1}, {"a": 1, "b": 2}, None),
    (delete("k", blind=True), 1, MISSING, None),
]  # fmt: skip

MISFITS = [
    (increment("k"), None, WrongType),
    (increment("k"), "1", WrongType),
    (increment("k"), True, WrongType),
    (increment("k"), [1], WrongType),
    (increment("k", 1e308), 1.7e308, InvalidValue),
    (append("k", 1), None, WrongType),
    (append("k", 1), {}, WrongType),
    (append("k", 1), "[]", WrongType),
    (extend("k", [1]), "text", WrongType),
    (extend("k", {"a": 1}), [1], WrongType),
    (merge("k", {"a": 1}), None, WrongType),
    (merge("k", {"a": 1}), [], WrongType),
    (merge("k", [1]), {"a": 1}, WrongType),
]

BAD_NAMES = ["", ".", "..", "a\0b", "\ud800", "x" * 256]


def _same(left: Any, right: Any) -> bool:
    """True if both are equal, in type and in the order of keys too."""
    return repr(left) == repr(right)


class PlansSuite:
    """Plans, without their past."""

    @pytest.mark.behaviour("memory.value-round-trip")
    @pytest.mark.parametrize("value", VALUES, ids=repr)
    async def test_a_value_comes_back_as_it_went_in(self, record: Record, value: Any) -> None:
        await record.do("p", put("k", value))
        assert _same(await record.get("p", "k"), value)
        assert _same(await record.state("p"), {"k": value})
        assert _same(await record.at("p", "k", 1), value)

    @pytest.mark.behaviour(
        "operations.increment",
        "operations.append-extend",
        "operations.update-dict",
        "operations.missing-is-empty",
    )
    @pytest.mark.parametrize(("operation", "before", "after", "result"), CHANGES)
    async def test_an_operation_changes_the_value(
        self, record: Record, operation: Any, before: Any, after: Any, result: Any
    ) -> None:
        if before is not MISSING:
            await record.do("p", put("k", before))
        assert _same(await record.do("p", operation), [result])
        assert _same(await record.get("p", "k"), after)

    @pytest.mark.behaviour("operations.wrong-type")
    @pytest.mark.parametrize(("operation", "before", "error"), MISFITS)
    async def test_an_operation_that_does_not_fit_leaves_everything(
        self, record: Record, operation: Any, before: Any, error: type[Exception]
    ) -> None:
        await record.do("p", put("k", before))
        with pytest.raises(error):
            await record.do("p", put("other", 1), operation)
        assert await record.state("p") == {"k": before}
        assert await record.revision("p") == 1

    @pytest.mark.behaviour("memory.null-is-a-value")
    async def test_null_is_a_value_and_missing_is_none(self, record: Record) -> None:
        await record.do("p", put("null", None))
        assert await record.get("p", "null") is None
        assert await record.get("p", "nothing") is MISSING
        state = await record.store.plans.get(ALICE, "p", {"null", "nothing"})
        assert set(state.entries) == {"null"}

    @pytest.mark.behaviour("memory.revision")
    async def test_a_commit_raises_the_revision_by_one_however_much_it_does(
        self, record: Record
    ) -> None:
        for expected in (1, 2, 3):
            done = await record.commit(
                part("p", put("a", 1), put("b", 2), increment("n"), RecordAction("x"))
            )
            assert done.plans[0].revision == expected
        assert await record.revision("p") == 3

    @pytest.mark.behaviour("memory.revision")
    async def test_a_commit_that_changes_nothing_leaves_the_revision(self, record: Record) -> None:
        await record.do("p", put("a", 1))
        done = await record.commit(part("p", delete("nothing"), reads={"a": 1}))
        assert done.plans[0].revision == 1
        assert await record.revision("p") == 1

    @pytest.mark.behaviour("memory.first-write")
    async def test_a_plan_never_written_is_at_revision_0(self, record: Record) -> None:
        assert await record.revision("p") == 0
        assert await record.state("p") == {}
        assert (await record.commit(part("p", reads={"k": 0}))).plans[0].revision == 0

    @pytest.mark.behaviour("memory.revision")
    async def test_a_keys_revision_is_that_of_its_last_write(self, record: Record) -> None:
        await record.do("p", put("a", 1))
        await record.do("p", put("b", 1), increment("c"))
        await record.do("p", increment("c"))
        state = await record.store.plans.get(ALICE, "p", {"a", "b", "c"})
        assert {key: row.revision for key, row in state.entries.items()} == {"a": 1, "b": 2, "c": 3}

    @pytest.mark.behaviour("memory.entry")
    async def test_a_keys_time_is_that_of_its_last_write(self, record: Record) -> None:
        await record.do("p", put("a", 1))
        record.clock.advance(5)
        await record.do("p", put("a", 1))
        entry = await record.store.plans.entry(ALICE, "p", "a")
        assert entry is not None
        assert entry.updated_at == round(record.clock.now * 1000)

    @pytest.mark.behaviour("operations.one-commit")
    async def test_operations_of_a_commit_see_those_before_them(self, record: Record) -> None:
        results = await record.do(
            "p", put("k", [1]), append("k", 2), delete("k"), append("k", 3), increment("n")
        )
        assert results == [None, [1, 2], True, [3], 1]

    # compare-and-set

    @pytest.mark.behaviour("conditions.compare-and-set")
    @pytest.mark.parametrize("operation", [put, append, increment])
    async def test_compare_and_set_of_a_key(self, record: Record, operation: Any) -> None:
        first = operation("k", 1, expected_revision=0)
        await record.do("p", first)
        with pytest.raises(Conflict) as conflict:
            await record.do("p", first)
        assert conflict.value.details["current_revision"] == 1
        assert conflict.value.details["expected_revision"] == 0
        await record.do("p", operation("k", 1, expected_revision=1))
        assert await record.revision("p") == 2

    @pytest.mark.behaviour("conditions.compare-and-set")
    async def test_compare_and_delete(self, record: Record) -> None:
        await record.do("p", put("k", 1))
        with pytest.raises(Conflict):
            await record.do("p", delete("k", expected_revision=7))
        assert await record.do("p", delete("k", expected_revision=1)) == [True]
        with pytest.raises(Conflict) as conflict:
            await record.do("p", delete("k", expected_revision=1))
        assert conflict.value.details["current_revision"] == 0

    @pytest.mark.behaviour("conditions.expected-in-a-commit")
    async def test_a_plans_expected_revision(self, record: Record) -> None:
        await record.commit(part("p", put("k", 1), expected=0))
        with pytest.raises(Conflict) as conflict:
            await record.commit(part("p", put("k", 2), expected=0))
        assert conflict.value.details["current_revision"] == 1
        assert await record.get("p", "k") == 1

    @pytest.mark.behaviour("conditions.expected-in-a-commit")
    async def test_a_read_of_an_older_revision_is_a_conflict(self, record: Record) -> None:
        await record.do("p", put("a", 1))
        await record.do("p", put("b", 1))
        await record.commit(part("p", put("c", 1), reads={"a": 1, "b": 2, "missing": 0}))
        await record.do("p", put("a", 2))
        for reads in ({"a": 1}, {"a": 0}, {"missing": 3}, {"b": 2, "a": 3}):
            with pytest.raises(Conflict):
                await record.commit(part("p", put("c", 2), reads=reads))
        assert await record.get("p", "c") == 1

    @pytest.mark.behaviour("conditions.expected-in-a-commit")
    async def test_a_read_is_checked_against_what_was_before_the_commit(
        self, record: Record
    ) -> None:
        await record.do("p", put("a", 1))
        await record.commit(part("p", put("a", 2), increment("n"), reads={"a": 1, "n": 0}))
        assert await record.state("p") == {"a": 2, "n": 1}

    @pytest.mark.behaviour("conditions.expected-in-a-commit")
    async def test_only_reads_are_checked_too(self, record: Record) -> None:
        await record.do("p", put("a", 1))
        with pytest.raises(Conflict):
            await record.commit(part("p", reads={"a": 0}))

    # many plans

    @pytest.mark.behaviour("operations.one-commit")
    async def test_several_plans_in_one_commit(self, record: Record) -> None:
        await record.do("q", put("k", 0))
        done = await record.commit(
            part("p", put("k", 1)), part("q", put("k", 2)), part("r", reads={"k": 0})
        )
        assert [(plan.plan_id, plan.revision) for plan in done.plans] == [
            ("p", 1),
            ("q", 2),
            ("r", 0),
        ]
        assert [await record.get(plan, "k") for plan in ("p", "q", "r")] == [1, 2, MISSING]

    @pytest.mark.behaviour("operations.one-commit")
    @pytest.mark.parametrize(
        "refused",
        [
            part("q", increment("text")),
            part("q", put("k", 9), reads={"text": 0}),
            part("q", put("k", 9), expected=7),
            part("q", put("k", 9, expected_revision=1)),
        ],
    )
    async def test_one_plan_refused_refuses_all(self, record: Record, refused: Any) -> None:
        await record.do("q", put("text", "x"))
        with pytest.raises((Conflict, WrongType)):
            await record.commit(
                part("p", put("k", 1), RecordAction("a")), refused, events=[event("e", "p")]
            )
        assert await record.revision("p") == 0
        assert await record.actions("p") == []
        assert await record.state("q") == {"text": "x"}
        assert await record.log() == []

    @pytest.mark.behaviour("http.one-form")
    async def test_a_plan_named_twice_is_refused(self, record: Record) -> None:
        with pytest.raises(InvalidRequest):
            await record.commit(part("p", put("a", 1)), part("p", put("b", 1)))

    @pytest.mark.behaviour("topics.names")
    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_what_is_no_name_is_refused(self, record: Record, name: str) -> None:
        for parts in (
            part(name, put("k", 1)),
            part("p", put(name, 1)),
            part("p", increment("k"), reads={name: 0}),
        ):
            with pytest.raises(InvalidName):
                await record.commit(parts, body=b"any")
        with pytest.raises(InvalidName):
            await record.do("p", RecordAction(name), body=b"any")

    @pytest.mark.behaviour("topics.names")
    @pytest.mark.parametrize(
        "name", ["a/b", "%2e", "...", " ", "ключ", "🎉" * 255, "a'b\"c", "\u0001", "null"]
    )
    async def test_any_other_text_is_a_name(self, record: Record, name: str) -> None:
        await record.commit(part(name, put(name, name), RecordAction(name)))
        assert await record.state(name) == {name: name}
        assert await record.actions(name) == [name]
        assert [row.plan_id for row in await record.store.plans.list(ALICE, "", ALL)] == [name]

    # listings

    @pytest.mark.behaviour("memory.keys-and-prefixes")
    async def test_keys_in_order_with_prefix_and_paging(self, record: Record) -> None:
        keys = ["a", "b", "b%", "b/1", "b/2", "bä", "b\U0010ffff", "c"]
        await record.do("p", *(put(key, key) for key in keys))

        async def listed(prefix: str, after: str = "", limit: int = ALL) -> list[str]:
            return [
                row.key
                for row in (await record.store.plans.entries(ALICE, "p", prefix, after, limit))[1]
            ]

        assert await listed("") == keys
        assert await listed("b") == keys[1:7]
        assert await listed("b/") == ["b/1", "b/2"]
        assert await listed("B") == []
        assert await listed("", "b", 2) == ["b%", "b/1"]
        assert await listed("b", "b/1", 3) == ["b/2", "bä", "b\U0010ffff"]

    @pytest.mark.behaviour("memory.plans-listed")
    async def test_plans_in_order_with_paging(self, record: Record) -> None:
        for plan in ("c", "a", "b"):
            await record.do(plan, put("k", "12345"), RecordAction("x"))
        rows = await record.store.plans.list(ALICE, "", 2)
        assert [row.plan_id for row in rows] == ["a", "b"]
        assert [row.plan_id for row in await record.store.plans.list(ALICE, "b", 2)] == ["c"]
        assert [(row.keys, row.actions, row.size, row.revision) for row in rows] == [
            (1, 1, 8, 1)
        ] * 2

    @pytest.mark.behaviour("memory.plans-listed")
    async def test_size_and_keys_follow_what_is_there(self, record: Record) -> None:
        await record.do("p", put("k", "ä"), put("l", [1]))
        await record.do("p", put("k", ""), delete("l"), append("m", 1))
        row = (await record.store.plans.get(ALICE, "p", set())).row
        assert (row.keys, row.size) == (2, len('k""') + len("m[1]"))

    # whose

    @pytest.mark.behaviour("tenants.share-nothing")
    async def test_users_and_tenants_share_nothing(self, record: Record) -> None:
        scopes = [ALICE, BOB, STRANGER]
        for number, scope in enumerate(scopes):
            await record.do("p", put("k", number), RecordAction(f"action {number}"), scope=scope)
        await record.do("p", Cleanup(), scope=BOB)
        await record.do("p", put("k", 9), ExpirePlan(10), scope=STRANGER)
        assert await record.get("p", "k") == 0
        assert await record.actions("p") == ["action 0"]
        assert await record.changes("p", 0) == [(1, "set", "k"), (1, "record_action", None)]
        assert await record.at("p", "k", 1) == 0
        assert await record.state("p", BOB) == {}
        assert await record.store.plans.list(BOB, "", ALL) == []
        assert [row.revision for row in await record.store.plans.list(ALICE, "", ALL)] == [1]
        record.clock.advance(11)
        assert await record.get("p", "k") == 0
        assert await record.get("p", "k", STRANGER) is MISSING

    @pytest.mark.behaviour("readers.woken")
    async def test_a_commit_tells_which_plans_it_changed(self, record: Record) -> None:
        await record.commit(part("p", put("k", 1)), part("q", delete("k")), scope=BOB)
        assert [notice.plans for notice in record.notices] == [[(BOB, "p")]]
