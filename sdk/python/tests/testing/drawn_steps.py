"""Steps of a plan, drawn so that most of them fit.

They are done in a handler, in a transaction and on the platform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
from hypothesis import strategies as st

from soorma_common.events import Envelope, Timer
from soorma_common.limits import Limits
from soorma_common.operations import (
    Append,
    Cancel,
    Cleanup,
    Compensate,
    Complete,
    Deadline,
    Delete,
    ExpirePlan,
    Extend,
    Fail,
    Fork,
    Increment,
    Join,
    KeyOperation,
    Merge,
    RecordAction,
    Set,
)

HOURS = 7200.0
SHORT = 5.0
NARROW = Limits(value_bytes=40, plan_keys=5, plan_bytes=120)
KINDS: dict[str, list[Any]] = {
    "n": [0, 7, -2.5],
    "l": [[], [1, None]],
    "o": [{}, {"x": 1}],
    "z": [None, "ä", "t" * 30, "t" * 50],
}
BLIND = {"blind-n": "n", "blind-l": "l", "blind-o": "o", "blind-j": "j"}
"""Keys that only get operations that fit them, for the reasons in `BY_DESIGN` of the test."""


@dataclass
class Change:
    """Operations applied as one; `expects`: compare-and-set with a `known` or `stale` revision."""

    operations: list[Any]
    expects: str = ""


@dataclass
class Look:
    """A read."""

    at: str
    key: str = ""


Step: TypeAlias = Change | Look


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def event(kind: str) -> Envelope:
    return Envelope(kind, "business-facts")


@st.composite
def key_operations(draw: st.DrawFn) -> Any:
    """An operation on a key, which mostly fits it."""
    key = draw(st.sampled_from("nlozz"))
    kind = draw(st.sampled_from("nloz")) if draw(st.integers(0, 5)) == 0 else key
    value = draw(st.sampled_from(KINDS[key]))
    changes: dict[str, list[Any]] = {
        "n": [Increment(key, by) for by in (1, -3, 0.5)],
        "l": [Append(key, raw(value)), Extend(key, raw([value, 1]))],
        "o": [Merge(key, raw({"f": value}))],
        "z": [Join("z'", arrival, expect) for arrival in "ab" for expect in (2, ["a", "b"])],
    }
    put = Set(key, raw(value), draw(st.sampled_from([None, HOURS])))
    return draw(st.sampled_from([put, put, Delete(key), *changes[kind]]))


@st.composite
def blind_operations(draw: st.DrawFn) -> Any:
    key = draw(st.sampled_from(sorted(BLIND)))
    match BLIND[key]:
        case "n":
            return Increment(key, draw(st.sampled_from([1, 2])), blind=True)
        case "l":
            return Append(key, raw(draw(st.sampled_from([1, "a"]))), blind=True)
        case "j":
            return Join(key, draw(st.sampled_from("abc")), 2, blind=draw(st.booleans()))
    return Merge(key, raw({draw(st.sampled_from("ab")): 1}), blind=True)


ENDS: list[Callable[[bool], Any]] = [
    lambda quiet: Complete(raw({"n": 1}), if_active=quiet),
    lambda quiet: Complete(raw("t" * 50), if_active=quiet),
    lambda quiet: Fail("why", if_active=quiet),
    lambda quiet: Cancel("enough", if_active=quiet),
]
plan_operations = st.one_of(
    st.sampled_from(
        [
            RecordAction("first"),
            RecordAction("second"),
            Cleanup(),
            ExpirePlan(HOURS),
            ExpirePlan(None),
        ]
    ),
    st.builds(lambda end, quiet: end(quiet), st.sampled_from(ENDS), st.booleans()),
    st.sampled_from(["a", "b"]).map(lambda name: Deadline(Timer(event(f"late-{name}"), 600.0))),
    st.sampled_from(["a", "b"]).map(lambda name: Compensate(event(f"undo-{name}"))),
)
operations = st.one_of(*[key_operations()] * 4, blind_operations(), plan_operations)
changes = st.builds(Change, st.lists(operations, min_size=1, max_size=3))
conditional = st.builds(
    lambda operation, expects: Change([operation], expects),
    key_operations(),
    st.sampled_from(["known", "stale"]),
)
looks = st.one_of(
    st.builds(Look, st.just("get"), st.sampled_from(["n", "l", "o", "z", "z'", *BLIND])),
    st.builds(Look, st.sampled_from(["keys", "actions", "status"])),
)
forks = st.sampled_from([None, 0, 1, 2, 9]).flatmap(
    lambda revision: st.sampled_from(["source", "source", "nothing"]).map(
        lambda name: Change([Fork(name, revision)])
    )
)
late_forks = key_operations().map(lambda operation: Change([operation, Fork("source")]))
steps = st.tuples(
    st.lists(forks, max_size=1),
    st.lists(st.one_of(changes, changes, conditional, looks, late_forks), min_size=1, max_size=8),
).map(lambda both: [*both[0], *both[1], Look("actions"), Look("keys"), Look("status")])
beginnings = st.lists(
    st.one_of(operations, operations, st.just(Set("z", raw("short"), SHORT))), max_size=5
)


def named(step: Step) -> set[str]:
    """Returns the keys that a step changes."""
    operations = step.operations if isinstance(step, Change) else []
    forked = set("nl") if any(isinstance(one, Fork) for one in operations) else set[str]()
    return forked | {one.key for one in operations if isinstance(one, KeyOperation)}


def set_once(wanted: list[Step]) -> list[Step]:
    """Returns the steps without those that set a key again."""
    kept, keys = [], set[str]()
    for step in wanted:
        puts = (
            [one.key for one in step.operations if isinstance(one, Set)]
            if isinstance(step, Change)
            else []
        )
        if keys.isdisjoint(puts) and len(set(puts)) == len(puts):
            keys |= set(puts)
            kept.append(step)
    return kept


def counted_early(beginning: list[Any], wanted: list[Step]) -> list[Step]:
    """Returns the steps within what a transaction counts.

    They rely on few keys, and have no blind operations and no joins.
    """
    kept, read = [], set[str]()
    held = {one.key for one in beginning if isinstance(one, KeyOperation)}
    for step in wanted:
        if len(read | _read_by(step, held)) <= NARROW.plan_keys and not _is_counted_late(step):
            read |= _read_by(step, held)
            kept.append(step)
    return kept


def _is_counted_late(step: Step) -> bool:
    operations = step.operations if isinstance(step, Change) else []
    return any(isinstance(one, Join) or getattr(one, "blind", False) for one in operations)


def _read_by(step: Step, held: set[str]) -> set[str]:
    if isinstance(step, Look):
        return {step.key} if step.key else set()
    if step.expects or any(isinstance(one, Cleanup) for one in step.operations):
        return held | named(step)
    return {
        one.key
        for one in step.operations
        if isinstance(one, KeyOperation) and not isinstance(one, Set)
    }
