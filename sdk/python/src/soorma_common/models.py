"""Objects as JSON and back: pydantic models, dataclasses, msgspec structs and attrs classes.

An object is written by the names of its fields, whatever their aliases, and without computed
fields: its class can always read that. It is read from JSON text, in which a strict field accepts
what JSON has no type for, such as a time or an enum. A type that cannot be read is refused before
anything is stored in it, and an object that would not come back unchanged is refused before it is
stored. pydantic is imported only for its own classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from soorma_common.errors import InvalidRequest, InvalidValue

if TYPE_CHECKING:
    from soorma_common.pydantic_models import PydanticCodec

MOST_KINDS = 1024
"""Maximum number of cached codecs: a class made in a function is a new one at each call."""
HINT = (
    "give its fields types that can be read from JSON, or store the JSON that is meant, as a dict"
)


class Codec(Protocol):
    """The writer and reader of one type's values."""

    def plain(self, value: Any) -> Any:
        """Returns the JSON types of a value; raises ValueError or TypeError if it has none."""
        ...

    def decode(self, text: str | bytes) -> Any:
        """Decodes a value from JSON text; the type's validation raises, mostly a ValueError."""
        ...

    def written(self, value: Any) -> tuple[Any, bool]:
        """Returns the JSON types of a value, and True if there is no need to try reading them.

        That is so if the value is sure to come back from them as it is.
        """
        ...

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema (draft 2020-12) of the plain form."""
        ...


class MsgspecCodec:
    """The codec of all types but pydantic's own classes, which may be parts of them."""

    def __init__(self, kind: Any) -> None:
        try:
            self._decoder = msgspec.json.Decoder(kind, dec_hook=_decoded_part)
            parts = _foreign_parts(msgspec.inspect.type_info(kind))
        except (TypeError, NameError, AttributeError) as error:
            raise InvalidRequest(
                f"the type {name_of(kind)} cannot be read from JSON: {error}"
            ) from error
        for part in parts:
            if not is_pydantic(part):
                raise InvalidRequest(
                    f"the type {name_of(kind)} cannot be read from JSON, which never makes a "
                    f"{name_of(part)}: use a "
                    "dataclass, a msgspec struct, a pydantic model or plain types"
                )
            codec_of(part)
        self._kind = kind

    def plain(self, value: Any) -> Any:
        """Returns the JSON types of a value."""
        return msgspec.to_builtins(value, builtin_types=(), str_keys=True, enc_hook=_plain_part)

    def decode(self, text: str | bytes) -> Any:
        """Decodes a value from JSON text."""
        return self._decoder.decode(text)

    def written(self, value: Any) -> tuple[Any, bool]:
        """Returns the JSON types of a value, and False: trying is quicker than knowing.

        It is True for an open generic, which says too little to try.
        """
        return self.plain(value), bool(getattr(self._kind, "__parameters__", None))

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the plain form."""
        whole: dict[str, Any] = msgspec.json.schema(
            self._kind, schema_hook=lambda part: codec_of(part).schema()
        )
        shared: dict[str, Any] = whole.pop("$defs", {})
        for part in (whole, *shared.values()):
            _hoist(part, shared)
        return {**whole, "$defs": shared} if shared else whole


def codec_of(kind: Any) -> Codec:
    """Returns the codec of an annotated type; raises InvalidRequest if JSON cannot hold it."""
    try:
        return _codec_of(kind)
    except TypeError:  # the metadata of an Annotated may be unhashable
        return _codec_of.__wrapped__(kind)


@lru_cache(MOST_KINDS)
def _codec_of(kind: Any) -> Codec:
    kind = _written_out(kind)
    if is_pydantic(kind) or _is_said_to_pydantic(kind):
        return _pydantic_codec(kind)
    try:
        return MsgspecCodec(kind)
    except InvalidRequest:
        if _holds_pydantic(kind):  # such as a union of models
            return _pydantic_codec(kind)
        raise


def _pydantic_codec(kind: Any) -> PydanticCodec:
    from soorma_common.pydantic_models import PydanticCodec  # noqa: PLC0415 - only if needed

    return PydanticCodec(kind)


def is_pydantic(kind: Any) -> bool:
    """Returns True if a type is a pydantic model or dataclass."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def is_object(value: Any) -> bool:
    """Returns True if a value is an object that knows its own fields."""
    return knows_fields(type(value))


def knows_fields(kind: Any) -> bool:
    """Returns True if a type is a pydantic model, dataclass, msgspec struct or attrs class."""
    return isinstance(kind, type) and (
        hasattr(kind, "__pydantic_validator__")
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__struct_fields__")
        or hasattr(kind, "__attrs_attrs__")
    )


