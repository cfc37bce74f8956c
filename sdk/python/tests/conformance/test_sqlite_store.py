"""The embedded store: it passes the suite, and survives what only a file can suffer."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import apsw
import pytest
from empty_record import open_sqlite
from record import ALICE, LEASE, Clock, Record, append, event, increment, part, put
from store_suite import Opened, StoreSuite, ValuesSuite

from soorma_common.errors import Unavailable
from soorma_common.limits import Limits
from soorma_common.operations import RecordAction
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.rows.plans import PlansNeed
from soorma_platform.stores.ports import Store
from soorma_platform.stores.sqlite import SqliteStore, database, plans, writer

HOLD = """
import sqlite3, sys
holder = sqlite3.connect(sys.argv[1], isolation_level=None)
holder.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


class OpenedSqlite(Opened):
    async def open_store(
        self, place: Path, on_commit: Callable[[Notice], None], *, clock: Clock, lease: float
    ) -> Store:
        return await open_sqlite(place / "record.db", on_commit, clock=clock, lease=lease)

    async def count_rows(self, store: Store, table: str) -> int:
        assert isinstance(store, SqliteStore)
        return int(store._connections.reading.execute(f"SELECT count(*) FROM {table}").get)


class TestSqliteStore(OpenedSqlite, StoreSuite):
    pass


class TestSqliteStoreOfLargeValues(OpenedSqlite, ValuesSuite):
    @pytest.fixture(autouse=True)
    def _every_value_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plans, "LARGE", 0)


@pytest.mark.behaviour("memory.large-values-once")
async def test_a_large_value_is_written_once(opened: Record, tmp_path: Path) -> None:
    mebibyte = 1 << 20
    for turn in range(2):
        values = [put(f"k{n}", str(turn) * (mebibyte - 10)) for n in range(15)]
        await opened.commit(part("p", *values))
    assert await opened.state("p") == {f"k{n}": "1" * (mebibyte - 10) for n in range(15)}
    await opened.close()
    size = (tmp_path / "record.db").stat().st_size
    assert size < 31 * mebibyte, (
        "two values of each key are in the history, and none is in the plan"
    )


