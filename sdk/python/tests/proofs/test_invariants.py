"""The invariants find violations: a correct record is spoilt in one place after the other."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import apsw
import invariants
import pytest
from simulator.schedule import run
from simulator.workloads import WORKLOADS

pytestmark = pytest.mark.behaviour("proofs.invariants")

PLAN = "(SELECT min(plan) FROM entries)"
EVENT = """(
    SELECT e.position FROM events e JOIN history h ON h.event_id = e.event_id
    WHERE e.type = 'walk' ORDER BY e.position LIMIT 1)"""
DELIVERY = f"""
    INSERT INTO deliveries (group_id, subscription_id, position, lane, ready_at, fence, replica)
    SELECT s.group_id, s.id, {EVENT}, 'a lane', 1, 'f', 'r' FROM subscriptions s
    JOIN groups g ON g.id = s.group_id WHERE g.name = 'walker'"""
CHILD = f"""
    INSERT INTO events (tenant_id, user_id, event_id, topic, type, correlation_id, at, taken, \
fingerprint, envelope)
    SELECT tenant_id, user_id, 'child', topic, type, '', at, 0, '',
        json_object('source', 'walker', 'parent_event_id', %s) FROM events \
WHERE position = {EVENT}"""
TIMER = f"""
    INSERT INTO timers (tenant_id, user_id, event_id, due_at, asked, fingerprint, envelope)
    SELECT tenant_id, user_id, %s, 1, '', '', json_object('source', 'walker', 'parent_event_id', \
event_id)
    FROM events WHERE position = {EVENT}"""
ENDED = "(SELECT id FROM plans WHERE status = 'failed' ORDER BY id LIMIT 1)"
PURGE = f"""
    INSERT INTO history (plan, incarnation, revision, seq, op, at)
    SELECT id, incarnation, revision, 99, 'purge', 1 FROM plans WHERE id = {ENDED}"""
LETTER = f"""
    INSERT INTO dead_letters (group_id, subscription_id, position, attempts, reason, at, parked)
    SELECT s.group_id, s.id, {EVENT}, 1, '', 1, 0 FROM subscriptions s \
