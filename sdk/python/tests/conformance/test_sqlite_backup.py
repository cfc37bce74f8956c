"""Copies of the embedded record: consistent while it is written to, and fit to continue from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from record import ALICE, LEASE, Clock, Record, event, ids, part, put

from soorma_common.errors import Fenced, Unavailable
from soorma_common.limits import Limits
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.stores.ports import Store
from soorma_platform.stores.sqlite import SqliteStore, backup, database
from soorma_platform.stores.sqlite.backup import NEVER_GIVEN
from soorma_platform.stores.tools import Contents

DAY = 86_400.0


def _record_of(path: Path, clock: Clock) -> Record:
    async def opener(on_commit: Callable[[Notice], None], **given: object) -> Store:
        return await SqliteStore.open(path, on_commit, **given)  # type: ignore[arg-type]

    return Record(opener, Limits(), LEASE, clock)


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    made = _record_of(tmp_path / "record.db", Clock())
    await made.open()
    yield made
    await made.close()


def _copy(tmp_path: Path, name: str = "copy.db") -> Path:
    copied = tmp_path / name
    backup.copy(tmp_path / "record.db", copied)
    return copied


def _commit_beside(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.set_busy_timeout(0)
        other.execute("UPDATE plans SET updated_at = updated_at + 1")


@pytest.mark.behaviour("backup.of-one-moment")
async def test_commits_go_on_while_a_copy_is_made_and_it_has_none_of_them(
    record: Record, tmp_path: Path
) -> None:
    await record.do("p", *(put(f"k{n}", "x" * 10_000) for n in range(200)))
    await record.publish("e")
    before = await record.store.plans.get(ALICE, "p", set())
    shares: list[float] = []

    def tell(share: float) -> None:
        shares.append(share)
        _commit_beside(tmp_path / "record.db")  # waits for nobody, or fails

    backup.copy(tmp_path / "record.db", tmp_path / "copy.db", tell)

    assert len(shares) > 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert backup.examine(tmp_path / "copy.db", tmp_path / "copy.db") == Contents(
        plans=1,
        revisions=1,
        events=1,
        log_end=1,
        deliveries=0,
        dead_letters=0,
        schema=len(database.migrations()),
    )
    with closing(apsw.Connection(str(tmp_path / "copy.db"))) as copied:
        assert copied.execute("SELECT updated_at FROM plans").fetchall() == [
            (before.row.updated_at,)
        ]
        assert copied.pragma("journal_mode") == "delete", "a copy is a file by itself"
    await record.do("p", put("k", 1))


@pytest.mark.behaviour("backup.of-one-moment")
async def test_a_copy_takes_what_is_in_the_write_ahead_log_of_a_platform_that_was_killed(
    record: Record, tmp_path: Path
) -> None:
    await record.do("p", put("k", "only in the log"))
    killed = tmp_path / "killed.db"
    for end in ("", "-wal"):
        killed.with_name(f"killed.db{end}").write_bytes((tmp_path / f"record.db{end}").read_bytes())
    backup.copy(killed, tmp_path / "copy.db")
    copied = _record_of(tmp_path / "copy.db", record.clock)
    await copied.open()
    assert await copied.get("p", "k") == "only in the log"
    await copied.close()


@pytest.mark.behaviour("backup.careful")
async def test_a_copy_never_overwrites(record: Record, tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(FileExistsError):
        backup.copy(tmp_path / "record.db", tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"


@pytest.mark.behaviour("backup.careful")
async def test_a_copy_is_for_its_owner_alone(record: Record, tmp_path: Path) -> None:
    assert _copy(tmp_path).stat().st_mode & 0o077 == 0


@pytest.mark.behaviour("backup.refused")
async def test_a_damaged_copy_is_told(record: Record, tmp_path: Path) -> None:
    await record.do("p", *(put(f"k{n}", "x" * 4000) for n in range(100)))
    copied = _copy(tmp_path)
    with copied.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\xa5" * 40 * 4096)
    with pytest.raises(Unavailable, match=r"origin\.db is damaged"):
        backup.examine(copied, Path("origin.db"))


@pytest.mark.behaviour("backup.refused")
def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database at all, but long enough" * 100)
    with pytest.raises(Unavailable, match="no database"):
        backup.copy(tmp_path / "text", tmp_path / "copy.db")
    with closing(apsw.Connection(str(tmp_path / "other.db"))) as other:
        other.execute("CREATE TABLE plans (x)")
        other.pragma("user_version", 1)
    with pytest.raises(Unavailable, match="no record of Soorma's"):
        backup.examine(tmp_path / "other.db", tmp_path / "other.db")


@pytest.mark.behaviour("backup.refused")
async def test_a_copy_of_a_newer_soorma_is_refused(record: Record, tmp_path: Path) -> None:
    copied = _copy(tmp_path)
    with closing(apsw.Connection(str(copied))) as connection:
        connection.pragma("user_version", len(database.migrations()) + 1)
    with pytest.raises(Unavailable, match="newer Soorma"):
        backup.examine(copied, copied)


async def _go_on_from(copied: Path, clock: Clock) -> Record:
    backup.begin_again(copied)
    going_on = _record_of(copied, clock)
    await going_on.open()
    return going_on


@pytest.mark.behaviour("backup.goes-on", "leases.fence")
async def test_what_was_in_hand_is_handed_out_again_and_its_old_fence_is_void(
    record: Record, tmp_path: Path
) -> None:
    member = await record.subscribe("g", "e")
    await record.publish("e", "p", id="1")
    await record.publish("e", "p", id="2")
    (in_hand,) = await record.claim(member, 1)
    copied = await _go_on_from(_copy(tmp_path), record.clock)
    try:
        assert await copied.store.deliveries.resume([in_hand.fence], LEASE, "r2") == []
        with pytest.raises(Fenced):
            await copied.settle(in_hand, part("p", put("k", "from a handler of before")))
        (again,) = await copied.claim(await copied.subscribe("g", "e"))
        assert (ids([again]), again.attempt) == (["1"], 1), "at once, and the attempt did not count"
        await copied.settle(again, part("p", put("k", 1)))
        assert await copied.work_off(await copied.subscribe("g", "e")) == ["2"]
    finally:
        await copied.close()


@pytest.mark.behaviour("backup.goes-on")
async def test_what_backs_off_or_is_parked_goes_on_doing_so(record: Record, tmp_path: Path) -> None:
    member = await record.subscribe("g", "e")
    await record.publish("e", "p", id="1")
    (failing,) = await record.claim(member)
    await record.fail(failing, after=60.0)
    copied = await _go_on_from(_copy(tmp_path), record.clock)
    try:
        member = await copied.subscribe("g", "e")
        assert await copied.claim(member) == []
        record.clock.advance(61)
        (again,) = await copied.claim(member)
        assert again.attempt == 2
    finally:
        await copied.close()


@pytest.mark.behaviour("backup.goes-on")
@pytest.mark.parametrize("published", [0, 3])
async def test_no_position_of_the_log_is_given_twice(
    record: Record, tmp_path: Path, published: int
) -> None:
    for number in range(published):
        await record.publish("e", id=f"before {number}")
    copy = _copy(tmp_path)
    await record.publish("e", id="lost")  # in the future that is given up
    (lost,) = await record.log(published)
    copied = await _go_on_from(copy, record.clock)
    try:
        assert await copied.store.log.end() == published + NEVER_GIVEN
        assert await copied.log(lost.position) == [], (
            "who has read what is lost resumes, and misses nothing"
        )
        await copied.publish("e", id="new")
        (new,) = await copied.log(lost.position)
        assert new.position == published + NEVER_GIVEN + 1
    finally:
        await copied.close()


@pytest.mark.behaviour("backup.goes-on")
async def test_groups_outlive_the_age_of_a_backup(record: Record, tmp_path: Path) -> None:
    await record.subscribe("g", "e")
    await record.publish("e", "p", id="waits")
    copy = _copy(tmp_path)
    record.clock.advance(30 * DAY)
    copied = await _go_on_from(copy, record.clock)
    try:
        await copied.sweep()
        assert await copied.work_off(await copied.subscribe("g", "e")) == ["waits"]
    finally:
        await copied.close()


@pytest.mark.behaviour("backup.refused")
async def test_a_copy_of_an_earlier_schema_is_migrated(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record.do("p", put("k", 1))
    copy = _copy(tmp_path)
    later = [*database.migrations(), "CREATE TABLE later (id INTEGER) STRICT"]
    monkeypatch.setattr(database, "migrations", lambda: later)
    copied = await _go_on_from(copy, record.clock)
    assert await copied.get("p", "k") == 1
    await copied.close()
    with closing(apsw.Connection(str(copy))) as connection:
        assert connection.pragma("user_version") == len(later)


# in place


@pytest.mark.behaviour("backup.restored")
async def test_a_database_is_replaced_and_kept(record: Record, tmp_path: Path) -> None:
    path, aside = tmp_path / "record.db", tmp_path / "aside.db"
    await record.do("p", put("k", 1))
    copy = _copy(tmp_path)
    await record.do("p", put("k", 2))
    await record.close()
    path.chmod(0o640)

    assert backup.put_in_place(path, copy, aside)

    assert path.stat().st_mode & 0o777 == 0o640
    assert not copy.exists()
    for place, value in ((aside, 2), (path, 1)):
        found = _record_of(place, record.clock)
        await found.open()
        assert await found.get("p", "k") == value
        await found.close()
    await record.open()


@pytest.mark.behaviour("backup.restored")
async def test_a_database_that_somebody_reads_is_not_replaced(
    record: Record, tmp_path: Path
) -> None:
    path, aside = tmp_path / "record.db", tmp_path / "aside.db"
    copy = _copy(tmp_path)
    await record.do("p", put("k", 2))
    await record.close()
    with closing(apsw.Connection(str(path))) as reader:
        reader.execute("SELECT * FROM plans").fetchall()
        with pytest.raises(Unavailable, match="open"):
            backup.put_in_place(path, copy, aside)
    assert copy.exists()
    assert not aside.exists()
    await record.open()
    assert await record.get("p", "k") == 2


@pytest.mark.behaviour("backup.restored")
async def test_a_damaged_database_is_replaced_without_its_write_ahead_log(
    record: Record, tmp_path: Path
) -> None:
    """A log beside a file to which it does not belong would be moved into it."""
    path, damaged, aside = tmp_path / "record.db", tmp_path / "damaged.db", tmp_path / "aside.db"
    await record.do("p", put("k", 1))
    await record.reopen()
    copy = _copy(tmp_path)
    # The log lacks the first page, without which nothing can be read.
    await record.do("p", put("k", 2))
    log = damaged.with_name("damaged.db-wal")
    log.write_bytes(path.with_name("record.db-wal").read_bytes())
    damaged.write_bytes(b"\xa5" * 8192)

    assert backup.put_in_place(damaged, copy, aside)

    assert aside.read_bytes() == b"\xa5" * 8192
    assert aside.with_name("aside.db-wal").exists()
    assert not log.exists()
    restored = _record_of(damaged, record.clock)
    await restored.open()
    assert await restored.get("p", "k") == 1
    await restored.close()


@pytest.mark.behaviour("backup.restored")
async def test_a_place_where_there_was_none(record: Record, tmp_path: Path) -> None:
    await record.commit(part("p", put("k", 1)), events=[event("e")])
    place = tmp_path / "new.db"
    assert not backup.put_in_place(place, _copy(tmp_path), tmp_path / "aside.db")
    assert not (tmp_path / "aside.db").exists()
    backup.begin_again(place)
    assert backup.examine(place, place).plans == 1
