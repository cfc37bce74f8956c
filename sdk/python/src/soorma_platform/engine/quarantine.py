"""Quarantine: what comes from an origin counts for nothing, until it is released.

An origin is a source or an agent. A passage has those of its own, and all of what it is derived
from. It keeps them, so nothing has to be written when one is put into quarantine: what reads
memories leaves out what has it, whenever that was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from soorma_common.causes import Cause
from soorma_common.errors import LimitExceeded, NotFound
from soorma_common.json_text import decode
from soorma_common.names import Owner, Scope
from soorma_common.quarantine import MOST_QUARANTINES, agent_origin, named_in, source_origin
from soorma_platform.engine.commands import Decision, Need, Snapshot
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author, audit_row
from soorma_platform.engine.rows.interactions import InteractionRow
from soorma_platform.engine.rows.passages import NewPart, PassageRow
from soorma_platform.engine.rows.quarantines import (
    EVERYBODY,
    OriginsFound,
    QuarantineFound,
    QuarantineNeed,
    QuarantineRow,
    ReleasedQuarantine,
)

MOST_ORIGINS = 1_000
"""Sources and agents that a passage may come from, with all that it is derived from."""


class BeginQuarantine:
    """Puts an origin into quarantine; one that is there already stays as it is."""

    def __init__(
        self,
        whose: Scope | Owner,
        origin: str,
        reason: str | None,
        *,
        author: Author = NOBODY_KNOWN,
    ) -> None:
        self.scope = whose
        self._origin = origin
        self._reason = reason
        self._author = author

    def needs(self) -> list[Need]:
        return [QuarantineNeed(self._origin)]

    def decide(self, found: Snapshot) -> Decision[QuarantineRow]:
        there = found.part(QuarantineFound)
        if there.row is not None:
            return Decision(there.row)
        if there.count >= MOST_QUARANTINES:
            raise LimitExceeded(
                f"{MOST_QUARANTINES} sources and agents are in quarantine already; forget what "
                "comes from some of them for good, and release them",
                limit="quarantines",
                maximum=MOST_QUARANTINES,
                actual=there.count + 1,
            )
        user_id = self.scope.user_id if isinstance(self.scope, Scope) else EVERYBODY
        row = QuarantineRow(self._origin, found.now, user_id, self._reason)
        noted = audit_row("quarantine.begun", self.scope, self._author, found.now, self._origin)
        return Decision(row, [row, noted])


class EndQuarantine:
    """Ends the quarantine of an origin; raises NotFound if it is in none."""

    def __init__(self, whose: Scope | Owner, origin: str, *, author: Author = NOBODY_KNOWN) -> None:
        self.scope = whose
        self._origin = origin
        self._author = author

    def needs(self) -> list[Need]:
        return [QuarantineNeed(self._origin)]

    def decide(self, found: Snapshot) -> Decision[QuarantineRow]:
        row = found.part(QuarantineFound).row
        if row is None:
            whose = "this user" if isinstance(self.scope, Scope) else "this tenant as a whole"
            raise NotFound(f"{told(self._origin)} is in no quarantine of {whose}")
        noted = audit_row("quarantine.ended", self.scope, self._author, found.now, self._origin)
        return Decision(row, [ReleasedQuarantine(row), noted])


class HasOrigins(Protocol):
    """A passage, or what knows of one where it comes from."""

    @property
    def source(self) -> str | None: ...

    @property
    def cause(self) -> Cause: ...

    @property
    def origins(self) -> str: ...


class Sourced(NamedTuple):
    """What a commit stores, as far as it says where that comes from."""

    source: str | None
    derived_from: Sequence[str]


class Origins:
    """The origins of what a commit touches, and which of them are in quarantine.

    `cause` is that of the commit, `stored` all that it stores, by id, and `named` finds passages as
    it has left them. What is public goes by what is in quarantine for everybody: no single user
    decides what others find.
    """

    def __init__(
        self,
        found: OriginsFound,
        cause: Cause,
        stored: Mapping[str, Sourced],
        named: Callable[[str], PassageRow | None],
    ) -> None:
        self._found = found
        self._own = [] if cause.actor is None else [agent_origin(cause.actor)]
        self._stored = stored
        self._named = named

    def inherited(self, derived_from: Iterable[str]) -> list[str]:
        """Returns the origins of what a passage is derived from, without the commit's agent.

        Also of what the same commit stores, be it later.
        """
        origins: dict[str, None] = {}
        left, seen = [*derived_from], set[str]()
        while left:
            one = left.pop()
            if one in seen:
                continue
            seen.add(one)
            row = self._named(one)
            origins |= dict.fromkeys(
                self._found.of.get(one, []) if row is None else origins_of(row)
            )
            if (stored := self._stored.get(one)) is not None:
                if stored.source is not None:
                    origins[source_origin(stored.source)] = None
                left += stored.derived_from
        return bounded(origin for origin in origins if origin not in self._own)

    def quarantined(self, origins: Iterable[str], *, is_public: bool) -> str | None:
        """Returns the first of these origins that is in quarantine; None if none is."""
        return first_in(self._found.of_tenant if is_public else self._found.quarantined, origins)

    def hides_agent(self) -> bool:
        """Returns True if the commit's own agent is in quarantine."""
        return self.quarantined(self._own, is_public=False) is not None

    def hides_new(self, source: str | None, inherited: Iterable[str], *, is_public: bool) -> bool:
        """Returns True if what the commit stores is in quarantine from the start."""
        own = self._own if source is None else [source_origin(source), *self._own]
        return self.quarantined([*own, *inherited], is_public=is_public) is not None

    def hides(self, row: HasOrigins, *, is_public: bool) -> bool:
        """Returns True if a passage or a version is in quarantine."""
        if not self._found.quarantined:
            return False
        return self.quarantined(origins_of(row), is_public=is_public) is not None

    def hides_from_user(self, row: HasOrigins) -> bool:
        """Returns True if the user does not find a passage, be it public or not."""
        return self.hides(row, is_public=False)


