"""JSON Schemas: those that are accepted, what they can cost, and the text of a misfit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.errors import InvalidValue
from soorma_common.json_text import DEEPEST_VALUE
from soorma_platform.engine.schemas import DRAFT, MOST_PARTS, Cost, cost_of, depth_of
from soorma_platform.work.schemas import LONGEST_PATH, LONGEST_TEXT, Schema

SELF: Any = {"$ref": "#"}


def _refers(target: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{target}"}


BRANCHES = [
    ("nothing of itself", {"properties": {"a": {"type": "string"}}}, 1),
    ("a list of itself", {"items": SELF}, 1),
    ("left and right", {"properties": {"left": SELF, "right": SELF}}, 1),
    (
        "two ways for one part",
        {"anyOf": [{"properties": {"of": SELF}}, {"properties": {"of": SELF}}]},
        2,
    ),
    ("three ways", {"oneOf": [{"items": SELF}] * 3}, 3),
    ("one name and any name", {"properties": {"of": SELF}, "additionalProperties": SELF}, 2),
    ("one level and two levels down", {"items": {"anyOf": [SELF, {"items": SELF}]}}, 2),
    (
        "two that refer to one another",
        {**_refers("a"), "$defs": {"a": {"items": _refers("b")}, "b": {"items": _refers("a")}}},
        1,
    ),
    (
        "two that refer to one another and themselves",
        {
            **_refers("a"),
            "$defs": {
                "a": {"items": _refers("b")},
                "b": {"anyOf": [{"items": _refers("b")}, {"items": _refers("a")}]},
            },
        },
        2,
    ),
    (
        "a union of kinds with one field",
        {
            **_refers("node"),
            "$defs": {
                "node": {"anyOf": [_refers("x"), _refers("y")]},
                "x": {"properties": {"child": _refers("node")}},
                "y": {"properties": {"child": _refers("node")}},
            },
        },
        2,
    ),
]


@pytest.mark.parametrize(("what", "schema", "branches"), BRANCHES, ids=[row[0] for row in BRANCHES])
def test_in_how_many_ways_a_schema_leads_back(what: str, schema: Any, branches: int) -> None:
    assert cost_of(schema).branches == branches
    Schema(what, schema)


def test_references_are_counted_as_if_they_were_written_out() -> None:
    thrice = {"allOf": [_refers("a")] * 3, "$defs": {"a": {"allOf": [{}, {}]}}}
    assert cost_of(thrice).parts == 1 + 3 * (1 + 3)
    assert (
        cost_of({"properties": {f"p{number}": {} for number in range(MOST_PARTS - 1)}}).parts
        == MOST_PARTS
    )
    with pytest.raises(InvalidValue, match="more than 10,000 parts"):
        cost_of({"properties": {f"p{number}": {} for number in range(MOST_PARTS)}})


def test_a_cost_allows_a_depth() -> None:
    assert Cost(10_000, 1).allows(128)
    assert Cost(100, 2).allows(16)
    assert not Cost(100, 2).allows(17)


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"$ref": "#"}, "leads back"),
        ({"allOf": [{"anyOf": [{"$ref": "#"}]}]}, "leads back"),
        (
            {**_refers("a"), "$defs": {"a": {"not": _refers("b")}, "b": {"if": _refers("a")}}},
            "leads back",
        ),
        ({"$ref": "other.json"}, "only to its own parts"),
        ({"$ref": "#name"}, "only to its own parts"),
        ({"$ref": 5}, "only to its own parts"),
        ({"$ref": "#/$defs/a"}, "not there"),
        ({"$ref": "#/allOf/5", "allOf": [{}]}, "not there"),
        ({"items": {"$id": "x"}}, "only the whole schema"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({"items": {"$dynamicRef": "#x"}}, r"use \$ref"),
        ({"items": {"anyOf": [{"items": SELF}] * 1001}}, "more than 1000 ways"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: Any, what: str) -> None:
    with pytest.raises(InvalidValue, match=what) as refused:
        cost_of(schema)
    assert refused.value.path.startswith("#")
    with pytest.raises(InvalidValue, match="the schema of the test cannot be used"):
        Schema("the schema of the test", schema)


def test_what_a_schema_may_say_of_itself() -> None:
    schema = {
        "$schema": DRAFT,
        "$id": "https://example.org/x",
        "properties": {"a/b~": {"$ref": "#/$defs/a~1b%20~0"}},
        "$defs": {"a/b ~": {"type": "integer"}},
    }
    made = Schema("it", schema)
    assert made.misfit({"a/b~": 5}) is None
    misfit = made.misfit({"a/b~": "5"})
    assert misfit is not None
    assert misfit.path == "/a~1b~0"


@given(
    st.recursive(
        st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_depth_is_the_longest_way_down(value: Any) -> None:
    text = str(value) if not isinstance(value, list | dict) else None
    assert (depth_of(value) == 0) is (text is not None)
    assert depth_of([value]) == depth_of({"a": 1, "b": value}) == depth_of(value) + 1


def test_a_misfit_is_short_and_does_not_repeat_the_payload() -> None:
    made = Schema("it", {"additionalProperties": {"type": "integer"}, "enum": [{"x" * 1000: 1}]})
    misfit = made.misfit({"secret" * 1000: "secret"})
    assert misfit is not None
    assert len(misfit.path) <= LONGEST_PATH
    assert len(misfit.expected) <= LONGEST_TEXT
    typed = Schema("it", {"items": {"type": "integer"}}).misfit(["secret"])
    assert typed is not None
    assert (typed.path, typed.expected) == ("/0", 'it is not of type "integer"')


def test_large_numbers_and_booleans_are_what_they_are() -> None:
    whole = Schema("it", {"type": "integer", "minimum": 2**70})
    assert whole.misfit(2**70) is None
    assert whole.misfit(2**70 - 1) is not None
    assert whole.misfit(True) is not None
    assert Schema("all", True).misfit("anything") is None
    assert Schema("none", False).misfit("anything") is not None


OPTIONAL = {
    "properties": {
        "sub": {
            "anyOf": [
                {"required": ["x"], "properties": {"x": {"type": "integer"}}, "type": "object"},
                {"type": "null"},
            ]
        }
    }
}
KINDS = {
    "oneOf": [
        {
            "properties": {"kind": {"const": kind}, "of": {"items": {"type": type_}}},
            "required": ["kind"],
        }
        for kind, type_ in (("words", "string"), ("numbers", "number"))
    ]
}


@pytest.mark.parametrize(
    ("schema", "payload", "path", "expected"),
    [
        (OPTIONAL, {"sub": {"x": "a"}}, "/sub/x", "integer"),
        (OPTIONAL, {"sub": {}}, "/sub", "required"),
        (OPTIONAL, {"sub": 5}, "/sub", "object"),
        (KINDS, {"kind": "numbers", "of": [1, "a"]}, "/of/1", "number"),
        (KINDS, {"of": []}, "", "any of the schemas"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, 5, "", "more than one"),
        ({"anyOf": [{"type": "null"}, {"type": "null"}]}, 5, "", "any of the schemas"),
    ],
)
def test_a_choice_tells_the_deepest_misfit(
    schema: Any, payload: Any, path: str, expected: str
) -> None:
    misfit = Schema("a schema", schema).misfit(payload)
    assert misfit is not None
    assert misfit.path == path
    assert expected in misfit.expected


def test_a_misfit_far_down_a_list_of_choices_is_told() -> None:
    payload: Any = 5
    for _ in range(DEEPEST_VALUE):
        payload = [payload]
    misfit = Schema(
        "a schema", {"type": "array", "items": {"anyOf": [SELF, {"type": "null"}]}}
    ).misfit(payload)
    assert misfit is not None
    assert misfit.path == "/0" * DEEPEST_VALUE
