"""`soorma backup` and `soorma restore` for operators; a restore as agents and readers see it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_shell import SOORMA, Shell, eventually, keep, kept, read_until
from platform_process import PlatformProcess
from running import Raw, Seen, config_of, context_of, path_of, unique

from soorma import Agent, EventClient, HandlerContext, WorkflowState
from soorma.cli.exits import Exit
from soorma_platform.stores.sqlite.backup import NEVER_GIVEN

RECORD = Path(".soorma") / "soorma.db"


def asides(shell: Shell) -> list[Path]:
    found = (shell.folder / RECORD).parent.glob("soorma.db.before-restore-*")
    return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))


def partials(shell: Shell) -> list[Path]:
    return list(shell.folder.rglob("*.partial*"))


# --- Backup -------------------------------------------------------------------------------------


@contextmanager
def writing(url: str) -> Iterator[list[int]]:
    """Writes the keys a and b, in turn, meanwhile; yields how often both were acknowledged."""
    raw, done, stop = Raw(url, "t", "u"), [0], threading.Event()

    def write() -> None:
        while not stop.is_set():
            for key in ("a", "b"):
                answer = raw("PUT", path_of("busy", key), {"value": done[0] + 1})
                assert answer.status == 200, answer.body
            done[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: done[0] > 0 or not thread.is_alive())
        yield done
        assert thread.is_alive(), "writing has failed"
    finally:
        stop.set()
        thread.join()


@pytest.mark.behaviour("backup.of-one-moment")
def test_a_backup_of_a_platform_at_work_is_of_one_moment(shell: Shell) -> None:
    shell.soorma("dev")
    with writing(shell.url(8083)) as done:
        before = done[0]
        told = json.loads(shell.soorma("backup", "copy.db", "--json").stdout)
        after = done[0]
        eventually(lambda: done[0] > after)

    file = shell.folder / "copy.db"
    assert told["file"] == str(file)
    assert told["database"] == str(shell.folder / RECORD)
    assert told["bytes"] == file.stat().st_size
    assert told["seconds"] > 0
    with closing(sqlite3.connect(file)) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        values = dict(copied.execute("SELECT key, value FROM entries ORDER BY key").fetchall())
        assert copied.execute("SELECT revision FROM plans").fetchall() == [(told["revisions"],)]
    a, b = int(values["a"]), int(values["b"])
    assert b in (a, a - 1), "the keys are of one moment"
    assert before <= b <= after
    assert told["plans"] == 1
    assert [path.name for path in shell.folder.iterdir() if path.name.startswith("copy")] == [
        "copy.db"
    ]


@pytest.mark.behaviour("backup.of-one-moment")
def test_a_backup_of_a_platform_that_does_not_run(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("dev", "--stop")
    said = shell.soorma("backup", "copy.db")
    assert f"Copied {shell.folder / RECORD} to {shell.folder / 'copy.db'}" in said.stdout
    assert "1 plan at 1 revision" in said.stdout
    assert said.stderr == "", "no progress where nobody looks"


@pytest.mark.behaviour("backup.of-one-moment")
def test_a_backup_finds_the_database_that_the_platform_of_this_folder_uses(
    shell: Shell, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shell.soorma("dev", SOORMA_DATABASE=str(elsewhere))
    assert json.loads(shell.soorma("backup", "a.db", "--json").stdout)["database"] == str(elsewhere)
    named = shell.soorma("backup", "b.db", "--json", "--database", str(elsewhere))
    assert json.loads(named.stdout)["database"] == str(elsewhere)


@pytest.mark.behaviour("backup.named")
def test_the_variable_goes_before_the_platform_of_this_folder(shell: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shell.soorma("dev")
    refused = shell.soorma("backup", "a.db", exits=Exit.DATABASE, SOORMA_DATABASE=str(elsewhere))
    assert f"there is no database {elsewhere}" in refused.stderr
    shell.soorma("backup", "a.db")
    told = shell.soorma("restore", "a.db", "--json", SOORMA_DATABASE=str(elsewhere))
    assert json.loads(told.stdout)["database"] == str(elsewhere)
    told = shell.soorma("backup", "b.db", "--json", SOORMA_DATABASE=str(elsewhere))
    assert json.loads(told.stdout)["database"] == str(elsewhere)
    checks = json.loads(shell.soorma("doctor", "--json", SOORMA_DATABASE=str(elsewhere)).stdout)[
        "checks"
    ]
    (database,) = [one["found"] for one in checks if one["check"] == "database"]
    assert database.startswith(str(elsewhere))


@pytest.mark.behaviour("backup.careful")
def test_a_backup_overwrites_only_when_told(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("backup", "copy.db")
    first = (shell.folder / "copy.db").read_bytes()
    keep(shell, "a plan", "later")

    refused = shell.soorma("backup", "copy.db", exits=Exit.USAGE)
    assert "--force" in refused.stderr
    assert (shell.folder / "copy.db").read_bytes() == first

    shell.soorma("backup", "--force", "copy.db")
    assert (shell.folder / "copy.db").read_bytes() != first


@pytest.mark.behaviour("backup.careful")
@pytest.mark.parametrize("end", ["", "-wal", "-shm", ".lock"])
def test_a_backup_never_takes_a_file_of_the_database(shell: Shell, end: str) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    link = shell.folder / "link"
    link.symlink_to(shell.folder / f"{RECORD}{end}")
    for name in (f"{RECORD}{end}", "link"):
        refused = shell.soorma("backup", "--force", name, exits=Exit.USAGE)
        assert "belongs to the database" in refused.stderr
    assert kept(shell, "a plan") == "kept"


@pytest.mark.behaviour("backup.careful")
def test_a_backup_that_cannot_be_made_leaves_what_was_there(shell: Shell) -> None:
    assert "there is no database" in shell.soorma("backup", "copy.db", exits=Exit.DATABASE).stderr
    shell.soorma("dev")
    assert "no folder" in shell.soorma("backup", "none/copy.db", exits=Exit.UNWRITABLE).stderr
    shell.soorma("backup", "copy.db")
    good = (shell.folder / "copy.db").read_bytes()
    shell.soorma("dev", "--stop")
    database = shell.folder / RECORD
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (database.stat().st_size - 4096))

    refused = shell.soorma("backup", "--force", "copy.db", exits=Exit.DATABASE)

    assert "is damaged" in refused.stderr
    assert str(database) in refused.stderr
    assert (shell.folder / "copy.db").read_bytes() == good
    assert partials(shell) == []


@pytest.mark.behaviour("backup.careful")
def test_a_person_sees_how_far_it_is(shell: Shell) -> None:
    shell.soorma("dev")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [*SOORMA, "backup", "copy.db"],
            cwd=shell.folder,
            env=shell.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=True,
        )
        said = terminal.read(100_000).decode()
        os.close(theirs)
    assert "copying 100%" in said
    assert "checking the copy" in said
    assert said.endswith("\r\x1b[K"), "the line is gone at the end"
    assert b"copying" not in done.stdout


@pytest.mark.behaviour("backup.careful")
def test_an_interrupted_backup_leaves_nothing(shell: Shell) -> None:
    shell.soorma("dev", "--build")
    shell.soorma("dev", "--stop")
    with closing(sqlite3.connect(shell.folder / RECORD)) as database, database:
        rows = ((str(number), "x" * 500_000) for number in range(300))
        database.executemany("INSERT INTO answers VALUES ('t', 'u', ?, 0, ?)", rows)
    copying = shell.spawn("backup", "copy.db")
    eventually(lambda: partials(shell))

    copying.send_signal(signal.SIGINT)

    assert copying.wait(60) == Exit.INTERRUPTED
    assert partials(shell) == []
    assert not (shell.folder / "copy.db").exists()


# --- Restore ------------------------------------------------------------------------------------


@pytest.mark.behaviour("backup.restored")
def test_a_restore_brings_back_the_backup_and_keeps_what_was_there(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "of the backup")
    shell.soorma("backup", "copy.db")
    keep(shell, "a plan", "of later")
    shell.soorma("dev", "--stop")

    said = shell.soorma("restore", "copy.db").stdout

    (aside,) = asides(shell)
    assert str(aside) in said
    assert "soorma dev" in said
    shell.soorma("dev")
    assert kept(shell, "a plan") == "of the backup"
    shell.soorma("dev", "--stop")

    told = json.loads(shell.soorma("restore", str(aside), "--json").stdout)
    assert told["kept"] in [str(path) for path in asides(shell)]
    assert (told["file"], told["database"]) == (str(aside), str(shell.folder / RECORD))
    assert (told["plans"], told["revisions"]) == (1, 2)
    shell.soorma("dev")
    assert kept(shell, "a plan") == "of later"
    assert partials(shell) == []


@pytest.mark.behaviour("backup.restored")
@pytest.mark.parametrize("command", ["dev", "serve"])
def test_a_restore_is_refused_while_a_platform_runs(shell: Shell, command: str) -> None:
    if command == "dev":
        shell.soorma("dev")
    else:
        shell.env["SOORMA_API_KEY"] = shell.make_key()
        read_until(shell.spawn("serve"), "platform ready")
    keep(shell, "a plan", "kept")
    shell.soorma("backup", "copy.db")
    refused = shell.soorma("restore", "copy.db", exits=Exit.RUNNING_ELSEWHERE)
    assert "in use by another platform" in refused.stderr
    assert asides(shell) == partials(shell) == []
    assert kept(shell, "a plan") == "kept"


@pytest.mark.behaviour("backup.restored")
def test_a_platform_that_was_killed_is_restored_over(shell: Shell) -> None:
    shell.soorma("dev")
    shell.soorma("backup", "copy.db")
    keep(shell, "a plan", "in the log")
    os.kill(shell.pid(), signal.SIGKILL)
    eventually(lambda: not shell.is_up())
    shell.soorma("restore", "copy.db")
    shell.soorma("dev")
    assert kept(shell, "a plan") is None
    shell.soorma("dev", "--stop")
    shell.soorma("restore", str(asides(shell)[0]))
    shell.soorma("dev")
    assert kept(shell, "a plan") == "in the log"


@pytest.mark.behaviour("backup.restored")
def test_a_damaged_database_is_restored_over(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("backup", "copy.db")
    shell.soorma("dev", "--stop")
    (shell.folder / RECORD).write_bytes(b"\xa5" * 8192)
    shell.soorma("restore", "copy.db")
    assert [aside.read_bytes() for aside in asides(shell)] == [b"\xa5" * 8192]
    shell.soorma("dev")
    assert kept(shell, "a plan") == "kept"


@pytest.mark.behaviour("backup.restored")
def test_a_restore_to_a_place_where_there_is_nothing(shell: Shell, tmp_path: Path) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("backup", "copy.db")
    shell.soorma("dev", "--stop")
    elsewhere = tmp_path / "elsewhere" / "soorma.db"
    told = shell.soorma("restore", "copy.db", "--json", "--database", str(elsewhere))
    assert json.loads(told.stdout)["kept"] is None
    shell.soorma("dev", SOORMA_DATABASE=str(elsewhere))
    assert kept(shell, "a plan") == "kept"


@pytest.mark.behaviour("backup.restored")
def test_a_database_behind_a_link_is_replaced_where_it_is(shell: Shell, tmp_path: Path) -> None:
    real, link = tmp_path / "real.db", shell.folder / "link.db"
    link.symlink_to(real)
    shell.soorma("dev", SOORMA_DATABASE=str(link))
    keep(shell, "a plan", "of the backup")
    assert (
        "belongs to the database"
        in shell.soorma("backup", "--force", f"{real}-wal", exits=Exit.USAGE).stderr
    )
    shell.soorma("backup", "copy.db")
    keep(shell, "a plan", "of later")
    assert (
        "in use"
        in shell.soorma(
            "restore", "copy.db", "--database", str(link), exits=Exit.RUNNING_ELSEWHERE
        ).stderr
    )
    shell.soorma("dev", "--stop")
    shell.soorma("restore", "copy.db", "--database", str(link))
    assert link.is_symlink()
    assert len(list(tmp_path.glob("real.db.before-restore-*"))) == 1
    shell.soorma("dev", SOORMA_DATABASE=str(link))
    assert kept(shell, "a plan") == "of the backup"


@pytest.mark.behaviour("backup.refused")
def test_what_is_no_backup_is_refused_and_nothing_is_changed(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("backup", "newer.db")
    shell.soorma("dev", "--stop")
    (shell.folder / "text").write_text("no database, but long enough to be taken for one" * 100)
    with closing(sqlite3.connect(shell.folder / "newer.db")) as newer, newer:
        newer.execute("PRAGMA user_version = 999")
    before = (shell.folder / RECORD).read_bytes()

    assert "no database" in shell.soorma("restore", "text", exits=Exit.DATABASE).stderr
    assert "newer Soorma" in shell.soorma("restore", "newer.db", exits=Exit.DATABASE).stderr
    assert "does not exist" in shell.soorma("restore", "nothing", exits=Exit.USAGE).stderr
    assert "is the database itself" in shell.soorma("restore", str(RECORD), exits=Exit.USAGE).stderr

    assert (shell.folder / RECORD).read_bytes() == before
    assert asides(shell) == partials(shell) == []


# --- What agents and readers see of it ----------------------------------------------------------


@pytest.fixture
def backups(platform: PlatformProcess, shell: Shell) -> Any:
    """Backup and restore of the platform that agents of this test work on."""

    class Backups:
        def make(self) -> None:
            shell.soorma("backup", "copy.db", "--database", str(platform.database))

        def restore(self) -> None:
            platform.stop()
            shell.soorma("restore", "copy.db", "--database", str(platform.database))
            platform.start()

    return Backups()


@pytest.mark.behaviour("backup.goes-on", "leases.fence")
async def test_a_handler_of_before_a_restore_is_refused_and_its_event_handled_anew(
    platform: PlatformProcess, backups: Any
) -> None:
    agent = Agent(unique("agent"), config=config_of(platform, retry_seconds=30))
    attempts, may_end = Seen(), asyncio.Event()

    @agent.on_event("work")
    async def work(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        attempts.append((context.attempt, await state.get("k")))
        await state.increment("done")
        if len(attempts) == 1:
            await may_end.wait()

    async with context_of(platform) as outside, agent:
        state = WorkflowState(outside.memory, "p")
        await state.set("k", "of the backup")
        await outside.bus.publish("work", "business-facts")
        await attempts.until(1)
        await asyncio.to_thread(backups.make)
        await state.set("k", "of later")
        await asyncio.to_thread(backups.restore)
        may_end.set()
        await attempts.until(2, 45)
        assert await state.wait_for("done", 1) == 1
        assert attempts == [(1, "of the backup"), (1, "of the backup")], (
            "afresh, and as the first attempt"
        )
        assert await state.get("done") == 1


@pytest.mark.behaviour("backup.goes-on", "readers.resumes")
async def test_a_reader_goes_on_through_a_restore_and_misses_nothing(
    platform: PlatformProcess, backups: Any
) -> None:
    seen = Seen()
    async with (
        context_of(platform) as outside,
        EventClient("reader", config=config_of(platform)) as client,
    ):
        client.on_all_events(lambda event: seen.append(event.data))
        await client.connect(["business-facts"])
        await outside.bus.announce("a", "kept")
        await seen.until(1)
        await asyncio.to_thread(backups.make)
        await outside.bus.announce("a", "lost")
        await seen.until(2)
        await asyncio.to_thread(backups.restore)
        for number in range(3):
            await outside.bus.announce("a", number)
        assert await seen.until(5, 45) == ["kept", "lost", 0, 1, 2]

    with Raw(platform.events_url).stream("/v1/events/stream?after=0") as told:
        positions = [told.next()[1] for _ in range(4)]
    assert positions == ["1", *(str(NEVER_GIVEN + number) for number in (2, 3, 4))]


@pytest.mark.behaviour("backup.goes-on")
async def test_who_kept_a_revision_of_what_is_lost_is_told(
    platform: PlatformProcess, backups: Any
) -> None:
    raw = Raw(platform.memory_url, "t", "u")
    await asyncio.to_thread(raw, "PUT", path_of("p", "k"), {"value": 1})
    await asyncio.to_thread(backups.make)
    await asyncio.to_thread(raw, "PUT", path_of("p", "k"), {"value": 2})
    await asyncio.to_thread(backups.restore)
    watched = raw("GET", "/v1/memory/watch/p?after=2")
    assert (watched.status, watched.code) == (404, "not_found")
    changed = raw("PUT", path_of("p", "k"), {"value": 3}, If_Match='"2"')
    assert (changed.status, changed.code) == (412, "conflict")
