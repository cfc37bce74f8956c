"""A record and a backup of revision 85d0dca, with work in flight, under today's platform.

data/85d0dca/make.py made both with that revision, and keeps its platform's responses in seen.json.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from cli_shell import SOORMA, Shell
from depth import drawn
from platform_process import PlatformProcess, clean_environment
from running import Raw, Seen, config_of, context_of, eventually, path_of

from soorma import Agent, PlatformContext, WorkflowState
from soorma.cli.exits import Exit
from soorma.errors import InvalidPayload, PlanEnded

DATA = Path(__file__).parents[1] / "data" / "85d0dca"
SEEN: dict[str, Any] = json.loads((DATA / "seen.json").read_text("utf-8"))
SHORT_LIVED = {"short", "short keys", "claims"}
"""Plans of which something has expired since."""


def unpack(name: str, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(DATA / f"{name}.db.gz") as packed, file.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    return file


_NEXT_YEAR = """
import sys, time
now = time.time
time.time = lambda: now() + 365 * 86_400
from soorma_platform.__main__ import main
sys.exit(main())
"""


class PlatformOfNextYear(PlatformProcess):
    """A platform whose system clock says that another year has passed."""

    program = ("-c", _NEXT_YEAR)


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record that `soorma restore` makes of that backup."""
    folder = tmp_path_factory.mktemp("restored")
    backup, database = unpack("backup", folder / "backup.db"), folder / "soorma.db"
    restore = [*SOORMA, "restore", str(backup), "--database", str(database)]
    run(restore, env=clean_environment(), check=True, capture_output=True)
    return database


@pytest.fixture(params=drawn("older record", ["record", "backup", "a year later"], 1))
def older(
    request: pytest.FixtureRequest, tmp_path: Path, restored: Path
) -> Iterator[PlatformProcess]:
    """Today's platform on that record, at once and a year later, or on that backup, restored."""
    folder = tmp_path / request.param
    database = folder / "soorma.db"
    folder.mkdir()
    if request.param != "backup":
        unpack("record", database)
    else:
        shutil.copy2(restored, database)
    made = PlatformOfNextYear if request.param == "a year later" else PlatformProcess
    with made(folder, {"SOORMA_LEASE_SECONDS": "1"}) as running:
        yield running


@pytest.fixture
async def ann(older: PlatformProcess) -> AsyncIterator[PlatformContext]:
    async with context_of(older, tenant_id="acme", user_id="ann") as context:
        yield context


def repeat(platform: PlatformProcess, asked: dict[str, Any], **other: Any) -> tuple[int, Any]:
    """Sends an old request again, and returns today's response."""
    urls = platform.memory_url, platform.events_url, platform.registry_url
    url = dict(zip(("memory", "events", "registry"), urls, strict=True))
    body = other.get("body", asked["body"])
    headers = {name.replace("-", "_"): value for name, value in asked["headers"].items()}
    answer = Raw(url[asked["service"]])(
        asked["method"], asked["path"], body=None if body is None else body.encode(), **headers
    )
    return answer.status, answer.json


_OF_OTHERS = {
    "value",
    "argument",
    "result",
    "event",
    "data",
    "schema",
    "input_schema",
    "output_schema",
}
"""The names of values that others than the platform have sent, and that stay as sent."""


def meant(told: Any) -> Any:
    """Converts a response of then or of today to common names and times."""
    if isinstance(told, list):
        return [meant(one) for one in told]
    if not isinstance(told, dict):
        return told
    found = {
        re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name): one
        for name, one in told.items()
    }
    return {name: _meant_by(name, one) for name, one in found.items()}


def _meant_by(name: str, told: Any) -> Any:
    if name in _OF_OTHERS:
        return told
    is_time = (name == "at" or name.endswith("_at")) and isinstance(told, str)
    return datetime.fromisoformat(told) if is_time else meant(told)


