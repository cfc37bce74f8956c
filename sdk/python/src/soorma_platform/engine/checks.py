"""Checks of a commit from outside, before it is decided."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.events import check_envelope, check_timer
from soorma_common.json_text import check
from soorma_common.limits import Limits
from soorma_common.memories import check_memories
from soorma_common.memory import Commit
from soorma_common.names import check_name
from soorma_common.operations import (
    LAST_REVISION,
    LONGEST_TTL,
    MOST_PLACES,
    MOST_PLACES_AT_ONCE,
    Acquire,
    AnyKeyOperation,
    AnyOperation,
    AnyPlaceOperation,
    Cancel,
    Compensate,
    Complete,
    Deadline,
    Ending,
    ExpirePlan,
    Fail,
    Fork,
    Join,
    KeyOperation,
    PlaceOperation,
    RecordAction,
    Set,
)
from soorma_common.plan_rules import VALUED, check_argument, late_fork

TICKET_CHARACTERS = 22
"""The length of `PlanEditor.sequence`."""


def check_commit(commit: Commit, limits: Limits) -> Iterator[None]:
    """Raises InvalidRequest or LimitExceeded if a commit from outside cannot be decided.

    Yields after each part, so that the caller can give others a turn during a check of many
    mebibytes.
    """
    operations = reads = 0
    for plan in commit.plans:
        operations += len(plan.operations)
        reads += len(plan.reads)
    limits.check("commit_operations", operations, "the number of the commit's operations")
    limits.check("plan_keys", reads, "the number of keys the commit relies on")
    events = len(commit.events) + len(commit.timers) + len(commit.cancels)
    limits.check("commit_events", events, "the number of the commit's events")
    places = 0
    names = {check_name("plan_id", plan.plan_id) for plan in commit.plans}
    if len(names) < len(commit.plans):
        raise InvalidRequest(
            "a plan is named twice in the commit; put its operations into one part"
        )
    for event in commit.events:
        check_envelope(event)
        yield
    for timer in commit.timers:
        check_timer(timer)
        yield
    for event_id in commit.cancels:
        check_name("event_id", event_id)
    if commit.memories or commit.memory_reads:
        yield from _check_memories(commit, limits)
    for plan in commit.plans:
        for key in plan.reads:
            check_name("key", key)
        for number, operation in enumerate(plan.operations):
            if isinstance(operation, KeyOperation):  # as nearly all are
                check_name("key", operation.key)
                _check_key_operation(operation, limits)
            elif isinstance(operation, PlaceOperation):
                _check_places(operation)
                places += operation.places
                if places > MOST_PLACES_AT_ONCE:
                    raise InvalidRequest(
                        f"a commit looks at {MOST_PLACES_AT_ONCE} places of semaphores at most"
                    )
            else:
                if number and isinstance(operation, Fork):
                    raise late_fork(plan.plan_id)
                _check_operation(operation, limits)
            yield


def _check_memories(commit: Commit, limits: Limits) -> Iterator[None]:
    count = len(commit.memories) + len(commit.memory_reads)
    limits.check("memory_operations", count, "the number of passages stored, changed or relied on")
    for passage_id in commit.memory_reads:
        check_name("id", passage_id)
    yield from check_memories(commit.memories, limits)


def _check_operation(operation: AnyOperation, limits: Limits) -> None:
    if isinstance(operation, Ending) and operation.event_id is not None:
        check_name("event_id", operation.event_id)
    match operation:
        case RecordAction(name=name):
            check_name("action", name)
        case ExpirePlan(ttl=ttl):
            _check_ttl(ttl)
        case Complete(result=value) if value is not msgspec.UNSET:
            check_argument(operation, limits)
            check(value, "the plan's result")
        case Fail() | Cancel():
            check_argument(operation, limits)
        case Deadline(timer=timer):
            check_timer(timer)
        case Compensate(event=event):
            check_envelope(event)
        case Fork(plan_id=plan_id, revision=revision):
            check_name("plan_id", plan_id)
            if revision is not None and not 0 <= revision <= LAST_REVISION:
                raise InvalidRequest(
                    f"a revision to fork at is a number from 0 to {LAST_REVISION}, not {revision}"
                )


def _check_key_operation(operation: AnyKeyOperation, limits: Limits) -> None:
    if isinstance(operation, VALUED):
        check_argument(operation, limits)
        check(operation.value, "the value for {!r}", operation.key)
    if isinstance(operation, Set):
        _check_ttl(operation.ttl)
    elif isinstance(operation, Join):
        _check_join(operation)


def _check_join(join: Join) -> None:
    expect = join.expect
    check_name("arrival", join.arrival)
    names = expect if isinstance(expect, list) else []
    count = len(set(names)) if isinstance(expect, list) else expect
    if count < 1 or (isinstance(expect, list) and count < len(expect)):
        raise InvalidRequest(
            f"join at {join.key!r} expects at least one, and no name twice: {expect}"
        )
    for name in names:
        check_name("expect", name)


def _check_places(operation: AnyPlaceOperation) -> None:
    check_name("key", operation.key)
    check_name("key", f"{operation.line}{'0' * TICKET_CHARACTERS}")
    check_name("holder", operation.holder)
    if not 1 <= operation.places <= MOST_PLACES:
        raise InvalidRequest(f"a semaphore has 1 to {MOST_PLACES} places, not {operation.places}")
    if operation.ticket is not None and not operation.ticket.startswith(operation.line):
        raise InvalidRequest(
            f"a ticket for {operation.key!r} begins with {operation.line!r}: {operation.ticket!r}"
        )
    if operation.ticket is not None:
        check_name("ticket", operation.ticket)
    if isinstance(operation, Acquire):
        _check_ttl(operation.ttl)
        _check_ttl(operation.lease)
        if operation.ttl is None and not operation.renew:
            raise InvalidRequest(
                f"a place at {operation.key!r} is taken for a time: ttl is a number of seconds"
            )


def _check_ttl(ttl: float | None) -> None:
    if ttl is not None and not 0 < ttl <= LONGEST_TTL:
        raise InvalidRequest(
            f"ttl must be more than 0 and at most {LONGEST_TTL:.0f} seconds, not {ttl}"
        )
