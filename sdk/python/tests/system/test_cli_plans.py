"""`soorma state` and `soorma events` on the life and the past of plans, on a real platform."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from platform_process import PlatformProcess
from running import eventually
from test_cli_data import Terminal, rows

from soorma.cli.data.plans import Status
from soorma.cli.exits import Exit
from soorma_common.memory import STATUSES


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """One platform, on which a plan is stalled at once; each test has a tenant of its own."""
    with PlatformProcess(tmp_path_factory.mktemp("data"), {"SOORMA_LIMIT_PLAN_IDLE_SECONDS": "0"}) as running:
        yield running


@pytest.fixture
def terminal(shared: PlatformProcess, tmp_path: Path) -> Terminal:
    return Terminal(shared, tmp_path)


@pytest.fixture
def plan(terminal: Terminal) -> str:
    """A plan of three revisions: `a` is set, `b` is set to null, `a` is removed and `b` set anew."""
    terminal.set("p", "a", [1])
    terminal.set("p", "b", None)
    terminal.run("state", "delete", "p", "a")
    terminal.set("p", "b", {"x": 1})
    return "p"


# --- The past ----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.time-travel")
def test_a_plan_as_it_was(terminal: Terminal, plan: str) -> None:
    assert rows(terminal.run("state", "at", plan, "2").stdout) == [["Key", "Value"], ["a", "[1]"], ["b", "null"]]
    assert terminal.json("state", "at", plan, "1") == {
        "plan_id": plan, "at": 1, "entries": [{"key": "a", "value": [1]}],
    }  # fmt: skip
    assert terminal.run("state", "at", plan, "2", "b").stdout == "null\n"
    assert terminal.json("state", "at", plan, "4", "b") == {"plan_id": plan, "at": 4, "key": "b", "value": {"x": 1}}
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
    assert terminal.run("state", "restore", plan, "a", "1").stdout == "Set a of plan p to what it was at revision 1\n"
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
    assert [entry["value"] for entry in terminal.json("state", "list", "new")["entries"]] == [[1], None]
    assert terminal.json("state", "fork", plan, "newer") == {"plan_id": "newer", "from": plan, "at": 4}
    told = rows(terminal.run("state", "history", "newer").stdout)[1]
    assert (told[0], told[2:]) == ("1", ["fork", "-", '{"plan_id":"p","revision":4}', "-", "-"])
    terminal.run("state", "fork", plan, "new", exits=Exit.CONFLICT)
    terminal.run("state", "fork", "nothing", "newest", exits=Exit.NOT_FOUND)
    terminal.run("state", "fork", plan, "newest", "--user", "another", exits=Exit.NOT_FOUND)


# --- The life ----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.plan-life")
def test_ending_plans_and_listing_them_by_status(terminal: Terminal) -> None:
    assert [status.value for status in Status] == list(STATUSES)
    for name in ("done", "lost", "off", "goes-on"):
        terminal.set(name, "k", 1)
    assert terminal.run("state", "complete", "done", "-7").stdout == "Plan done is completed\n"
    assert terminal.json("state", "fail", "lost", "--reason", "no luck") == {"plan_id": "lost", "status": "failed"}
    assert terminal.run("state", "cancel", "off", "--reason", "-", stdin=b"not now").stdout == "Plan off is cancelled\n"
    found = {one["plan_id"]: one for one in terminal.json("state", "plans")["plans"]}
    assert (found["done"]["result"], found["lost"]["reason"], found["off"]["reason"]) == (-7, "no luck", "not now")
    listed = rows(terminal.run("state", "plans").stdout)
    assert listed[0][:3] == ["Plan", "Status", "Keys"]
    assert {row[0]: row[1] for row in listed[1:]} == {
        "done": "completed", "lost": "failed", "off": "cancelled", "goes-on": "active",
    }  # fmt: skip
    for status, name in (("completed", "done"), ("failed", "lost"), ("cancelled", "off"), ("active", "goes-on")):
        assert [one["plan_id"] for one in terminal.json("state", "plans", "--status", status)["plans"]] == [name]
    assert "completed" in terminal.run("state", "fail", "done", "--reason", "late", exits=Exit.CONFLICT).stderr
    terminal.run("state", "fail", "goes-on", exits=Exit.USAGE)
    terminal.run("state", "complete", "goes-on", "no JSON", exits=Exit.USAGE)
    for command in (["complete"], ["fail", "--reason", "lost"], ["cancel"]):
        ending, *more = command
        refused = terminal.run("state", ending, "tpyo", *more, exits=Exit.NOT_FOUND).stderr
        assert "there is no plan 'tpyo'" in refused
        assert "--force" in refused
        assert (
            terminal.json("state", ending, f"unwritten-{ending}", *more, "--force")["plan_id"] == f"unwritten-{ending}"
        )
    terminal.run("state", "plans", "--status", "lost", exits=Exit.USAGE)


@pytest.mark.behaviour("command.plan-life")
def test_stalled_plans(terminal: Terminal) -> None:
    for name in ("waits", "ends"):
        terminal.set(name, "k", 1)
        terminal.run("events", "publish", "begun", "--topic", "business-facts", "--plan", name)
    terminal.set("quiet", "k", 1)

    asyncio.run(until_stalled(terminal, ["ends", "waits"]))
    assert rows(terminal.run("state", "plans", "--stalled").stdout)[1][:2] == ["ends", "stalled"]
    terminal.run("state", "complete", "ends")
    assert [one["plan_id"] for one in terminal.json("state", "plans", "--stalled")["plans"]] == ["waits"]


async def until_stalled(terminal: Terminal, plans: list[str]) -> None:
    async with terminal.context() as context:

        async def are() -> bool:
            return [plan.plan_id async for plan in context.memory.list_plans(stalled=True)] == plans

        await eventually(are)


# --- Timers ------------------------------------------------------------------------------------


@pytest.mark.behaviour("command.timers")
def test_events_for_later(terminal: Terminal) -> None:
    publish = ("events", "publish", "tick", "--topic", "business-facts")
    soon = terminal.run(*publish, "--delay", "3600", "--plan", "p").stdout.strip()
    at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    late = terminal.json(*publish, "--at", at.isoformat())["id"]
    found = terminal.json("events", "timers")["timers"]
    assert [one["id"] for one in found] == [soon, late]
    assert datetime.fromisoformat(found[1]["due_at"]) == at
    assert [one["id"] for one in terminal.json("events", "timers", "--plan", "p")["timers"]] == [soon]
    assert rows(terminal.run("events", "timers").stdout)[0] == ["Id", "Due", "Type", "Topic", "Plan"]
    assert terminal.run("events", "cancel", soon).stdout == f"Event {soon} will not be published\n"
    terminal.run("events", "cancel", soon, exits=Exit.NOT_FOUND)
    assert terminal.json("events", "cancel", late) == {"id": late, "cancelled": True}
    assert "waits to be published" in terminal.run("events", "timers").stderr


@pytest.mark.behaviour("command.timers")
@pytest.mark.parametrize(
    "when",
    [
        ("--delay", "-1"),
        ("--at", "soon"),
        ("--at", "2030-01-01T12:00:00"),
        ("--at", "20300101T120000Z"),
        ("--delay", "1", "--at", "x"),
    ],
)
def test_a_time_that_is_none_is_refused(terminal: Terminal, when: tuple[str, ...]) -> None:
    terminal.run("events", "publish", "tick", "--topic", "business-facts", *when, exits=Exit.USAGE)
    assert terminal.json("events", "timers")["timers"] == []
