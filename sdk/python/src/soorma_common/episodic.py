"""Episodic memory: what was said and done, as interactions of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import InvalidRequest
from soorma_common.limits import Limits
from soorma_common.names import Name, check_name
from soorma_common.semantic import (
    Bound,
    Content,
    Limit,
    Metadata,
    Mode,
    Place,
    QueryText,
    Score,
    Wait,
    check_content,
    check_metadata,
    check_query,
    tokens_in,
)
from soorma_common.times import Time, check_moment

ROLES = ("user", "assistant", "tool", "system")
Role: TypeAlias = Literal["user", "assistant", "tool", "system"]
"""The speaker of an interaction; `system` is for applications, not for handlers."""
MOST_MESSAGES = 1_000
"""Maximum interactions of a page of a history."""


class Interaction(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An interaction to be logged. In a handler, `agent_id` is the handler's agent."""

    role: Role
    content: Content
    agent_id: Name | None = None
    id: Name | None = None
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    session_id: Name | None = None
    plan_id: Name | None = None


class LogInteraction(Interaction, tag_field="op", tag="log_interaction"):
    """Appends an interaction. It reads nothing, and so conflicts with nothing."""


class NameSession(
    msgspec.Struct, tag_field="op", tag="name_session", forbid_unknown_fields=True, kw_only=True
):
    """Names a session, by its id, or takes its name away; something must be logged in it."""

    id: Name
    name: Name | None


class LogBody(msgspec.Struct, forbid_unknown_fields=True):
    """The interactions to log in one commit, in their order."""

    interactions: Annotated[list[Interaction], msgspec.Meta(extra_json_schema={"minItems": 1})]


class Logged(msgspec.Struct):
    """The ids of the interactions logged."""

    ids: list[str]


class Said(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An interaction as it was logged; `number` rises with each one of a user.

    Of one that a transaction has not committed yet, `number` and `created_at` are None.
    """

    id: str
    number: int | None
    agent_id: str | None
    role: str
    content: str
    created_at: datetime | None
    trust: str
    session_id: str | None = None
    metadata: Any = None
    plan_id: str | None = None
    cause: Cause = Cause()

    def message(self) -> dict[str, str]:
        """Returns it as a chat message."""
        return {"role": self.role, "content": self.content}


class SaidHit(Said, omit_defaults=True, kw_only=True):
    """An interaction that was found, with its score from 0 to 1; of a long one, the part found."""

    score: float
    place: Place


class History(msgspec.Struct, omit_defaults=True):
    """The newest interactions, in the order in which they happened.

    `next` is the `before` of the page with older ones, None if there are none.
    """

    interactions: list[Said]
    next: int | None = None

    def messages(self) -> list[dict[str, str]]:
        """Returns them as chat messages, as a language model takes them."""
        return [one.message() for one in self.interactions]


class SaidHits(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The interactions found, the best first: all that have anything to do with the query.

    `mode` is how it was searched; see `Hits`.
    """

    hits: list[SaidHit]
    is_known: bool
    mode: Mode
    model: str | None = None
    unembedded: int = 0

    def __iter__(self) -> Iterator[SaidHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, number: int) -> SaidHit:
        return self.hits[number]


class SaidSearch(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A search of interactions."""

    query: QueryText
    limit: Limit = 10
    max_tokens: Bound | None = None
    agent_id: Name | None = None
    session_id: Name | None = None
    role: Role | None = None
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    since: Time | None = None
    until: Time | None = None
    min_score: Score = 0.0
    mode: Mode = "hybrid"
    wait: Wait | None = None
    own: list[Interaction] = []


class SessionInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A session: a name for it, if it has one, and how many interactions it has.

    If a transaction has begun it, and is not committed yet, its `number` and times are None.
    """

    session_id: str
    number: int | None
    interactions: int
    created_at: datetime | None
    updated_at: datetime | None
    name: str | None = None


class SessionPage(msgspec.Struct):
    """Sessions of a user, the newest first."""

    sessions: list[SessionInfo]
    next: int | None


class SessionName(msgspec.Struct, forbid_unknown_fields=True):
    """A name for a session; None takes it away."""

    name: Name | None


def check_interaction(operation: Interaction, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded if an interaction cannot be logged."""
    check_content(operation.content, limits)
    check_metadata(operation.metadata)
    for name in ("agent_id", "id", "session_id", "plan_id"):
        if (given := getattr(operation, name)) is not None:
            check_name(name, given)


def check_session_name(operation: NameSession) -> None:
    """Raises InvalidName if a session cannot be named so."""
    check_name("session_id", operation.id)
    if operation.name is not None:
        check_name("name", operation.name)


def check_said_search(body: SaidSearch, limits: Limits) -> None:
    """Raises InvalidRequest if a search is not one that can be made."""
    check_query(body.query, body)
    check_metadata(body.metadata)
    for name in ("agent_id", "session_id"):
        if (given := getattr(body, name)) is not None:
            check_name(name, given)
    for name in ("since", "until"):
        if (text := getattr(body, name)) is not None:
            check_moment(name, text)
    for operation in body.own:
        check_interaction(operation, limits)


def check_page(limit: int, max_tokens: int | None) -> None:
    """Raises InvalidRequest unless so much of a history can be requested."""
    if not 1 <= limit <= MOST_MESSAGES:
        raise InvalidRequest(f"limit is 1 to {MOST_MESSAGES:,}, not {limit}")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest(f"max_tokens is 1 or more, not {max_tokens}")


def within(interactions: list[Said], max_tokens: int | None) -> list[Said]:
    """Returns the newest of interactions, which come newest first, within a token bound."""
    if max_tokens is None:
        return interactions
    left = max_tokens
    for count, one in enumerate(interactions):
        left -= tokens_in(one.content)
        if left < 0:
            return interactions[:count]
    return interactions
