"""The SDK finds the platform of the folder it is used in, as the command does."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soorma import ClientConfig, local
from soorma.local import FOLDER, NOTE, Running

pytestmark = pytest.mark.behaviour("settings.folder")
OFFSET = 4321
HERE = ClientConfig(
    memory_url=f"http://localhost:{8083 + OFFSET}",
    events_url=f"http://localhost:{8082 + OFFSET}",
    registry_url=f"http://localhost:{8081 + OFFSET}",
    identity_url=f"http://localhost:{8085 + OFFSET}",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the note of a running platform, which is this process."""
    (tmp_path / FOLDER).mkdir()
    Running.now(os.getpid(), "127.0.0.1", OFFSET, tmp_path / "soorma.db").write(
        tmp_path / FOLDER / NOTE
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_the_folder_and_below_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClientConfig.from_env({}) == HERE
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    found = ClientConfig.from_env({})
    assert found == HERE
    assert found.origin == f"that soorma dev runs for {project}"


def test_the_nearest_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "own" / FOLDER).mkdir(parents=True)
    monkeypatch.chdir(project / "own")
    assert ClientConfig.from_env({}) == ClientConfig(), "nothing runs for the nearest one"


@pytest.mark.usefixtures("project")
def test_a_variable_wins_for_its_service() -> None:
    mixed = ClientConfig.from_env({"SOORMA_MEMORY_URL": "http://elsewhere:1"})
    assert (mixed.memory_url, mixed.events_url) == ("http://elsewhere:1", HERE.events_url)
    every = dict.fromkeys(local.VARIABLES.values(), "http://elsewhere:1")
    assert ClientConfig.from_env(every).events_url == "http://elsewhere:1"


def test_a_platform_that_is_gone_is_not_looked_for(project: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = Running.now(ended.pid, "127.0.0.1", OFFSET, project / "soorma.db")
    ended.communicate()
    note.write(project / FOLDER / NOTE)
    assert ClientConfig.from_env({}) == ClientConfig()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "x" * 100_000])
def test_a_damaged_note_is_told_once(
    project: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (project / FOLDER / NOTE).write_text(content, "utf-8")
    with caplog.at_level(logging.WARNING, "soorma"):
        assert ClientConfig.from_env({}) == ClientConfig()
        assert ClientConfig.from_env({}) == ClientConfig()
    assert [str(project) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("me", "sudo", "is_believed"),
    [("owner", None, True), ("other", None, False), ("root", None, False), ("root", "owner", True),
     ("root", "other", False), ("other", "owner", False)],
)  # fmt: skip
def test_a_strangers_note_is_not_believed(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    me: str,
    sudo: str | None,
    *,
    is_believed: bool,
) -> None:
    """Not even by root, unless it is the one who called it through sudo."""
    owner = os.getuid() or 4321
    if os.getuid() == 0:
        os.chown(project / FOLDER / NOTE, owner, -1)
    ids = {"owner": owner, "other": owner + 1, "root": 0}
    monkeypatch.setattr(os, "geteuid", lambda: ids[me])
    monkeypatch.delenv("SUDO_UID", raising=False)
    if sudo is not None:
        monkeypatch.setenv("SUDO_UID", str(ids[sudo]))
    assert (ClientConfig.from_env({}) == HERE) is is_believed
    assert ("belongs to another user" in caplog.text) is not is_believed


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ClientConfig.from_env({}) == ClientConfig()


def test_a_password_is_not_shown() -> None:
    config = ClientConfig(memory_url="http://me:secret@host:1/path")
    assert "secret" not in repr(config)
    assert "http://host:1/path" in repr(config)
