"""Operations on plans, drawn so that most of them fit, on names and values that travel badly."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from soorma_common.operations import (
    Append,
    Cleanup,
    Delete,
    ExpirePlan,
    Extend,
    Increment,
    Merge,
    RecordAction,
    Set,
)

NUMBER, LIST, OBJECT, PLAIN = KEYS = ("n", "list/ä%2F", "object?x=1#y", "\U0001f600 plain")
VALUES: dict[str, list[Any]] = {
    NUMBER: [0, 7, 2**70, -2.5],
    LIST: [[], [1, None], ["y" * 300]],
    OBJECT: [{}, {"x": 1, "a": None}],
    PLAIN: [None, "", "te\0xt", True, "\U0001f600"],
}
HOURS = 7200.0
"""A time to live that outlasts every test."""
PLANS = st.sampled_from(["p", "p", "p", "a plan/ä"])
NAMES = st.sampled_from(KEYS)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@st.composite
def operations(draw: st.DrawFn) -> Any:
    """An operation that mostly fits the key it is for."""
    key = draw(NAMES)
    kind = draw(NAMES) if draw(st.integers(0, 9)) == 7 else key
    value = raw(draw(st.sampled_from(VALUES[key])))
    more = {
        "blind": draw(st.booleans()),
        "expected_revision": draw(st.sampled_from([None] * 9 + [0, 2])),
    }
    put = Set(
        key=key,
        value=value,
        ttl=draw(st.sampled_from([None, HOURS])),
        expected_revision=more["expected_revision"],
    )
    changes = {
        NUMBER: [Increment(key=key, by=by, **more) for by in (1, -3, 0.5)],
        LIST: [
            Append(key=key, value=value, **more),
            Extend(key=key, value=raw([value, 1]), **more),
        ],
        OBJECT: [Merge(key=key, value=raw({"f": value}), **more)],
        PLAIN: [
            RecordAction("first"),
            RecordAction("ζ second"),
            ExpirePlan(HOURS),
            ExpirePlan(None),
            Cleanup(),
        ],
    }
    return draw(st.sampled_from([put, put, Delete(key=key, **more), *changes[kind] * 2]))


PARTS = st.lists(operations(), min_size=1, max_size=4)
