"""Quarantine: what comes from a source or an agent counts for nothing, until it is released."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.names import Name, check_name
from soorma_common.semantic import check_text

LONGEST_REASON = 1_024
"""Maximum characters of a reason."""
MOST_QUARANTINES = 256
"""Sources and agents that a user, or a tenant, may have in quarantine."""

Reason: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "maxLength": LONGEST_REASON,
            "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$",
        }
    ),
]


class QuarantineBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is put into quarantine: all that comes from a source, or all from an agent."""

    source: Name | None = None
    agent_id: Name | None = None
    reason: Reason | None = None


class Quarantine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A source or an agent that is in quarantine; with `all_users` for the whole tenant."""

    since: datetime
    source: str | None = None
    agent_id: str | None = None
    reason: str | None = None
    all_users: bool = False


class Quarantines(msgspec.Struct):
    """What is in quarantine for a user, or for a tenant."""

    quarantines: list[Quarantine]


def source_origin(source: str) -> str:
    """Returns the origin of what names a source."""
    return f"source:{source}"


def agent_origin(agent_id: str) -> str:
    """Returns the origin of what an agent has stored or said."""
    return f"agent:{agent_id}"


def check_origin(source: str | None, agent_id: str | None) -> str:
    """Returns the origin that one of the two names; raises InvalidRequest unless it is just one."""
    if (source is None) == (agent_id is None):
        raise InvalidRequest("a quarantine is of either a source or an agent_id: give one of them")
    if source is not None:
        return source_origin(check_name("source", source))
    return agent_origin(check_name("agent_id", agent_id))


def named_in(origin: str) -> tuple[str | None, str | None]:
    """Returns the source or the agent that an origin names."""
    what, _, name = origin.partition(":")
    return (name, None) if what == "source" else (None, name)


def check_quarantine(body: QuarantineBody) -> str:
    """Returns the origin that is meant; raises InvalidRequest if something is wrong with it."""
    if body.reason is not None:
        check_text("reason", body.reason)
        if not body.reason.strip() or len(body.reason) > LONGEST_REASON:
            raise InvalidValue(
                f"reason has 1 to {LONGEST_REASON:,} characters, not {len(body.reason):,}, and "
                "says something",
                path="reason",
            )
    return check_origin(body.source, body.agent_id)
