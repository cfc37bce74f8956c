"""Requirements for the response of a store to a repeated request."""

from __future__ import annotations

import asyncio

import pytest
from record import (
    ALICE,
    BOB,
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

from soorma_common.errors import Conflict, IdempotencyMismatch
from soorma_common.json_text import decode
from soorma_common.operations import Cleanup, RecordAction

MINUTE = 60.0


class IdempotencySuite:
    """Requests that are repeated under their key, and get the first response."""

    @pytest.mark.behaviour("idempotency.first-answer")
    async def test_the_same_request_gets_the_same_answer_and_changes_nothing(
        self, record: Record
    ) -> None:
        async def send() -> object:
            operations = [increment("n"), append("l", 1), delete("none"), RecordAction("a")]
            return await record.commit(
                part("p", *operations), events=[event("e", id="1")], key="key-1"
            )

        first = await send()
        await record.do("p", increment("n"), append("l", 2))
        record.clock.advance(1)
        assert await send() == first
        assert await record.state("p") == {"n": 2, "l": [1, 2]}
        assert await record.actions("p") == ["a"]
        assert len(await record.log()) == 1

    @pytest.mark.behaviour("idempotency.first-answer")
    async def test_events_without_an_id_are_published_once(self, record: Record) -> None:
        first = await record.commit(events=[event("e"), event("e")], key="key-1")
        again = await record.commit(events=[event("e"), event("e")], key="key-1")
        assert again == first
        assert [entry.position for entry in await record.log()] == [1, 2]

    @pytest.mark.behaviour("idempotency.other-body")
    async def test_another_body_under_the_same_key_is_refused(self, record: Record) -> None:
        await record.commit(part("p", increment("n")), key="key-1")
        with pytest.raises(IdempotencyMismatch):
            await record.commit(part("p", increment("n", 2)), key="key-1")
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("idempotency.refused-may-retry")
    async def test_a_refused_request_may_be_sent_again(self, record: Record) -> None:
        for _ in range(2):
            with pytest.raises(Conflict):
                await record.commit(part("p", put("k", 1, expected_revision=1)), key="key-1")
        await record.do("p", put("k", 0))
        await record.commit(part("p", put("k", 1, expected_revision=1)), key="key-1")
        assert await record.get("p", "k") == 1

    @pytest.mark.behaviour("idempotency.of-a-user")
    async def test_keys_belong_to_a_user(self, record: Record) -> None:
        for scope in (ALICE, BOB, STRANGER):
            for _ in range(2):
                await record.commit(part("p", increment("n")), key="key-1", scope=scope)
            assert await record.get("p", "n", scope) == 1

    @pytest.mark.behaviour("idempotency.first-answer")
    async def test_large_results_come_back_whole(self, record: Record) -> None:
        async def send() -> list[object]:
            operations = [
                append("l", 2),
                increment("n"),
                extend("l", [3]),
                merge("o", {"b": "y" * 5_000}),
            ]
            done = await record.commit(
                part("q", increment("n")), part("p", *operations), key="key-1"
            )
            return [decode(bytes(result)) for result in done.plans[1].results]

        await record.do("p", put("l", ["x" * 5_000]), put("o", {"a": 1}))
        first = await send()
        assert first[0] == ["x" * 5_000, 2]
        await record.do("p", append("l", 4), delete("o"))
        assert await send() == first
        assert await record.get("p", "l") == ["x" * 5_000, 2, 3, 4]

    @pytest.mark.behaviour("idempotency.first-answer")
    @pytest.mark.parametrize("afterwards", ["cleanup", "cleanup in the same commit", "expiry"])
    async def test_large_results_come_back_whole_whatever_came_later(
        self, record: Record, afterwards: str
    ) -> None:
        async def send() -> list[object]:
            last = [Cleanup()] if afterwards == "cleanup in the same commit" else []
            done = await record.commit(part("p", append("l", "x" * 5_000), *last), key="key-1")
            return [decode(bytes(result)) for result in done.plans[0].results]

        await record.do("p", put("l", ["short"], ttl=60.0))
        first = await send()
        if afterwards == "cleanup":
            await record.do("p", Cleanup())
        if afterwards == "expiry":
            record.clock.advance(61)
            await record.sweep()
        assert await send() == first

    @pytest.mark.behaviour("idempotency.kept")
    @pytest.mark.parametrize(("key", "kept"), [("sdk:1", 15 * MINUTE), ("mine", 24 * 60 * MINUTE)])
    async def test_answers_are_kept_for_a_time(self, record: Record, key: str, kept: float) -> None:
        await record.commit(part("p", increment("n")), key=key)
        record.clock.advance(kept - 1)
        await record.sweep()
        await record.commit(part("p", increment("n")), key=key)
        assert await record.get("p", "n") == 1
        record.clock.advance(1)
        await record.commit(part("p", increment("n")), key=key)
        assert await record.get("p", "n") == 2

    @pytest.mark.behaviour("idempotency.at-once")
    async def test_many_at_once_are_one(self, record: Record) -> None:
        answers = await asyncio.gather(
            *(record.commit(part("p", increment("n")), key="key-1") for _ in range(50))
        )
        assert all(answer == answers[0] for answer in answers)
        assert await record.get("p", "n") == 1
