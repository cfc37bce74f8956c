"""Recorded results of steps: read as the function declares, else each object as its own class.

Every attempt must see the same result, and a later one has only its JSON text. If a function
declares what it returns, the text is read as that. If it does not, an object in the result is
recorded with the name of its class, `{"soorma:class": "shop.orders:Receipt", "value": {…}}`, and is
read as that class. A class is used only if it is found under its name and its objects can be read
from JSON: a record names no code to run.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from functools import partial, reduce
from typing import Any, NamedTuple, NoReturn, TypeVar, get_args, get_origin

from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.json_text import DEEPEST_VALUE, decode
from soorma_common.models import codec_of, difference, is_object, knows_fields, name_of
from soorma_common.values import convert, decode_as, encode


class NotAsDeclared(InvalidValue):
    """The failure of a try whose result is not of the declared type; nothing is recorded."""


UNDECLARED = object()
"""The type of a result without a declared type."""
MARK, VALUE = "soorma:class", "value"
PLAIN, ALL = "", "*"
"""Marks in place of a class.

PLAIN: JSON that has a key like the mark. ALL: marked although a type is declared.
"""
_MARKED = f'{{"{MARK}":'
_STREAMS = (Iterator, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)
_FIX = (
    "import its names at run time, not under `if TYPE_CHECKING:`, and define its classes where "
    "others can import them; "
    "or say the type at the step, with type="
)


def kind_of(step: str, function: Callable[..., Any], asked: Any) -> Any:
    """The type of a step's result: the requested one, else the declared one, else UNDECLARED.

    Raises InvalidRequest, before anything is done, if it cannot be resolved or held in JSON.
    """
    if asked is not None:
        codec_of(asked)
        return asked
    kind = _declared(step, function)
    if kind is UNDECLARED or not _says_something(kind):
        return UNDECLARED
    try:
        codec_of(kind)
    except InvalidRequest as error:
        raise InvalidRequest(
            f"step {step!r}: {_told(function)} declares to return {name_of(kind)}. {error}"
        ) from error
    return kind


def encode_result(result: Any, kind: Any) -> str:
    """The JSON text of a result, from which `decode_result` restores it."""
    if kind is UNDECLARED:
        return encode(_marked(result, 0))
    try:
        text = encode(codec_of(kind).plain(result))
    except (ValueError, TypeError):
        text = encode(result)
    try:
        read = decode_as(text, kind)
    except (ValueError, TypeError) as error:  # recorded, it would fail this and every later attempt
        raise NotAsDeclared(
            f"it is not what its function declares to return: {error}", path="$"
        ) from error
    is_whole = not _may_stay(result, kind) or difference(result, read) is None
    # An object is of a subclass, of another class of a union, or stands where any type may.
    if not is_whole:
        return encode({MARK: ALL, VALUE: _marked(result, 0)})
    return encode({MARK: PLAIN, VALUE: decode(text)}) if text.startswith(_MARKED) else text


class Encoded(NamedTuple):
    """A result to record, or the error why it cannot be recorded although its effect is done."""

    text: str
    failure: Exception | None = None


def encoded(step: str, result: Any, kind: Any) -> Encoded:
    """Encodes the result of a step's function; NotAsDeclared if it is not of the declared type."""
    try:
        return Encoded(encode_result(result, kind))
    except NotAsDeclared as error:
        raise NotAsDeclared(
            f"the result of step {step!r}: {error}; nothing was recorded", path="$"
        ) from error
    except Exception as error:  # noqa: BLE001 - models may encode themselves
        return Encoded("", error)


def decode_result(step: str, text: str, kind: Any) -> Any:
    """Decodes the result of a step.

    Raises InvalidValue if it is not as declared, or if its class is not found.
    """
    try:
        if kind is UNDECLARED:
            return _unmarked(decode(text)) if MARK in text else decode(text)
        return _unwrapped(decode(text), kind) if text.startswith(_MARKED) else decode_as(text, kind)
    except InvalidValue as error:
        declared = "" if kind is UNDECLARED else "is not what its function declares to return: "
        raise InvalidValue(f"the result of step {step!r} {declared}{error}", path="$") from error


# declared types


