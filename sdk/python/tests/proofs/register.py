"""One key of one plan as an object that serves one call at a time: the calls are the HTTP API's."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from linearizability import Call

Result: TypeAlias = tuple[Any, ...]


class Request(NamedTuple):
    """A request to the key.

    `argument` is the value of a put or the amount of an increment; `expected` is the revision of
    If-Match, 0 for none.
    """

    kind: Literal["get", "put", "delete", "increment"]
    argument: int | None = None
    expected: int | None = None


class Key(NamedTuple):
    """A key's value and revision (0: missing), and its plan's revision; no other key is written."""

    plan: int = 0
    revision: int = 0
    value: int | None = None


def run(key: Key, request: Request) -> tuple[Key, Result]:
    """The key after the request, and the response."""
    if request.expected not in (None, key.revision):
        return key, ("conflict", key.revision)
    match request.kind:
        case "get":
            return key, ("value", key.value, key.revision) if key.revision else ("missing",)
        case "delete":
            after = Key(key.plan + 1) if key.revision else key
            return after, ("deleted", key.revision > 0, after.plan)
        case "put":
            after = Key(key.plan + 1, key.plan + 1, request.argument)
        case "increment":
            after = Key(key.plan + 1, key.plan + 1, (key.value or 0) + (request.argument or 0))
    return after, ("done", after.value, after.revision)


def step(key: Key, call: Call) -> Key | None:
    after, result = run(key, call.request)
    return after if not call.answered or call.result == result else None
