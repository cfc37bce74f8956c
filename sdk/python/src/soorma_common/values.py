"""Python values as JSON text and back.

A part that JSON cannot represent is refused before it is sent, with its path in the value. Text
from outside is checked and read in `json_text`.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from soorma_common.errors import InvalidValue
from soorma_common.json_text import DEEPEST_VALUE, LARGEST_INTEGER_BITS
from soorma_common.models import codec_of, is_object, name_of, plain_of

_encoder = msgspec.json.Encoder()
_PLAIN = frozenset([str, bool, type(None)])


def encode(value: Any) -> str:
    """Encodes a value as JSON text.

    Accepts JSON types, tuples, and pydantic models, dataclasses, msgspec structs or attrs classes,
    at any depth. Raises InvalidValue with the path of the first part that JSON cannot represent:
    NaN, Infinity, a dict key that is not a string, an object of another type, a lone surrogate.
    """
    try:
        return msgspec.json.encode(_plain(value, "$", 0)).decode()
    except RecursionError:
        raise InvalidValue(
            f"the value is nested deeper than {DEEPEST_VALUE} levels, or holds itself", path="$"
        ) from None
    except UnicodeEncodeError:
        path = _surrogate_path(_plain(value, "$", 0), "$")
        raise InvalidValue(f"{path} holds a lone surrogate, which is no text", path=path) from None


def _plain(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if value.bit_length() > LARGEST_INTEGER_BITS:
            raise InvalidValue(
                f"{path} is an integer of more than {LARGEST_INTEGER_BITS} bits", path=path
            )
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(f"{path} is {value}, which JSON cannot say", path=path)
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return _plain(int(value), path, depth)
    if depth >= DEEPEST_VALUE:
        raise InvalidValue(f"{path} is nested deeper than {DEEPEST_VALUE} levels", path=path)
    if isinstance(value, dict):
        return {
            name
            if type(name) is str
            else _key(name, path): part  # most parts are plain: no call or path for each
            if type(part) in _PLAIN
            else _plain(part, f"{path}.{name}", depth + 1)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            part if type(part) in _PLAIN else _plain(part, f"{path}[{index}]", depth + 1)
            for index, part in enumerate(value)
        ]
    if is_object(value):
        return _plain(plain_of(value, path), path, depth)
    raise InvalidValue(
        f"{path} is a {kind.__name__}, which JSON cannot say; turn it into text, numbers, lists or "
        "objects",
        path=path,
    )


def _key(name: Any, path: str) -> str:
    if not isinstance(name, str):
        raise InvalidValue(
            f"{path} has the key {name!r}; keys of a JSON object are strings", path=path
        )
    return name


def decode_as(text: str | bytes, kind: Any) -> Any:
    """Decodes JSON text as an instance of a type.

    The type is a pydantic model, dataclass, msgspec struct, attrs class or plain type. Raises
    InvalidRequest if JSON never makes such a type, and InvalidValue, with the message of the type's
    own validation, if the value does not fit.
    """
    codec = codec_of(kind)
    try:
        return codec.decode(text)
    except (ValueError, TypeError) as error:  # pydantic and msgspec raise ValueErrors
        raise InvalidValue(f"the value is no {name_of(kind)}: {error}", path="$") from error


def convert(value: Any, kind: Any) -> Any:
    """Converts a decoded value to an instance of a type; raises as `decode_as` does."""
    return decode_as(_encoder.encode(value), kind)


def _surrogate_path(value: Any, path: str) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return path
        return ""
    if isinstance(value, dict):
        parts = [(f"{path}.{name!a}", name) for name in value] + [
            (f"{path}.{n}", v) for n, v in value.items()
        ]
    elif isinstance(value, list):
        parts = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    else:
        return ""
    return next(filter(None, (_surrogate_path(part, where) for where, part in parts)), "")
