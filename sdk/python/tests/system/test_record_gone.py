"""Ready means able to write into the present record; a platform that is not ends, and says why."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from platform_process import PlatformProcess
from running import Raw

from soorma_common.starting import DATABASE


def _removed(record: Path) -> None:
    record.unlink()


def _all_removed(record: Path) -> None:
    for file in record.parent.glob(f"{record.name}*"):
        file.unlink()


def _log_removed(record: Path) -> None:
    record.with_name(f"{record.name}-wal").unlink()


def _replaced(record: Path) -> None:
    other = record.with_name("other")
    other.write_bytes(record.read_bytes())
    other.replace(record)


def _log_replaced(record: Path) -> None:
    log = record.with_name(f"{record.name}-wal")
    other = record.with_name("other")
    other.write_bytes(log.read_bytes())
    other.replace(log)


def _emptied(record: Path) -> None:
    record.write_bytes(b"")


def _moved(record: Path) -> None:
    record.rename(record.with_name("elsewhere.db"))


WAYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (_removed, "was removed"),
    "all removed": (_all_removed, "was removed"),
    "write-ahead log removed": (_log_removed, "was removed"),
    "replaced": (_replaced, "was replaced"),
    "write-ahead log replaced": (_log_replaced, "was replaced"),
    "emptied": (_emptied, "was cut"),
    "moved": (_moved, "was removed"),
}


@pytest.mark.behaviour("store.ends", "http.health")
@pytest.mark.parametrize("way", WAYS)
def test_a_platform_whose_record_is_gone_ends(platform: PlatformProcess, way: str) -> None:
    memory = Raw(platform.memory_url, "t", "u")
    for number in range(20):
        assert memory("PUT", f"/v1/memory/working/p/{number}", {"value": "x" * 1000}).status == 200
    spoil, told = WAYS[way]
    spoil(platform.database)
    try:
        answer = memory("GET", "/health")
        assert (answer.status, answer.json["status"]) == (503, "failing")
        assert told in answer.json["store"]["detail"]
    except OSError:
        pass  # it has ended already
    process = platform._process
    assert process is not None
    assert process.wait(20) == DATABASE
    lines = [
        json.loads(line) for line in platform.log.read_text().splitlines() if line.startswith("{")
    ]
    (ended,) = [line for line in lines if "the platform ends" in line["message"]]
    assert told in ended["reason"]
    assert f"soorma: {ended['reason']}" in platform.log.read_text()
    assert "Traceback" not in platform.log.read_text()
    platform.kill()


@pytest.mark.behaviour("store.ends")
@pytest.mark.parametrize("way", ["write-ahead log removed", "write-ahead log replaced"])
def test_nothing_is_lost_with_the_log(platform: PlatformProcess, way: str) -> None:
    memory = Raw(platform.memory_url, "t", "u")
    for number in range(20):
        assert memory("PUT", f"/v1/memory/working/p/{number}", {"value": number}).status == 200
    WAYS[way][0](platform.database)
    process = platform._process
    assert process is not None
    assert process.wait(20) == DATABASE
    platform.kill()
    for file in platform.folder.glob("soorma.db-*"):
        file.unlink()
    platform.start()
    assert [
        entry["value"] for entry in memory("GET", "/v1/memory/working/p").json["entries"]
    ] == sorted(range(20), key=str)


@pytest.mark.behaviour("store.ends", "outage.store")
def test_who_is_kept_waiting_by_another_goes_on(platform: PlatformProcess) -> None:
    memory = Raw(platform.memory_url, "t", "u")
    with closing(sqlite3.connect(platform.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert memory("PUT", "/v1/memory/working/p/k", {"value": 1}).status == 503
        assert memory("GET", "/health").status == 503
        other.execute("COMMIT")
    assert memory("PUT", "/v1/memory/working/p/k", {"value": 1}).status == 200
    assert memory("GET", "/health").status == 200


@pytest.mark.behaviour("store.ends")
def test_a_supervisor_sees_the_status(platform: PlatformProcess) -> None:
    _moved(platform.database)
    process = platform._process
    assert process is not None
    assert isinstance(process, subprocess.Popen)
    assert process.wait(20) == DATABASE
    platform.kill()
    platform.start()
    assert Raw(platform.memory_url).is_healthy(), (
        "a supervisor that starts it again gets a new record"
    )