def _declared(step: str, function: Callable[..., Any]) -> Any:
    """The declared return type of a function, partial, class or callable object."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return function
    outermost = function if inspect.isroutine(function) else type(function).__call__
    kind = getattr(outermost, "__annotations__", {}).get("return", UNDECLARED)
    routine = inspect.unwrap(outermost)  # a decorator has copied its annotations
    routine = getattr(routine, "__func__", routine)
    if isinstance(kind, str):
        kind = _evaluated(step, routine, kind)
    while get_origin(kind) in (Awaitable, Coroutine):
        kind = get_args(kind)[-1]
    if isinstance(kind, str):
        kind = _evaluated(step, routine, kind)
    return kind


def _evaluated(step: str, routine: Any, annotation: str) -> Any:
    """Evaluates an annotation where it was written; InvalidRequest if that fails at run time."""
    code = getattr(routine, "__code__", None)
    names = dict(
        vars(sys.modules.get(routine.__module__, object())) if code is None else routine.__globals__
    )
    names.update({one.__name__: one for one in getattr(routine, "__type_params__", ())})
    for name, cell in zip(
        code.co_freevars if code else (), getattr(routine, "__closure__", None) or (), strict=False
    ):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    try:
        return eval(annotation, names)  # noqa: S307 - as typing.get_type_hints does
    except Exception as error:
        raise InvalidRequest(
            f"step {step!r}: what {_told(routine)} declares to return, {annotation!r}, cannot be "
            f"resolved: {error}; "
            f"{_FIX}"
        ) from error


def _says_something(kind: Any) -> bool:
    """True if an annotation says how to read JSON, unlike a type variable or most abstract ones."""
    origin = get_origin(kind) or kind
    if origin in _STREAMS:
        return True  # it is refused later
    if isinstance(kind, TypeVar) or kind in (Any, NoReturn, object):
        return False
    if getattr(kind, "__module__", "") == "typing" and getattr(kind, "_name", "") in (
        "Self",
        "Never",
    ):
        return False
    is_abstract = inspect.isabstract(origin) or getattr(origin, "_is_protocol", False)
    return not is_abstract or knows_fields(origin) or _is_read_by_msgspec(kind)


def _is_read_by_msgspec(kind: Any) -> bool:
    """True if an abstract type, such as Sequence or Mapping, can be read from JSON."""
    try:
        codec_of(kind)
    except InvalidRequest:
        return False
    return True


def _told(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


# objects without a declared type


def _may_stay(result: Any, kind: Any) -> bool:
    """True if a result holds objects that may keep a class other than the declared one."""
    if not is_object(result):
        return _holds_objects(result, 0)
    parts = [part for part in (kind, *get_args(kind)) if isinstance(get_origin(part) or part, type)]
    return any(isinstance(result, get_origin(part) or part) for part in parts)


def _holds_objects(value: Any, depth: int) -> bool:
    if isinstance(value, dict | list | tuple) and depth <= DEEPEST_VALUE:
        return any(
            _holds_objects(part, depth + 1)
            for part in (value.values() if isinstance(value, dict) else value)
        )
    return is_object(value)


def _marked(value: Any, depth: int) -> Any:
    """The value with each object in it wrapped with the name of its class."""
    if depth > DEEPEST_VALUE:
        return value  # its encoding is refused as too deep
    if isinstance(value, dict):
        plain = {name: _marked(part, depth + 1) for name, part in value.items()}
        return {MARK: PLAIN, VALUE: plain} if MARK in value else plain
    if isinstance(value, list | tuple):
        return [_marked(part, depth + 1) for part in value]
    if is_object(value):
        kind = type(value)
        return {MARK: f"{kind.__module__}:{kind.__qualname__}", VALUE: value}
    return value


def _unmarked(value: Any) -> Any:
    """The value with each marked object in it restored."""
    if isinstance(value, list):
        return [_unmarked(part) for part in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {name: _unmarked(part) for name, part in value.items()}
    place, plain = value[MARK], value[VALUE]
    if place == ALL:
        return _unmarked(plain)
    if place == PLAIN:
        return {name: _unmarked(part) for name, part in plain.items()}
    found = _class_at(place)
    if found is None:
        raise InvalidValue(
            f"holds an object of the class {place!r}, which is not found under that name, so that "
            "no other attempt "
            "could read it; let the function declare what it returns, or say type= at the step",
            path="$",
        )
    return convert(plain, found)


def _unwrapped(value: dict[str, Any], kind: Any) -> Any:
    """Restores a marked result; if a class is not found, reads it as the declared type instead."""
    if value[MARK] == PLAIN:
        return convert(value[VALUE], kind)
    try:
        return _unmarked(value)
    except InvalidValue:
        return convert(_stripped(value), kind)


def _stripped(value: Any) -> Any:
    """The value without its marks."""
    if isinstance(value, list):
        return [_stripped(part) for part in value]
    if isinstance(value, dict):
        return (
            _stripped(value[VALUE])
            if MARK in value
            else {name: _stripped(part) for name, part in value.items()}
        )
    return value


def _class_at(place: str) -> Any:
    """The class at `module:name` if imported and readable from JSON, else None."""
    module, _, name = place.partition(":")
    found: Any = reduce(
        lambda outer, part: getattr(outer, part, None), name.split("."), sys.modules.get(module)
    )
    return found if knows_fields(found) else None
