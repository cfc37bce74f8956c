"""Objects come back unchanged as state, events and results of steps, or are refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_table import (
    DECLARED,
    HIT,
    OBJECTS,
    REFUSED,
    TYPED,
    Alias,
    Box,
    Computed,
    Foreign,
    Hidden,
    Incomparable,
    Loose,
    More,
    One,
    Other,
    Remembers,
    Root,
)
from pydantic import ConfigDict, Field

from soorma import Event, EventDefinition, HandlerContext, RetryPolicy, Worker
from soorma.errors import InvalidPayload, InvalidRequest, InvalidValue
from soorma.testing import LocalPlatform
from soorma_common.json_text import decode
from soorma_common.registry import schema_of
from soorma_common.values import decode_as, encode

EACH = {**{name: (type(value), value) for name, value in OBJECTS.items()}, **TYPED}
each = pytest.mark.parametrize(("kind", "value"), EACH.values(), ids=EACH)


@pytest.mark.behaviour("memory.models-return")
@each
def test_an_object_comes_back_as_it_went_in(kind: Any, value: Any) -> None:
    again = decode_as(encode(value), kind)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.behaviour("registry.schema-fits")
@each
def test_what_is_sent_of_an_object_fits_the_schema_of_its_type(kind: Any, value: Any) -> None:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(decode(encode(value)), schema)


@pytest.mark.behaviour("memory.models-return")
async def test_what_would_not_come_back_is_refused_before_it_is_stored(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("p")
    for name, value in REFUSED.items():
        with pytest.raises(InvalidValue) as refused:
            await state.set(name, {"of": [value]})
        assert refused.value.path.startswith("$.of[0]"), name
        with pytest.raises(InvalidValue):
            await soorma_platform.publish("e", "business-facts", value)
    assert await state.keys() == []
    assert soorma_platform.published() == []


@pytest.mark.behaviour("memory.models-return")
def test_what_looks_like_a_loss_and_is_none_is_taken() -> None:
    assert decode(encode(Hidden(n=1))) == {"n": 1}
    assert decode(encode(Loose(of=(1, (2, None))))) == {"of": [1, [2, None]]}
    read = Remembers(of=1)
    assert read.cached == 1
    assert decode(encode(read)) == {"of": 1}
    assert decode_as(encode(Incomparable(1)), Incomparable).n == 1
    assert decode(encode(Box(One(n=1)))) == {"item": {"n": 1}}


@pytest.mark.behaviour("memory.models-return")
def test_names_go_in_and_aliases_are_read_too() -> None:
    assert decode(encode(HIT)) == {"page_no": 2}
    assert decode_as('{"pageNo": 2}', Alias) == HIT
    assert decode(encode(Computed(n=2))) == {"n": 2}


@pytest.mark.behaviour("memory.models-return")
async def test_a_type_that_json_never_makes_is_refused_by_name(
    soorma_platform: LocalPlatform,
) -> None:
    state = soorma_platform.state("p")
    await state.set("key", {})
    kinds: list[Any] = [Foreign, list[Foreign], complex, "Foreign", One | Foreign]
    for kind in kinds:
        with pytest.raises(InvalidRequest, match=r"Foreign|complex"):
            await state.get("key", type=kind)


@pytest.mark.behaviour("memory.models-return")
def test_a_class_whose_fields_cannot_be_resolved_is_refused_by_name() -> None:
    lost = dataclasses.make_dataclass("Lost", [("of", "Nowhere")])
    model = pydantic.create_model("LostModel", of=("Nowhere", None))
    for value in (lost(1), model.model_construct(of=1)):
        with pytest.raises(InvalidValue, match=r"Nowhere|Lost"):
            encode(value)


NAMES = st.sampled_from(["a", "b", "c", "page_no", "pageNo"])
ALIASES = st.none() | NAMES
PLAIN = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5)
CONFIGS = st.fixed_dictionaries(
    {
        "extra": st.sampled_from(["ignore", "forbid", "allow"]),
        "strict": st.booleans(),
        "serialize_by_alias": st.booleans(),
        "validate_by_name": st.just(True),
        "validate_by_alias": st.booleans(),
    }
)
FIELDS = st.dictionaries(NAMES, st.tuples(ALIASES, ALIASES, PLAIN, st.booleans()), min_size=1)


@pytest.mark.behaviour("memory.models-return", "registry.schema-fits")
@settings(deadline=None)
@given(CONFIGS, FIELDS)
def test_any_names_and_aliases_come_back(config: Any, fields: dict[str, Any]) -> None:
    """Whatever names its fields have for others, values are never exchanged, lost or made up."""
    made = {
        name: (
            type(value) | None,
            Field(
                **({"default": None} if optional else {}),
                validation_alias=reads,
                serialization_alias=writes,
            ),
        )
        for name, (reads, writes, value, optional) in fields.items()
    }
    model: Any = pydantic.create_model("Model", __config__=ConfigDict(**config), **made)
    value = model.model_construct()  # which would take aliases too
    value.__dict__.update({name: field[2] for name, field in fields.items()})
    again = decode_as(encode(value), model)
    assert {name: getattr(again, name) for name in fields} == {
        name: field[2] for name, field in fields.items()
    }
    jsonschema.validate(decode(encode(value)), schema_of(model))


@pytest.mark.behaviour("registry.schema-fits")
async def test_the_platform_takes_an_object_as_the_schema_of_its_class_says(
    soorma_platform: LocalPlatform,
) -> None:
    registry = soorma_platform.context.registry
    for name, value in OBJECTS.items():
        await registry.define_event(EventDefinition(name, schema=type(value), check="enforce"))
        await soorma_platform.publish(name, "business-facts", value)
        with pytest.raises(InvalidPayload):
            await soorma_platform.publish(name, "business-facts", 5.5)


@pytest.mark.behaviour("events.data-as")
def test_a_payload_is_read_as_a_type() -> None:
    for value in OBJECTS.values():
        assert Event(data=decode(encode(value))).data_as(type(value)) == value
    assert Event(data={"pageNo": 2}).data_as(Alias) == HIT
    assert Event().data_as(Alias | None) is None
    with pytest.raises(InvalidValue, match="Alias"):
        Event(data={}).data_as(Alias)


# results of steps


async def _twice(
    platform: LocalPlatform, functions: dict[str, Any], **how: Any
) -> dict[str, list[Any]]:
    """Returns the results of steps in two attempts, or the reason why an event was given up.

    Only the first attempt calls the functions.
    """
    seen: dict[str, list[Any]] = {name: [] for name in functions}
    worker = Worker("worker", retry=RetryPolicy(max_attempts=2, first_delay=0))

    @worker.on_event("x", topic="action-requests", ordered=False)
    async def handle(event: Event, context: HandlerContext) -> None:
        name = event["data"]
        seen[name].append(await context.step("make", functions[name], **how))
        if context.attempt == 1:
            raise ValueError("again")

    await platform.run(worker)
    for name in functions:
        await platform.publish("x", "action-requests", name)
    await platform.settle()
    for letter in await platform.dead_letters():
        seen[decode(bytes(letter.event))["data"]].append(letter.reason)
    return seen


def _returns(value: Any, kind: Any) -> tuple[Any, list[int]]:
    calls: list[int] = []

    async def make():  # type: ignore[no-untyped-def]  # noqa: ANN202
        calls.append(1)
        return value

    if kind is not None:
        make.__annotations__["return"] = kind
    return make, calls


async def _check_same(platform: LocalPlatform, table: dict[str, tuple[Any, Any]]) -> None:
    made = {name: _returns(value, kind) for name, (kind, value) in table.items()}
    seen = await _twice(platform, {name: function for name, (function, _) in made.items()})
    assert seen == {name: [value, value] for name, (_, value) in table.items()}
    assert {name: list(map(type, found)) for name, found in seen.items()} == {
        name: [type(value)] * 2 for name, (_, value) in table.items()
    }
    assert all(len(calls) == 1 for _, calls in made.values())


@pytest.mark.behaviour("steps.types")
async def test_a_declared_result_is_the_same_in_each_attempt(
    soorma_platform: LocalPlatform,
) -> None:
    more = More(n=1, m=2)
    derived = {
        "of a derived class": (One, more),
        "one of two alike": (One | Other, Other(n=1)),
        "derived ones in a list": (list[One], [One(n=1), more]),
        "an object where anything may be": (dict[str, Any], {"of": more}),
        "in a plain list": (list, [HIT]),
    }
    marks = [{"soorma:class": "x:Y", "value": 1}, {"soorma:class": 1}, {"a": "soorma:class"}]
    alike = {f"like a mark {number}": (dict[str, Any], value) for number, value in enumerate(marks)}
    await _check_same(soorma_platform, {**EACH, **DECLARED, **derived, **alike})


@pytest.mark.behaviour("steps.types")
@pytest.mark.parametrize("kind", [None, Any, object], ids=str)
async def test_an_undeclared_object_is_the_same_in_each_attempt(
    soorma_platform: LocalPlatform, kind: Any
) -> None:
    values = {
        **OBJECTS,
        "in lists and objects": {"a": [HIT, 1], "b": [{"c": HIT}]},
        "plain": {"a": [1, None]},
        "looks like a mark": {"soorma:class": "x:Y", "value": [{"soorma:class": 1}]},
        "has it in a text": '{"soorma:class":',
    }
    await _check_same(soorma_platform, {name: (kind, value) for name, value in values.items()})


@pytest.mark.behaviour("steps.types")
async def test_an_undeclared_object_of_a_class_that_nobody_finds_is_told_and_not_lost(
    soorma_platform: LocalPlatform,
) -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    make, calls = _returns(Local(1), None)
    (reason,) = (await _twice(soorma_platform, {"make": make}))["make"]
    assert "holds an object of the class" in reason
    assert "Local" in reason
    assert "type=" in reason
    assert calls == [1], "the result is recorded, and a replay with a declared type finds it"


@pytest.mark.behaviour("steps.types")
async def test_type_says_how_a_result_is_read(soorma_platform: LocalPlatform) -> None:
    make, calls = _returns({"page_no": 2}, None)
    other, _ = _returns(Other(n=1), Other)
    seen = await _twice(soorma_platform, {"make": make, "other": other}, type=Root | Alias | One)
    assert seen == {"make": [HIT, HIT], "other": [One(n=1)] * 2}
    assert calls == [1]


UNRESOLVABLE = {
    "not there": "Nowhere",
    "in a list": "list[Nowhere]",
    "no expression": "Alias | 'Nowhere' | 1",
    "a foreign class": "Foreign",
    "an iterator": "Iterator[int]",
    "two dataclasses": "Frozen | Incomparable",
}
PROGRAM = """
from __future__ import annotations
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING
from models_table import Alias, Foreign, Frozen, Incomparable
if TYPE_CHECKING:
    from elsewhere import Nowhere, Thing
