"""A record has one platform, whatever name it is reached by, and holds only what Soorma made."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cli_shell import Shell
from platform_process import PlatformProcess, PortReservation, clean_environment
from running import Raw, unique

from soorma.cli.exits import Exit
from soorma_common.starting import IN_USE


def _symbolic(record: Path, folder: Path) -> Path:
    (folder / "link.db").symlink_to(record)
    return folder / "link.db"


def _folder(record: Path, folder: Path) -> Path:
    (folder / "linked").symlink_to(record.parent)
    return folder / "linked" / record.name


def _hard(record: Path, folder: Path) -> Path:
    (folder / "hard.db").hardlink_to(record)
    return folder / "hard.db"


def _relative(record: Path, folder: Path) -> Path:
    return Path(os.path.relpath(record, folder))


def _twice(record: Path, folder: Path) -> Path:
    return _symbolic(_symbolic(record, folder), _made(folder / "deeper"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


WAYS: dict[str, Callable[[Path, Path], Path]] = {
    "symbolic link": _symbolic, "folder": _folder, "hard link": _hard, "relative": _relative,
    "two links": _twice, "itself": lambda record, _: record,
}  # fmt: skip


@pytest.mark.behaviour("store.one-record", "store.one-process")
@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps the locks of a file apart from SQLite's"
)
def test_another_name_is_the_same_record(platform: PlatformProcess, tmp_path: Path) -> None:
    reserved = PortReservation()
    for number, (way, name) in enumerate(WAYS.items()):
        folder = _made(tmp_path / str(number))
        other = str(name(platform.database, folder))
        second = subprocess.run(
            [sys.executable, "-P", "-m", "soorma_platform"],
            cwd=folder,
            env=clean_environment(SOORMA_DATABASE=other, SOORMA_PORT_OFFSET=str(reserved.offset)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == IN_USE, (way, second.stderr)
        assert f"in use by another platform (process {platform.pid}" in second.stderr, way
    reserved.close()
    raw = Raw(platform.memory_url, unique("t"), "u")
    assert raw("PUT", "/v1/memory/working/p/k", {"value": 1}).status == 200


@pytest.mark.behaviour("store.one-record", "backup.careful")
def test_a_restore_through_a_link_is_refused_while_a_platform_runs(
    platform: PlatformProcess, shell: Shell, tmp_path: Path
) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(platform.database)
    copy = tmp_path / "copy.db"
    shell.soorma("backup", str(copy), "--database", str(platform.database))
    refused = shell.soorma(
        "restore", str(copy), "--database", str(link), exits=Exit.RUNNING_ELSEWHERE
    )
    assert str(platform.pid) in refused.stderr


FOREIGN = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM events WHERE position "
    "= new.position; END",
    "table": "CREATE TABLE evil (a)",
    "view": "CREATE VIEW evil AS SELECT 1",
    "index": "CREATE INDEX evil ON events (type)",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5 (a)",
    "column": "ALTER TABLE plans ADD COLUMN evil TEXT",
    "missing index": "DROP INDEX timers_due",
}


@pytest.mark.behaviour("backup.nothing-foreign")
def test_a_record_with_anything_else_in_it_is_not_restored(shell: Shell, tmp_path: Path) -> None:
    database, copy, target = (
        tmp_path / "record.db",
        tmp_path / "copy.db",
        tmp_path / "in" / "target.db",
    )
    target.parent.mkdir()
    with PlatformProcess(_made(tmp_path / "p"), {"SOORMA_DATABASE": str(database)}):
        shell.soorma("backup", str(copy), "--database", str(database))
    for what, statement in FOREIGN.items():
        spoilt = tmp_path / "spoilt.db"
        spoilt.write_bytes(copy.read_bytes())
        with closing(sqlite3.connect(spoilt)) as connection:
            connection.execute(statement)
            connection.commit()
        refused = shell.soorma(
            "restore", str(spoilt), "--database", str(target), exits=Exit.DATABASE
        )
        assert any(name in refused.stderr for name in ("evil", "timers_due", "plans")), what
        assert list(target.parent.iterdir()) == [], what
    shell.soorma("restore", str(copy), "--database", str(target))
    assert [file.name for file in target.parent.iterdir()] == ["target.db"], "no lock file is left"
