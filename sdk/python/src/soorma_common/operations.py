"""The operations on a plan, and how each applies to a value.

Both sides use this module: the engine to decide commits, the SDK to show a handler its own
uncommitted changes. An operation turns JSON text into JSON text; append and extend splice text, so
that a long list never has to be parsed to grow by one.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias, get_args

import msgspec

from soorma_common.errors import InvalidRequest, InvalidValue, WrongType
from soorma_common.events import Envelope, TimerBody
from soorma_common.json_text import LARGEST_INTEGER_BITS, decode
from soorma_common.names import Name, PlanStatus

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

LONGEST_TTL = 10 * 365 * 86_400.0
LAST_REVISION = (1 << 62) - 1
MOST_PLACES, MOST_PLACES_AT_ONCE = 1_000, 5_000
"""Maximum places of a semaphore, and of all semaphore operations in one commit.

A commit looks at each of them.
"""

Ttl: TypeAlias = Annotated[
    float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": LONGEST_TTL})
]
"""A time to live in a message, in seconds."""

Revision: TypeAlias = Annotated[
    int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": LAST_REVISION})
]
"""A requested revision of a plan."""


class Operation(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, omit_defaults=True):
    """One change within a commit."""


class Conditional(Operation, kw_only=True):
    """An operation that may be a compare-and-set.

    If given, the key must be at `expected_revision` (0: missing). `blind` requests no result, so
    that the operation reads nothing.
    """

    expected_revision: int | None = None
    blind: bool = False


class KeyOperation(Conditional):
    """An operation on one key."""

    key: Name


class Set(KeyOperation, tag="set"):
    """Sets the key's value, which expires after `ttl` seconds.

    Without a `ttl`, it does not expire: an earlier time to live ends.
    """

    value: msgspec.Raw
    ttl: Ttl | None = None


class Delete(KeyOperation, tag="delete"):
    """Removes the key. Result: whether it existed."""


class Increment(KeyOperation, tag="increment"):
    """Adds to a number; a missing key counts as 0. Result: the new number."""

    by: int | float = 1


class Append(KeyOperation, tag="append"):
    """Adds one item to a list; a missing key counts as an empty one. Result: the new list."""

    value: msgspec.Raw


class Extend(KeyOperation, tag="extend"):
    """Adds all items of a list to a list; a missing key counts as an empty one.

    Result: the new list.
    """

    value: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "array"})]


class Merge(KeyOperation, tag="merge"):
    """Sets the fields of an object, shallowly, nulls included; a missing key counts as {}.

    Result: the new object.
    """

    value: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]


class Join(KeyOperation, tag="join"):
    """Records an arrival at a fan-in.

    Result: true for the one arrival that completes it, else false. `expect` is the number of
    different arrivals to wait for, or their names. A repeated arrival changes nothing. `assumed` is
    the result that the author of the commit has relied on: Conflict if it turns out otherwise.
    """

    arrival: Name
    expect: int | list[Name]
    assumed: bool | None = None


class PlaceOperation(Operation, kw_only=True):
    """An operation on a semaphore.

    A semaphore has `places` keys (`key`, `key/2`, …) and a line of tickets (`key/waiting/…`).
    `holder` is a name that nobody else has; `ticket` is the one with which it waits, if it does.
    """

    key: Name
    holder: Name
    places: Annotated[int, msgspec.Meta(ge=1, le=MOST_PLACES)] = 1
    ticket: Name | None = None

    @property
    def line(self) -> str:
        """The prefix of its tickets' keys."""
        return f"{self.key}/waiting/"

    def all_places(self) -> list[str]:
        """Returns the keys of its places."""
        return [self.key, *(f"{self.key}/{number}" for number in range(2, self.places + 1))]


