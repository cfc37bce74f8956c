"""Reasons: short texts of what went wrong, made of whatever somebody raised."""

from __future__ import annotations

LONGEST_REASON = 4000
"""Characters that are kept of a reason."""


def reason_of(about: object) -> str:
    """Returns `about` as text that can be sent and kept: an exception with its name, anything else as `str` has it.

    Never raises: an object that has no text is named by its type, and what UTF-8 cannot say is escaped.
    """
    if not isinstance(about, BaseException):
        return _text(about)
    name, text = type(about).__name__, _text(about)
    return _cut(f"{name}: {text}" if text else name)


def _text(about: object) -> str:
    try:
        text = str(about)
    except Exception as error:  # noqa: BLE001 - of somebody's `__str__`
        text = f"a {type(about).__name__} without text (its __str__ raised {type(error).__name__})"
    return _cut(text.encode("utf-8", "backslashreplace").decode())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