def as_it_was(now: Any, then: Any) -> Any:
    """The current values, as far as the old response had them: a later version may add to them."""
    if isinstance(then, dict) and isinstance(now, dict):
        return {name: as_it_was(now[name], value) for name, value in then.items() if name in now}
    if isinstance(then, list) and isinstance(now, list) and len(now) == len(then):
        return [as_it_was(*pair) for pair in zip(now, then, strict=True)]
    return now


def without_expired(answer: Any) -> Any:
    """A response without the plans and timers whose time has come since."""
    now = datetime.now(UTC)
    for name, over in (
        ("plans", lambda plan: plan["plan_id"] in SHORT_LIVED),
        ("timers", lambda timer: timer["due_at"] < now),
    ):
        if name in answer:
            answer = {**answer, name: [one for one in answer[name] if not over(one)]}
    return answer


def plan_of(path: str) -> str:
    return path.partition("?")[0].rpartition("/")[2].replace("%20", " ")


# --- Upgrading --------------------------------------------------------------------------------


def assert_that_it_holds_the_record(shell: Shell) -> None:
    asked = shell.soorma("state", "get", "values", "sold", "--tenant", "acme", "--user", "ann")
    assert asked.stdout.strip() == "3.5"


@pytest.mark.behaviour("dev.build-and-migrate")
def test_an_older_record_is_taken_when_that_is_asked_for(shell: Shell) -> None:
    database = unpack("record", shell.folder / ".soorma" / "soorma.db")
    before = database.read_bytes()
    refused = shell.soorma("dev", exits=Exit.NEEDS_BUILD)
    assert "soorma dev --build" in refused.stderr
    assert database.read_bytes() == before
    shell.soorma("backup", "before.db")

    shell.soorma("dev", "--build")
    assert_that_it_holds_the_record(shell)
    shell.soorma("backup", "after.db")
    shell.soorma("dev", "--stop")
    for backup in ("before.db", "after.db"):
        shell.soorma("restore", backup)
    shell.soorma("dev")
    assert_that_it_holds_the_record(shell)
    examined = json.loads(shell.soorma("doctor", "--json", "--thorough").stdout)
    assert examined["counts"]["problem"] == 0


@pytest.mark.behaviour("backup.refused")
def test_a_restored_backup_needs_no_further_word(shell: Shell) -> None:
    shell.soorma("restore", str(unpack("backup", shell.folder / "backup.db")))
    shell.soorma("dev")
    assert_that_it_holds_the_record(shell)


# --- What is there ----------------------------------------------------------------------------


@pytest.mark.behaviour("upgrades.kept")
def test_all_that_was_read_then_is_read_today(older: PlatformProcess) -> None:
    left_out = {*SHORT_LIVED, "agents"}  # whose places are prolonged
    reads = [asked for asked in SEEN["reads"] if plan_of(asked["path"]) not in left_out]
    assert len(reads) > 80
    for asked in reads:
        status, answer = repeat(older, asked)
        then = without_expired(meant(asked["answer"]))
        now = as_it_was(without_expired(meant(answer)), then)
        assert (status, now) == (asked["status"], then), asked["path"]


@pytest.mark.behaviour("upgrades.kept")
def test_what_an_agent_said_of_itself_is_kept(tmp_path: Path) -> None:
    """Its schemas, texts and numbers as they were; the names of what it says are others today."""
    takes = {"type": "object", "properties": {"inputSchema": {"maximum": 2**70, "const": 'é\n"\\'}}}
    capabilities = [
        "plain",
        {"name": "sum", "inputSchema": takes},
        {"name": "say", "description": "d", "outputSchema": True},
    ]
    said = {
        "description": "\u2603 '",
        "capabilities": capabilities,
        "eventsConsumed": ["a", "b"],
        "eventsProduced": [],
        "ttl": 30.0,
    }
    database = unpack("record", tmp_path / "soorma.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        inserted = connection.execute(
            "INSERT INTO agents (tenant_id, name, announced_at, announcement) VALUES ('acme', "
            "'described', 0, ?)",
            [json.dumps(said)],
        )
        connection.execute(
            "INSERT INTO agent_instances VALUES (?, 'i', 0, 0, ?, 30000)",
            [inserted.lastrowid, 4_000_000_000_000],
        )
    with PlatformProcess(tmp_path) as running:
        found = Raw(running.registry_url, "acme")("GET", "/v1/registry/agents/described").json
    assert (found["description"], found["events_consumed"], found["events_produced"]) == (
        said["description"],
        ["a", "b"],
        [],
    )
    assert found["capabilities"] == [
        {"name": "plain"},
        {"name": "sum", "input_schema": takes},
        {"name": "say", "description": "d", "output_schema": True},
    ]


