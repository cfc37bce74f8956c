"""`soorma events` as people and scripts use it: publish, tail, dead letters, timers."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli_terminal import Follower, Terminal, publish, rows
from running import config_of, eventually

from soorma import Reject, Worker
from soorma.cli.exits import Exit
from soorma_common.names import DEFAULT_USER

# --- The log -----------------------------------------------------------------------------------


@pytest.mark.behaviour("command.follow", "command.publish")
def test_publish_and_tail(terminal: Terminal) -> None:
    with (
        Follower(terminal, "events", "tail") as lines,
        Follower(terminal, "events", "tail", "--json") as documents,
    ):
        first = publish(
            terminal, "order.placed", "--data", '{"order": 7}', "--plan", "plan",
            "--correlation-id", "flow", "--subject", "s", "--session-id", "se",
            "--response-event", "order.done", "--response-topic", "action-results",
            "--source", "me",
        )  # fmt: skip
        second = terminal.json("events", "publish", "odd\x1bname", "--topic", "task-events")["id"]
        publish(terminal, "order.placed", "--data", "-", stdin=b"[1]")

        assert re.fullmatch(
            r'\d+  [-0-9]+ [:0-9]+  business-facts  order\.placed  plan=plan  \{"order":7\}',
            lines.line(),
        )
        assert lines.line().endswith("task-events  odd\\u001bname")
        found = [json.loads(documents.line()) for _ in range(3)]
        positions = [one["position"] for one in found]
        assert positions == sorted(set(positions))
        event = found[0]["event"]
        assert event["id"] == first
        assert found[1]["event"]["id"] == second
        assert found[1]["event"]["source"] == "soorma-cli"
        assert {
            name: event[name]
            for name in ("plan_id", "correlation_id", "subject", "session_id", "source")
        } == {
            "plan_id": "plan",
            "correlation_id": "flow",
            "subject": "s",
            "session_id": "se",
            "source": "me",
        }
        assert (event["response_event"], event["response_topic"]) == (
            "order.done",
            "action-results",
        )
        assert (event["tenant_id"], event["user_id"]) == (terminal.tenant, DEFAULT_USER)
        assert found[2]["event"]["data"] == [1]
        documents.end()


@pytest.mark.behaviour("command.follow")
def test_tail_takes_what_is_asked_for(terminal: Terminal) -> None:
    for kind in ("a", "b", "c"):
        publish(terminal, kind)
    terminal.run("events", "publish", "a", "--topic", "plan-events")
    with Follower(
        terminal, "events", "tail", "--after", "0", "--json", "--type", "a", "--type", "c"
    ) as found:
        told = [json.loads(found.line()) for _ in range(3)]
        assert [(one["event"]["type"], one["event"]["topic"]) for one in told] == [
            ("a", "business-facts"),
            ("c", "business-facts"),
            ("a", "plan-events"),
        ]
    after = str(told[1]["position"])
    with Follower(terminal, "events", "tail", "--after", after, "--json") as found:
        assert json.loads(found.line()) == told[2]
    with Follower(
        terminal, "events", "tail", "--after", "0", "--cloudevents", "--topic", "plan-events"
    ) as found:
        cloud = json.loads(found.line())
        assert cloud["specversion"] == "1.0"
        assert cloud["topic"] == "plan-events"
        assert cloud["tenantid"] == terminal.tenant


@pytest.mark.behaviour("command.publish")
def test_an_event_id_is_used_once(terminal: Terminal) -> None:
    for _ in range(2):
        assert publish(terminal, "a", "--event-id", "mine", "--data", "1") == "mine"
    terminal.run(
        "events",
        "publish",
        "a",
        "--topic",
        "business-facts",
        "--event-id",
        "mine",
        "--data",
        "2",
        exits=Exit.CONFLICT,
    )


# --- Groups ------------------------------------------------------------------------------------


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
            [
                {"event_type": "task", "topic": "action-requests", "data": number}
                for number in range(count)
            ]
        )
        await eventually(lambda: refused == count, 60)
        # the last ones are on their way
        await eventually(lambda: _has_dead_letters(run_json, count), 60)

        heading, group = rows((await run("groups")).stdout)
        assert heading == [
            "Group",
            "Tenant",
            "Waiting",
            "Ready",
            "In hand",
            "Oldest",
            "Takes",
            "Replicas",
        ]
        assert group == [
            "refuser",
            terminal.tenant,
            "0",
            "0",
            "0",
            "-",
            "task on action-requests",
            "1",
        ]
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
        assert await run_json("replay", "--all", "--group", "other") == {
            "replayed": [],
            "missing": [],
        }
        everything = await run_json("replay", "--all")
        assert everything == {"replayed": [int(number) for number in numbers[2:]], "missing": []}
        await eventually(lambda: len(seen) == count)
        assert sorted(seen) == list(range(count))
        assert (await run_json("dead-letters"))["dead_letters"] == []


async def _has_dead_letters(run_json: Any, count: int) -> bool:
    return len((await run_json("dead-letters"))["dead_letters"]) == count


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
    assert [one["id"] for one in terminal.json("events", "timers", "--plan", "p")["timers"]] == [
        soon
    ]
    assert rows(terminal.run("events", "timers").stdout)[0] == [
        "Id",
        "Due",
        "Type",
        "Topic",
        "Plan",
    ]
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
