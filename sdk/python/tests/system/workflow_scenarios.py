"""Scenarios of WorkflowState, to be checked outside handlers and in them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pydantic
import pytest

from soorma import WorkflowState
from soorma.errors import InvalidName, InvalidRequest, InvalidValue, LimitExceeded, WrongType


class Report(pydantic.BaseModel):
    title: str
    pages: int = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float


async def check_values(state: WorkflowState) -> None:
    assert await state.get("k") is None
    assert await state.get("k", "default") == "default"
    assert await state.has("k") is False
    await state.set("k", {"a": [1, None]})
    assert await state.get("k", "default") == {"a": [1, None]}
    assert await state.has("k") is True
    await state.set("k", None)
    assert await state.get("k", "default") is None
    assert await state.has("k") is True
    assert await state.delete("k") is True
    assert await state.delete("k") is False
    assert await state.get("k", "default") == "default"
    assert await state.has("k") is False


async def check_numbers(state: WorkflowState) -> None:
    assert await state.increment("n") == 1
    assert await state.increment("n", 4) == 5
    assert await state.increment("n", by=-0.5) == 4.5
    assert await state.increment("n", 2, blind=True) is None
    assert await state.get("n") == 6.5
    await state.set("big", 2**63)
    assert await state.increment("big") == 2**63 + 1
    for wrong in (True, "1", None):
        with pytest.raises(InvalidRequest):
            await state.increment("n", wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        await state.increment("n", float("nan"))
    assert await state.get("n") == 6.5


async def check_lists(state: WorkflowState) -> None:
    assert await state.append("l", 1) == [1]
    assert await state.append("l", [2, 3]) == [1, [2, 3]]
    assert await state.extend("l", (4, 5)) == [1, [2, 3], 4, 5]
    assert await state.extend("l", []) == [1, [2, 3], 4, 5]
    assert await state.extend("new", []) == []
    assert await state.append("l", None, blind=True) is None
    assert await state.extend("l", ["x"], blind=True) is None
    assert await state.get("l") == [1, [2, 3], 4, 5, None, "x"]
    assert await state.append("new", "first") == ["first"]


async def check_objects(state: WorkflowState) -> None:
    assert await state.update_dict("o", {"a": 1, "b": {"c": 1}}) == {"a": 1, "b": {"c": 1}}
    assert await state.update_dict("o", {"b": {"d": 2}, "e": None}) == {
        "a": 1,
        "b": {"d": 2},
        "e": None,
    }
    assert await state.update_dict("o", {}, blind=True) is None
    assert list(await state.get("o")) == ["a", "b", "e"]


async def check_many_keys(state: WorkflowState) -> None:
    await state.update({"b": 2, "a": 1, "c": None})
    await state.update({})
    assert await state.get_many(["c", "a", "nothing"]) == {"c": None, "a": 1}
    assert await state.get_many([]) == {}
    assert await state.keys() == ["a", "b", "c"]
    await state.append("ab", 1, blind=True)
    assert await state.keys("a") == ["a", "ab"]
    await state.delete("a")
    assert await state.keys() == ["ab", "b", "c"]
    assert await state.keys(prefix="x") == []


async def check_wrong_types(state: WorkflowState) -> None:
    await state.update({"s": "text", "n": 1, "l": [1], "o": {}, "null": None, "yes": True})
    before = await state.get_many(["s", "n", "l", "o", "null", "yes"])
    for key in ("s", "l", "o", "null", "yes"):
        with pytest.raises(WrongType, match=key):
            await state.increment(key)
    for key in ("s", "n", "o", "null", "yes"):
        with pytest.raises(WrongType):
            await state.append(key, 1)
        with pytest.raises(WrongType):
            await state.extend(key, [1])
    for key in ("s", "n", "l", "null", "yes"):
        with pytest.raises(TypeError):  # WrongType is one
            await state.update_dict(key, {"a": 1})
    assert await state.get_many(["s", "n", "l", "o", "null", "yes"]) == before


async def check_actions(state: WorkflowState) -> None:
    assert await state.get_action_history() == []
    await state.record_action("one")
    await state.record_action("two")
    await state.record_action("one")
    assert await state.get_action_history() == ["one", "two", "one"]
    assert [(action.number, action.name) for action in await state.actions()] == [
        (1, "one"),
        (2, "two"),
        (3, "one"),
    ]


async def check_cleaning_up(state: WorkflowState) -> None:
    await state.update({"a": 1, "b": 2})
    await state.append("c", 3, blind=True)
    await state.record_action("one")
    assert await state.cleanup() == 3
    assert await state.keys() == []
    assert await state.get("a", "gone") == "gone"
    assert await state.get_action_history() == []
    assert await state.cleanup() == 0
    await state.set("a", 2)
    await state.record_action("two")
    assert (await state.get("a"), await state.keys(), await state.get_action_history()) == (
        2,
        ["a"],
        ["two"],
    )


async def check_models(state: WorkflowState) -> None:
    await state.set("report", Report(title="T", pages=3))
    await state.set("point", Point(1, 2.5))
    await state.set("nested", {"reports": [Report(title="U")], "points": (Point(0, 0.0),)})
    assert await state.get("report") == {"title": "T", "pages": 3}
    assert await state.get("report", type=Report) == Report(title="T", pages=3)
    assert await state.get("point", type=Point) == Point(1, 2.5)
    assert await state.get("nested") == {
        "reports": [{"title": "U", "pages": 1}],
        "points": [{"x": 0, "y": 0.0}],
    }
    assert await state.get("missing", type=Report) is None
    with pytest.raises(InvalidValue):
        await state.get("point", type=Report)
    with pytest.raises(InvalidValue):
        await state.get("report", type=int)


async def check_what_json_cannot_say(state: WorkflowState) -> None:
    for wrong, where in (
        (float("nan"), r"\$"),
        ({"a": [0, float("inf")]}, r"\$\.a\[1\]"),
        ({"a": {1: 2}}, r"\$\.a"),
        ([..., 1], r"\$\[0\]"),
        ({"a": object()}, r"\$\.a"),
        (["x", "\ud800"], r"\$\[1\]"),
        ({"a": {"\ud800": 1}}, r"\$\.a"),
        ({"a": Report}, r"\$\.a"),
        ({1, 2}, r"\$"),
        (b"bytes", r"\$"),
    ):
        with pytest.raises(InvalidValue, match=where):
            await state.set("k", wrong)
        with pytest.raises(InvalidValue):
            await state.append("k", wrong)
        with pytest.raises(InvalidValue):
            await state.update({"fine": 1, "k": wrong})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidValue, match="nested"):
        await state.set("k", loop)
    assert await state.keys() == []


async def check_names(state: WorkflowState) -> None:
    for wrong in ("", ".", "..", "a\0", "\ud800", "x" * 256, 3, None):
        for call in (
            state.set(wrong, 1), state.get(wrong), state.delete(wrong),  # type: ignore[arg-type]
            state.has(wrong), state.increment(wrong),  # type: ignore[arg-type]
            state.record_action(wrong), state.get_many([wrong]),  # type: ignore[arg-type,list-item]
        ):  # fmt: skip
            with pytest.raises(InvalidName):
                await call
    for name in ("a/b", "100%", "%2F", "ключ", "\U0001f600", "x" * 255, " ", "?#&=+"):
        await state.set(name, name)
        assert await state.get(name) == name
    assert await state.keys("%") == ["%2F"]


async def check_limits(state: WorkflowState) -> None:
    with pytest.raises(LimitExceeded, match="value_bytes") as raised:
        await state.set("k", "x" * 1024 * 1024)
    assert (raised.value.limit, raised.value.maximum) == ("value_bytes", 1024 * 1024)
    await state.set("l", ["x" * (1024 * 1024 - 100)])
    with pytest.raises(LimitExceeded):
        await state.append("l", "x" * 200)
    assert await state.keys() == ["l"]
    assert len(await state.get("l")) == 1


SCENARIOS = [
    check_values,
    check_numbers,
    check_lists,
    check_objects,
    check_many_keys,
    check_wrong_types,
    check_actions,
    check_cleaning_up,
    check_models,
    check_what_json_cannot_say,
    check_names,
    check_limits,
]
