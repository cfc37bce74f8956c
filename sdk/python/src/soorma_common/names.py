"""The rules for names: of a plan, a key, a tenant, a user, an agent, an event type."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from soorma_common.errors import InvalidName

DEFAULT_TENANT = "00000000-0000-0000-0000-000000000000"
DEFAULT_USER = "00000000-0000-0000-0000-000000000001"

LONGEST_NAME = 255
_DOTS = (".", "..")

NAME_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "maxLength": LONGEST_NAME,
    "pattern": "^[^\\u0000]*$",
    "not": {"enum": [".", ".."]},
}
"""The names that `check_name` accepts, as a JSON Schema of a string."""

Name: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema=NAME_SCHEMA)]
"""A name in a message. `check_name` checks it, as its errors say more than a decoder's."""

PlanStatus: TypeAlias = Literal["missing", "active", "completed", "failed", "cancelled"]
"""A plan's status; `missing` if nothing of it exists."""


class All(Enum):
    """All tenants, in contrast to one."""

    TENANTS = "all tenants"


Owner: TypeAlias = str | All
"""The owner of data that belongs to no single user: one tenant, or all."""


class Scope(msgspec.Struct, frozen=True):
    """The tenant and user whose data is meant; each plan and event belongs to one user."""

    tenant_id: str
    user_id: str


def check_name(what: str, name: object) -> str:
    """Returns `name` if it is a string of 1 to 255 characters that can be part of a path.

    Raises InvalidName for anything else. Refused are `.` and `..` (clients and proxies resolve them
    away), NUL, and lone surrogates (UTF-8 cannot encode them).
    """
    if (
        type(name) is str
        and 0 < len(name) <= LONGEST_NAME
        and name.isascii()
        and "\0" not in name
        and name not in _DOTS
    ):
        return name  # as nearly all are; each call of a client has several
    if not isinstance(name, str):
        raise InvalidName(f"{what} must be a string, not {type(name).__name__}", name=what)
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InvalidName(
            f"{what} must have 1 to {LONGEST_NAME} characters, not {len(name)}", name=what
        )
    if name in _DOTS or "\0" in name or not _is_text(name):
        raise InvalidName(
            f"{what} must not be '.' or '..' nor hold NUL or a lone surrogate: {name!a}", name=what
        )
    return name


def check_scope(tenant_id: object, user_id: object) -> Scope:
    """Checks two names, and returns their scope."""
    if type(tenant_id) is str and type(user_id) is str:
        return _scope(tenant_id, user_id)
    return Scope(check_name("tenant_id", tenant_id), check_name("user_id", user_id))


@lru_cache(maxsize=1024)
def _scope(tenant_id: str, user_id: str) -> Scope:
    """Returns a cached scope: each call of a client has one, and most are of a few users."""
    return Scope(check_name("tenant_id", tenant_id), check_name("user_id", user_id))


def _is_text(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