class Acquire(PlaceOperation, tag="acquire", kw_only=True):
    """Takes a free place if nobody waits for it, else, with `wait`, a ticket.

    A holder keeps what it has. A place is held for `ttl` seconds, a ticket for ever, as long as it
    is `renew`ed within each `lease` seconds. `renew` takes nothing new; with a `ttl` the time of a
    place begins anew. Result: the `place` with its `revision`, a `ticket`, or null.
    """

    lease: Ttl
    ttl: Ttl | None = None
    wait: bool = False
    renew: bool = False


class Release(PlaceOperation, tag="release", kw_only=True):
    """Releases a place or a ticket.

    The first in the line gets the place. Result: whether a place was held.
    """


class RecordAction(Operation, tag="record_action"):
    """Adds an action to the plan's action history."""

    name: Name


class Cleanup(Operation, tag="cleanup"):
    """Removes everything of the plan: keys, actions and history. Result: the number of keys."""


class ExpirePlan(Operation, tag="ttl"):
    """Makes the whole plan expire `ttl` seconds from now; null cancels that."""

    ttl: Ttl | None


class LifeOperation(Operation):
    """An operation that reaches beyond its plan's keys.

    It publishes events, or starts from the keys of another plan.
    """


class Ending(LifeOperation, kw_only=True):
    """Ends the plan, once; an event with the id `event_id` announces that on plan-events.

    Result: whether this operation ended the plan. With `if_active` a plan that has already ended is
    left as it is.
    """

    event_id: Name | None = None
    if_active: bool = False


class Complete(Ending, tag="complete"):
    """Ends the plan as completed: it has reached its goal."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Fail(Ending, tag="fail"):
    """Ends the plan as failed, and publishes its compensations, the last first."""

    reason: str = ""


class Cancel(Ending, tag="cancel"):
    """Ends the plan as cancelled: it is not wanted any more.

    Events that wait for its handlers are discarded, and commits of its running handlers are
    rejected.
    """

    reason: str = ""


class Deadline(LifeOperation, tag="deadline"):
    """Publishes an event later, unless the plan has ended by then."""

    timer: TimerBody


class Compensate(LifeOperation, tag="compensate"):
    """Registers an event that undoes what the commit does, to be published if the plan fails."""

    event: Envelope


class Fork(LifeOperation, tag="fork"):
    """Creates the plan, which must be unused, with the keys of another plan, `plan_id`.

    The other plan is the same user's; its keys are taken as of `revision` (null: now), its actions
    and history are not. The operation comes first in its part of the commit. Result: the revision
    of the other plan.
    """

    plan_id: Name
    revision: Revision | None = None


AnyKeyOperation = Set | Delete | Increment | Append | Extend | Merge | Join
AnyPlaceOperation = Acquire | Release
AnyEnding = Complete | Fail | Cancel
AnyLifeOperation = AnyEnding | Deadline | Compensate | Fork
AnyOperation = (
    AnyKeyOperation | AnyPlaceOperation | RecordAction | Cleanup | ExpirePlan | AnyLifeOperation
)

_TAGS: dict[type[Operation], str] = {
    kind: str(kind.__struct_config__.tag) for kind in get_args(AnyOperation)
}

ENDINGS: dict[type[Ending], PlanStatus] = {
    Complete: "completed",
    Fail: "failed",
    Cancel: "cancelled",
}
"""The status that an ending leads to; its event has the type `plan.` followed by the status."""


def apply(operation: AnyKeyOperation, current: str | None) -> str | None:
    """Returns the text of the key's value after the operation; None is a missing key, in and out.

    Raises WrongType if the operation does not fit the value or its own argument, InvalidValue if a
    number becomes too large, and InvalidRequest if a join contradicts what its fan-in expects.
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
        case Join():
            return _join(operation, current)


def result(operation: AnyKeyOperation, before: str | None, after: str | None) -> str | None:
    """Returns the operation's result as JSON text.

    That is None for set, a bool for delete and join, and the new value for all others.
    """
    match operation:
        case Set():
            return None
        case Delete():
            return "true" if before is not None else "false"
        case Join():
            return "true" if _is_full(after) and not _is_full(before) else "false"
        case _:
            return after


