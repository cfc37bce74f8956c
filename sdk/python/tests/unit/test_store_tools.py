"""The tools for a store: the facts that they return, and the errors that they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soorma_common.starting import RecordInUse, RecordUnusable
from soorma_platform.stores.engines import tools_for
from soorma_platform.stores.sqlite.database import migrations
from soorma_platform.stores.sqlite.locking import lock_file
from soorma_platform.stores.tools import Contents, Fault, Prepared, Stage, StoreTools

SCHEMA = len(migrations())
EMPTY = Contents(
    plans=0, revisions=0, events=0, log_end=0, deliveries=0, dead_letters=0, schema=SCHEMA
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "record.db"


@pytest.fixture
def tools(database: Path) -> StoreTools:
    """The tools of a store that is prepared."""
    tools_for(database).prepare()
    return tools_for(database)


def _ignore(_stage: Stage, _share: float) -> None: ...


def test_there_are_few() -> None:
    assert len([name for name in vars(StoreTools) if not name.startswith("_")]) <= 12


def test_a_store_is_prepared_once(database: Path) -> None:
    tools = tools_for(database)
    assert not tools.exists()
    assert tools.prepare() == Prepared(SCHEMA, SCHEMA)
    assert tools.exists()
    assert tools.prepare() == Prepared(SCHEMA, 0)


def test_what_an_examination_finds(tools: StoreTools, database: Path) -> None:
    found = tools.examine(None)
    assert (found.schema, found.known_schema, found.is_ours, found.is_whole) == (
        SCHEMA,
        SCHEMA,
        True,
        True,
    )
    assert found.fault is None
    database.write_bytes(b"no database, but long enough to be taken for one" * 100)
    found = tools.examine(None)
    assert (found.fault, bool(found.reason)) == (Fault.DAMAGED, True)
    database.unlink()
    assert tools.examine(None).fault is Fault.UNREADABLE


def test_a_backup_and_a_restore(tools: StoreTools, database: Path, tmp_path: Path) -> None:
    stages: list[Stage] = []
    backup = tmp_path / "backup.db"
    assert tools.back_up(backup, lambda stage, _share: stages.append(stage), replace=False) == EMPTY
    assert list(dict.fromkeys(stages)) == list(Stage)
    with pytest.raises(FileExistsError, match=r"backup\.db"):
        tools.back_up(backup, _ignore, replace=False)
    restored = tools.restore(backup, _ignore)
    assert restored.contents == EMPTY
    assert restored.bytes == database.stat().st_size
    assert restored.kept is not None
    assert tools_for(restored.kept).examine(None).is_whole
    database.write_text("something else")
    with pytest.raises(RecordUnusable, match="is damaged, or no database"):
        tools.back_up(backup, _ignore, replace=True)
    assert sorted(tmp_path.glob("*.partial*")) == []


def test_what_belongs_to_it(tools: StoreTools, database: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link.db", tmp_path / "other.db"
    link.symlink_to(database)
    assert all(
        tools.owns(file) for file in [*tools.files(), link, database.with_name("record.db.lock")]
    )
    assert not tools.owns(other)


def test_who_uses_it_and_that_it_is_not_removed_then(tools: StoreTools, database: Path) -> None:
    lock = lock_file(database)
    assert tools.use().pid == os.getpid()
    assert tools.use().lock.samefile(database.with_name("record.db.lock"))
    with pytest.raises(RecordInUse) as refused:
        tools.remove()
    assert refused.value.holder == str(os.getpid())
    lock.close()
    assert database in tools.remove()
    assert list(database.parent.iterdir()) == []