@pytest.mark.behaviour("upgrades.kept")
def test_the_log_of_then_begins_that_of_today(older: PlatformProcess) -> None:
    with Raw(older.events_url).stream("/v1/events/stream?after=0") as stream:
        told = [stream.next() for _ in SEEN["log"]]
    assert told == [("event", str(one["position"]), one["event"]) for one in SEEN["log"]]


def _is_history_of_values(asked: dict[str, Any]) -> bool:
    who = asked["headers"].get("X-Tenant-ID"), asked["headers"].get("X-User-ID")
    return who == ("acme", "ann") and asked["path"].startswith("/v1/memory/history/values?")


@pytest.mark.behaviour("upgrades.kept")
async def test_a_plan_is_watched_from_a_revision_of_then(ann: PlatformContext) -> None:
    history = next(asked["answer"] for asked in SEEN["reads"] if _is_history_of_values(asked))
    then = [(change["revision"], change["op"], change.get("key")) for change in history["changes"]]
    watched = []
    async for change in WorkflowState(ann.memory, "values").watch(after=0):
        watched.append((change.revision, change.op, change.key))
        if len(watched) == len(then):
            break
    assert watched == then


@pytest.mark.behaviour("upgrades.kept")
def test_the_groups_of_then_are_there_and_what_waits_for_them(older: PlatformProcess) -> None:
    groups = Raw(older.events_url)("GET", "/v1/events/groups").json["groups"]
    waiting = {group["name"]: group["waiting"] + group["in_hand"] for group in groups}
    del waiting["clock"]  # for whom timers fire
    assert waiting == {
        "away": 2,
        "everywhere": 3,
        "flaky": 2,
        "holder": 2,
        "library": 1,
        "parking": 2,
        "picky": 0,
        "two-handed": 2,
        "undoer": 1,
    }


@pytest.mark.behaviour("upgrades.kept", "idempotency.first-answer")
def test_the_key_of_a_change_of_then_gets_its_answer(older: PlatformProcess) -> None:
    for asked in SEEN["changes"]:
        status, answer = repeat(older, asked)
        assert (status, meant(answer)) == (asked["status"], meant(asked["answer"]))
        if asked["method"] == "PUT":
            status, problem = repeat(older, asked, body='{"value": "other"}')
            assert (status, problem["code"]) == (422, "idempotency_mismatch")
    reads = [asked for asked in SEEN["reads"] if plan_of(asked["path"]).startswith("keyed")]
    assert reads
    for asked in reads:
        then = meant(asked["answer"])
        assert as_it_was(meant(repeat(older, asked)[1]), then) == then


@pytest.mark.behaviour("upgrades.kept")
def test_what_has_expired_since_is_gone_and_what_has_not_stays(older: PlatformProcess) -> None:
    raw = Raw(older.memory_url, "acme", "ann")
    assert raw("GET", path_of("short", "a")).code == "key_missing"
    assert raw("GET", path_of("short keys", "goes")).code == "key_missing"
    assert raw("GET", path_of("short keys", "stays")).json["value"] == 1
    assert raw("GET", path_of("values", "lives for ten years")).json["value"] == 1


# --- What goes on -----------------------------------------------------------------------------


