"""What SQLite leaves in its pages of what was removed is overwritten."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest
from depth import at_depth
from record import ALICE, LEASE, Clock, Record, part, put

from soorma_common.forgetting import ForgetBody
from soorma_common.limits import Limits
from soorma_common.operations import Complete
from soorma_common.semantic import ForgetKnowledge, StoreKnowledge, UpdateKnowledge
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports import Store
from soorma_platform.stores.sqlite import SqliteStore, erasure
from soorma_platform.work.forgetting import Forgetting


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async def opener(on_commit: Callable[[Notice], None], **given: object) -> Store:
        path = tmp_path / "record.db"
        return await SqliteStore.open(path, on_commit, **given)  # type: ignore[arg-type]

    made = Record(opener, Limits(), LEASE, Clock())
    await made.open()
    yield made
    await made.close()


def marks_in(folder: Path) -> set[str]:
    """Returns the marks of all passages that are in one of the files."""
    return {
        mark.decode()
        for file in folder.iterdir()
        for mark in re.findall(rb"mark[0-9]{6}", file.read_bytes())
    }


@pytest.mark.behaviour("forgetting.erased")
async def test_a_file_that_cannot_be_overwritten_holds_up_nothing_else(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record.commit(part("p", put("k", 1), Complete()))
    (done,) = await record.remember(StoreKnowledge(content="mark000001"))
    await record.remember(ForgetKnowledge(id=done.id))
    record.clock.advance(31 * 86_400)
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "MOST_PAGES", 1)
        for _ in range(2):
            with pytest.raises(OverflowError, match="too many to overwrite"):
                await record.upkeep()
    assert await record.store.plans.list(ALICE, "", 9) == []
    assert await record.store.upkeep.chore() is None
    await record.sweep()
    assert marks_in(tmp_path) == set()


@pytest.mark.behaviour("forgetting.erased", "forgetting.no-standstill")
async def test_a_reader_that_holds_up_an_erasure_holds_up_no_commit(
    record: Record, tmp_path: Path
) -> None:
    (done,) = await record.remember(StoreKnowledge(content="mark000001"))
    with closing(apsw.Connection(str(tmp_path / "record.db"))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM passages").fetchall()
        await record.remember(ForgetKnowledge(id=done.id))
        began = time.perf_counter()
        for number in range(3):
            await asyncio.gather(
                record.store.upkeep.erase(),
                record.remember(StoreKnowledge(content=f"mark10000{number}")),
            )
        assert time.perf_counter() - began < 2.0, "each kept the writer out for 3 s"
        assert "mark000001" in marks_in(tmp_path)
        assert (await record.store.health.standing()).erasure_waits > 0
    while (await record.store.health.standing()).erasure_waits:
        await record.store.upkeep.erase()
    assert "mark000001" not in marks_in(tmp_path)


@pytest.mark.behaviour("forgetting.erased")
@pytest.mark.proof
@pytest.mark.parametrize("seed", range(at_depth(2, 12)))
async def test_nothing_is_left_in_a_page(record: Record, tmp_path: Path, seed: int) -> None:
    dice = Random(seed)
    kept: dict[str, str] = {}
    gone: set[str] = set()
    left_before = 0
    for number in range(6):
        batch = [f"mark{100_000 * number + one:06}" for one in range(150)]
        done = await record.remember(
            *(StoreKnowledge(content=f"{mark} {'x' * dice.choice((10, 300, 2_000))}",
                             source=dice.choice("ab"), external_id=f"e-{mark}")
              for mark in batch)
        )  # fmt: skip
        kept |= {mark: one.id for mark, one in zip(batch, done, strict=True)}
        # What was overwritten does not come back with a page that the writer had in memory.
        await record.remember(*(UpdateKnowledge(id=one, tags=["t"]) for one in kept.values()))
        assert marks_in(tmp_path) & gone == set()
        doomed = dice.sample(sorted(kept), len(kept) // 2)
        for mark in doomed:
            await record.remember(ForgetKnowledge(id=kept.pop(mark)))
        gone |= {*doomed}
        if number == 3:
            await Forgetting(record.store).forget(ALICE, ForgetBody(source="a"))
            there = await _kept(record)
            gone |= {*kept} - there
            kept = {mark: kept[mark] for mark in there}
        left_before += len(marks_in(tmp_path) & gone)
        # It is erased while others go on storing, which moves rows between pages.
        more = [f"mark{100_000 * number + 500 + one:06}" for one in range(60)]
        await asyncio.gather(
            record.store.upkeep.erase(),
            *(record.remember(StoreKnowledge(content=f"{mark} more")) for mark in more),
        )
        kept |= dict.fromkeys(more, "")
        for mark in more:
            (hit,) = await record.search(mark, limit=1, min_score=0.0)
            kept[mark] = hit.id
        assert marks_in(tmp_path) & gone == set()
    assert left_before > 0
    assert await _kept(record) == {*kept}
    await record.close()
    with closing(apsw.Connection(str(tmp_path / "record.db"))) as connection:
        assert connection.pragma("integrity_check") == "ok"
    await record.open()
    assert await _kept(record) == {*kept}


def _is_erasing(folder: Path) -> bool:
    with closing(apsw.Connection(str(folder / "record.db"))) as connection:
        return bool(connection.execute("SELECT count(*) FROM erasures").get)


async def _kept(record: Record) -> set[str]:
    marks: set[str] = set()
    after, more = 0, True
    while more:
        rows, more = await record.store.memories.semantic.list(ALICE, after, 500)
        marks |= {row.content.split()[0] for row in rows}
        after = rows[-1].number or 0 if rows else 0
    return marks
