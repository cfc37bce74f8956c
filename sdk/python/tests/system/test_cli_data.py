"""`soorma events …` and `soorma state …` as people and scripts use them: real processes on a real platform."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import pytest
from platform_process import PlatformProcess, clean_environment
from running import WAIT, config_of, eventually, unique

from soorma import PlatformContext, Reject, Worker, WorkflowState
from soorma.cli import commands, connection, main
from soorma.cli.dev import services
from soorma.cli.exits import Exit
from soorma.config import EVENTS_URL, MEMORY_URL
from soorma.local import Running
from soorma_common.names import DEFAULT_TENANT, DEFAULT_USER

SOORMA = [sys.executable, "-P", "-m", "soorma.cli"]
README = Path(__file__).parents[2] / "README.md"
FEW_SECONDS = "0.2"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """One platform for all that leave it running; each test has a tenant of its own."""
    with PlatformProcess(tmp_path_factory.mktemp("data")) as running:
        yield running


class Terminal:
    """A shell in a folder without a platform's note, that knows a platform and a tenant by its environment."""

    def __init__(self, platform: PlatformProcess, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        self.tenant = unique("tenant")
        self.env = clean_environment(
            SOORMA_MEMORY_URL=platform.memory_url,
            SOORMA_EVENT_SERVICE_URL=platform.events_url,
            SOORMA_REGISTRY_URL=platform.registry_url,
            SOORMA_TENANT_ID=self.tenant,
            COLUMNS="200",
            NO_COLOR="1",
        )

    def run(
        self, *arguments: str, exits: Exit = Exit.OK, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command; it must end with this exit code, and say why in one line if it failed.

        In this process, where only the import is spared: the tests need hundreds of them.
        """
        with pytest.MonkeyPatch.context() as shell, TemporaryFile() as said, TemporaryFile() as told:
            for name, file in (("stdin", io.BytesIO(stdin)), ("stdout", said), ("stderr", told)):
                shell.setattr(sys, name, io.TextIOWrapper(file, "utf-8", write_through=True))
            for name in os.environ.keys() - self.env.keys():
                shell.delenv(name)
            for name, value in {**self.env, **env}.items():
                shell.setenv(name, value)
            shell.chdir(self.folder)
            code = main.run(list(arguments))
            for file in (said, told):
                file.seek(0)
            return _checked(arguments, code, exits, said.read(), told.read())

    def process(self, *arguments: str, exits: Exit = Exit.OK) -> subprocess.CompletedProcess[str]:
        """The same in a process of its own, beside what runs in this one."""
        done = subprocess.run(
            [*SOORMA, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return _checked(arguments, done.returncode, exits, done.stdout, done.stderr)

    def json(self, *arguments: str, **more: Any) -> Any:
        """The one document that a command prints with --json."""
        return json.loads(self.run(*arguments, "--json", **more).stdout)

    def set(self, plan: str, key: str, value: Any) -> int:
        """Gives a key a value; its revision."""
        return int(self.json("state", "set", plan, key, json.dumps(value))["revision"])

    def context(self) -> PlatformContext:
        """The same platform for the same tenant, without the command."""
        return PlatformContext.on(config_of(self.platform, tenant_id=self.tenant), "test")


def _checked(
    arguments: tuple[str, ...], code: int, exits: Exit, stdout: bytes, stderr: bytes
) -> subprocess.CompletedProcess[str]:
    said, told = stdout.decode(), stderr.decode()
    assert code == exits, f"{arguments} gave {code}:\n{said}\n{told}"
    assert "Traceback" not in said + told
    if exits not in (Exit.OK, Exit.USAGE):
        errors = [line for line in told.splitlines() if not line.startswith("note: ")]
        assert len(errors) == 1, told
        assert errors[0].startswith("soorma: ")
    return subprocess.CompletedProcess(arguments, code, said, told)


class Follower:
    """A command that goes on until Ctrl+C. Use it as a context manager: it stands then, and is gone at the end."""

    def __init__(self, terminal: Terminal, *arguments: str) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a script's background: it would ignore it too
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [*SOORMA, *arguments],
            cwd=terminal.folder,
            env=terminal.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert said == b"note: following; Ctrl+C ends it\n"
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line; the test's own timeout bounds the wait."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, self.process.communicate()
        return said.decode().rstrip("\n")

    def end(self) -> tuple[str, str]:
        """What it still says when it is ended with Ctrl+C, which is no failure."""
        self.process.send_signal(signal.SIGINT)
        said, told = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == Exit.OK, told
        assert b"Traceback" not in told
        return said.decode(), told.decode()


@pytest.fixture
def terminal(shared: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal(shared, tmp_path)


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table, its headings first."""
    lines = [line.strip() for line in table.splitlines() if line.strip() and "──" not in line]
    return [re.split(r"\s{2,}", line) for line in lines]


# --- Keys and values ---------------------------------------------------------------------------

VALUES = [
    '{"b": [1, 2.5, null, true], "a": {"ü": "\\u2028 \\u001b[31m"}}',
    "-7",
    "-0.5",
    "123456789012345678901234567890",
    "null",
    '"text"',
    "[]",
]


@pytest.mark.behaviour("command.values")
def test_values_come_back_as_they_went_in(terminal: Terminal) -> None:
    for number, text in enumerate(VALUES, 1):
        said = terminal.run("state", "set", "plan", f"key{number}", text).stdout
        assert said == f"Set key{number} of plan plan at revision {number}\n"
        said = terminal.run("state", "get", "plan", f"key{number}").stdout
        assert "\x1b" not in said
        assert repr(json.loads(said)) == repr(json.loads(text)), "the order of keys included"
    entries = terminal.json("state", "list", "plan")["entries"]
    assert [entry["value"] for entry in entries] == [json.loads(text) for text in VALUES]
    found = terminal.json("state", "get", "plan", "key2")
    assert (found["plan_id"], found["key"], found["revision"], found["tenant_id"]) == (
        "plan",
        "key2",
        2,
        terminal.tenant,
    )
    assert found["value"] == -7


@pytest.mark.behaviour("command.values")
def test_values_from_standard_input_and_plain_text(terminal: Terminal) -> None:
    terminal.run("state", "set", "plan", "a", "-", stdin=b'{"from": "stdin"}\n')
    assert terminal.json("state", "get", "plan", "a")["value"] == {"from": "stdin"}
    terminal.run("state", "set", "plan", "a", "--string", "{no json")
    assert terminal.json("state", "get", "plan", "a")["value"] == "{no json"
    terminal.run("state", "set", "plan", "a", "-", "--string", stdin="zwei\nZeilen ü".encode())
    assert terminal.json("state", "get", "plan", "a")["value"] == "zwei\nZeilen ü"


@pytest.mark.behaviour("command.values")
@pytest.mark.parametrize("text", ["hello", "{'a': 1}", "NaN", "", "[1,", "1 2", r'"\ud800"', "--strnig"])
def test_text_that_is_no_json_is_refused(terminal: Terminal, text: str) -> None:
    refused = terminal.run("state", "set", "plan", "key", text, exits=Exit.USAGE)
    assert "--string" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.behaviour("command.values")
def test_standard_input_that_is_no_text_is_refused(terminal: Terminal) -> None:
    assert "no UTF-8" in terminal.run("state", "set", "plan", "key", "-", stdin=b"\xff", exits=Exit.USAGE).stderr
    assert terminal.json("state", "plans") == {"plans": []}


@pytest.mark.behaviour("command.values")
def test_names_that_need_care(terminal: Terminal) -> None:
    for plan, key in (("a/b c", "ü?&#%2F"), ("…", "-"), ("p", "x\x1b[2Jy")):
        assert terminal.json("state", "set", plan, key, "1")["plan_id"] == plan
        assert terminal.json("state", "list", plan)["entries"][0]["key"] == key
        assert terminal.run("state", "get", plan, key).stdout == "1\n"
    listed = terminal.run("state", "list", "p").stdout
    assert "x\\u001b[2Jy" in listed


@pytest.mark.behaviour("command.lists")
def test_list_and_plans(terminal: Terminal) -> None:
    terminal.set("plan-a", "first", {"x": 1})
    terminal.set("plan-a", "second", "y" * 1000)
    terminal.run("state", "set", "plan-b", "key", "1", "--ttl", "3600")

    heading, first, second = rows(terminal.run("state", "list", "plan-a").stdout)
    assert heading == ["Key", "Value", "Revision", "Updated", "Expires"]
    assert first[:3] == ["first", '{"x":1}', "1"]
    assert second[1].endswith("y…")
    assert second[4] == "-"
    assert rows(terminal.run("state", "list", "plan-b").stdout)[1][4] > time.strftime("%Y")
    found = terminal.json("state", "list", "plan-a", "--prefix", "sec")
    assert found["plan_id"] == "plan-a"
    assert found["revision"] == 2
    assert [(entry["key"], entry["value"]) for entry in found["entries"]] == [("second", "y" * 1000)]

    assert [row[:3] for row in rows(terminal.run("state", "plans").stdout)] == [
        ["Plan", "Status", "Keys"],
        ["plan-b", "active", "1"],
        ["plan-a", "active", "2"],
    ], "the newest first"
    assert [plan["plan_id"] for plan in terminal.json("state", "plans")["plans"]] == ["plan-a", "plan-b"]


@pytest.mark.behaviour("command.lists")
async def test_lists_are_whole_however_many_pages(terminal: Terminal) -> None:
    async with terminal.context() as context:
        state = WorkflowState(context.memory, "large")
        for start in (0, 900):
            await state.update({f"key-{number:05}": number for number in range(start, start + 900)})
        async with asyncio.TaskGroup() as group:
            for _ in range(1100):
                group.create_task(state.record_action("step"))
    entries = (await asyncio.to_thread(terminal.json, "state", "list", "large"))["entries"]
    assert [entry["value"] for entry in entries] == list(range(1800))
    found = await asyncio.to_thread(terminal.json, "state", "actions", "large")
    assert [action["number"] for action in found["actions"]] == list(range(1, 1101))
    changes = (await asyncio.to_thread(terminal.json, "state", "history", "large"))["changes"]
    assert len(changes) == 1800 + 1100
    assert sorted(changes, key=lambda change: change["revision"]) == changes


@pytest.mark.behaviour("command.conditions")
def test_compare_and_set(terminal: Terminal) -> None:
    terminal.run("state", "set", "plan", "key", "1", "--if-revision", "0")
    refused = terminal.run("state", "set", "plan", "key", "2", "--if-revision", "0", exits=Exit.CONFLICT)
    assert "is at revision 1, not 0" in refused.stderr
    assert terminal.json("state", "set", "plan", "key", "2", "--if-revision", "1")["revision"] == 2
    terminal.run("state", "delete", "plan", "key", "--if-revision", "1", exits=Exit.CONFLICT)
    terminal.run("state", "delete", "plan", "key", "--if-revision", "2")


@pytest.mark.behaviour("command.conditions")
def test_delete(terminal: Terminal) -> None:
    for key in ("a", "b", "c", "d"):
        terminal.set("plan", key, 1)
    done = terminal.run("state", "delete", "plan", "a", "nope")
    assert done.stdout == "Deleted 1 key of plan plan\n"
    assert "there was no key nope" in done.stderr
    assert terminal.json("state", "delete", "plan", "b", "a") == {"plan_id": "plan", "deleted": 1, "missing": ["a"]}
    assert [entry["key"] for entry in terminal.json("state", "list", "plan")["entries"]] == ["c", "d"]
    assert terminal.json("state", "delete", "plan", "--all") == {"plan_id": "plan", "deleted": 2, "missing": []}
    assert terminal.json("state", "plans")["plans"] == []
    for wrong in (["plan"], ["plan", "a", "--all"], ["plan", "a", "b", "--if-revision", "1"]):
        terminal.run("state", "delete", *wrong, exits=Exit.USAGE)


@pytest.mark.behaviour("command.lists")
def test_history_and_values_of_the_past(terminal: Terminal) -> None:
    terminal.set("plan", "a", "old")
    terminal.set("plan", "b", 1)
    terminal.set("plan", "a", "new")

    heading, *changes = rows(terminal.run("state", "history", "plan").stdout)
    assert heading == ["Revision", "Time", "Operation", "Key", "Argument", "Agent", "Event"]
    assert [(row[0], row[2], row[3], row[4]) for row in changes] == [
        ("3", "set", "a", '"new"'),
        ("2", "set", "b", "1"),
        ("1", "set", "a", '"old"'),
    ]
    found = terminal.json("state", "history", "plan", "--key", "a", "--after", "1")
    assert [(change["revision"], change["argument"]) for change in found["changes"]] == [(3, "new")]

    assert terminal.run("state", "get", "plan", "a", "--at", "2").stdout == '"old"\n'
    assert terminal.json("state", "get", "plan", "a", "--at", "2")["at"] == 2
    terminal.run("state", "get", "plan", "b", "--at", "1", exits=Exit.NOT_FOUND)
    refused = terminal.run("state", "get", "plan", "a", "--at", "9", exits=Exit.NOT_FOUND)
    assert "no revision 9 yet" in refused.stderr

    terminal.run("state", "delete", "plan", "--all")
    terminal.run("state", "history", "plan", "--after", "0", exits=Exit.GONE)
    terminal.run("state", "get", "plan", "a", "--at", "1", exits=Exit.GONE)
    assert terminal.run("state", "history", "no plan").stdout == ""


@pytest.mark.behaviour("command.lists")
async def test_actions(terminal: Terminal) -> None:
    async with terminal.context() as context:
        state = WorkflowState(context.memory, "plan")
        await state.record_action("research.started")
        await state.record_action("research.completed")
    heading, *found = rows((await asyncio.to_thread(terminal.process, "state", "actions", "plan")).stdout)
    assert heading == ["Number", "Time", "Action", "Agent", "Event"]
    assert [(row[0], row[2]) for row in found] == [("2", "research.completed"), ("1", "research.started")]
    assert (await asyncio.to_thread(terminal.process, "state", "actions", "other")).stdout == ""


@pytest.mark.behaviour("command.follow")
def test_watch(terminal: Terminal) -> None:
    terminal.set("plan", "before", 1)
    with (
        Follower(terminal, "state", "watch", "plan") as lines,
        Follower(terminal, "state", "watch", "plan", "--after", "0", "--json") as documents,
    ):
        terminal.set("plan", "now", {"x": "y"})
        terminal.run("state", "delete", "plan", "now", "before")
        assert re.fullmatch(r'2  [-0-9]+ [:0-9]+  set  now  \{"x":"y"\}  -  -', lines.line())
        assert "delete  now" in lines.line()
        assert "delete  before" in lines.line()
        found = [json.loads(documents.line()) for _ in range(3)]
        assert [commit["revision"] for commit in found] == [1, 2, 3]
        assert [change["key"] for commit in found for change in commit["changes"]] == ["before", "now", "now", "before"]
        assert lines.end() == ("", "")
        assert documents.end() == ("", "")


# --- Events ------------------------------------------------------------------------------------


def publish(terminal: Terminal, *arguments: str, **more: Any) -> str:
    """Publishes on business-facts; the event's id."""
    return terminal.run("events", "publish", *arguments, "--topic", "business-facts", **more).stdout.strip()


@pytest.mark.behaviour("command.follow", "command.publish")
def test_publish_and_tail(terminal: Terminal) -> None:
    with Follower(terminal, "events", "tail") as lines, Follower(terminal, "events", "tail", "--json") as documents:
        first = publish(
            terminal, "order.placed", "--data", '{"order": 7}', "--plan", "plan", "--correlation-id", "flow",
            "--subject", "s", "--session-id", "se", "--response-event", "order.done", "--response-topic",
            "action-results", "--source", "me",
        )  # fmt: skip
        second = terminal.json("events", "publish", "odd\x1bname", "--topic", "task-events")["id"]
        publish(terminal, "order.placed", "--data", "-", stdin=b"[1]")

        assert re.fullmatch(
            r'\d+  [-0-9]+ [:0-9]+  business-facts  order\.placed  plan=plan  \{"order":7\}', lines.line()
        )
        assert lines.line().endswith("task-events  odd\\u001bname")
        found = [json.loads(documents.line()) for _ in range(3)]
        positions = [one["position"] for one in found]
        assert positions == sorted(set(positions))
        event = found[0]["event"]
        assert event["id"] == first
        assert found[1]["event"]["id"] == second
        assert found[1]["event"]["source"] == "soorma-cli"
        assert {name: event[name] for name in ("plan_id", "correlation_id", "subject", "session_id", "source")} == {
            "plan_id": "plan",
            "correlation_id": "flow",
            "subject": "s",
            "session_id": "se",
            "source": "me",
        }
        assert (event["response_event"], event["response_topic"]) == ("order.done", "action-results")
        assert (event["tenant_id"], event["user_id"]) == (terminal.tenant, DEFAULT_USER)
        assert found[2]["event"]["data"] == [1]
        documents.end()


@pytest.mark.behaviour("command.follow")
def test_tail_takes_what_is_asked_for(terminal: Terminal) -> None:
    for kind in ("a", "b", "c"):
        publish(terminal, kind)
    terminal.run("events", "publish", "a", "--topic", "plan-events")
    with Follower(terminal, "events", "tail", "--after", "0", "--json", "--type", "a", "--type", "c") as found:
        told = [json.loads(found.line()) for _ in range(3)]
        assert [(one["event"]["type"], one["event"]["topic"]) for one in told] == [
            ("a", "business-facts"),
            ("c", "business-facts"),
            ("a", "plan-events"),
        ]
    after = str(told[1]["position"])
    with Follower(terminal, "events", "tail", "--after", after, "--json") as found:
        assert json.loads(found.line()) == told[2]
    with Follower(terminal, "events", "tail", "--after", "0", "--cloudevents", "--topic", "plan-events") as found:
        cloud = json.loads(found.line())
        assert cloud["specversion"] == "1.0"
        assert cloud["topic"] == "plan-events"
        assert cloud["tenantid"] == terminal.tenant


@pytest.mark.behaviour("command.publish")
def test_an_event_id_is_used_once(terminal: Terminal) -> None:
    for _ in range(2):
        assert publish(terminal, "a", "--event-id", "mine", "--data", "1") == "mine"
    terminal.run(
        "events", "publish", "a", "--topic", "business-facts", "--event-id", "mine", "--data", "2", exits=Exit.CONFLICT
    )


@pytest.mark.behaviour("command.dead-letters")
async def test_groups_dead_letters_and_replay(terminal: Terminal) -> None:
    accepting, refused, seen = False, 0, []
    agent = Worker("refuser", config=config_of(terminal.platform, tenant_id=terminal.tenant))

    @agent.on_event("task", topic="action-requests")
    async def handle(event: Any, context: Any) -> None:
        nonlocal refused
        if not accepting:
            refused += 1
            raise Reject("not\ntoday")
        seen.append(event.data)

    def run(*arguments: str, **more: Any) -> Any:
        return asyncio.to_thread(terminal.process, "events", *arguments, **more)

    async def run_json(*arguments: str, **more: Any) -> Any:
        return json.loads((await run(*arguments, "--json", **more)).stdout)

    assert "no agent" in (await run("groups")).stderr
    assert "no dead letters" in (await run("dead-letters")).stderr
    async with agent, terminal.context() as context:
        count = 230  # three pages
        await context.bus.publish_many(
            [{"event_type": "task", "topic": "action-requests", "data": number} for number in range(count)]
        )
        await eventually(lambda: refused == count, 60)
        await eventually(lambda: _has_dead_letters(run_json, count), 60)  # the last ones are on their way

        heading, group = rows((await run("groups")).stdout)
        assert heading == ["Group", "Tenant", "Waiting", "Ready", "In hand", "Oldest", "Takes", "Replicas"]
        assert group == ["refuser", terminal.tenant, "0", "0", "0", "-", "task on action-requests", "1"]
        (found,) = (await run_json("groups"))["groups"]
        assert (found["name"], found["waiting"]) == ("refuser", 0)

        letters = (await run_json("dead-letters", "--group", "refuser"))["dead_letters"]
        assert sorted(letter["event"]["data"] for letter in letters) == list(range(count))
        assert (await run_json("dead-letters", "--group", "other"))["dead_letters"] == []
        heading, first, *others = rows((await run("dead-letters", "--limit", str(count))).stdout)
        assert heading[:4] == ["Id", "Group", "Type", "Topic"]
        assert first[:7] == [
            str(max(letter["id"] for letter in letters)),
            "refuser",
            "task",
            "action-requests",
            "-",
            "1",
            "not\\ntoday",
        ]
        assert len(others) == count - 1

        accepting = True
        numbers = [str(letter["id"]) for letter in letters]
        elsewhere = await run("replay", numbers[0], "--tenant", "another", exits=Exit.NOT_FOUND)
        assert numbers[0] in elsewhere.stderr
        assert (await run("replay", numbers[0])).stdout == f"Replayed dead letter {numbers[0]}\n"
        partly = await run_json("replay", numbers[0], numbers[1], exits=Exit.NOT_FOUND)
        assert partly == {"replayed": [int(numbers[1])], "missing": [int(numbers[0])]}
        assert await run_json("replay", "--all", "--group", "other") == {"replayed": [], "missing": []}
        everything = await run_json("replay", "--all")
        assert everything == {"replayed": [int(number) for number in numbers[2:]], "missing": []}
        await eventually(lambda: len(seen) == count)
        assert sorted(seen) == list(range(count))
        assert (await run_json("dead-letters"))["dead_letters"] == []


async def _has_dead_letters(run_json: Any, count: int) -> bool:
    return len((await run_json("dead-letters"))["dead_letters"]) == count


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
            said = {line for line in notes.splitlines() if not line.startswith("note: no answer from the ")}
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
def test_a_reader_that_leaves_is_no_failure_that_needs_words(terminal: Terminal, form: tuple[str, ...]) -> None:
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
    found = terminal.json("state", "get", "plan", "key", SOORMA_TENANT_ID="a tenant", SOORMA_USER_ID="a user")
    assert (found["tenant_id"], found["user_id"]) == ("a tenant", "a user")
    done = terminal.json("state", "set", unique("plan"), "key", "1", SOORMA_TENANT_ID="", SOORMA_USER_ID="")
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
    elsewhere = {name: terminal.env.pop(name) for name in services.VARIABLES.values()}
    terminal.folder = below
    terminal.set("plan", "key", 1)
    publish(terminal, "a")

    nowhere = dict.fromkeys(elsewhere, "http://127.0.0.1:9")
    terminal.run("state", "plans", exits=Exit.UNAVAILABLE, SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere)


@pytest.mark.behaviour("command.whose")
def test_the_default_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in clean_environment().keys() ^ os.environ.keys():
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

COMMANDS = [
    ("events", "tail"),
    ("events", "publish", "a", "--topic", "business-facts"),
    ("events", "groups"),
    ("events", "unsubscribe", "group", "type", "--yes"),
    ("events", "dead-letters"),
    ("events", "replay", "1"),
    ("events", "timers"),
    ("events", "cancel", "event-1"),
    ("state", "plans"),
    ("state", "complete", "plan"),
    ("state", "fail", "plan", "--reason", "lost"),
    ("state", "cancel", "plan"),
    ("state", "list", "plan"),
    ("state", "get", "plan", "key"),
    ("state", "set", "plan", "key", "1"),
    ("state", "delete", "plan", "key"),
    ("state", "history", "plan"),
    ("state", "at", "plan", "1"),
    ("state", "diff", "plan", "1"),
    ("state", "restore", "plan", "key", "1"),
    ("state", "fork", "plan", "new"),
    ("state", "actions", "plan"),
    ("state", "watch", "plan"),
]


@pytest.mark.behaviour("command.says-what-is-wrong", "outage.every-call")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_platform(command: tuple[str, ...], terminal: Terminal) -> None:
    nowhere = dict.fromkeys(services.VARIABLES.values(), "http://127.0.0.1:9")
    done = terminal.run(*command, "--json", exits=Exit.UNAVAILABLE, SOORMA_RETRY_SECONDS=FEW_SECONDS, **nowhere)
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
def test_what_is_not_possible_is_told(terminal: Terminal, command: tuple[str, ...], told: str) -> None:
    done = terminal.run(*command, exits=Exit.USAGE)
    assert told in done.stderr + done.stdout


@pytest.mark.behaviour("command.says-what-is-wrong")
def test_missing_and_too_large(terminal: Terminal) -> None:
    missing = terminal.run("state", "get", "plan", "key", exits=Exit.NOT_FOUND)
    assert missing.stderr == "soorma: plan 'plan' has no key 'key'\n"
    assert "9" in terminal.run("events", "replay", "999999", exits=Exit.NOT_FOUND).stderr
    ahead = terminal.run("events", "tail", "--after", "999999999", exits=Exit.NOT_FOUND)
    assert "log ends at position" in ahead.stderr
    assert "is at revision 0" in terminal.run("state", "watch", "plan", "--after", "7", exits=Exit.NOT_FOUND).stderr
    large = json.dumps("x" * 1_100_000).encode()
    assert "1,048,576" in terminal.run("state", "set", "plan", "key", "-", stdin=large, exits=Exit.REFUSED).stderr


# --- The command itself ------------------------------------------------------------------------


@pytest.mark.behaviour("costs.imports")
@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (
            ["version"],
            ["aiohttp", "asyncio", "msgspec", "rich.table", "soorma.cli.data.events", "soorma.cli.data.plans"],
        ),
        (["events", "--help"], ["aiohttp", "soorma.cli.data.plans"]),
        (["state", "set", "plan", "key", "no json"], ["aiohttp", "soorma.cli.data.events"]),
        (["state", "list", "plan"], ["soorma.cli.data.events", "soorma.agents"]),
    ],
)
def test_a_command_imports_only_what_it_needs(terminal: Terminal, arguments: list[str], unwanted: list[str]) -> None:
    program = f"""
import sys
from soorma.cli.main import run
run({arguments!r})
print("IMPORTED", *sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=terminal.env, capture_output=True, text=True, check=True, timeout=60
    )
    imported = done.stdout.partition("IMPORTED")[2].split()
    assert "soorma.cli.main" in imported
    assert not {"soorma_platform", *unwanted} & set(imported)


def listed(help_text: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(r"^  ([a-z][a-z-]*) ", help_text.partition("\nCommands:\n")[2], flags=re.MULTILINE)


@pytest.mark.behaviour("command.complete-help")
def test_help_and_readme_name_every_command(terminal: Terminal) -> None:
    told = terminal.process("--help").stdout
    assert all(noun in told for noun in commands.HOMES)
    found = {f"{noun} {name}" for noun in commands.HOMES for name in listed(terminal.process(noun, "--help").stdout)}
    assert found == {" ".join(command[:2]) for command in COMMANDS}
    section = README.read_text("utf-8").partition("\n## The command\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `soorma ([a-z]+ [a-z-]+)", section, flags=re.MULTILINE)) == found
    codes = " ".join(terminal.process("dev", "--help").stdout.split())
    assert all(f"{code.value} {code.meaning}" in codes for code in Exit)
