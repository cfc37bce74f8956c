"""Reasons: short texts that say what went wrong, made from whatever was raised."""

from __future__ import annotations

from typing import Any

LONGEST_REASON = 4000
"""Maximum characters of a reason; the rest is cut off."""
NO_REASON = "no reason was given"
MOST_LEAVES = 5
"""Maximum exceptions of a group that its reason lists."""


def reason_of(about: object) -> str:
    """Returns `about` as text that can be sent and stored.

    An exception is given with its name, anything else as `str` returns it. The reason of an
    exception group includes those of its exceptions. Never raises: an object without text is named
    by its type, and what UTF-8 cannot encode, or SQLite cuts at, is escaped.
    """
    if about is None:
        return NO_REASON
    if not _is_a(about, BaseException):
        return _text(about)
    name, text = _name(about), _text(about)
    if _is_a(about, BaseExceptionGroup):
        text = "; ".join([text, *(reason_of(one) for one in leaves_of(about)[:MOST_LEAVES])])  # type: ignore[arg-type]
    return _cut(f"{name}: {text}" if text else name)


def leaves_of(group: BaseExceptionGroup[Any]) -> list[Any]:
    """Returns the exceptions in a group and in the groups nested in it, in order."""
    found: list[Any] = []
    left: list[Any] = [group]
    while left:
        one = left.pop()
        if _is_a(one, BaseExceptionGroup):
            left += reversed(one.exceptions)
        else:
            found.append(one)
    return found


def _is_a(about: object, kind: type) -> bool:
    """Works like `isinstance`, but reads no attribute of the object, since that may raise."""
    return issubclass(type(about), kind)


def _name(about: object) -> str:
    try:
        return str(type.__dict__["__name__"].__get__(type(about)))
    except BaseException:  # noqa: BLE001 - a foreign metaclass may raise anything
        return "an object"


def _text(about: object) -> str:
    try:
        text = str(about)
    except BaseException as error:  # noqa: BLE001 - a foreign `__str__` must not end the agent
        text = f"a {_name(about)} without text (its __str__ raised {_name(error)})"
    return _cut(text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0"))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
