"""JSON Schemas for payloads: those whose checking is bounded for every payload.

A schema of a few lines can take an exponential number of steps: by references that double at each
turn, or by one that refers to itself in two ways for the same part of a payload. The first is
refused here. For the second, `Cost` says how it grows with the payload's depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from soorma_common.errors import InvalidValue

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MOST_PARTS = 10_000
MOST_STEPS = 10_000_000
DEEPEST_FOLLOWED = 50
"""The longest chain of references."""
MOST_RETURNS = 1_000

_ANY = "*"
_SAME_PLACE = (
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
)
_DEEPER = ("patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames",
           "items", "prefixItems", "contains", "unevaluatedItems")  # fmt: skip
_TABLES = ("patternProperties", "dependentSchemas", "dependencies")
_REFUSED = {
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "$dynamicAnchor": "use $defs and $ref",
    "$anchor": "use $defs and $ref",
    "$vocabulary": "leave it out",
}


class Cost(NamedTuple):
    """The cost of checking payloads against a schema.

    `parts` are its parts with all references written out; `branches` is in how many ways it refers
    to itself for the same part of a payload. A payload of depth d takes at most about parts x
    branches^d steps.
    """

    parts: int
    branches: int

    def allows(self, depth: int) -> bool:
        """Returns True if a payload of that depth can be checked in bounded time."""
        return self.branches == 1 or self.parts * self.branches**depth <= MOST_STEPS


def cost_of(schema: Any) -> Cost:
    """Returns the schema's cost.

    Raises InvalidValue if it is too large, or refers to anything outside itself.
    """
    walk = _Walk(schema)
    try:
        walk.visit(schema, (), "")
    except RecursionError:
        raise InvalidValue(
            "the schema is nested too deeply with its references written out", path="#"
        ) from None
    return Cost(walk.parts, walk.branches())


class _Entry(msgspec.Struct):
    """A reference being followed, and the paths beneath it where a reference leads back up."""

    target: str
    steps: tuple[str, ...]
    returns: list[tuple[str, ...]] = []


class _Walk:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._open: list[_Entry] = [_Entry("#", ())]
        self._followed: list[_Entry] = [*self._open]
        self._returns = 0
        self.parts = 0

    def visit(self, schema: Any, steps: tuple[str, ...], pointer: str) -> None:
        if not isinstance(schema, dict):
            return
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise InvalidValue(
                f"the schema has more than {MOST_PARTS:,} parts with its references written out; "
                "make it simpler",
                path=f"#{pointer}",
            )
        self._check_keywords(schema, pointer)
        for name, part, step in _parts(schema):
            self.visit(part, steps if step is None else (*steps, step), f"{pointer}/{name}")
        if "$ref" in schema:
            self._follow(schema["$ref"], steps, pointer)

    @staticmethod
    def _check_keywords(schema: dict[str, Any], pointer: str) -> None:
        for name in _REFUSED.keys() & schema.keys():
            raise InvalidValue(
                f"#{pointer} has {name}, which is not taken; {_REFUSED[name]}", path=f"#{pointer}"
            )
        if pointer and "$id" in schema:
            raise InvalidValue(
                f"#{pointer} has an $id; only the whole schema may have one", path=f"#{pointer}"
            )
        if str(schema.get("$schema", DRAFT)).rstrip("#") != DRAFT:
            raise InvalidValue(
                f"schemas are of draft 2020-12 ({DRAFT}), not {schema['$schema']!r}",
                path=f"#{pointer}",
            )

    def _follow(self, reference: Any, steps: tuple[str, ...], pointer: str) -> None:
        target = self._target(reference, pointer)
        for entry in self._open:
            if entry.target == reference and entry.steps == steps:
                raise InvalidValue(
                    f"#{pointer} refers to itself: {reference!r} leads back to it",
                    path=f"#{pointer}",
                )
        if any(entry.target == reference for entry in self._open):
            self._return(steps, pointer)
            return
        if len(self._open) > DEEPEST_FOLLOWED:
            raise InvalidValue(
                f"#{pointer} is more than {DEEPEST_FOLLOWED} references away from the schema's "
                "root",
                path=f"#{pointer}",
            )
        entry = _Entry(reference, steps)
        self._open.append(entry)
        self._followed.append(entry)
        self.visit(target, steps, reference[1:])
        self._open.pop()

    def _return(self, steps: tuple[str, ...], pointer: str) -> None:
        for entry in self._open:
            entry.returns.append(steps[len(entry.steps) :])
        self._returns += len(self._open)
        if self._returns > MOST_RETURNS:
            raise InvalidValue(
                f"the schema refers to itself in more than {MOST_RETURNS} ways; make it simpler",
                path=f"#{pointer}",
            )

    def _target(self, reference: Any, pointer: str) -> Any:
        found = self._root
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise InvalidValue(
                f"#{pointer} refers to {str(reference)[:200]!r}; a schema refers only to its own "
                "parts, "
                "as '#/$defs/name'",
                path=f"#{pointer}",
            )
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise InvalidValue(
                    f"#{pointer} refers to {reference!r}, which is not there", path=f"#{pointer}"
                ) from None
        return found

    def branches(self) -> int:
        """Returns in how many ways references lead back for the same part of a payload."""
        return max((_most_alike(entry.returns) for entry in self._followed), default=1)


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
    """Yields the place of each subschema, the subschema, and its step into the payload.

    The step is None if it applies to the same part of the payload.
    """
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name, part in properties.items():
            yield f"properties/{name}", part, name
    for keyword in (*_SAME_PLACE, *_DEEPER):
        step = None if keyword in _SAME_PLACE else _ANY
        found = schema.get(keyword)
        if isinstance(found, list):
            for index, part in enumerate(found):
                yield f"{keyword}/{index}", part, step
        elif keyword in _TABLES and isinstance(found, dict):
            for name, part in found.items():
                yield f"{keyword}/{name}", part, step
        elif isinstance(found, dict):
            yield keyword, found, step


def _most_alike(paths: list[tuple[str, ...]]) -> int:
    """Returns how many paths, at most, may lie above or beneath the same part of a payload."""
    counted = Counter(paths)
    meeting = (
        sum(count for other, count in counted.items() if _may_meet(one, other)) for one in counted
    )
    return max(meeting, default=1)


def _may_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(
        mine == theirs or _ANY in (mine, theirs) for mine, theirs in zip(one, other, strict=False)
    )


def depth_of(value: Any) -> int:
    """Returns the levels of nesting of a JSON value: 0 for a scalar."""
    if not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, parts), default=0)
