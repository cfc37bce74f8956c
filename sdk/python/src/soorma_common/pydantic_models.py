"""Pydantic's models and dataclasses as JSON and back.

Imported only where such a class occurs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import pydantic
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from soorma_common.errors import InvalidRequest
from soorma_common.models import name_of

CAN_READ_BY_NAME = tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 11)
"""False for an older pydantic, which reads by aliases only, unless the model says otherwise.

Other models with aliases are refused then.
"""
BY_NAME: dict[str, Any] = {"by_alias": False, "by_name": True} if CAN_READ_BY_NAME else {}
BY_EITHER: dict[str, Any] = {"by_alias": True, "by_name": True} if CAN_READ_BY_NAME else {}
"""Options to read by the names of fields, and by aliases that are no name of another field."""

_SURE = frozenset(
    """
    model model-fields model-field dataclass dataclass-args dataclass-field typed-dict
    typed-dict-field definitions definition-ref default nullable tagged-union list dict set
    frozenset tuple str int float bool none date time datetime uuid literal enum url
    """.split()  # noqa: SIM905 - a list of them would take a page
)
"""Parts of a schema whose values always come back as they are.

For any other part that depends on a function, or on the value.
"""
_OWN_WAYS = frozenset(
    ["serialization", "serialization_exclude", "serialization_exclude_if", "init_only"]
)
_NO_SCHEMA = frozenset(
    ["metadata", "config", "default", "serialization", "expected", "members", "discriminator"]
)


class PydanticCodec:
    """The codec of pydantic's own classes, and of types made of them."""

    def __init__(self, kind: Any) -> None:
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
            if hasattr(self._adapter, "rebuild"):
                self._adapter.rebuild(raise_errors=True)
            nodes = list(_nodes(self._adapter.core_schema))
        except (PydanticUserError, NameError, TypeError) as error:
            said = str(error).partition("\n")[0]
            raise InvalidRequest(
                f"the type {name_of(kind)} cannot be read from JSON: {said}"
            ) from error
        self._is_open = bool(getattr(kind, "__pydantic_generic_metadata__", {}).get("parameters"))
        self._is_sure = CAN_READ_BY_NAME and all(map(_is_sure, nodes))
        self._classes = {node["cls"] for node in nodes if node["type"] in ("model", "dataclass")}
        self._names = BY_NAME if any(map(_is_ambiguous, nodes)) else BY_EITHER

    def plain(self, value: Any) -> Any:
        """Returns the JSON types of a value, by field names and without computed fields."""
        return self._dump(value, warnings=False)

    def written(self, value: Any) -> tuple[Any, bool]:
        """Returns the JSON types of a value, and True if there is no need to try reading them.

        That is so if the schema alone guarantees that the value comes back, or if the type is an
        open generic.
        """
        if self._is_sure and not any(part.__subclasses__() for part in self._classes):
            with suppress(ValueError):  # if a field holds another type than it declares
                return self._dump(value, warnings="error"), True
        return self.plain(value), self._is_open

    def decode(self, text: str | bytes) -> Any:
        """Decodes a value from JSON text."""
        return self._adapter.validate_json(text, **self._names)

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the plain form."""
        return self._adapter.json_schema(by_alias=False)

    def _dump(self, value: Any, *, warnings: Literal[False, "error"]) -> Any:
        return self._adapter.dump_python(
            value, mode="json", by_alias=False, round_trip=True, warnings=warnings
        )


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yields the parts of a core schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for name, part in schema.items():
            if name not in _NO_SCHEMA:
                yield from _nodes(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _nodes(part)


def _is_sure(node: dict[str, Any]) -> bool:
    config = node.get("config", {})
    return (
        node["type"] in _SURE
        and not _OWN_WAYS & node.keys()
        and not (node.get("custom_init") or node.get("post_init"))
        and "allow" not in (node.get("extra_behavior"), config.get("extra_fields_behavior"))
        and not any(name.startswith(("ser_json", "val_json")) for name in config)
        and (node["type"] != "dict" or node.get("keys_schema", {}).get("type") == "str")
    )


def _is_ambiguous(node: dict[str, Any]) -> bool:
    """Returns True if an alias of one field is the name of another."""
    fields = node.get("fields", ())
    named = (
        fields.items()
        if isinstance(fields, dict)
        else [(one["name"], one) for one in fields if "name" in one]
    )
    aliases = {name: _first_names(field.get("validation_alias")) - {name} for name, field in named}
    return any(found & aliases.keys() for found in aliases.values())


def _first_names(alias: Any) -> set[str]:
    """Returns the keys of an object that a validation alias reads.

    The alias is a name, a path, or a list of these.
    """
    if isinstance(alias, str):
        return {alias}
    paths = [alias] if alias and not isinstance(alias[0], list) else alias or []
    return {path[0] for path in paths}