def argument(operation: AnyOperation) -> str | None:
    """Returns the operation's argument as JSON text, as the history stores it."""
    match operation:
        case Set(value=value) | Append(value=value) | Extend(value=value) | Merge(value=value):
            return bytes(value).decode()
        case Increment(by=by):
            return msgspec.json.encode(by).decode()
        case RecordAction(name=name):
            return msgspec.json.encode(name).decode()
        case Join(arrival=arrival, expect=expect):
            return msgspec.json.encode({"arrival": arrival, "expect": expect}).decode()
        case ExpirePlan(ttl=ttl):
            return msgspec.json.encode(ttl).decode()
        case Complete(result=outcome):
            return "null" if outcome is msgspec.UNSET else bytes(outcome).decode()
        case Fail(reason=reason) | Cancel(reason=reason):
            return msgspec.json.encode(reason).decode()
        case Deadline(timer=timer):
            return msgspec.json.encode(timer).decode()
        case Compensate(event=event):
            return msgspec.json.encode(event).decode()
    return None


def tag(operation: Operation) -> str:
    """Returns the operation's name, as in `op`."""
    return _TAGS[type(operation)]


def from_history(op: str, key: str, argument: str | None) -> AnyKeyOperation:
    """Makes the operation of a history row; the inverse of `tag` and `argument`."""
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
        case "join":
            return Join(key, **decode(raw))
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
        raise InvalidValue(
            f"increment would take {key!r} beyond what a double can hold", key=key, path="$"
        )
    if isinstance(total, int) and total.bit_length() > LARGEST_INTEGER_BITS:
        raise InvalidValue(
            f"increment would take {key!r} beyond {LARGEST_INTEGER_BITS} bits", key=key, path="$"
        )
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
        raise WrongType(
            f"merge into {key!r} needs an object, not {_kind(bytes(value).decode())}", key=key
        )
    if current is not None and not current.lstrip().startswith("{"):
        raise _wrong_type("merge", key, "an object", current)
    fields = {} if current is None else _objects.decode(current)
    return msgspec.json.encode({**fields, **_objects.decode(value)}).decode()


class Gathering(msgspec.Struct):
    """The value of a key for joins: who is expected, and who has arrived."""

    expect: int | list[str]
    arrived: list[str]

    @property
    def is_full(self) -> bool:
        """True if all have arrived."""
        wanted = self.expect if isinstance(self.expect, int) else len(self.expect)
        return len(self.arrived) >= wanted


_gatherings = msgspec.json.Decoder(Gathering)


def _join(operation: Join, current: str | None) -> str:
    key, expect, arrival = operation.key, operation.expect, operation.arrival
    if current is None:
        gathering = Gathering(expect, [])
    else:
        try:
            gathering = _gatherings.decode(current)
        except ValueError as error:
            raise _wrong_type(
                "join", key, "nothing, or what an earlier join left", current
            ) from error
    if gathering.expect != expect:
        raise InvalidRequest(
            f"join at {key!r} expects {gathering.expect}, as the first to arrive said, not {expect}"
        )
    if isinstance(expect, list) and arrival not in expect:
        raise InvalidRequest(
            f"join at {key!r} expects {', '.join(expect)}, and not to be joined by {arrival!r}"
        )
    if arrival not in gathering.arrived and not gathering.is_full:
        gathering.arrived.append(arrival)
    return msgspec.json.encode(gathering).decode()


def _is_full(text: str | None) -> bool:
    return text is not None and _gatherings.decode(text).is_full


def _wrong_type(op: str, key: str, needed: str, current: str | None) -> WrongType:
    found = _kind(current or "null")
    return WrongType(
        f"{op} needs {needed}, but {key!r} holds {found}; it was left as it is",
        key=key,
        found=found,
    )


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
