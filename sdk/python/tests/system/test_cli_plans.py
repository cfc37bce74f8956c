"""`soorma state`: values, lists and conditions, used by people and scripts on a real platform."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from cli_terminal import Terminal, rows

from soorma import WorkflowState
from soorma.cli.exits import Exit

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
@pytest.mark.parametrize(
    "text", ["hello", "{'a': 1}", "NaN", "", "[1,", "1 2", r'"\ud800"', "--strnig"]
)
def test_text_that_is_no_json_is_refused(terminal: Terminal, text: str) -> None:
    refused = terminal.run("state", "set", "plan", "key", text, exits=Exit.USAGE)
    assert "--string" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.behaviour("command.values")
def test_standard_input_that_is_no_text_is_refused(terminal: Terminal) -> None:
    assert (
        "no UTF-8"
        in terminal.run("state", "set", "plan", "key", "-", stdin=b"\xff", exits=Exit.USAGE).stderr
    )
    assert terminal.json("state", "plans") == {"plans": []}


@pytest.mark.behaviour("command.values")
def test_names_that_need_care(terminal: Terminal) -> None:
    for plan, key in (("a/b c", "ü?&#%2F"), ("…", "-"), ("p", "x\x1b[2Jy")):
        assert terminal.json("state", "set", plan, key, "1")["plan_id"] == plan
        assert terminal.json("state", "list", plan)["entries"][0]["key"] == key
        assert terminal.run("state", "get", plan, key).stdout == "1\n"
    listed = terminal.run("state", "list", "p").stdout
    assert "x\\u001b[2Jy" in listed


# --- Lists and conditions ----------------------------------------------------------------------


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
    assert [(entry["key"], entry["value"]) for entry in found["entries"]] == [
        ("second", "y" * 1000)
    ]

    assert [row[:3] for row in rows(terminal.run("state", "plans").stdout)] == [
        ["Plan", "Status", "Keys"],
        ["plan-b", "active", "1"],
        ["plan-a", "active", "2"],
    ], "the newest first"
    assert [plan["plan_id"] for plan in terminal.json("state", "plans")["plans"]] == [
        "plan-a",
        "plan-b",
    ]


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
    refused = terminal.run(
        "state", "set", "plan", "key", "2", "--if-revision", "0", exits=Exit.CONFLICT
    )
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
    assert terminal.json("state", "delete", "plan", "b", "a") == {
        "plan_id": "plan",
        "deleted": 1,
        "missing": ["a"],
    }
    assert [entry["key"] for entry in terminal.json("state", "list", "plan")["entries"]] == [
        "c",
        "d",
    ]
    assert terminal.json("state", "delete", "plan", "--all") == {
        "plan_id": "plan",
        "deleted": 2,
        "missing": [],
    }
    assert terminal.json("state", "plans")["plans"] == []
    for wrong in (["plan"], ["plan", "a", "--all"], ["plan", "a", "b", "--if-revision", "1"]):
        terminal.run("state", "delete", *wrong, exits=Exit.USAGE)
