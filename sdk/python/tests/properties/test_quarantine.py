"""Properties of quarantine: what is there counts for nothing, and counts again once released."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from depth import at_depth
from empty_record import open_sqlite
from hypothesis import given, settings
from hypothesis import strategies as st
from record import ALICE, BOB, Clock, Record

from soorma_common.forgetting import ForgetBody
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.quarantine import source_origin
from soorma_common.semantic import ForgetKnowledge, Passage, StoreKnowledge, UpdateKnowledge
from soorma_platform.engine.quarantine import BeginQuarantine, EndQuarantine
from soorma_platform.stores.ports.semantic import Listed
from soorma_platform.stores.sqlite import SqliteStore
from soorma_platform.work.forgetting import Forgetting
from soorma_platform.work.recall.knowledge import passage_of

BAD = "bad"
MOST = 100
DAYS = [f"2030-01-{day:02}T00:00:00Z" for day in range(1, 5)]


@dataclass
class Drawn:
    """A passage to be stored; `supersedes` and `derived_from` count those that were."""

    text: int
    source: str | None
    key: str
    start: int | None
    tag: str
    supersedes: int | None
    derived_from: int | None


DRAWN = st.builds(
    Drawn,
    st.integers(0, 3),
    st.sampled_from([None, "good", BAD, BAD]),
    st.sampled_from(["none", "external", "subject"]),
    st.none() | st.integers(0, len(DAYS) - 2),
    st.sampled_from(["red", "blue"]),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 5),
)
STEPS = st.lists(DRAWN | st.integers(0, 5), min_size=1, max_size=10)


@dataclass
class Story:
    """What the steps do, and which passages come from the bad source, be it by derivation."""

    names: list[str] = field(default_factory=list)
    tainted: set[str] = field(default_factory=set)

    async def operation(self, record: Record, number: int, drawn: Drawn) -> StoreKnowledge:
        """Returns the storing of a passage, which supersedes one that is there and counts."""
        name, there = f"p{number}", [
            one for one in self.names if await record.passage(one) is not None
        ]  # fmt: skip
        clean = [one for one in there if one not in self.tainted]
        sources = [] if drawn.derived_from is None else there[drawn.derived_from :][:1]
        if drawn.source == BAD or self.tainted & {*sources}:
            self.tainted.add(name)
        self.names.append(name)
        return StoreKnowledge(
            id=name,
            content=f"The fare is {drawn.text}.",
            source=drawn.source,
            external_id="e" if drawn.key == "external" else None,
            subject="fare" if drawn.key == "subject" else None,
            attribute="adult" if drawn.key == "subject" else None,
            valid_from=None if drawn.start is None else DAYS[drawn.start],
            tags=[drawn.tag],
            supersedes=None if drawn.supersedes is None else next(
                iter(clean[drawn.supersedes :]), None
            ),
            derived_from=sources,
        )  # fmt: skip


@pytest.mark.behaviour("quarantine.nothing-counts")
@settings(max_examples=at_depth(15, 300))
@given(STEPS)
def test_what_is_stored_into_quarantine_leaves_no_trace(steps: list[Any]) -> None:
    asyncio.run(_beside_a_twin(steps))


async def _beside_a_twin(steps: list[Any]) -> None:
    """For alice the bad source is in quarantine; bob is told nothing of what comes from it."""
    with tempfile.TemporaryDirectory() as folder:
        record, story = await _opened(folder), Story()
        try:
            await record.store.transact(BeginQuarantine(ALICE, source_origin(BAD), None))
            for number, step in enumerate(steps):
                if isinstance(step, int):
                    if not story.names:
                        continue
                    name = story.names[step % len(story.names)]
                    change: Any = ForgetKnowledge(id=name)
                else:
                    change = await story.operation(record, number, step)
                    name = change.id
                (done,) = await record.remember(change)
                if name not in story.tainted:
                    (twin,) = await record.remember(change, scope=BOB)
                    assert (done.id, done.outcome) == (twin.id, twin.outcome)
                    assert {*done.closed} - story.tainted == {*twin.closed}
                elif not isinstance(step, int):
                    assert (done.outcome, done.closed) == ("quarantined", [])
                record.clock.advance(60)
                assert await _seen(record, ALICE) == await _seen(record, BOB)
            await record.reopen()  # by an index that is made anew
            assert await _seen(record, ALICE) == await _seen(record, BOB)
        finally:
            await record.close()


@pytest.mark.behaviour("quarantine.release")
@settings(max_examples=at_depth(15, 300))
@given(STEPS)
def test_a_release_undoes_a_quarantine(steps: list[Any]) -> None:
    asyncio.run(_there_and_back(steps))


async def _there_and_back(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record, story = await _opened(folder), Story()
        try:
            for number, step in enumerate(steps):
                if not isinstance(step, int):
                    await record.remember(await story.operation(record, number, step))
            before = await _seen(record, ALICE)
            await record.store.transact(BeginQuarantine(ALICE, source_origin(BAD), None))
            hidden = await _listed(record, ALICE, Listed(is_quarantined=True))
            listed, hits = await _seen(record, ALICE)
            assert sorted([*listed, *hidden], key=lambda one: one.id) == sorted(
                before[0], key=lambda one: one.id
            )
            assert not hidden or story.tainted
            assert not [one for one in listed if one.source == BAD]
            gone = {one.id for one in hidden}
            assert not [name for on_day in hits for name, _ in on_day if name in gone]
            await record.store.transact(EndQuarantine(ALICE, source_origin(BAD)))
            assert await _seen(record, ALICE) == before
        finally:
            await record.close()


CHANGES = st.tuples(st.integers(0, 5), st.sampled_from(["good", BAD, None]))
"""Which passage comes from where, as somebody finds out later."""
FREE = st.builds(
    Drawn,
    st.integers(0, 3),
    st.sampled_from([None, "good", BAD]),
    st.just("none"),
    st.none(),
    st.sampled_from(["red", "blue"]),
    st.none(),
    st.none() | st.integers(0, 5),
)


@pytest.mark.behaviour("quarantine.nothing-counts")
@settings(max_examples=at_depth(15, 300))
@given(st.lists(st.lists(FREE, min_size=1, max_size=3) | CHANGES, min_size=2, max_size=8))
def test_all_is_hidden_that_would_be_forgotten(steps: list[Any]) -> None:
    asyncio.run(_hidden_and_forgotten(steps))


async def _hidden_and_forgotten(steps: list[Any]) -> None:
    """Of what replaces nothing: with what is forgotten goes what it had replaced, too."""
    with tempfile.TemporaryDirectory() as folder:
        record, story, number = await _opened(folder), Story(), 0
        try:
            for step in steps:
                if isinstance(step, tuple):
                    if story.names:
                        which, source = step
                        name = story.names[which % len(story.names)]
                        await record.remember(UpdateKnowledge(id=name, source=source))
                    continue
                made = []
                for drawn in step:
                    made.append(await story.operation(record, number, drawn))
                    number += 1
                await record.remember(*made[::-1])  # what is derived may come first
            before = {one.id: one for one in await _listed(record, ALICE, Listed())}
            await record.store.transact(BeginQuarantine(ALICE, source_origin(BAD), None))
            hidden = {one.id for one in await _listed(record, ALICE, Listed(is_quarantined=True))}
            hits = await record.search("what is the fare", min_score=0.0, limit=MOST)
            assert {hit.id for hit in hits} == before.keys() - hidden
            await record.reopen()
            hits = await record.search("what is the fare", min_score=0.0, limit=MOST)
            assert {hit.id for hit in hits} == before.keys() - hidden
            await Forgetting(record.store).forget(ALICE, ForgetBody(source=BAD))
            left = await _listed(record, ALICE, Listed(is_quarantined=True))
            gone = before.keys() - {one.id for one in await _listed(record, ALICE, Listed())}
            gone -= {one.id for one in left}
            assert gone <= hidden
            # What else is hidden has had another source meanwhile, or is derived from what has.
            if not any(isinstance(step, tuple) for step in steps):
                assert not left
        finally:
            await record.close()


async def _seen(record: Record, scope: Scope) -> tuple[list[Passage], list[list[tuple[str, Any]]]]:
    """Returns what is listed, and what is found on each day with which score."""
    found = []
    for day in DAYS:
        hits = await record.search(
            "what is the fare", min_score=0.0, limit=MOST, as_of=day, scope=scope
        )
        found.append([(hit.id, hit.score) for hit in hits])
    hits = await record.search("fare", tags=["red"], limit=MOST, scope=scope)
    found.append([(hit.id, hit.score) for hit in hits])
    return await _listed(record, scope, Listed()), found


async def _listed(record: Record, scope: Scope, which: Listed) -> list[Passage]:
    rows, _ = await record.store.memories.semantic.list(scope, 0, MOST, which)
    return [passage_of(msgspec.structs.replace(row, user_id="")) for row in rows]


async def _opened(folder: str) -> Record:
    async def opener(on_commit: Any, *, clock: Clock, lease: float) -> SqliteStore:
        return await open_sqlite(Path(folder) / "soorma.db", on_commit, clock=clock, lease=lease)

    record = Record(opener, Limits(), 30.0, Clock())
    await record.open()
    return record