def name_of(kind: Any) -> str:
    """Returns the name of a type for messages."""
    return kind.__qualname__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def plain_of(value: Any, path: str) -> Any:
    """Returns the JSON types of an object.

    Raises InvalidValue if it has none, or if its class would not make the same object of them.
    """
    name = name_of(type(value))
    try:
        codec = codec_of(type(value))
        plain, is_sure = codec.written(value)
    except InvalidValue as error:
        raise InvalidValue(
            f"{path} is a {name} that JSON cannot say: {error}", path=path
        ) from error
    except InvalidRequest as error:
        raise InvalidValue(
            f"{path} is a {name} that could not be read again: {error}", path=path
        ) from error
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InvalidValue(
            f"{path} is a {name} that JSON cannot say: {error}", path=path
        ) from error
    if not is_sure:
        _check_return(value, plain, codec, path)
    return plain


def _check_return(value: Any, plain: Any, codec: Codec, path: str) -> None:
    name = name_of(type(value))
    try:
        again = codec.decode(msgspec.json.encode(plain))
    except Exception as error:  # a model's own validators may raise anything
        raise InvalidValue(
            f"{path} is a {name} that could not be read again: {error}; {HINT}", path=path
        ) from error
    if changed := difference(value, again):
        raise InvalidValue(
            f"{path} is a {name} that would come back changed, in {changed}; {HINT}", path=path
        )


def difference(before: Any, after: Any, where: str = "itself") -> str | None:
    """Returns the path of the first part in which two values differ, None if there is none.

    A list and a tuple count as the same.
    """
    fields = fields_of(before)
    if fields is not None and type(before) is type(after):
        parts: Iterable[tuple[Any, Any, str]] = (
            (part, (fields_of(after) or {}).get(name), f"{where}.{name}".removeprefix("itself."))
            for name, part in fields.items()
        )
    elif isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        parts = ((part, after[key], f"{where}.{key}") for key, part in before.items())
    elif (
        isinstance(before, list | tuple)
        and isinstance(after, list | tuple)
        and len(before) == len(after)
    ):
        parts = ((one, after[number], f"{where}[{number}]") for number, one in enumerate(before))
    else:
        return None if before == after else where
    return next(filter(None, (difference(*part) for part in parts)), None)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Returns an object's fields, None if the value is not an object."""
    kind = type(value)
    if not knows_fields(kind):
        return None
    if names := getattr(kind, "__struct_fields__", None) or [
        one.name for one in getattr(kind, "__attrs_attrs__", ())
    ]:
        return {name: getattr(value, name, None) for name in names}
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
    return {name: getattr(value, name, None) for name in kind.model_fields} | (
        value.__pydantic_extra__ or {}
    )


def _plain_part(value: Any) -> Any:
    if is_pydantic(type(value)):
        return codec_of(type(value)).plain(value)
    raise InvalidValue(f"a field is a {name_of(type(value))}, which JSON cannot say", path="$")


def _decoded_part(kind: Any, value: Any) -> Any:
    return codec_of(kind).decode(msgspec.json.encode(value))


def _foreign_parts(info: Any) -> set[Any]:
    """Returns the classes in a type that msgspec does not know."""
    found: set[Any] = set()
    seen: set[int] = set()
    left = [info]
    while left:
        part = left.pop()
        if isinstance(part, msgspec.inspect.CustomType):
            found.add(part.cls)
        elif isinstance(part, tuple):
            left += part
        elif (
            isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field) and id(part) not in seen
        ):
            seen.add(id(part))
            left += [
                getattr(part, name)
                for name in part.__struct_fields__
                if name not in ("default", "cls")
            ]
    return found


def _written_out(kind: Any) -> Any:
    """Returns the type that a `type` alias stands for."""
    while type(kind).__name__ == "TypeAliasType":
        kind = kind.__value__
    return kind


def _is_said_to_pydantic(kind: Any) -> bool:
    """Returns True if an Annotated has metadata that only pydantic understands."""
    return get_origin(kind) is Annotated and any(
        type(said).__module__.split(".")[0] == "pydantic" for said in kind.__metadata__
    )


def _holds_pydantic(kind: Any) -> bool:
    try:
        return any(map(is_pydantic, _classes_in(kind, set())))
    except (NameError, TypeError, AttributeError):  # an unknown name, already reported
        return False


def _classes_in(kind: Any, seen: set[int]) -> Iterator[type]:
    """Yields the classes that a type is made of, at any depth."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    kind = _written_out(kind)
    for part in get_args(kind):
        yield from _classes_in(part, seen)
    if isinstance(kind, type) and get_origin(kind) is None:
        yield kind
        if not is_pydantic(kind) and (knows_fields(kind) or hasattr(kind, "__annotations__")):
            for part in get_type_hints(kind, include_extras=True).values():
                yield from _classes_in(part, seen)


def _hoist(schema: Any, shared: dict[str, Any]) -> None:
    """Moves the definitions of parts to where their references look for them."""
    for part in (
        schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    ):
        if isinstance(part, dict):
            shared.update(part.pop("$defs", {}))
        _hoist(part, shared)
