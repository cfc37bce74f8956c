"""Reasons: short texts of what went wrong, made of whatever somebody raised."""

from __future__ import annotations

from typing import Any

LONGEST_REASON = 4000
"""Characters that are kept of a reason."""
NO_REASON = "no reason was given"
MOST_LEAVES = 5
"""Exceptions of a group that are told one by one."""


def reason_of(about: object) -> str:
    """Returns `about` as text that can be sent and kept: an exception with its name, anything else as `str` has it.

    Of an exception group, what is in it is told too. Never raises: an object that has no text is named by its type, and
    what UTF-8 cannot say, or SQLite cuts at, is escaped.
    """
    if about is None:
        return NO_REASON
    if not isinstance(about, BaseException):
        return _text(about)
    name, text = type(about).__name__, _text(about)
    if isinstance(about, BaseExceptionGroup):
        text = "; ".join([text, *(reason_of(one) for one in leaves_of(about)[:MOST_LEAVES])])
    return _cut(f"{name}: {text}" if text else name)


def leaves_of(group: BaseExceptionGroup[Any]) -> list[Any]:
    """Returns the exceptions in a group and in the groups in it, in order."""
    found: list[Any] = []
    for one in group.exceptions:
        found += leaves_of(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found


def _text(about: object) -> str:
    try:
        text = str(about)
    except Exception as error:  # noqa: BLE001 - of somebody's `__str__`
        text = f"a {type(about).__name__} without text (its __str__ raised {type(error).__name__})"
    return _cut(text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0"))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