@asynccontextmanager
async def _held(path: Path) -> AsyncIterator[None]:
    """Has another process write in the database."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLD,
        path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert await asyncio.wait_for(holder.stdout.readline(), 30) == b"held\n"
    try:
        yield
    finally:
        holder.stdin.close()
        await asyncio.wait_for(holder.wait(), 30)


async def _open(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, lambda notice: None)


@pytest.fixture
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """An open record at `tmp_path/record.db` that waits 0.1 s for a lock; the test closes it."""
    monkeypatch.setattr(database, "BUSY_MS", 100)

    async def opener(on_commit: Callable[[Notice], None], **given: object) -> Store:
        return await SqliteStore.open(tmp_path / "record.db", on_commit, **given)  # type: ignore[arg-type]

    made = Record(opener, Limits(), LEASE, Clock())
    await made.open()
    return made


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with closing(apsw.Connection(str(path))) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


@pytest.mark.behaviour("outage.store")
async def test_a_locked_file_is_unavailable_and_nothing_is_half_written(
    opened: Record, tmp_path: Path
) -> None:
    await opened.do("p", put("k", 1))
    with _locked(tmp_path / "record.db"):
        with pytest.raises(Unavailable, match="locked"):
            await opened.commit(part("p", put("k", 2), RecordAction("a")), events=[event("e")])
        assert await opened.get("p", "k") == 1, "readers need no lock"
    assert (await opened.revision("p"), await opened.actions("p"), await opened.log()) == (
        1,
        [],
        [],
    )
    await opened.do("p", put("k", 3))
    assert await opened.get("p", "k") == 3
    await opened.close()


@pytest.mark.behaviour("outage.store")
async def test_a_crowd_before_a_locked_file_hears_of_it_together(
    opened: Record, tmp_path: Path
) -> None:
    """If each waited its turn for the lock, the last of them would wait for minutes."""
    with _locked(tmp_path / "record.db"):
        begun = time.monotonic()
        outcomes = await asyncio.gather(
            *(opened.do("p", increment("n")) for _ in range(50)), return_exceptions=True
        )
        waited = time.monotonic() - begun
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert await opened.revision("p") == 0
    await opened.close()
    assert waited < 2.5, "50 waits of 0.1 s one after the other"


@pytest.mark.behaviour("outage.store")
@pytest.mark.parametrize("quick", [0.0, 60.0], ids=["in the thread", "on the loop"])
@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
async def test_a_fault_that_nobody_thought_of_is_told_and_over(
    opened: Record, monkeypatch: pytest.MonkeyPatch, quick: float, statement: str
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", quick)
    writing: apsw.Connection = opened.store._connections.writer.connection  # type: ignore[attr-defined]

    def fail(_: object, text: str, __: object) -> bool:
        if text == statement:
            raise ZeroDivisionError
        return True

    writing.exec_trace = fail
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(opened.do("p", put("k", 1)), 30)
    writing.exec_trace = None
    assert await opened.revision("p") == 0
    await asyncio.wait_for(opened.do("p", put("k", 2)), 30)
    assert await opened.get("p", "k") == 2
    await opened.close()


@pytest.mark.behaviour("store.cannot-open")
async def test_a_file_locked_by_another_process_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 100)
    path = tmp_path / "record.db"
    async with _held(path):
        with pytest.raises(Unavailable, match="locked"):
            await _open(path)
    await (await _open(path)).close()


@pytest.mark.behaviour("store.one-process")
async def test_a_second_store_on_the_file_names_the_process_of_the_first(
    opened: Record, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=str(os.getpid())):
        await _open(tmp_path / "record.db")
    await opened.do("p", put("k", 1))
    await opened.close()
    await (await _open(tmp_path / "record.db")).close()


@pytest.mark.behaviour("store.cannot-open")
async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    path.write_bytes(b"this is no database " * 1000)
    with pytest.raises(Unavailable, match="damaged"):
        await _open(path)
    assert path.read_bytes() == b"this is no database " * 1000


@pytest.mark.behaviour("outage.store")
async def test_a_damaged_file_never_answers_as_if_it_were_empty(
    opened: Record, tmp_path: Path
) -> None:
    path = tmp_path / "record.db"
    for number in range(200):
        await opened.do(f"plan {number}", put("k", "x" * 4000))
    await opened.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))

    async def open_and_read() -> None:
        await opened.open()
        await opened.get("plan 7", "k")

    with pytest.raises(Unavailable, match="damaged"):
        await open_and_read()


@pytest.mark.behaviour("outage.store")
async def test_a_full_disk_is_unavailable_and_nothing_is_half_written(
    opened: Record, tmp_path: Path
) -> None:
    await opened.do("p", put("k", 1))
    writing: apsw.Connection = opened.store._connections.writer.connection  # type: ignore[attr-defined]
    full = int(writing.pragma("page_count"))
    writing.pragma("max_page_count", full)
    with pytest.raises(Unavailable, match="full"):
        await opened.commit(
            part("p", put("k", "x" * 500_000), RecordAction("a")), events=[event("e")]
        )
    assert await opened.get("p", "k") == 1
    assert (await opened.revision("p"), await opened.actions("p"), await opened.log()) == (
        1,
        [],
        [],
    )
    crowd = [
        opened.do("p", put("k", "x" * 500_000)),
        opened.do("q", put("k", 1)),
        opened.do("p", append("l", 1)),
    ]
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[1:] == [[None], [[1]]], "what fits is written all the same"
    writing.pragma("max_page_count", 1 << 30)
    await opened.do("p", put("k", "x" * 500_000))
    await opened.reopen()
    assert await opened.get("p", "k") == "x" * 500_000
    assert await opened.get("q", "k") == 1
    await opened.close()


@pytest.mark.behaviour("store.cannot-open")
async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        await _open(tmp_path / "file" / "record.db")


# migrations


def _schema(connection: apsw.Connection) -> list[tuple[object, ...]]:
    return list(
        connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        )
    )


@pytest.mark.behaviour("durability.migrations")
async def test_a_newer_schema_is_refused_and_left_alone(opened: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    await opened.close()
    newer = len(database.migrations()) + 1
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("user_version", newer)
        before = _schema(connection)
    with pytest.raises(Unavailable, match="newer"):
        await _open(path)
    with closing(apsw.Connection(str(path))) as connection:
        assert (connection.pragma("user_version"), _schema(connection)) == (newer, before)


@pytest.mark.behaviour("durability.migrations")
async def test_migrated_equals_fresh(tmp_path: Path) -> None:
    steps = database.migrations()
    assert steps
    await (await _open(tmp_path / "fresh.db")).close()
    with closing(apsw.Connection(str(tmp_path / "migrated.db"))) as migrated:
        migrated.pragma("journal_mode", "wal")
        for number, step in enumerate(steps, 1):
            migrated.execute(step)
            migrated.pragma("user_version", number)
    await (await _open(tmp_path / "migrated.db")).close()
    with (
        closing(apsw.Connection(str(tmp_path / "fresh.db"))) as fresh,
        closing(apsw.Connection(str(tmp_path / "migrated.db"))) as migrated,
    ):
        assert _schema(migrated) == _schema(fresh)
        assert migrated.pragma("user_version") == fresh.pragma("user_version") == len(steps)


@pytest.mark.behaviour("durability.migrations")
async def test_a_migration_that_is_not_allowed_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.db"
    await (await _open(path)).close()
    steps = database.migrations()
    monkeypatch.setattr(
        database, "migrations", lambda: [*steps, "CREATE TABLE later (id INTEGER) STRICT"]
    )
    with pytest.raises(Unavailable, match="--build"):
        await SqliteStore.open(path, lambda notice: None, may_migrate=False)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("user_version") == len(steps)
    await (await _open(path)).close()
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("user_version") == len(steps) + 1


@pytest.mark.behaviour("durability.migrations")
async def test_a_failing_migration_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.db"
    await (await _open(path)).close()
    steps = database.migrations()
    broken = [
        *steps,
        "CREATE TABLE later (id INTEGER) STRICT",
        "CREATE TABLE plans (id INTEGER) STRICT",
    ]
    with closing(apsw.Connection(str(path))) as connection:
        before = _schema(connection)
    monkeypatch.setattr(database, "migrations", lambda: broken)
    with pytest.raises(apsw.SQLError):
        await _open(path)
    with closing(apsw.Connection(str(path))) as connection:
        assert (connection.pragma("user_version"), _schema(connection)) == (len(steps), before)


@pytest.mark.behaviour("durability.synchronous")
async def test_the_record_is_durable_by_its_settings(opened: Record) -> None:
    writing: apsw.Connection = opened.store._connections.writer.connection  # type: ignore[attr-defined]
    assert writing.pragma("journal_mode") == "wal"
    assert writing.pragma("synchronous") == 2
    await opened.close()


async def _threads(record: Record, names: list[str]) -> set[int]:
    """Requests changes of these plans at once; returns the threads that decide them."""
    found = set[int]()

    class Look:
        scope = ALICE

        def __init__(self, plan: str) -> None:
            self._plan = plan

        def needs(self) -> list[Need]:
            return [PlansNeed({self._plan: {"k"}})]

        def decide(self, _: Snapshot) -> Decision[None]:
            found.add(threading.get_ident())
            return Decision(None)

    await asyncio.gather(*(record.store.transact(Look(name)) for name in names))
    return found


@pytest.mark.behaviour("durability.alone")
async def test_a_change_that_comes_alone_is_made_where_it_comes(
    opened: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", 60.0)
    here = threading.get_ident()
    assert await _threads(opened, ["p"]) == {here}
    crowd = await _threads(opened, [f"p{number}" for number in range(8)])
    assert len(crowd) == 1
    assert here not in crowd
    assert await _threads(opened, ["p"]) == crowd, "others were there just now"
    for _ in range(60):
        await _threads(opened, ["p"])
    assert await _threads(opened, ["p"]) == {here}
    monkeypatch.setattr(writer, "QUICK_SECONDS", 0.0)
    assert await _threads(opened, ["p"]) == crowd, "the disk is slow"
    await opened.close()


@pytest.mark.behaviour("durability.alone")
async def test_the_event_loop_does_not_wait_for_another_process(
    opened: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", 60.0)
    monkeypatch.setattr(database, "BUSY_MS", 60_000)
    async with _held(tmp_path / "record.db"):
        change = asyncio.create_task(opened.do("p", put("k", 1)))
        began = time.monotonic()
        done, _ = await asyncio.wait([change], timeout=0.2)
        assert not done
        assert time.monotonic() - began < 10
    await asyncio.wait_for(change, 30)
    await opened.close()


@pytest.mark.behaviour("durability.log")
@pytest.mark.parametrize("quick", [0.0, 60.0], ids=["in the thread", "on the loop"])
async def test_the_write_ahead_log_does_not_grow_for_ever(
    opened: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: float
) -> None:
    monkeypatch.setattr(writer, "QUICK_SECONDS", quick)
    monkeypatch.setattr(writer, "LONGEST_LOG", 100)
    for number in range(200):
        await opened.do("p", put(f"k{number % 10}", "x" * 20_000))
    assert (tmp_path / "record.db-wal").stat().st_size < 2_000_000, "of 8 MB that were written"
    await opened.close()


@pytest.mark.behaviour("durability.synchronous")
async def test_a_claim_does_not_wait_for_the_disk_and_a_change_after_it_does(
    opened: Record,
) -> None:
    """After a power failure, a claim can be made again; what was acknowledged must be there."""
    writing: apsw.Connection = opened.store._connections.writer.connection  # type: ignore[attr-defined]
    flushed: list[tuple[str, int]] = []

    def watch(cursor: apsw.Cursor, sql: str, _: object) -> bool:
        if sql == "COMMIT":
            flushed.append((written.pop(), cursor.connection.pragma("synchronous")))
        elif sql.startswith(("INSERT", "UPDATE")):
            words = sql.split()
            written.append(words[words.index("INTO") + 1] if "INTO" in words else words[1])
        return True

    written: list[str] = []
    member = await opened.subscribe("g", "a")
    await opened.join(member.group_id, "r1", "host", 1)
    await opened.publish("a", id="e")
    prefetch = opened.prefetch(member)
    writing.exec_trace = watch
    await opened.store.deliveries.claim(prefetch)
    (claimed,) = prefetch.take()
    await opened.do("p", put("k", 1))
    assert await opened.store.deliveries.renew("r", [claimed.fence], LEASE) == [claimed.fence]
    await opened.settle(claimed)
    writing.exec_trace = None
    soft, full = 1, 2
    assert flushed == [
        ("deliveries", soft),
        ("history", full),
        ("deliveries", soft),
        ("answers", full),
    ]
    await opened.close()


@pytest.mark.behaviour("store.without-memory", "outage.store")
async def test_a_store_without_memory_writes_again_when_there_is_some(opened: Record) -> None:
    await opened.do("p", put("k", "before"))
    apsw.hard_heap_limit(1)
    try:
        for _ in range(3):
            with pytest.raises(Unavailable, match="no memory"):
                await opened.do("p", put("k", "x" * 500_000), put("other", 1))
        with pytest.raises(Unavailable, match="no memory"):
            await opened.store.health.check()
    finally:
        apsw.hard_heap_limit(0)
    assert await opened.get("p", "k") == "before"
    await opened.do("p", put("k", "after"))
    await opened.store.health.check()
    assert await opened.get("p", "k") == "after"
    await opened.close()
