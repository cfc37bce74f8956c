"""`soorma state history`, `watch`, `at` and others: the past of plans, on a real platform."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from cli_terminal import Follower, Terminal, rows

from soorma import WorkflowState
from soorma.cli.exits import Exit

# --- What happened -----------------------------------------------------------------------------


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
    heading, *found = rows(
        (await asyncio.to_thread(terminal.process, "state", "actions", "plan")).stdout
    )
    assert heading == ["Number", "Time", "Action", "Agent", "Event"]
    assert [(row[0], row[2]) for row in found] == [
        ("2", "research.completed"),
        ("1", "research.started"),
    ]
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
        assert [change["key"] for commit in found for change in commit["changes"]] == [
            "before",
            "now",
            "now",
            "before",
        ]
        assert lines.end() == ("", "")
        assert documents.end() == ("", "")


# --- Revisions ---------------------------------------------------------------------------------


@pytest.fixture
def plan(terminal: Terminal) -> str:
    """A plan of four commits: `a` is set, `b` is set to null, `a` is deleted, `b` is set anew."""
    terminal.set("p", "a", [1])
    terminal.set("p", "b", None)
    terminal.run("state", "delete", "p", "a")
    terminal.set("p", "b", {"x": 1})
    return "p"


@pytest.mark.behaviour("command.time-travel")
def test_a_plan_as_it_was(terminal: Terminal, plan: str) -> None:
    assert rows(terminal.run("state", "at", plan, "2").stdout) == [
        ["Key", "Value"],
        ["a", "[1]"],
        ["b", "null"],
    ]
    assert terminal.json("state", "at", plan, "1") == {
        "plan_id": plan, "at": 1, "entries": [{"key": "a", "value": [1]}],
    }  # fmt: skip
    assert terminal.run("state", "at", plan, "2", "b").stdout == "null\n"
    assert terminal.json("state", "at", plan, "4", "b") == {
        "plan_id": plan,
        "at": 4,
        "key": "b",
        "value": {"x": 1},
    }
    terminal.run("state", "at", plan, "1", "b", exits=Exit.NOT_FOUND)
    assert "revision 4" in terminal.run("state", "at", plan, "5", exits=Exit.NOT_FOUND).stderr
    assert "no keys at revision 0" in terminal.run("state", "at", plan, "0").stderr
    terminal.run("state", "delete", plan, "--all")
    terminal.run("state", "at", plan, "2", exits=Exit.GONE)


@pytest.mark.behaviour("command.time-travel")
def test_what_revisions_differ_in(terminal: Terminal, plan: str) -> None:
    assert rows(terminal.run("state", "diff", plan, "1", "4").stdout) == [
        ["Key", "Change", "Before", "After"],
        ["a", "removed", "[1]", "-"],
        ["b", "added", "-", '{"x":1}'],
    ]
    assert terminal.json("state", "diff", plan, "2") == {
        "plan_id": plan,
        "from": 2,
        "to": 4,
        "changes": [
            {"key": "a", "change": "removed", "before": [1]},
            {"key": "b", "change": "changed", "before": None, "after": {"x": 1}},
        ],
    }
    assert "the same at revisions 4 and 4" in terminal.run("state", "diff", plan, "4").stderr
    assert "the same at revisions 0 and 0" in terminal.run("state", "diff", plan, "0", "0").stderr
    assert "nope" in terminal.run("state", "diff", "nope", "0", exits=Exit.NOT_FOUND).stderr


@pytest.mark.behaviour("command.time-travel")
def test_restoring_a_key(terminal: Terminal, plan: str) -> None:
    assert (
        terminal.run("state", "restore", plan, "a", "1").stdout
        == "Set a of plan p to what it was at revision 1\n"
    )
    assert terminal.json("state", "restore", plan, "b", "1") == {
        "plan_id": plan, "key": "b", "at": 1, "was_there": False,
    }  # fmt: skip
    assert terminal.json("state", "at", plan, "6")["entries"] == [{"key": "a", "value": [1]}]
    assert "it was missing" in terminal.run("state", "restore", plan, "b", "1").stdout
    terminal.run("state", "restore", plan, "a", "99", exits=Exit.NOT_FOUND)


@pytest.mark.behaviour("command.time-travel")
def test_forking_a_plan(terminal: Terminal, plan: str) -> None:
    said = terminal.run("state", "fork", plan, "new", "--at", "2").stdout
    assert said == "Plan new begins with the keys of plan p at revision 2\n"
    assert [entry["value"] for entry in terminal.json("state", "list", "new")["entries"]] == [
        [1],
        None,
    ]
    assert terminal.json("state", "fork", plan, "newer") == {
        "plan_id": "newer",
        "from": plan,
        "at": 4,
    }
    told = rows(terminal.run("state", "history", "newer").stdout)[1]
    assert (told[0], told[2:]) == ("1", ["fork", "-", '{"plan_id":"p","revision":4}', "-", "-"])
    terminal.run("state", "fork", plan, "new", exits=Exit.CONFLICT)
    terminal.run("state", "fork", "nothing", "newest", exits=Exit.NOT_FOUND)
    terminal.run("state", "fork", plan, "newest", "--user", "another", exits=Exit.NOT_FOUND)
