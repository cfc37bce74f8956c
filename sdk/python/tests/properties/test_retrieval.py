"""Properties of retrieval: texts of any kind, indexes that follow, and scores of a scope alone."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from empty_record import open_sqlite
from hypothesis import given, settings
from hypothesis import strategies as st
from record import ALICE, BOB, STRANGER, Clock, Record

from soorma_common.errors import SoormaError
from soorma_common.limits import Limits
from soorma_common.semantic import ForgetKnowledge, StoreKnowledge, UpdateKnowledge
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.retrieval.index import CollectionIndex
from soorma_platform.engine.retrieval.ranking import TEXT_CUT, Query, best, text_scores
from soorma_platform.engine.retrieval.splitting import LONGEST_PART, split
from soorma_platform.engine.retrieval.tokens import LONGEST_TOKEN, tokens
from soorma_platform.engine.retrieval.vectors import VectorIndex, packed, unit
from soorma_platform.engine.rows.passages import NEVER, PartRow
from soorma_platform.stores.sqlite import SqliteStore

WORDS = (
    "train",
    "platform",
    "night",
    "dogs",
    "free",
    "fare",
    "door",
    "closed",
    "M\u00fcnchen",
    "4",
)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@pytest.mark.behaviour("knowledge.languages")
@given(st.text(max_size=300))
def test_any_text_has_tokens_that_do_not_depend_on_its_case(text: str) -> None:
    found = tokens(text)
    assert all(0 < len(one) <= LONGEST_TOKEN for one in found)
    assert tokens(text.casefold()) == tokens(text.casefold())
    assert tokens(f" {text} ") == found
    assert tokens(" ".join(found)) is not None


@pytest.mark.behaviour("knowledge.long")
@given(st.text(alphabet=st.sampled_from("ab .\n\u3002"), max_size=6_000))
def test_parts_cover_a_text_in_order_and_overlap(text: str) -> None:
    spans = split(text)
    assert spans[0].start == 0
    assert spans[-1].end == len(text)
    for before, after in pairwise(spans):
        assert before.start < after.start < before.end < after.end, "they overlap, and go on"
    assert all(end - start <= LONGEST_PART for start, end in spans)


def _row(change: int, passage: int, text: str, **more: Any) -> PartRow:
    data, length = terms.packed(text, terms.labels([f"t{passage % 3}"], None, None))
    return PartRow(change, passage, 0, 0, len(text), length, 1, terms=data, **more)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "put", "gone", "close"]), st.integers(1, 12), TEXTS),
    max_size=40,
)


@pytest.mark.behaviour("knowledge.found-at-once")
@given(CHANGES, st.lists(st.integers(1, 5), max_size=20), TEXTS)
def test_an_index_that_follows_equals_one_made_anew(
    changes: list[tuple[str, int, str]], strides: list[int], query: str
) -> None:
    rows: list[PartRow] = []
    current: dict[int, PartRow] = {}
    gone: set[int] = set()
    for change, (what, passage, text) in enumerate(changes, 1):
        if passage in gone:
            continue  # a number is never given again
        if what == "gone":
            row = PartRow(change, passage)
            current.pop(passage, None)
            gone.add(passage)
        else:
            row = _row(change, passage, text, closed_at=5 if what == "close" else NEVER)
            current[passage] = row
        rows.append(row)
    following = CollectionIndex()
    left, sizes = list(rows), [*strides, len(rows)]
    for size in sizes:
        following.take(left[:size])
        left = left[size:]
    anew = CollectionIndex()
    anew.take(sorted(current.values(), key=lambda row: row.change))
    assert _found(following, query) == _found(anew, query)


def _found(index: CollectionIndex, query: str) -> list[tuple[int, float]]:
    visible = index.visible(None, 10)
    (text,) = text_scores(Query.of(query), [index], [visible])
    ranked = best([index], [text.scores], [visible], 50, TEXT_CUT)
    return sorted((int(index.column("passage")[one.slot]), round(one.score, 9)) for one in ranked)


@pytest.mark.behaviour("knowledge.scope")
@settings(max_examples=15)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.lists(TEXTS, max_size=12), TEXTS)
def test_what_others_store_changes_no_score_order_or_count(
    own: list[str], others: list[str], query: str
) -> None:
    async def carry_out() -> None:
        with tempfile.TemporaryDirectory() as folder:
            record = await _opened(folder)
            try:
                for number, text in enumerate(own):
                    await record.know(text, tags=[f"n{number}"])
                before = await record.search(query)
                for number, text in enumerate(others):
                    scope = (BOB, STRANGER)[number % 2]
                    await record.know(text, scope=scope, is_public=scope is STRANGER)
                    await record.know(own[number % len(own)], scope=scope)
                assert await record.search(query) == before
            finally:
                await record.close()

    asyncio.run(carry_out())


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "external", "subject", "update", "forget", "supersede"]),
        st.integers(0, 5),
        TEXTS,
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.behaviour("knowledge.all-or-nothing")
@settings(max_examples=25)
@given(OPERATIONS)
def test_a_batch_leaves_what_its_operations_leave_one_by_one(
    drawn: list[tuple[str, int, str]],
) -> None:
    async def carry_out() -> None:
        left = []
        for together in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                record = await _opened(folder)
                try:
                    made = _operations(drawn)
                    if together:
                        done = await record.remember(*made)
                    else:
                        done = [(await record.remember(one))[0] for one in made]
                    left.append((done, await _state(record)))
                except SoormaError as error:
                    left.append((type(error), None))
                finally:
                    await record.close()
        if left[0][1] is not None or left[1][1] is not None:
            assert left[0] == left[1]

    asyncio.run(carry_out())


def _operations(drawn: list[tuple[str, int, str]]) -> list[Any]:
    """Returns operations whose ids are known beforehand; what is named may be there or not."""
    made: list[Any] = []
    stored: list[str] = []
    for place, (what, number, text) in enumerate(drawn):
        name = stored[number % len(stored)] if stored else None
        own = f"id{place}"
        match what:
            case "update" if name:
                made.append(UpdateKnowledge(id=name, tags=[f"t{number}"]))
            case "forget" if name:
                made.append(ForgetKnowledge(id=name))
                stored.remove(name)
            case "supersede" if name:
                made.append(StoreKnowledge(content=text, id=own, supersedes=name))
                stored.append(own)
            case "external":
                made.append(StoreKnowledge(content=text, id=own, external_id=f"e{number % 2}"))
                stored.append(own)
            case "subject":
                pair = {"subject": "s", "attribute": f"a{number % 2}"}
                made.append(StoreKnowledge(content=text, id=own, **pair))
                stored.append(own)
            case _:
                made.append(StoreKnowledge(content=text, id=own, tags=[f"t{number}"]))
                stored.append(own)
    return made


async def _state(record: Record) -> list[Any]:
    rows, _ = await record.store.memories.semantic.list(ALICE, 0, 1_000)
    found = [
        (row.id, row.content, row.tags, row.stated, row.external_id, row.subject, row.closed_by)
        for row in rows
    ]
    searched = [
        (hit.id, hit.tags) for hit in await record.search(" ".join(WORDS), min_score=0.0, limit=100)
    ]
    return [sorted(found, key=repr), sorted(searched)]


async def _opened(folder: str) -> Record:
    async def opener(on_commit: Any, *, clock: Clock, lease: float) -> SqliteStore:
        return await open_sqlite(Path(folder) / "soorma.db", on_commit, clock=clock, lease=lease)

    record = Record(opener, Limits(), 30.0, Clock())
    await record.open()
    return record


@pytest.mark.behaviour("knowledge.meaning")
@pytest.mark.parametrize("count", [100, 3_000])
def test_the_nearest_vectors_are_found_by_their_codes(count: int) -> None:
    dice = np.random.default_rng(count)
    centres = dice.standard_normal((40, 384))
    vectors = [
        unit((centres[number % 40] + 0.7 * dice.standard_normal(384)).astype(np.float32))
        for number in range(count)
    ]
    index = VectorIndex()
    index.put(list(range(count)), [packed(vector) for vector in vectors])
    exact = np.array(vectors)
    hits = 0
    for number in range(0, count, count // 20):
        query = unit((exact[number] + 0.3 * dice.standard_normal(384) / 20).astype(np.float32))
        wanted = set(np.argsort(-(exact @ query))[:10].tolist())
        found = index.near(query, np.ones(count, np.bool_), np.zeros(0, np.int64))
        hits += len(wanted & set(np.argsort(-found)[:10].tolist()))
    assert hits / (10 * len(range(0, count, count // 20))) >= 0.97


@pytest.mark.behaviour("knowledge.alike")
@pytest.mark.parametrize("dimension", [70, 384, 1_536])
def test_all_that_is_alike_is_found_by_the_first_words_of_codes(dimension: int) -> None:
    dice = np.random.default_rng(dimension)
    centres = dice.standard_normal((150, dimension))
    vectors = np.array([
        unit((centre + spread * dice.standard_normal(dimension)).astype(np.float32))
        for centre in centres
        for spread in (0.0, 0.1, 0.3, 0.5, 0.52, 0.55, 0.6, 1.0)
    ])  # fmt: skip
    count, least = len(vectors), 0.88
    index = VectorIndex()
    index.put(list(range(count)), [packed(vector) for vector in vectors])
    exact = vectors @ vectors.T
    eligible = np.arange(count) % 7 > 0
    found = index.alike(vectors, eligible, least)
    for number, (slots, cosines) in enumerate(found):
        wanted = np.flatnonzero((exact[number] >= least + 0.002) & eligible)
        assert set(wanted.tolist()) <= set(slots.tolist())
        assert (exact[number][slots] >= least - 0.002).all()
        assert eligible[slots].all()
        assert cosines == pytest.approx(exact[number][slots], abs=0.002)


@pytest.mark.behaviour("knowledge.vector-of-its-text")
@given(st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True), st.integers(1, 70))
def test_vectors_stay_with_their_slots(slots: list[int], dimension: int) -> None:
    dice = Random(f"{slots} {dimension}")
    index = VectorIndex()
    made = {}
    for slot in slots:
        vector = unit(np.array([dice.gauss(0, 1) for _ in range(dimension)], np.float32))
        made[slot] = vector
        index.put([slot], [packed(vector)])
    count = max(slots) + 1
    for slot, vector in made.items():
        found = index.near(vector, np.ones(count, np.bool_), np.zeros(0, np.int64))
        assert found[slot] == pytest.approx(1, abs=0.01)
    assert set(np.flatnonzero(index.has(count)).tolist()) == set(slots)