def agent_of(platform: PlatformProcess, name: str, tenant_id: str | None = "acme") -> Agent:
    return Agent(name, config=config_of(platform, tenant_id=tenant_id))


def seen_by(agent: Agent, *kinds: str) -> Seen:
    """The data of the events that the agent handles from now on."""
    seen = Seen()

    async def handle(event: Any, context: Any) -> None:
        seen.append(event.data)

    for kind in kinds:
        agent.on_event(kind, topic="action-requests")(handle)
    return seen


@pytest.mark.behaviour("upgrades.work", "steps.recorded", "lanes.in-order")
async def test_what_was_in_flight_is_delivered_again_with_its_recorded_step(
    older: PlatformProcess, ann: PlatformContext
) -> None:
    agent, seen = agent_of(older, "holder"), Seen()

    async def ask_model() -> dict[str, int]:
        raise AssertionError("the step was recorded")

    @agent.on_event("work.wanted", topic="action-requests")
    async def work(event: Any, context: Any) -> None:
        state = WorkflowState(context.memory, context.plan_id)
        answer = await context.step("ask the model", ask_model) if event.data["n"] == 1 else None
        seen.append((event.data["n"], context.attempt, await state.get("half"), answer))
        await state.increment("handled")

    async with agent:
        # As its fence was not hashed, it went back untried: the attempt does not count.
        assert await seen.until(2) == [(1, 1, None, {"answer": 42}), (2, 1, None, None)]
        await eventually(lambda: _has(ann, "in flight", "handled", 2))
    assert not await WorkflowState(ann.memory, "in flight").has("half")


async def _has(context: PlatformContext, plan_id: str, key: str, value: Any) -> bool:
    return bool(await WorkflowState(context.memory, plan_id).get(key) == value)


@pytest.mark.behaviour("upgrades.work", "groups.start-order")
async def test_what_waited_for_agents_that_were_away_is_handled(older: PlatformProcess) -> None:
    away, everywhere, new = (
        agent_of(older, "away"), agent_of(older, "everywhere", None), agent_of(older, "new"),
    )  # fmt: skip
    letters, news, untaken = (
        seen_by(away, "letter.sent"),
        seen_by(everywhere, "news.told"),
        seen_by(new, "untaken.sent"),
    )
    async with away, everywhere, new:
        assert await letters.until(2) == [{"n": 1}, {"n": 2}]
        assert sorted(one["n"] for one in await news.until(3)) == [1, 1, 2]
        assert await untaken.until(2) == [{"n": 1}, {"n": 2}]


@pytest.mark.behaviour("upgrades.work")
async def test_a_lane_whose_head_nobody_serves_goes_on(older: PlatformProcess) -> None:
    one_handed, two_handed = agent_of(older, "two-handed"), agent_of(older, "two-handed")
    right = seen_by(one_handed, "right.pulled")
    async with one_handed:
        assert await right.until(1) == [{"n": 2}]
    left = seen_by(two_handed, "left.pulled", "right.pulled")
    async with two_handed:
        assert await left.until(1) == [{"n": 1}]


@pytest.mark.behaviour("upgrades.work")
async def test_a_retry_comes_when_it_is_due_and_its_lane_behind_it(older: PlatformProcess) -> None:
    agent = agent_of(older, "flaky")
    seen = seen_by(agent, "flake.sent")
    async with agent:
        assert [one["n"] for one in await seen.until(2)] == [1, 2]


@pytest.mark.behaviour("upgrades.work", "deadletters.replayed", "deadletters.park")
async def test_dead_letters_are_replayed_and_a_parked_lane_goes_on(older: PlatformProcess) -> None:
    parking, picky = agent_of(older, "parking"), agent_of(older, "picky")
    cars, dishes = seen_by(parking, "car.came"), seen_by(picky, "dish.served")
    raw = Raw(older.events_url)
    letters = raw("GET", "/v1/events/dead-letters").json["dead_letters"]
    assert [one["group"] for one in letters] == ["parking", "picky", "picky"]
    async with parking, picky:
        assert not cars
        for letter in letters:
            assert raw("POST", f"/v1/events/dead-letters/{letter['id']}/replay").status == 200
        assert [one["n"] for one in await cars.until(2)] == [1, 2]
        assert sorted(one["n"] for one in await dishes.until(2)) == [1, 2]


