"""Properties of replacing: what is true on any day, as known at any time, is as in a model."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from depth import at_depth
from empty_record import open_sqlite
from hypothesis import given, settings
from hypothesis import strategies as st
from periods_model import DAYS, FIRST, LAST, Drawn, Model, operation
from record import START, Clock, Record

from soorma_common.limits import Limits
from soorma_common.semantic import ForgetKnowledge
from soorma_platform.stores.sqlite import SqliteStore

TODAY = 5
DAY = 86_400


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


MOMENT = {day: _text(START + (day - TODAY) * DAY - 3_600) for day in range(FIRST, LAST + 2)}
"""When each day begins; the platform's clock is in the first hours of `TODAY`."""
NOON = {day: _text(START + (day - TODAY) * DAY + 3_600 * 12) for day in DAYS}

days = st.none() | st.integers(FIRST, LAST)


@st.composite
def drawings(draw: st.DrawFn) -> tuple[Drawn, int | None]:
    """Draws a passage, and which of those that are there it supersedes."""
    start = draw(days)
    end = draw(st.none() | st.integers((start or FIRST) + 1, LAST + 1))
    key = draw(st.sampled_from(["none", "none", "external", "subject", "subject", "both"]))
    return Drawn(
        f"The fare is {draw(st.integers(1, 3))}.",
        start,
        end,
        "e" if key in ("external", "both") else None,
        "s" if key in ("subject", "both") else None,
    ), draw(st.none() | st.integers(0, 5))


STEPS = st.lists(drawings() | st.integers(0, 5), min_size=1, max_size=9)


@pytest.mark.behaviour("knowledge.periods", "knowledge.times", "knowledge.own-search")
@settings(max_examples=at_depth(30, 600))
@given(STEPS)
def test_what_replaces_what_is_as_in_the_model(steps: list[Any]) -> None:
    asyncio.run(_carry_out(steps))


async def _carry_out(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = await _opened(folder)
        model = Model()
        times = []
        try:
            for step in steps:
                await _take(record, model, step)
                times.append(_text(record.clock.now))
                record.clock.advance(60)
                await _compare(record, model)
            for _ in range(2):  # by an index that has followed, and by one made anew
                for number, time in enumerate(times):
                    await _compare(record, model, number, time)
                await record.reopen()
        finally:
            await record.close()


async def _take(record: Record, model: Model, step: Any) -> None:
    names = [*model.passages]
    if isinstance(step, int):
        if not names:
            model.note()
            return
        name = names[step % len(names)]
        model.forget(name)
        model.note()
        change: Any = ForgetKnowledge(id=name)
    else:
        drawn, superseded = step
        drawn.supersedes = names[superseded % len(names)] if names and superseded else None
        passage_id = model.next_id()
        change = operation(passage_id, drawn, MOMENT)
        stored = model.store(passage_id, drawn)
        model.note()
    for day in DAYS:
        own = await _found(record, day, own=[change])
        assert own == model.true(day), f"in a transaction, on day {day}"
    (done,) = await record.remember(change)
    if not isinstance(step, int):
        assert done.id == stored


async def _compare(record: Record, model: Model, step: int = -1, time: str | None = None) -> None:
    for day in DAYS:
        found = await _found(record, day, known_at=time)
        assert found == model.true(day, step), f"on day {day}, as known after step {step}"


async def _found(record: Record, day: int, **more: Any) -> set[str]:
    hits = await record.search(
        "the fare", min_score=0.0, limit=100, as_of=None if day == TODAY else NOON[day], **more
    )
    return {hit.id for hit in hits}


async def _opened(folder: str) -> Record:
    async def opener(on_commit: Any, *, clock: Clock, lease: float) -> SqliteStore:
        return await open_sqlite(Path(folder) / "soorma.db", on_commit, clock=clock, lease=lease)

    record = Record(opener, Limits(), 30.0, Clock())
    await record.open()
    return record
