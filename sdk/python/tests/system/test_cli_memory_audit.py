"""`soorma memory audit`, as people and scripts use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_terminal import Terminal
from platform_process import PlatformProcess
from running import platform_in

from soorma.cli.exits import Exit

KEY = "AKIA" + "IOSFODNN7EXAMPLE"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """A platform that searches by words, whatever is installed."""
    with platform_in(tmp_path_factory.mktemp("platform"), SOORMA_EMBEDDINGS="none") as platform:
        yield platform


@pytest.mark.behaviour("command.memory-audit")
def test_an_audit_for_eyes_names_the_next_step(terminal: Terminal) -> None:
    for number in range(5):
        terminal.run("memory", "add", "Dogs travel free.", "--source", "web")
        terminal.run("memory", "log", "user", f"Said {number}.", "--session", "s")
    terminal.run("memory", "add", f"The key is {KEY}.")
    done = terminal.run("memory", "audit")
    lines = {line[:12].strip(): line[12:].strip() for line in done.stdout.splitlines()}
    assert lines["Passages"] == "2 and 0 closed"
    assert lines["Statements"] == "6, of these 4 restated (67%) and 0 recalled"
    assert lines["Stored by"] == "applications 2"
    assert lines["Sources"] == "web 1"
    assert lines["Sessions"] == "1 of 5 interactions"
    assert lines["Secrets"] == "1 redacted and 0 refused since the start"
    assert "external id" in done.stderr
    assert "7 parts found by words alone" in done.stderr
    assert "soorma_memory_secrets_total" in done.stderr
    assert "proposal" not in done.stderr


@pytest.mark.behaviour("command.memory-audit")
def test_an_audit_for_programs_is_of_one_user_or_of_all(terminal: Terminal) -> None:
    terminal.run("memory", "add", "Dogs travel free.", "--source", "web")
    terminal.run("memory", "add", "Bob's own.", "--user", "bob", "--source", "diary")
    mine = terminal.json("memory", "audit")
    assert (mine["passages"], mine["by_source"]) == (1, [{"source": "web", "passages": 1}])
    everybody = terminal.json("memory", "audit", "--everybody")
    assert (everybody["passages"], everybody["by_source"]) == (2, [])
    empty = terminal.run("memory", "audit", "--user", "nobody")
    assert "Stored by   -" in empty.stdout
    assert empty.stderr == ""
    refused = terminal.run("memory", "audit", "--everybody", "--user", "bob", exits=Exit.USAGE)
    assert "leave --user out" in refused.stderr