def bounded(origins: Iterable[str]) -> list[str]:
    """Returns each of these origins once; raises LimitExceeded if they are too many."""
    found = sorted(set(origins))
    if len(found) > MOST_ORIGINS:
        raise LimitExceeded(
            f"what this is derived from comes from {len(found):,} sources and agents; derive it "
            f"from memories of {MOST_ORIGINS:,} at most",
            limit="origins",
            maximum=MOST_ORIGINS,
            actual=len(found),
        )
    return found


def origins_of(row: HasOrigins | InteractionRow) -> list[str]:
    """Returns the origins of a passage or an interaction."""
    if isinstance(row, InteractionRow):
        agents = dict.fromkeys((row.agent_id, row.cause.actor))
        return [agent_origin(agent) for agent in agents if agent is not None]
    found = [] if row.source is None else [source_origin(row.source)]
    if row.cause.actor is not None:
        found.append(agent_origin(row.cause.actor))
    return [*found, *decode(row.origins)] if row.origins != "[]" else found


def first_in(quarantined: frozenset[str], origins: Iterable[str]) -> str | None:
    """Returns the first of these origins that is in quarantine; None if none is."""
    return next((origin for origin in origins if origin in quarantined), None)


def labelled(row: PassageRow, parts: list[NewPart]) -> list[NewPart]:
    """Returns the parts of a new passage, with the labels of its origins."""
    if row.cause.actor is None and row.origins == "[]":
        return parts
    packed = packed_labels(labels_of(row))
    return [replace(part, terms=part.terms + packed) for part in parts]


def packed_labels(of: Iterable[int]) -> bytes:
    """Returns labels as the terms of a part hold them."""
    return b"".join(map(terms.packed_label, of))


def labels_of(row: PassageRow) -> list[int]:
    """Returns the labels of a passage's origins but for its source, which has one already."""
    return labels(origin for origin in origins_of(row) if origin != f"source:{row.source}")


def labels(origins: Iterable[str]) -> list[int]:
    """Returns the labels of origins."""
    return [terms.label("origin", origin) for origin in origins]


def hidden_labels(quarantined: Iterable[str]) -> list[int]:
    """Returns all labels by which an index knows what comes from these origins."""
    found = []
    for origin in quarantined:
        source, agent = named_in(origin)
        own = terms.source(source) if source is not None else terms.label("agent", f"{agent}")
        found += [own, *labels([origin])]
    return found


def told(origin: str) -> str:
    """Returns an origin as a message names it."""
    source, agent = named_in(origin)
    return f"source {source!r}" if source is not None else f"agent {agent!r}"
