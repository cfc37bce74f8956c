"""`soorma state complete`, `fail` and `cancel`, and plans by their status, on a real platform."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from cli_terminal import Terminal, rows
from platform_process import PlatformProcess
from running import eventually, platform_in

from soorma.cli.data.plans import Status
from soorma.cli.exits import Exit
from soorma_common.memory import STATUSES


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """One platform, on which a plan is stalled at once."""
    with platform_in(
        tmp_path_factory.mktemp("platform"), SOORMA_LIMIT_PLAN_IDLE_SECONDS="0"
    ) as platform:
        yield platform


@pytest.mark.behaviour("command.plan-life")
def test_ending_plans_and_listing_them_by_status(terminal: Terminal) -> None:
    assert [status.value for status in Status] == list(STATUSES)
    for name in ("done", "lost", "off", "goes-on"):
        terminal.set(name, "k", 1)
    assert terminal.run("state", "complete", "done", "-7").stdout == "Plan done is completed\n"
    assert terminal.json("state", "fail", "lost", "--reason", "no luck") == {
        "plan_id": "lost",
        "status": "failed",
    }
    assert (
        terminal.run("state", "cancel", "off", "--reason", "-", stdin=b"not now").stdout
        == "Plan off is cancelled\n"
    )
    found = {one["plan_id"]: one for one in terminal.json("state", "plans")["plans"]}
    assert (found["done"]["result"], found["lost"]["reason"], found["off"]["reason"]) == (
        -7,
        "no luck",
        "not now",
    )
    listed = rows(terminal.run("state", "plans").stdout)
    assert listed[0][:3] == ["Plan", "Status", "Keys"]
    assert {row[0]: row[1] for row in listed[1:]} == {
        "done": "completed", "lost": "failed", "off": "cancelled", "goes-on": "active",
    }  # fmt: skip
    for status, name in (
        ("completed", "done"),
        ("failed", "lost"),
        ("cancelled", "off"),
        ("active", "goes-on"),
    ):
        assert [
            one["plan_id"] for one in terminal.json("state", "plans", "--status", status)["plans"]
        ] == [name]
    assert (
        "completed"
        in terminal.run("state", "fail", "done", "--reason", "late", exits=Exit.CONFLICT).stderr
    )
    terminal.run("state", "fail", "goes-on", exits=Exit.USAGE)
    terminal.run("state", "complete", "goes-on", "no JSON", exits=Exit.USAGE)
    for command in (["complete"], ["fail", "--reason", "lost"], ["cancel"]):
        ending, *more = command
        refused = terminal.run("state", ending, "tpyo", *more, exits=Exit.NOT_FOUND).stderr
        assert "there is no plan 'tpyo'" in refused
        assert "--force" in refused
        assert (
            terminal.json("state", ending, f"unwritten-{ending}", *more, "--force")["plan_id"]
            == f"unwritten-{ending}"
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
    assert [one["plan_id"] for one in terminal.json("state", "plans", "--stalled")["plans"]] == [
        "waits"
    ]


async def until_stalled(terminal: Terminal, plans: list[str]) -> None:
    async with terminal.context() as context:

        async def are() -> bool:
            return [plan.plan_id async for plan in context.memory.list_plans(stalled=True)] == plans

        await eventually(are)
