"""The operations that end a plan, built from an author's arguments."""

from __future__ import annotations

from typing import Any

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.operations import AnyEnding, Cancel, Complete, Fail
from soorma_common.values import encode


def completion(result: Any, *, if_active: bool) -> AnyEnding:
    """Returns the operation for a plan that has reached its goal."""
    return Complete(msgspec.Raw(encode(result).encode()), if_active=_flag(if_active))


def failure(reason: str, *, if_active: bool) -> AnyEnding:
    """Returns the operation for a plan that will not reach its goal."""
    return Fail(_text(reason), if_active=_flag(if_active))


def cancellation(reason: str, *, if_active: bool) -> AnyEnding:
    """Returns the operation for a plan that is no longer wanted."""
    return Cancel(_text(reason), if_active=_flag(if_active))


def _flag(if_active: object) -> bool:
    if not isinstance(if_active, bool):
        raise InvalidRequest(f"if_active is True or False, not {if_active!r}")
    return if_active


def _text(reason: object) -> str:
    if not isinstance(reason, str):
        raise InvalidRequest(f"reason is a text, not {reason!r}")
    encode(reason)
    return reason
