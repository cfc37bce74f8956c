"""Values as text: they come back equal, or are refused, and operations act as in Python."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soorma_common.causes import Cause
from soorma_common.errors import InvalidValue, WrongType
from soorma_common.json_text import DEEPEST_VALUE, check, decode
from soorma_common.operations import (
    AnyKeyOperation,
    Append,
    Delete,
    Extend,
    Increment,
    Merge,
    Set,
    apply,
    argument,
    from_history,
    result,
    tag,
)
from soorma_common.values import encode
from soorma_platform.engine.history import rebuild
from soorma_platform.engine.rows.plans import HistoryRow, KeyPast

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = (
    st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXTS, part, max_size=4)
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)
LISTS = st.lists(JSON, max_size=4)
SPACES = st.sampled_from(["", " ", "\n\t ", "  \r\n"])


def same(left: Any, right: Any) -> bool:
    """True if both are equal, with types and the order of keys."""
    return repr(left) == repr(right)


def raw(value: Any) -> msgspec.Raw:
    """Returns a value as it is sent."""
    return msgspec.Raw(encode(value).encode())


@st.composite
def spaced(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> tuple[Any, str]:
    """Draws a value, and its JSON text with spaces where JSON allows them."""
    value = draw(values)
    separators = (draw(SPACES) + "," + draw(SPACES), draw(SPACES) + ":" + draw(SPACES))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
    return value, draw(SPACES) + text + draw(SPACES)


# round trips


@pytest.mark.behaviour("memory.value-round-trip")
@given(JSON)
@example({"z": 1, "a": 2, "": None, "\u2028": 2**64, "n": -(10**40)})
@example([1e308, 5e-324, -0.0, 0.1, 1.0])
def test_a_value_comes_back_as_it_went_in(value: Any) -> None:
    text = encode(value)
    assert same(decode(text), value)
    assert same(json.loads(text), value), "any JSON reader says the same"
    assert check(text.encode()) == text


@pytest.mark.behaviour("memory.value-round-trip")
@given(spaced(JSON))
def test_text_from_outside_is_kept_as_it_is(given_: tuple[Any, str]) -> None:
    value, text = given_
    assert check(text.encode()) == text
    assert same(decode(text), value)


@pytest.mark.behaviour("http.one-form")
@given(st.binary(max_size=20) | TEXTS.map(str.encode))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        text = check(data)
    except InvalidValue:
        return
    assert text.encode() == data
    json.loads(text)


@pytest.mark.behaviour("http.one-form")
@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "[1,]",
        "{1:2}",
        "",
        "nul",
        '"\\ud800"',
        "1 2",
        "'a'",
        '{"a"}',
    ],
)
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        check(text.encode())


WRONG = st.sampled_from(
    [math.nan, math.inf, -math.inf, ..., {1, 2}, b"bytes", object(), int, 1j, {1: 2}, {None: 1}]
)


@pytest.mark.behaviour("memory.not-json-refused")
@given(st.lists(st.sampled_from(["list", "tuple", "dict"]), max_size=6), WRONG)
def test_what_json_cannot_say_is_refused_with_its_path(way: list[str], wrong: Any) -> None:
    value, path = wrong, ""
    for step in way:
        if step == "dict":
            value, path = {"first": 1, "k": value}, f".k{path}"
        else:
            value, path = [0, value], f"[1]{path}"
            value = tuple(value) if step == "tuple" else value
    with pytest.raises(InvalidValue) as error:
        encode(value)
    assert error.value.details["path"] == f"${path}"
    assert f"${path}" in str(error.value)


@pytest.mark.behaviour("memory.not-json-refused")
@pytest.mark.parametrize(
    ("value", "path"),
    [("\ud800", "$"), ({"a": ["x", "\udfff"]}, "$.a[1]"), ({"a": {"\ud800": 1}}, "$.a.'\\ud800'")],
)
def test_a_lone_surrogate_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidValue) as error:
        encode(value)
    assert error.value.details["path"] == path


@pytest.mark.behaviour("memory.depth")
@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"]
)
def test_depth_is_bounded_on_both_sides_alike(wrap: Any) -> None:
    value: Any = 1
    for _ in range(DEEPEST_VALUE):
        value = wrap(value)
    assert check(encode(value).encode())
    with pytest.raises(InvalidValue):
        encode(wrap(value))
    with pytest.raises(InvalidValue):
        check(json.dumps(wrap(value)).encode())
    with pytest.raises(InvalidValue):
        check(b"[" * 1_000_000 + b"]" * 1_000_000)


@pytest.mark.behaviour("memory.not-json-refused")
def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidValue):
        encode(value)


@pytest.mark.behaviour("memory.depth")
def test_a_number_of_too_many_digits_is_refused_on_both_sides() -> None:
    with pytest.raises(InvalidValue):
        encode(10**5_000)
    with pytest.raises(InvalidValue):
        check(b"1" * 5_000)


# operations


@pytest.mark.behaviour("costs.operations")
@given(spaced(LISTS), spaced(JSON), spaced(LISTS))
def test_splicing_text_equals_growing_a_list(
    start: tuple[Any, str], item: tuple[Any, str], more: tuple[Any, str]
) -> None:
    appended = apply(Append("k", msgspec.Raw(item[1].encode())), start[1])
    assert appended is not None
    assert same(decode(appended), [*start[0], item[0]])
    extended = apply(Extend("k", msgspec.Raw(more[1].encode())), appended)
    assert extended is not None
    assert same(decode(extended), [*start[0], item[0], *more[0]])
    assert check(extended.encode()) == extended


@pytest.mark.behaviour("costs.operations")
@given(spaced(OBJECTS), spaced(OBJECTS))
def test_merging_text_equals_updating_a_dict(
    start: tuple[Any, str], fields: tuple[Any, str]
) -> None:
    merged = apply(Merge("k", msgspec.Raw(fields[1].encode())), start[1])
    assert merged is not None
    assert same(decode(merged), {**start[0], **fields[0]})


@pytest.mark.behaviour("operations.increment")
@given(st.integers(-(10**30), 10**30), st.lists(st.integers(-(10**30), 10**30), max_size=5))
def test_increments_of_integers_are_exact(start: int, steps: list[int]) -> None:
    text: str | None = encode(start)
    for step in steps:
        text = apply(Increment("k", step), text)
    assert text == str(start + sum(steps))


@pytest.mark.behaviour("operations.increment")
@given(NUMBERS, NUMBERS)
def test_an_increment_is_a_sum_or_refused(start: float, step: float) -> None:
    try:
        total = start + step
    except OverflowError:
        total = math.inf
    if isinstance(total, float) and not math.isfinite(total):
        with pytest.raises(InvalidValue):
            apply(Increment("k", step), encode(start))
    else:
        assert same(decode(apply(Increment("k", step), encode(start)) or "null"), total)


FITS: dict[type, Any] = {Increment: (int, float), Append: list, Extend: list, Merge: dict}


@pytest.mark.behaviour("operations.wrong-type")
@given(
    JSON,
    st.sampled_from(
        [Increment("k", 1), Append("k", raw(1)), Extend("k", raw([1])), Merge("k", raw({}))]
    ),
)
def test_an_operation_fits_its_own_kind_of_value_only(
    value: Any, operation: AnyKeyOperation
) -> None:
    fits = isinstance(value, FITS[type(operation)]) and not isinstance(value, bool)
    if fits:
        assert type(decode(apply(operation, encode(value)) or "null")) in (list, dict, int, float)
    else:
        with pytest.raises(WrongType):
            apply(operation, encode(value))


# history

OPERATIONS = st.one_of(
    JSON.map(lambda value: Set("k", raw(value))),
    LISTS.map(lambda value: Set("k", raw(value))),
    OBJECTS.map(lambda value: Set("k", raw(value))),
    st.just(Delete("k")),
    (st.integers(-(10**30), 10**30) | st.floats(-1e6, 1e6)).map(lambda by: Increment("k", by)),
    JSON.map(lambda value: Append("k", raw(value))),
    LISTS.map(lambda value: Extend("k", raw(value))),
    OBJECTS.map(lambda value: Merge("k", raw(value))),
)


@pytest.mark.behaviour("history.value-at")
@given(st.none() | JSON.map(encode), st.lists(OPERATIONS, max_size=12), st.data())
def test_what_is_rebuilt_from_the_history_is_the_value(
    base: str | None, operations: list[AnyKeyOperation], data: st.DataObject
) -> None:
    rows: list[HistoryRow] = []
    values = [base]
    for operation in operations:
        try:
            after = apply(operation, values[-1])
        except (WrongType, InvalidValue):
            continue
        row = HistoryRow(len(rows) + 1, 0, tag(operation), "k", argument(operation), 0, Cause())
        again = from_history(row.op, "k", row.argument)
        assert (tag(again), argument(again)) == (row.op, row.argument)
        assert result(operation, values[-1], after) == result(again, values[-1], after)
        rows.append(row)
        values.append(after)
    revision = data.draw(st.integers(0, len(rows)))
    horizon = data.draw(st.integers(0, revision))
    assert rebuild(KeyPast("k", rows[horizon:revision][::-1], values[horizon])) == values[revision]