@pytest.mark.behaviour("upgrades.work")
async def test_a_plan_that_failed_is_undone_and_one_that_fails_today_too(
    older: PlatformProcess, ann: PlatformContext
) -> None:
    agent = agent_of(older, "undoer")
    undone = seen_by(agent, "booking.undo")
    async with agent:
        assert [one["undo"] for one in await undone.until(2)] == ["hotel", "flight"]
        await WorkflowState(ann.memory, "going well").fail("no car today")
        assert [one["undo"] for one in await undone.until(4)] == ["hotel", "flight"] * 2


@pytest.mark.behaviour("upgrades.work")
async def test_timers_that_were_due_meanwhile_fire_and_others_wait(
    older: PlatformProcess, ann: PlatformContext
) -> None:
    agent = agent_of(older, "clock")
    rung = seen_by(agent, "bell.rung", "plan.timed_out")
    async with agent:
        fired = await rung.until(3)
    told = sorted(one.get("when", one.get("plan_id")) for one in fired)
    assert told == ["after a delay", "at its time", "late"]
    raw = Raw(older.events_url, "acme", "ann")
    waiting = raw("GET", "/v1/events/timers").json["timers"]
    assert [one["due_at"][:4] for one in waiting] == ["2100", "2100"]
    assert await ann.bus.cancel("in 2100")
    assert not await ann.bus.cancel("cancelled")


@pytest.mark.behaviour("upgrades.work")
async def test_a_request_of_then_is_answered_today(older: PlatformProcess) -> None:
    agent = agent_of(older, "library")

    @agent.on_event("book.wanted", topic="action-requests")
    async def find(event: Any, context: Any) -> None:
        await context.bus.respond(event, {"shelf": 8})

    async with agent:
        raw = Raw(older.events_url, "acme", "ann")
        answered = raw("GET", "/v1/events/answer/unanswered?timeout=10").json
        assert answered["event"]["data"] == {"shelf": 8}


@pytest.mark.behaviour("upgrades.work")
async def test_plans_go_on(older: PlatformProcess, ann: PlatformContext) -> None:
    def state(plan_id: str) -> WorkflowState:
        return WorkflowState(ann.memory, plan_id)

    values = state("values")
    then = await values.revision()
    assert await values.get("grown") == ["x" * 16_500, "y" * 500]
    await values.append("grown", "z")
    assert await values.restore("list", 6) is False
    assert await values.at(then).get("grown") == ["x" * 16_500, "y" * 500]
    assert {change.key for change in await values.diff(then)} == {"grown", "list"}
    fork = await values.fork("forked today", 13)
    assert await fork.get("list") == ["first", "second", {"third": 3}]

    assert await state("purged").revision() == 3
    await state("purged").set("lives", "again")
    assert (await state("purged").revision(), await state("purged").keys()) == (4, ["lives"])
    with pytest.raises(PlanEnded):
        await state("completed").cancel()
    assert await state("joined").join("parts", expect=["text", "pictures"], arrival="pictures")

    claims = state("claims")
    assert await claims.claim("printer")
    assert await claims.claim("vault") is None
    assert [bool(await claims.semaphore("seats", 2)) for _ in range(3)] == [True, True, False]
    assert [bool(await claims.semaphore("rooms", 2)) for _ in range(2)] == [True, False]

    paid = ("payment.made", "business-facts", {"amount": "much"})
    with pytest.raises(InvalidPayload):
        await ann.bus.publish(*paid)
    await ann.bus.publish(*paid, payload_schema_name="payment.made@1")
    found = await ann.registry.find(consumes="work.wanted")
    assert [one.name for one in found] == ["holder"]