CALLS = []
async def make(thing: Thing | None = None) -> {annotation}:
    CALLS.append(1)
    return Alias(pageNo=2)
def plain(thing: Thing | None = None) -> {annotation}:
    CALLS.append(1)
    return Alias(pageNo=2)
class Caller:
    def __call__(self) -> {annotation}:
        CALLS.append(1)
        return Alias(pageNo=2)
caller = Caller()
method = Caller().__call__
def outer():
    Here = Alias
    def inner() -> Here:
        CALLS.append(1)
        return Here(pageNo=2)
    return inner
closure = outer()
@functools.wraps(make)
async def wrapped(*arguments):
    return await make(*arguments)
partial = functools.partial(functools.partial(make), None)
"""


def _program(annotation: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "a_program"}
    exec(compile(PROGRAM.format(annotation=annotation), "a_program", "exec"), names)
    return names


WAYS = ("make", "plain", "caller", "method", "wrapped", "partial")


@pytest.mark.behaviour("steps.types-first")
@pytest.mark.parametrize("annotation", UNRESOLVABLE.values(), ids=UNRESOLVABLE)
async def test_a_result_that_could_not_be_read_is_refused_before_the_effect(
    soorma_platform: LocalPlatform, annotation: str
) -> None:
    names = _program(annotation)
    seen = await _twice(soorma_platform, {way: names[way] for way in WAYS})
    assert names["CALLS"] == []
    for (reason,) in seen.values():
        assert "step 'make'" in reason
        assert "declares to return" in reason


@pytest.mark.behaviour("steps.types-first")
async def test_only_what_is_returned_must_be_resolved(soorma_platform: LocalPlatform) -> None:
    names = _program("Alias")
    ways = (*WAYS, "closure")
    assert await _twice(soorma_platform, {way: names[way] for way in ways}) == {
        way: [HIT, HIT] for way in ways
    }
    assert names["CALLS"] == [1] * len(ways)


@pytest.mark.behaviour("memory.models-return")
def test_pydantic_is_imported_by_those_who_use_it_alone() -> None:
    program = (
        "import sys, dataclasses\nfrom soorma_common.values import encode, decode_as\nimport "
        "soorma\nsoorma.Worker\n"
        "D = dataclasses.make_dataclass('D', [('n', int)])\nassert decode_as(encode(D(1)), D) == "
        "D(1)\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