JOIN groups g ON g.id = s.group_id
    WHERE g.name = 'walker'"""

SPOILT = {
    "the revisions of a plan have no gap": [
        f"UPDATE plans SET revision = revision + 1 WHERE id = {PLAN}"
    ],
    "the operations of a commit have no gap": [
        f"UPDATE history SET seq = seq + 100 WHERE plan = {PLAN} AND revision = 1"
    ],
    "the sums of a plan are those of its rows": [
        f"UPDATE plans SET size = size + 1 WHERE id = {PLAN}"
    ],
    "a plan ends once": [
        "CREATE TEMP TABLE ends AS SELECT * FROM history WHERE op = 'fail' LIMIT 1",
        "UPDATE ends SET seq = 99",
        "INSERT INTO history SELECT * FROM ends",
    ],
    "an end is told once": ["DELETE FROM events WHERE type = 'plan.failed'"],
    "one compensation of a plan is under way at a time": ["UPDATE compensations SET state = 1"],
    "compensations go backwards": [
        "CREATE TEMP TABLE latest AS SELECT plan, max(seq) FROM compensations GROUP BY plan",
        "UPDATE compensations SET state = 0 WHERE (plan, seq) IN latest",
    ],
    "of a plan that is active or completed nothing is undone": [
        "UPDATE plans SET status = 'completed'"
    ],
    "a lane has one head": [
        DELIVERY,
        "UPDATE deliveries SET ready_at = NULL, fence = NULL, replica = NULL",
    ],
    "what waits in a lane is in nobody's hands": [
        DELIVERY,
        "UPDATE deliveries SET ready_at = NULL",
    ],
    "who has a delivery has a fence": [DELIVERY, "UPDATE deliveries SET fence = NULL"],
    "a delivery is of an event, a group and a subscription": [
        DELIVERY,
        "UPDATE deliveries SET position = 0",
    ],
    "attempts are failures, deaths and those that ended without either": [
        DELIVERY,
        "UPDATE deliveries SET failures = 1",
    ],
    "what is suspected has died": [DELIVERY, "UPDATE deliveries SET suspect = 1"],
    "what was set aside is in no lane and in nobody's hands": [
        DELIVERY,
        "UPDATE deliveries SET aside = lane",
    ],
    "a dead letter is of an event": [LETTER, "UPDATE dead_letters SET position = 0"],
    "what was given up is not delivered": [DELIVERY, LETTER],
    "a recorded step is of an event": ["INSERT INTO steps VALUES (1, 0, 'charge', 1, 1, '1')"],
    "a timer that has fired is gone": [TIMER % "event_id"],
    "no event is without its cause": [CHILD % "'nobody'"],
    "no change is without its cause": [
        f"UPDATE history SET event_id = 'nobody' WHERE plan = {PLAN} AND revision = 1"
    ],
    "no change is of an unsettled delivery": [DELIVERY],
    "no event is of an unsettled delivery": [DELIVERY, CHILD % "event_id"],
    "no timer is of an unsettled delivery": [DELIVERY, TIMER % "'later'"],
    "a handler changes a plan in one commit": [
        (
            "UPDATE history SET event_id = (SELECT event_id FROM events WHERE type = 'walk' "
            "LIMIT 1), actor = 'walker'"
        )
    ],
    "a handler changes all its plans at once": [
        "UPDATE history SET event_id = 'e', actor = 'walker'"
    ],
    "what was cleared is gone or about to go": [
        f"UPDATE history SET incarnation = incarnation + 1 WHERE plan = {PLAN}"
    ],
    "nothing is left of a purged plan": [
        PURGE,
        TIMER % "'later'",
        f"UPDATE timers SET plan_id = (SELECT plan_id FROM plans WHERE id = {ENDED})",
    ],
    "nobody has anything left to do": [DELIVERY],
    "nothing was given up": [LETTER],
    "no timer waits": [TIMER % "'later'"],
    "what failed is undone": ["UPDATE compensations SET state = 1"],
    "nothing is left to sweep": ["INSERT INTO chores VALUES ('sweep', 1, 0, 0, 0)"],
    "values are those of the history": [f"UPDATE entries SET value = '0' WHERE plan = {PLAN}"],
}


@cache
def in_order() -> bytes:
    """A record of walks, and of sagas that failed and were compensated."""
    loads = tuple(load for load in WORKLOADS if load.name in {"sagas", "walks"})
    for number in range(100):
        outcome = run(number, loads)
        assert not outcome.wrong, outcome.told()
        enough = (
            f"SELECT 1 FROM compensations WHERE state = 2 AND {EVENT} IS NOT NULL LIMIT 1 OFFSET 3"
        )
        if _of(outcome.record).execute(enough).fetchall():
            return outcome.record
    raise AssertionError("no trip has failed, or no walk has begun")


def _of(image: bytes) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", image)
    return connection


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_found(name: str) -> None:
    connection = _of(in_order())
    assert invariants.broken(connection, at_rest=True) == []
    for statement in SPOILT[name]:
        connection.execute(statement)
    assert any(
        line.startswith(f"not so: {name}:") for line in invariants.broken(connection, at_rest=True)
    )


def test_all_invariants_are_tried() -> None:
    named = {**invariants.ALWAYS, **invariants.HANDLERS_ONLY, **invariants.AT_REST}
    assert SPOILT.keys() == {*named, "values are those of the history"}


def test_a_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "soorma.db"
    file = apsw.Connection(str(path))
    with file.backup("main", _of(in_order()), "main") as backup:
        backup.step()
    invariants.check_file(path, at_rest=True)
    file.execute(f"UPDATE plans SET revision = revision + 1 WHERE id = {PLAN}")
    with pytest.raises(AssertionError, match="the revisions of a plan have no gap"):
        invariants.check_file(path)
    file.close()
