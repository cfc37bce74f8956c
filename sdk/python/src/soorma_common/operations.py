"""The operations on a plan, and how each applies to a value.

Both sides use this module: the engine decides commits with it, the SDK lets a handler see its own
uncommitted changes with it. An operation works on JSON text and returns JSON text; append and extend
splice text, so that a long list is never parsed to grow by one.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

import msgspec

from soorma_common.errors import InvalidValue, WrongType
from soorma_common.names import Name
from soorma_common.values import decode

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

LONGEST_TTL = 10 * 365 * 86_400.0

Ttl: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": LONGEST_TTL})]
"""A time to live in a message, in seconds."""


class Operation(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, omit_defaults=True):
    """One step of a commit."""


class Conditional(Operation, kw_only=True):
    """An operation that may be a compare-and-set: the key must be at `expected_revision` (0: missing).

    `blind` asks for no result, so that the operation reads nothing.
    """

    expected_revision: int | None = None
    blind: bool = False


class KeyOperation(Conditional):
    """An operation on one key."""

    key: Name


class Set(KeyOperation, tag="set"):
    """Gives the key a value; `ttl` in seconds lets it expire, without one an earlier time to live ends."""

    value: msgspec.Raw
    ttl: Ttl | None = None


class Delete(KeyOperation, tag="delete"):
    """Removes the key. Result: whether there was one."""


class Increment(KeyOperation, tag="increment"):
    """Adds to a number; a missing key counts as 0. Result: the new number."""

    by: int | float = 1


class Append(KeyOperation, tag="append"):
    """Adds one item to a list; a missing key counts as an empty one. Result: the new list."""

    value: msgspec.Raw


class Extend(KeyOperation, tag="extend"):
    """Adds all items of a list to a list; a missing key counts as an empty one. Result: the new list."""

    value: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "array"})]


class Merge(KeyOperation, tag="merge"):
    """Sets the fields of an object, shallowly, nulls included; a missing key counts as {}. Result: the new object."""

    value: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]


class RecordAction(Operation, tag="record_action"):
    """Adds an action to the plan's action history."""

    name: Name


class Cleanup(Operation, tag="cleanup"):
    """Removes everything of the plan: keys, actions and history. Result: the count of keys."""


class ExpirePlan(Operation, tag="ttl"):
    """Lets the whole plan expire `ttl` seconds from now; null ends that."""

    ttl: Ttl | None


AnyKeyOperation = Set | Delete | Increment | Append | Extend | Merge
AnyOperation = AnyKeyOperation | RecordAction | Cleanup | ExpirePlan


def apply(operation: AnyKeyOperation, current: str | None) -> str | None:
    """The text of the key's value after the operation; None where the key is missing (on both sides).

    Raises WrongType where the operation does not fit the value, InvalidValue where its argument is none.
    """
    match operation:
        case Set(value=value):
            return bytes(value).decode()
        case Delete():
            return None
        case Increment(key=key, by=by):
            return _increment(key, by, current)
        case Append(key=key, value=value):
            return _splice(key, current, bytes(value).decode().strip())
        case Extend(key=key, value=value):
            return _splice(key, current, _items(key, bytes(value).decode()))
        case Merge(key=key, value=value):
            return _merge(key, value, current)


def result(operation: AnyKeyOperation, before: str | None, after: str | None) -> str | None:
    """What the operation answers, as JSON text: a bool for delete, the new value for a change, else None."""
    match operation:
        case Set():
            return None
        case Delete():
            return "true" if before is not None else "false"
        case _:
            return after


def argument(operation: AnyOperation) -> str | None:
    """The argument as JSON text, as the history keeps it."""
    match operation:
        case Set(value=value) | Append(value=value) | Extend(value=value) | Merge(value=value):
            return bytes(value).decode()
        case Increment(by=by):
            return msgspec.json.encode(by).decode()
        case RecordAction(name=name):
            return msgspec.json.encode(name).decode()
        case ExpirePlan(ttl=ttl):
            return msgspec.json.encode(ttl).decode()
    return None


def tag(operation: Operation) -> str:
    """The operation's name, as it stands in `op`."""
    return str(operation.__struct_config__.tag)


def from_history(op: str, key: str, argument: str | None) -> AnyKeyOperation:
    """The operation of a history row; its inverse is `tag` and `argument`."""
    raw = msgspec.Raw((argument or "null").encode())
    match op:
        case "set":
            return Set(key, raw)
        case "increment":
            return Increment(key, decode(raw))
        case "append":
            return Append(key, raw)
        case "extend":
            return Extend(key, raw)
        case "merge":
            return Merge(key, raw)
    return Delete(key)


def _increment(key: str, by: float, current: str | None) -> str:
    number: Any = 0 if current is None else decode(current)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _wrong_type("increment", key, "a number", current)
    try:
        total: Any = number + by
    except OverflowError:
        total = math.inf
    if isinstance(total, float) and not math.isfinite(total):
        raise InvalidValue(f"increment would take {key!r} beyond what a double can hold", key=key, path="$")
    return msgspec.json.encode(total).decode()


def _splice(key: str, current: str | None, items: str) -> str:
    if current is None:
        return f"[{items}]"
    body = current.strip()
    if not body.startswith("["):
        raise _wrong_type("append", key, "a list", current)
    if not items:
        return body
    body = body[:-1].rstrip()
    return f"{body}{items}]" if body == "[" else f"{body},{items}]"


def _items(key: str, argument: str) -> str:
    argument = argument.strip()
    if not argument.startswith("["):
        raise WrongType(f"extend of {key!r} needs a list of items, not {_kind(argument)}", key=key)
    return argument[1:-1].strip()


def _merge(key: str, value: msgspec.Raw, current: str | None) -> str:
    if not bytes(value).lstrip().startswith(b"{"):
        raise WrongType(f"merge into {key!r} needs an object, not {_kind(bytes(value).decode())}", key=key)
    if current is not None and not current.lstrip().startswith("{"):
        raise _wrong_type("merge", key, "an object", current)
    fields = {} if current is None else _objects.decode(current)
    return msgspec.json.encode({**fields, **_objects.decode(value)}).decode()


def _wrong_type(op: str, key: str, needed: str, current: str | None) -> WrongType:
    found = _kind(current or "null")
    return WrongType(f"{op} needs {needed}, but {key!r} holds {found}; it was left as it is", key=key, found=found)


def _kind(text: str) -> str:
    first = text.lstrip()[:1]
    names = {
        "[": "a list",
        "{": "an object",
        '"': "a string",
        "t": "a boolean",
        "f": "a boolean",
        "n": "null",
    }
    return names.get(first, "a number")
