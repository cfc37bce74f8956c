"""The store of `soorma dev`: prepared, migrated, cleaned, and the messages when it is unusable."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cli_shell import Shell, keep, kept, locked_database, read_until
from platform_process import PlatformProcess

from soorma.cli.exits import Exit


@pytest.mark.behaviour("dev.build-and-migrate")
def test_build_prepares_a_store_that_never_was(shell: Shell) -> None:
    said = shell.soorma("dev", "--build").stdout
    assert f"Preparing the store {shell.folder / '.soorma' / 'soorma.db'}" in said
    assert "It is new" in said
    assert shell.is_up()

    shell.soorma("dev", "--stop")
    assert "It is up to date" in shell.soorma("dev", "--build").stdout


@pytest.fixture
def later_soorma(tmp_path: Path) -> str:
    """A PYTHONPATH on which Soorma has one migration more than this one."""
    place = tmp_path / "later"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "from soorma_platform.stores.sqlite import database\n"
        "steps = [*database.migrations(), 'CREATE TABLE later (x)']\n"
        "database.migrations = lambda: steps\n"
    )
    return os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.behaviour("dev.build-and-migrate")
def test_a_store_of_an_earlier_soorma_is_migrated_only_when_asked(
    shell: Shell, later_soorma: str
) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "kept")
    shell.soorma("dev", "--stop")

    refused = shell.soorma("dev", exits=Exit.NEEDS_BUILD, PYTHONPATH=later_soorma)
    assert "soorma dev --build" in refused.stderr
    shell.soorma("dev", "--foreground", exits=Exit.NEEDS_BUILD, PYTHONPATH=later_soorma)

    said = shell.soorma("dev", "--build", PYTHONPATH=later_soorma).stdout
    assert re.search(r"migrated from schema (\d+) to (\d+)", said)
    assert kept(shell, "a plan") == "kept"

    shell.soorma("dev", "--stop")
    assert "newer Soorma" in shell.soorma("dev", "--build", exits=Exit.DATABASE).stderr
    assert "newer Soorma" in shell.soorma("dev", exits=Exit.DATABASE).stderr


@pytest.mark.behaviour("dev.clean")
def test_clean_starts_from_nothing(shell: Shell) -> None:
    shell.soorma("dev")
    keep(shell, "a plan", "gone")

    said = shell.soorma("dev", "--stop", "--clean", "--yes").stdout

    assert f"Removed {shell.folder / '.soorma' / 'soorma.db'}\n" in said
    assert f"Removed {shell.folder / '.soorma' / 'platform.log'}\n" in said
    assert not (shell.folder / ".soorma").exists()
    shell.soorma("dev")
    assert kept(shell, "a plan") is None


@pytest.mark.behaviour("dev.clean")
def test_clean_keeps_what_is_not_the_platforms(shell: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shell.soorma("dev", SOORMA_DATABASE=str(elsewhere))
    mine = shell.folder / ".soorma" / "mine.txt"
    mine.write_text("mine")

    done = shell.soorma("dev", "--stop", "--clean", "--yes", SOORMA_DATABASE=str(elsewhere))

    assert f"{elsewhere} lies elsewhere and was kept" in done.stderr
    assert elsewhere.exists()
    assert [each.name for each in (shell.folder / ".soorma").iterdir()] == ["mine.txt"]


@pytest.mark.behaviour("dev.clean")
def test_clean_leaves_a_store_alone_that_another_platform_uses(shell: Shell) -> None:
    shell.make_key()
    serving = shell.spawn("serve")
    read_until(serving, "platform ready")

    refused = shell.soorma("dev", "--stop", "--clean", "--yes", exits=Exit.RUNNING_ELSEWHERE)

    assert f"process {serving.pid}" in refused.stderr
    assert shell.is_up()
    assert (shell.folder / ".soorma" / "soorma.db").exists()


# --- When it cannot be used ---------------------------------------------------------------------


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_damaged_database(shell: Shell) -> None:
    (shell.folder / ".soorma").mkdir()
    database = shell.folder / ".soorma" / "soorma.db"
    database.write_bytes(b"no database, but long enough to be taken for one" * 100)
    for command in (["dev"], ["dev", "--build"], ["dev", "--foreground"], ["serve"]):
        refused = shell.soorma(*command, exits=Exit.DATABASE).stderr
        assert f"the database {database} is damaged" in refused
        assert "backup" in refused
        assert not shell.state.exists()
    assert not shell.is_up()


@pytest.mark.behaviour("dev.says-what-is-wrong")
def test_a_database_locked_by_another_program(shell: Shell) -> None:
    database = locked_database(shell)
    for command in (["dev"], ["dev", "--build"]):
        refused = shell.soorma(*command, exits=Exit.DATABASE).stderr
        assert f"the database {database} is locked by another process" in refused


@pytest.mark.behaviour("dev.says-what-is-wrong", "store.one-process")
def test_a_database_used_by_another_platform(shell: Shell, platform: PlatformProcess) -> None:
    for command in (["dev"], ["dev", "--build"], ["serve"]):
        refused = shell.soorma(
            *command, exits=Exit.RUNNING_ELSEWHERE, SOORMA_DATABASE=str(platform.database)
        )
        assert f"in use by another platform (process {platform.pid})" in refused.stderr
