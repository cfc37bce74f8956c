"""`soorma memory history`, `said`, `log` and `sessions`, as people and scripts use them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from cli_terminal import SOORMA, Terminal, at_terminal, rows
from platform_process import PlatformProcess
from running import Raw, platform_in, unique

from soorma.cli.exits import Exit
from soorma.cli.memory.sessions import oldest_first
from soorma_common.names import DEFAULT_USER

VEGETARIAN = "I am a vegetarian."
WORDS_ALONE = "note: it went by words alone: no embedding model is in use, or it does not respond\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """A platform that searches by words, whatever is installed."""
    folder = tmp_path_factory.mktemp("platform")
    with platform_in(folder, SOORMA_EMBEDDINGS="none") as platform:
        yield platform


def log(terminal: Terminal, *arguments: str, **more: Any) -> str:
    """Logs an interaction; returns its id."""
    return terminal.run("memory", "log", *arguments, **more).stdout.strip()


def contents(terminal: Terminal, *arguments: str) -> list[str]:
    """What was said, in its order."""
    history = terminal.json("memory", "history", *arguments)
    return [one["content"] for one in history["interactions"]]


def found(terminal: Terminal, *arguments: str) -> list[str]:
    """The contents that a search has found, in alphabetical order."""
    hits = terminal.json("memory", "said", *arguments)["hits"]
    return sorted(hit["content"] for hit in hits)


def exported(terminal: Terminal, session: str) -> list[dict[str, Any]]:
    """The lines that an export of a session prints."""
    said = terminal.run("memory", "sessions", "export", session).stdout
    return [json.loads(line) for line in said.splitlines()]


def lines_of(terminal: Terminal, *lines: object) -> str:
    """The name of a JSON Lines file with these values."""
    file = terminal.folder / "said.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def raw(terminal: Terminal) -> Raw:
    """The memory service, without the command."""
    return Raw(terminal.platform.memory_url, terminal.tenant, DEFAULT_USER)


# --- Log ---------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-log")
def test_an_interaction_keeps_all_that_it_is_given(terminal: Terminal) -> None:
    first = log(terminal, "user", VEGETARIAN, "--session", "s", "--agent", "cook", "--plan", "p",
                "--metadata", '{"page": 7, "ü": [null]}')  # fmt: skip
    second = terminal.json("memory", "log", "assistant", "-", stdin="Grüße\n".encode())["id"]
    third = log(terminal, "system", "--", "-7 degrees")
    kept = terminal.json("memory", "history")["interactions"]
    assert [one["id"] for one in kept] == [first, second, third]
    assert [one["role"] for one in kept] == ["user", "assistant", "system"]
    assert [one["content"] for one in kept] == [VEGETARIAN, "Grüße\n", "-7 degrees"]
    names = ("session_id", "agent_id", "plan_id", "metadata", "trust")
    assert [kept[0].get(name) for name in names] == [
        "s",
        "cook",
        "p",
        {"page": 7, "ü": [None]},
        "application",
    ]
    assert [kept[1].get(name) for name in names] == [None, None, None, None, "application"]


@pytest.mark.behaviour("command.memory-log-lines")
def test_an_interaction_in_each_line(terminal: Terminal) -> None:
    text = (
        b'\xef\xbb\xbf{"role": "user", "content": "one"}\r\n\n {"role":"tool","content":"\\u00fc"}'
    )
    done = terminal.run("memory", "log", "--lines", "-", stdin=text)
    assert (done.stdout, done.stderr) == ("Logged 2 interactions\n", "")
    assert contents(terminal) == ["one", "ü"]
    file = lines_of(
        terminal,
        {"role": "user", "content": "three", "session_id": "s", "agent_id": "a", "metadata": None},
        *({"role": "user", "content": f"n {number}", "session_id": "t"} for number in range(1500)),
    )
    ids = terminal.json("memory", "log", "--lines", file)["ids"]
    assert [one["id"] for one in exported(terminal, "s")] == ids[:1]
    assert [one["id"] for one in exported(terminal, "t")] == ids[1:]
    nothing = terminal.run("memory", "log", "--lines", lines_of(terminal))
    assert nothing.stdout == "Logged 0 interactions\n"


@pytest.mark.behaviour("command.memory-log-lines", "command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("line", "told", "code"),
    [
        ("no json", "it is not JSON that can be kept", Exit.USAGE),
        ('"text"', "it is no interaction: Expected `object`, got `str`", Exit.USAGE),
        ('{"role": "user"}', "missing required field `content`", Exit.USAGE),
        ('{"role": "bot", "content": "x"}', "'bot' - at `$.role`", Exit.USAGE),
        ('{"role": "user", "content": "x", "at": 1}', "unknown field `at`", Exit.USAGE),
        (
            '{"role": "user", "content": "x", "id": "i"}',
            "gets its id when it is logged",
            Exit.USAGE,
        ),
        ('{"role": "user", "content": " "}', "is empty", Exit.USAGE),
        ('{"role": "user", "content": "x", "session_id": ""}', "session_id must have", Exit.USAGE),
        ('{"role": "user", "content": "x", "metadata": [1]}', "metadata is an object", Exit.USAGE),
        (f'{{"role": "user", "content": "{"x" * 1_100_000}"}}', "passage_bytes", Exit.REFUSED),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else str(value),
)
def test_a_line_that_is_none_is_named(terminal: Terminal, line: str, told: str, code: Exit) -> None:
    text = f'{{"role": "user", "content": "one"}}\n\n{line}\n'.encode()
    done = terminal.run("memory", "log", "--lines", "-", stdin=text, exits=code)
    (said,) = done.stderr.splitlines()
    assert said.startswith("soorma: line 3 of standard input: ")
    assert told in said
    assert said.endswith("; before that, 1 interaction was logged")
    assert contents(terminal) == ["one"]


# --- History -----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-history")
def test_history_is_a_table_or_the_services_response(terminal: Terminal) -> None:
    log(terminal, "user", VEGETARIAN, "--session", "s-1", "--agent", "cook")
    log(terminal, "assistant", "Then\n\tno \x1b[31mfish\x1b[0m " + "today " * 100)
    done = terminal.run("memory", "history")
    heading, first, second = rows(done.stdout)
    assert done.stderr == ""
    assert heading == ["Number", "Time", "Session", "Agent", "Role", "Text"]
    assert first[2:] == ["s-1", "cook", "user", VEGETARIAN]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", first[1])
    assert second[2:5] == ["-", "-", "assistant"]
    assert second[5].startswith(r"Then no \u001b[31mfish\u001b[0m today today")
    assert second[5].endswith("…")
    assert len(second[5]) <= 100
    assert terminal.json("memory", "history") == raw(terminal)("GET", "/v1/memory/episodic").json


@pytest.mark.behaviour("command.memory-history")
def test_history_is_narrowed_and_paged(terminal: Terminal) -> None:
    for number, (session, agent) in enumerate([("s", "a"), ("s", "b"), ("t", "a"), ("s", "a")]):
        log(terminal, "user", f"message {number}", "--session", session, "--agent", agent)
    assert contents(terminal) == [f"message {number}" for number in range(4)]
    assert contents(terminal, "--session", "s") == ["message 0", "message 1", "message 3"]
    assert contents(terminal, "--agent", "a") == ["message 0", "message 2", "message 3"]
    assert contents(terminal, "--session", "s", "--agent", "a") == ["message 0", "message 3"]
    assert contents(terminal, "--max-tokens", "6") == ["message 2", "message 3"]
    done = terminal.run("memory", "history", "--limit", "3")
    more = re.fullmatch(r"note: (--before) (\d+) lists what was said before\n", done.stderr)
    assert more is not None
    older = terminal.run("memory", "history", *more.groups())
    assert [row[-1] for row in rows(older.stdout)[1:]] == ["message 0"]
    assert older.stderr == ""


@pytest.mark.behaviour("command.memory-history")
def test_a_history_without_rows_says_why(terminal: Terminal) -> None:
    empty = terminal.run("memory", "history")
    told = "note: nothing was logged for this user of this tenant\n"
    assert (empty.stdout, empty.stderr) == ("", told)
    log(terminal, "user", "old")
    log(terminal, "user", VEGETARIAN)
    other = terminal.run("memory", "history", "--session", "s").stderr
    assert other == "note: nothing such was logged for this user of this tenant\n"
    done = terminal.run("memory", "history", "--max-tokens", "1")
    assert done.stdout == ""
    more = re.search(r"alone has more tokens; (--before) (\d+) lists", done.stderr)
    assert more is not None
    assert contents(terminal, "--max-tokens", "1", *more.groups()) == ["old"]


# --- Said --------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-said")
def test_what_was_said_is_a_table_or_the_services_response(terminal: Terminal) -> None:
    log(terminal, "user", VEGETARIAN, "--session", "s-1", "--agent", "cook")
    log(terminal, "assistant", "The museum opens at nine.")
    done = terminal.run("memory", "said", "vegetarian")
    heading, hit = rows(done.stdout)
    assert done.stderr == WORDS_ALONE
    assert heading == ["Score", "Role", "Text", "Agent", "Session", "Time"]
    assert hit[1:5] == ["user", VEGETARIAN, "cook", "s-1"]
    answer = raw(terminal)("POST", "/v1/memory/episodic/search", {"query": "vegetarian"}).json
    assert terminal.json("memory", "said", "vegetarian") == answer


@pytest.mark.behaviour("command.memory-said")
def test_nothing_said_is_told_from_nothing_logged(terminal: Terminal) -> None:
    done = terminal.run("memory", "said", "dogs")
    told = "note: nothing was ever logged for this user of this tenant\n"
    assert (done.stdout, done.stderr) == ("", told)
    log(terminal, "user", VEGETARIAN)
    done = terminal.run("memory", "said", "dogs", "--mode", "text")
    told = "note: nothing that has to do with it was said\n"
    assert (done.stdout, done.stderr) == ("", told)


@pytest.mark.behaviour("command.memory-said")
def test_what_limits_what_was_said(terminal: Terminal) -> None:
    log(terminal, "user", "dogs one", "--session", "s", "--agent", "a", "--metadata", '{"n": 1}')
    log(terminal, "assistant", "dogs two", "--session", "s", "--agent", "b")
    log(terminal, "user", "dogs and cats three", "--session", "t", "--agent", "a")
    every = ["dogs and cats three", "dogs one", "dogs two"]
    assert found(terminal, "dogs") == every
    assert found(terminal, "dogs", "--session", "s") == ["dogs one", "dogs two"]
    assert found(terminal, "dogs", "--agent", "a") == ["dogs and cats three", "dogs one"]
    assert found(terminal, "dogs", "--role", "assistant") == ["dogs two"]
    assert found(terminal, "dogs", "--metadata", '{"n": 1}') == ["dogs one"]
    assert found(terminal, "dogs", "--session", "t", "--role", "assistant") == []
    assert len(found(terminal, "dogs", "--limit", "2", "--mode", "text")) == 2
    assert len(found(terminal, "dogs", "--max-tokens", "4")) == 2
    assert found(terminal, "dogs cats", "--min-score", "0.9") == ["dogs and cats three"]
    year = "2020-01-01T00:00:00Z"
    assert found(terminal, "dogs", "--since", year) == every
    assert found(terminal, "dogs", "--until", year) == []


# --- Sessions ----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.memory-sessions")
def test_sessions_are_listed_shown_and_named(terminal: Terminal) -> None:
    empty = terminal.run("memory", "sessions")
    assert (empty.stdout, empty.stderr) == ("", "note: this user of this tenant has no sessions\n")
    for session in ("s-1", "s-2", "s-1"):
        log(terminal, "user", VEGETARIAN, "--session", session)
    said = terminal.run("memory", "sessions", "name", "s-1", "What to cook").stdout
    assert said == "Named session s-1 What to cook\n"
    heading, *table = rows(terminal.run("memory", "sessions").stdout)
    assert heading == ["Session", "Name", "Interactions", "Began", "Last"]
    assert [row[:3] for row in table] == [["s-2", "-", "1"], ["s-1", "What to cook", "2"]]
    (newest,) = terminal.json("memory", "sessions", "--limit", "1")["sessions"]
    assert newest["session_id"] == "s-2"
    assert terminal.json("memory", "sessions") == terminal.json("memory", "sessions", "list")

    shown = terminal.run("memory", "sessions", "show", "s-1")
    assert [line.split(maxsplit=1) for line in shown.stdout.splitlines()][:3] == [
        ["Session", "s-1"],
        ["Name", "What to cook"],
        ["Interactions", "2"],
    ]
    assert shown.stderr == "note: soorma memory history --session ID shows what was said\n"
    cleared = terminal.json("memory", "sessions", "name", "s-1", "--clear")
    assert "name" not in cleared
    assert terminal.json("memory", "sessions", "show", "s-1") == cleared
    again = terminal.run("memory", "sessions", "name", "s-1", "--clear").stdout
    assert again == "Session s-1 has no name\n"


@pytest.mark.behaviour("command.memory-sessions")
def test_many_sessions(terminal: Terminal) -> None:
    lines = [{"role": "user", "content": "x", "session_id": f"s-{n}"} for n in range(1005)]
    terminal.run("memory", "log", "--lines", lines_of(terminal, *lines))
    names = [one["session_id"] for one in terminal.json("memory", "sessions")["sessions"]]
    assert names == [f"s-{number}" for number in reversed(range(1005))]
    done = terminal.run("memory", "sessions")
    assert done.stderr == "note: the newest 100 of 1005; --limit 1005 shows all\n"
    assert [row[0] for row in rows(done.stdout)[1:]] == names[:100]


@pytest.mark.behaviour("command.memory-export")
@pytest.mark.parametrize("count", [1, 1000, 1001, 2345])
def test_an_export_begins_with_the_oldest(terminal: Terminal, count: int) -> None:
    lines = [{"role": "user", "content": f"n {n}", "session_id": "s"} for n in range(count)]
    ids = terminal.json("memory", "log", "--lines", lines_of(terminal, *lines))["ids"]
    log(terminal, "user", "of another", "--session", "t")
    said = exported(terminal, "s")
    assert [one["id"] for one in said] == ids
    assert [one["content"] for one in said] == [line["content"] for line in lines]
    document = terminal.json("memory", "sessions", "export", "s")
    assert document["interactions"] == said
    assert document["session"] == terminal.json("memory", "sessions", "show", "s")


async def pages_meanwhile(terminal: Terminal) -> list[list[int]]:
    """The pages of an export of `s`; after the first, one is logged and a third is forgotten."""
    pages = []
    async with (
        terminal.context() as platform,
        aclosing(oldest_first(platform.memory, "s")) as stream,
    ):
        async for page in stream:
            pages.append([int(one.content) for one in page])
            if len(pages) == 1:
                await platform.memory.log_interaction("a-0", "user", "9999", session_id="s")
                await platform.memory.forget(session_id="s", agent_id="a-1")
    return pages


@pytest.mark.behaviour("command.memory-export")
def test_an_export_while_others_log_and_forget(terminal: Terminal) -> None:
    lines = [
        {"role": "user", "content": f"{number}", "session_id": "s", "agent_id": f"a-{number % 3}"}
        for number in range(3300)
    ]
    terminal.run("memory", "log", "--lines", lines_of(terminal, *lines))
    first, *others = asyncio.run(pages_meanwhile(terminal))
    assert first == list(range(300)), "those that one page leaves over"
    assert [number for page in others for number in page] == [
        number for number in range(300, 3300) if number % 3 != 1
    ]


@pytest.mark.behaviour("command.memory-export")
def test_an_export_of_large_interactions(terminal: Terminal) -> None:
    # 10 MB: the platform cuts such pages short
    texts = [f"{number} " + "x" * 1_000_000 for number in range(10)]
    lines = [{"role": "tool", "content": text, "session_id": "s"} for text in texts]
    terminal.run("memory", "log", "--lines", lines_of(terminal, *lines))
    assert [one["content"] for one in exported(terminal, "s")] == texts


@pytest.mark.behaviour("command.memory-export")
def test_who_reads_an_export_may_leave(terminal: Terminal) -> None:
    lines = [{"role": "user", "content": "x" * 1000, "session_id": "s"} for _ in range(3000)]
    terminal.run("memory", "log", "--lines", lines_of(terminal, *lines))
    process = subprocess.Popen(
        [*SOORMA, "memory", "sessions", "export", "s"],
        cwd=terminal.folder,
        env=terminal.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["content"] == "x" * 1000
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == Exit.OUTPUT_CLOSED


@pytest.mark.behaviour("command.memory-sessions")
def test_deleting_a_session_asks_and_shows_a_receipt(terminal: Terminal) -> None:
    for session in ("s", "s", "t", "u"):
        log(terminal, "user", VEGETARIAN, "--session", session)
    terminal.run("memory", "sessions", "name", "s", "What to cook")
    refused = terminal.run("memory", "sessions", "delete", "s", exits=Exit.USAGE)
    assert refused.stderr.endswith("say --yes where nobody can be asked\n")
    code, said = at_terminal(terminal, "memory", "sessions", "delete", "s", answer="n\n")
    assert code == Exit.FAILED
    assert "Session s (What to cook) has 2 interactions. This removes it with them." in said
    assert len(exported(terminal, "s")) == 2
    code, said = at_terminal(terminal, "memory", "sessions", "delete", "s", answer="y\n")
    assert code == Exit.OK, said
    assert "Deleted session s with 2 interactions\n" in said
    assert re.search(r"bytes are gone from the database and its log by \d{4}-\d\d-\d\d ", said)
    receipt = terminal.json("memory", "sessions", "delete", "t", "--yes")
    assert (receipt["passages"], receipt["interactions"]) == (0, 1)
    assert receipt["at"] < receipt["erased_by"]
    missing = terminal.run("memory", "sessions", "delete", "s", "--yes", exits=Exit.NOT_FOUND)
    assert missing.stderr == "soorma: there is no session 's': nothing was logged in it\n"
    assert contents(terminal) == [VEGETARIAN]


# --- All of them -------------------------------------------------------------------------------


@pytest.mark.behaviour("command.says-what-is-wrong", "command.memory-log", "command.memory-said")
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (("log",), Exit.USAGE, "give ROLE and TEXT, or --lines"),
        (("log", "user"), Exit.USAGE, "give ROLE and TEXT, or --lines"),
        (("log", "user", "x", "--lines", "f"), Exit.USAGE, "nothing else describes them"),
        (("log", "--session", "s", "--lines", "f"), Exit.USAGE, "nothing else describes them"),
        (("log", "--lines", "nothing.jsonl"), Exit.USAGE, "cannot be read: No such file"),
        (("log", "bot", "x"), Exit.USAGE, "assistant"),
        (("log", "user", ""), Exit.USAGE, "is empty"),
        (("log", "user", "\udcff"), Exit.USAGE, "lone surrogate"),
        (("log", "user", "x", "--metadata", "[7]"), Exit.USAGE, "it is an object"),
        (("log", "user", "x", "--session", ""), Exit.USAGE, "session_id must have"),
        (("log", "user", "x", "--agent", ".."), Exit.USAGE, "agent_id must not be"),
        (("history", "--limit", "0"), Exit.USAGE, "--limit"),
        (("history", "--limit", "1001"), Exit.USAGE, "--limit"),
        (("history", "--max-tokens", "0"), Exit.USAGE, "--max-tokens"),
        (("history", "--before", "0"), Exit.USAGE, "--before"),
        (("history", "--session", ""), Exit.USAGE, "session_id must have"),
        (("said",), Exit.USAGE, "QUERY"),
        (("said", " "), Exit.USAGE, "query is empty"),
        (("said", "\udcff"), Exit.USAGE, "no UTF-8"),
        (("said", "x", "--role", "bot"), Exit.USAGE, "assistant"),
        (("said", "x", "--mode", "vector"), Exit.USAGE, "no embedding model"),
        (("said", "x", "--since", "today"), Exit.USAGE, "since must be RFC 3339"),
        (("said", "x", "--until", "today"), Exit.USAGE, "until must be RFC 3339"),
        (("said", "x", "--min-score", "2"), Exit.USAGE, "--min-score"),
        (("said", "x", "--wait", "61"), Exit.USAGE, "--wait"),
        (("sessions", "--limit", "0"), Exit.USAGE, "--limit"),
        (("sessions", "--tenant", "t", "show", "s"), Exit.USAGE, "unexpected extra argument"),
        (("sessions", "nope"), Exit.USAGE, "nope"),
        (("sessions", "show", "s"), Exit.NOT_FOUND, "there is no session 's'"),
        (("sessions", "show", ".."), Exit.USAGE, "session_id must not be"),
        (("sessions", "export", "s"), Exit.NOT_FOUND, "there is no session 's'"),
        (("sessions", "export", "s", "--json"), Exit.NOT_FOUND, "there is no session 's'"),
        (("sessions", "delete", "", "--yes"), Exit.USAGE, "session_id must have"),
        (("sessions", "name", "s", "name"), Exit.NOT_FOUND, "there is no session 's'"),
        (("sessions", "name", "s", ""), Exit.USAGE, "name must have"),
        (("sessions", "name", "s"), Exit.USAGE, "give either NAME or --clear"),
        (("sessions", "name", "s", "name", "--clear"), Exit.USAGE, "either NAME or --clear"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_is_not_possible_is_told(
    terminal: Terminal, command: tuple[str, ...], code: Exit, told: str
) -> None:
    done = terminal.run("memory", *command, exits=code)
    assert told in done.stderr
    assert done.stdout == ""
    assert contents(terminal) == []


@pytest.mark.behaviour("command.whose")
@pytest.mark.parametrize("option", ["--tenant", "--user"])
def test_another_tenant_or_user_sees_nothing(terminal: Terminal, option: str) -> None:
    log(terminal, "user", VEGETARIAN, "--session", "s")
    other = (option, unique("other"))
    assert contents(terminal, *other) == []
    assert terminal.json("memory", "said", "vegetarian", *other)["is_known"] is False
    assert terminal.json("memory", "sessions", *other) == {"sessions": []}
    for command in (("show",), ("name", "--clear"), ("export",), ("delete", "--yes")):
        terminal.run("memory", "sessions", *command, "s", *other, exits=Exit.NOT_FOUND)
    log(terminal, "user", "Mine.", "--session", "s", *other)
    assert contents(terminal, *other) == ["Mine."]
    assert contents(terminal) == [VEGETARIAN]


@pytest.mark.behaviour("command.tables")
def test_tables_on_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    text = "Dogs travel free of charge in all carriages, and so do cats in baskets."
    file = tmp_path / "said.jsonl"
    line = {"role": "user", "content": text, "session_id": unique("session"), "agent_id": "cook"}
    file.write_text(f"{json.dumps(line)}\n" * 3)
    terminal.run("memory", "log", "--lines", str(file))
    for command in (("history",), ("said", "dogs"), ("sessions",)):
        code, said = at_terminal(terminal, "memory", *command)
        assert code == Exit.OK
        table = [line for line in said.splitlines() if not line.startswith("note: ")]
        assert max(map(len, table)) <= 80
        assert ("Dogs travel free of charge" in said) == (command != ("sessions",))
