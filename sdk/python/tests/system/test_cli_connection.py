"""The command's connection to a platform: how it follows, whose data it reads, its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_terminal import COMMANDS, FEW_SECONDS, SOORMA, Follower, Terminal, publish
from platform_process import PlatformProcess, clean_environment
from running import WAIT, unique

from soorma.cli import connection
from soorma.cli.dev import services
from soorma.cli.exits import Exit
from soorma.config import EVENTS_URL, MEMORY_URL
from soorma.local import Running
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER

# --- Following ---------------------------------------------------------------------------------


@pytest.mark.behaviour("command.follow")
def test_followers_lose_and_double_nothing_when_the_platform_is_killed(
    platform: PlatformProcess, tmp_path: Path
) -> None:
    terminal = Terminal(platform, tmp_path)
    with (
        Follower(terminal, "events", "tail", "--json") as events,
        Follower(terminal, "state", "watch", "plan", "--json") as commits,
    ):
        for number in range(6):
            if number in (2, 4):
                platform.restart()
            publish(terminal, "counted", "--data", str(number))
            terminal.set("plan", "count", number)
        assert [json.loads(events.line())["event"]["data"] for _ in range(6)] == list(range(6))
        told = [json.loads(commits.line()) for _ in range(6)]
        assert [commit["changes"][0]["argument"] for commit in told] == list(range(6))
        for follower in (events, commits):
            said, notes = follower.end()
            assert said == ""
            said = {
                line
                for line in notes.splitlines()
                if not line.startswith("note: no answer from the ")
            }
            assert said == {"note: the stream stands again; nothing was lost"}


@pytest.mark.behaviour("command.follow")
@pytest.mark.parametrize("follow", [("events", "tail"), ("state", "watch", "plan")])
def test_a_follower_ends_with_its_reader(terminal: Terminal, follow: tuple[str, ...]) -> None:
    with Follower(terminal, *follow) as follower:
        assert follower.process.stdout is not None
        follower.process.stdout.close()
        assert follower.process.wait(WAIT) == Exit.OUTPUT_CLOSED
        assert follower.process.stderr is not None
        assert follower.process.stderr.read() == b""
        follower.process.stdout = None


@pytest.mark.behaviour("command.follow")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_leaves_is_no_failure_that_needs_words(
    terminal: Terminal, form: tuple[str, ...]
) -> None:
    terminal.set("plan", "key", 1)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*SOORMA, "state", "list", "plan", *form],
            cwd=terminal.folder,
            env=terminal.env,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.OUTPUT_CLOSED, b"")


# --- Whose, and where --------------------------------------------------------------------------


@pytest.mark.behaviour("command.whose")
def test_another_tenant_or_user_sees_nothing(terminal: Terminal) -> None:
    terminal.set("plan", "key", 1)
    publish(terminal, "a")
    for other in (("--tenant", "another"), ("--user", "another")):
        assert terminal.json("state", "plans", *other)["plans"] == []
        assert terminal.json("state", "list", "plan", *other)["entries"] == []
        assert terminal.json("state", "history", "plan", *other)["changes"] == []
        assert terminal.json("state", "actions", "plan", *other)["actions"] == []
        assert terminal.json("state", "delete", "plan", "key", *other)["deleted"] == 0
        terminal.run("state", "get", "plan", "key", *other, exits=Exit.NOT_FOUND)
        with (
            Follower(terminal, "events", "tail", "--after", "0", "--json", *other) as events,
            Follower(terminal, "state", "watch", "plan", "--json", *other) as commits,
        ):
            publish(terminal, "b")
            terminal.set("plan", "key", 2)
            publish(terminal, "mine", *other)
            terminal.run("state", "set", "plan", "mine", "1", *other)
            assert json.loads(events.line())["event"]["type"] == "mine"
            assert json.loads(commits.line())["changes"][0]["key"] == "mine"
    assert terminal.json("events", "groups", "--tenant", "another")["groups"] == []
    assert terminal.json("state", "get", "plan", "key")["value"] == 2


@pytest.mark.behaviour("command.whose", "ids.defaults", "ids.environment")
def test_whose_data_is_meant(terminal: Terminal) -> None:
    terminal.run("state", "set", "plan", "key", "1", "--tenant", "a tenant", "--user", "a user")
    found = terminal.json(
        "state", "get", "plan", "key", SOORMA_TENANT_ID="a tenant", SOORMA_USER_ID="a user"
    )
    assert (found["tenant_id"], found["user_id"]) == ("a tenant", "a user")
    done = terminal.json(
        "state", "set", unique("plan"), "key", "1", SOORMA_TENANT_ID="", SOORMA_USER_ID=""
    )
    assert (done["tenant_id"], done["user_id"]) == (DEFAULT_TENANT, DEFAULT_USER)
    told = terminal.process("state", "get", "--help").stdout
    for part in ("(…0000)", "(…0001)", "SOORMA_TENANT_ID", "SOORMA_USER_ID"):
        assert part in told


@pytest.mark.behaviour("command.whose")
def test_the_platform_of_the_folder_is_found(terminal: Terminal) -> None:
    platform = terminal.platform
    note = terminal.folder / ".soorma" / "platform.json"
    note.parent.mkdir()
    Running.now(platform.pid, "127.0.0.1", platform.offset, platform.database).write(note)
    below = terminal.folder / "below"
    below.mkdir()
    elsewhere = {
        name: terminal.env.pop(name) for name in services.VARIABLES.values() if name in terminal.env
    }
    terminal.folder = below
    terminal.set("plan", "key", 1)
    publish(terminal, "a")

    nowhere = dict.fromkeys(elsewhere, "http://127.0.0.1:9")
    terminal.run(
        "state", "plans", exits=Exit.UNAVAILABLE, SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere
    )


@pytest.mark.behaviour("command.whose")
def test_the_default_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    note = tmp_path / ".soorma" / "platform.json"
    note.parent.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    Running.now(gone.pid, "127.0.0.1", 7, tmp_path / "db").write(note)
    gone.wait()
    for text in (note.read_text(), "no note"):
        note.write_text(text)
        config = connection.config_for(None, None)
        assert (config.memory_url, config.events_url) == (MEMORY_URL, EVENTS_URL)
    assert "cannot be understood" in caplog.text
    monkeypatch.setenv("SOORMA_MEMORY_URL", "http://localhost:1")
    assert connection.config_for(None, None).memory_url == "http://localhost:1"


# --- Refusals ----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.says-what-is-wrong", "outage.every-call")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_platform(command: tuple[str, ...], terminal: Terminal) -> None:
    nowhere = dict.fromkeys(services.VARIABLES.values(), "http://127.0.0.1:9")
    done = terminal.run(
        *command, "--json", exits=Exit.UNAVAILABLE, SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere
    )
    assert done.stdout == ""
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr


@pytest.mark.behaviour("command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("events", "publish", "a"), "--topic"),
        (("events", "publish", "a", "--topic", "nope"), "business-facts"),
        (("events", "publish", "", "--topic", "business-facts"), "type must have 1 to 255"),
        (("events", "publish", "a", "--topic", "business-facts", "--data", "text"), '"text"'),
        (("events", "tail", "--topic", "nope"), "business-facts"),
        (("events", "tail", "--type", "a,b"), "comma"),
        (("events", "tail", "--after", "-1"), "--after"),
        (("events", "replay"), "--all"),
        (("events", "replay", "1", "--all"), "--all"),
        (("events", "replay", "1", "--group", "g"), "--all"),
        (("events", "replay", "zero"), "integer"),
        (("events",), "Usage"),
        (("state", "nope"), "nope"),
        (("state", "list", ".."), "plan_id must not be"),
        (("state", "list", "plan", "--tenant", ""), "tenant_id must have"),
        (("state", "get", "plan", ""), "key must have"),
        (("state", "set", "plan", "key", "1", "--ttl", "0"), "more than 0"),
        (("state", "set", "plan", "key", "1", "--if-revision", "-1"), "--if-revision"),
    ],
)
def test_what_is_not_possible_is_told(
    terminal: Terminal, command: tuple[str, ...], told: str
) -> None:
    done = terminal.run(*command, exits=Exit.USAGE)
    assert told in done.stderr + done.stdout


@pytest.mark.behaviour("command.says-what-is-wrong")
def test_missing_and_too_large(terminal: Terminal) -> None:
    missing = terminal.run("state", "get", "plan", "key", exits=Exit.NOT_FOUND)
    assert missing.stderr == "soorma: plan 'plan' has no key 'key'\n"
    assert "9" in terminal.run("events", "replay", "999999", exits=Exit.NOT_FOUND).stderr
    ahead = terminal.run("events", "tail", "--after", "999999999", exits=Exit.NOT_FOUND)
    assert "log ends at position" in ahead.stderr
    assert (
        "is at revision 0"
        in terminal.run("state", "watch", "plan", "--after", "7", exits=Exit.NOT_FOUND).stderr
    )
    large = json.dumps("x" * 1_100_000).encode()
    assert (
        "1,048,576"
        in terminal.run("state", "set", "plan", "key", "-", stdin=large, exits=Exit.REFUSED).stderr
    )
