"""Values as JSON text.

A value is any JSON. It is kept as the text it came as, so key order, big integers and unicode come back
as they went in. What JSON cannot say is refused before it is sent, with its path in the value.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import add
from typing import Any

import msgspec

from soorma_common.errors import InvalidValue
from soorma_common.models import codec_of, is_object, name_of, plain_of

DEEPEST_VALUE = 128
"""Levels of nesting a value may have: both ends decode by recursion."""

LARGEST_INTEGER_BITS = 14_000
"""Python reads and writes integers of up to 4,300 digits unless told otherwise."""

_decoder = msgspec.json.Decoder()
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_MANY_DIGITS = b"0" * 200
_BRACKETS = bytes.maketrans(b"[{]}", b"1100")
_ALL_ELSE = bytes(one for one in range(256) if one not in b"[]{}")
_SHORT = 4096
"""Bytes up to which text is quickly copied."""
_STEPS = [[1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1)] for byte in range(256)]
_LEADS_TO = [sum(steps) for steps in _STEPS]
_AT_MOST = [max(accumulate(steps)) for steps in _STEPS]
_encoder = msgspec.json.Encoder()
_PLAIN = frozenset([str, bool, type(None)])


def encode(value: Any) -> str:
    """JSON text of a value: JSON types, tuples, and pydantic models, dataclasses or msgspec structs at any depth.

    Raises InvalidValue with the path of the first part that JSON cannot say: NaN, Infinity, a dict key
    that is no string, an object of another type, a lone surrogate.
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


def decode(text: str | bytes) -> Any:
    """A fresh Python value of JSON text that `encode` or `check` has let pass."""
    return _decoder.decode(text)


def compact(text: bytes) -> bytes:
    """The same JSON without whitespace between its tokens, so that it holds no line break; other text as it is.

    Strings, numbers and the order of keys stay as they are written.
    """
    if _has_no_blank(text):
        return text  # as is what the SDK sends
    try:
        return msgspec.json.format(text, indent=-1)
    except (ValueError, RecursionError):
        return text  # whoever decodes it says what is wrong with it


def _has_no_blank(text: bytes) -> bool:
    if len(text) < _SHORT:  # one look, at the price of a copy, costs a fifth of four
        return text.split(None, 1) == [text]
    return not (b" " in text or b"\n" in text or b"\t" in text or b"\r" in text)


def check(raw: bytes | bytearray | memoryview | msgspec.Raw, where: str = "value") -> str:
    """The text of raw JSON from outside, after all of it was read once; InvalidValue if it is not strict JSON.

    It is read without making a Python object of each part: a megabyte of empty lists takes 2 ms so, and else 25 ms.
    """
    data = bytes(raw)
    try:
        _raw_decoder.decode(data)
        text = data.decode()
        if _may_be_beyond_numbers(data):
            _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise InvalidValue(f"{where} is not JSON that can be kept: {error}", path=where) from error
    if len(data) > DEEPEST_VALUE and _is_too_deep(data):
        raise InvalidValue(f"{where} is nested deeper than {DEEPEST_VALUE} levels", path=where)
    return text


def _may_be_beyond_numbers(data: bytes) -> bool:
    """Whether there are numbers, or text, of so many digits that a number could be beyond a double, or be refused."""
    if len(data) < len(_MANY_DIGITS) and b"e" not in data and b"E" not in data:
        return False  # as most values are; to look at each of its digits costs more than all the rest
    digits = data.translate(_DIGITS, b"+")
    return b"e000" in digits or _MANY_DIGITS in digits


def _is_too_deep(data: bytes) -> bool:
    """Whether it is nested deeper than DEEPEST_VALUE levels. It is strict JSON.

    Eight brackets are looked at at once: as the bits of a byte, of which a table knows how deep they lead.
    """
    if data.count(b"[") + data.count(b"{") <= DEEPEST_VALUE:
        return False
    outside = b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    bits = outside.translate(_BRACKETS, _ALL_ELSE)
    bits += b"10" * (-len(bits) % 8 // 2)
    eights = int(bits, 2).to_bytes(len(bits) // 8, "big")
    before = accumulate(map(_LEADS_TO.__getitem__, eights), initial=0)
    deepest: int = max(map(add, before, map(_AT_MOST.__getitem__, eights)))
    return deepest > DEEPEST_VALUE


def _plain(value: Any, path: str, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if value.bit_length() > LARGEST_INTEGER_BITS:
            raise InvalidValue(f"{path} is an integer of more than {LARGEST_INTEGER_BITS} bits", path=path)
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
            name if type(name) is str else _key(name, path): part  # most parts are plain: no call for each, no path
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
        f"{path} is a {kind.__name__}, which JSON cannot say; turn it into text, numbers, lists or objects",
        path=path,
    )


def _key(name: Any, path: str) -> str:
    if not isinstance(name, str):
        raise InvalidValue(f"{path} has the key {name!r}; keys of a JSON object are strings", path=path)
    return name


def decode_as(text: str | bytes, kind: Any) -> Any:
    """The value of JSON text as an instance of a type: a pydantic model, dataclass, msgspec struct or plain type.

    Raises InvalidRequest if JSON never makes such a type, InvalidValue, with what its own validation says, if the
    value is none.
    """
    codec = codec_of(kind)
    try:
        return codec.decode(text)
    except (ValueError, TypeError) as error:  # pydantic's and msgspec's validation errors are ValueErrors
        raise InvalidValue(f"the value is no {name_of(kind)}: {error}", path="$") from error


def convert(value: Any, kind: Any) -> Any:
    """A decoded value as an instance of a type; see `decode_as` for the errors."""
    return decode_as(_encoder.encode(value), kind)


def _surrogate_path(value: Any, path: str) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return path
        return ""
    if isinstance(value, dict):
        parts = [(f"{path}.{name!a}", name) for name in value] + [(f"{path}.{n}", v) for n, v in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    else:
        return ""
    return next(filter(None, (_surrogate_path(part, where) for where, part in parts)), "")
