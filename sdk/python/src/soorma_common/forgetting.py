"""Forgetting by what memories have in common: their plan, session, source, agent, event or age."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.names import Name, check_name
from soorma_common.times import Time, check_moment

Kind: TypeAlias = Literal["all", "knowledge", "interactions", "procedures"]
_NAMES = ("plan_id", "session_id", "source", "agent_id", "event_id")


class ForgetBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is to be forgotten of what a user has stored: what fits all that is given.

    `everything` forgets all of it. `preview` only counts.
    """

    kind: Kind = "all"
    plan_id: Name | None = None
    session_id: Name | None = None
    source: Name | None = None
    agent_id: Name | None = None
    event_id: Name | None = None
    before: Time | None = None
    everything: bool = False
    preview: bool = False


class Receipt(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What was forgotten, or would be: by number, never by content.

    What was derived from a passage, and what it has replaced, is forgotten with it; a preview
    counts that only where it fits the description itself. By `erased_by` its bytes are gone from
    the database and its log; backups that were made before keep them.
    """

    passages: int
    interactions: int
    at: datetime
    procedures: int = 0
    """versions of skills, prompts and rules"""
    is_preview: bool = False
    erased_by: datetime | None = None


def described(body: ForgetBody) -> str:
    """Returns in a line what is to be forgotten, for the audit, as `knowledge by source`.

    It has no values: the name of a source or a session is a part of what is to be forgotten.
    """
    what = "memories" if body.kind == "all" else body.kind
    return f"all {what}" if body.everything else f"{what} by {', '.join(_given(body))}"


def check_forget(body: ForgetBody) -> None:
    """Raises InvalidRequest unless it says what is to be forgotten."""
    given = _given(body)
    if not given and not body.everything:
        raise InvalidRequest(
            f"say what is to be forgotten: {', '.join(_NAMES)} or before; or everything=true for "
            "all that this user has stored"
        )
    if given and body.everything:
        raise InvalidRequest(f"everything is more than {given[0]} says; give one of the two")
    for name in _NAMES:
        if (value := getattr(body, name)) is not None:
            check_name(name, value)
    if body.before is not None:
        check_moment("before", body.before)


def _given(body: ForgetBody) -> list[str]:
    return [name for name in (*_NAMES, "before") if getattr(body, name) is not None]
