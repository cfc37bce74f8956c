"""Counts of the process since it started: plain numbers, cheap to write, read at a scrape.

Each number is written by one thread, so that nothing is locked; a reader in another may be one
behind. Labels have few values: services, routes as they are declared, topics, groups that exist.
Tenants, plans and ids are no labels, or a busy platform would make a series for each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from soorma_common.topics import Topic

Labels: TypeAlias = tuple[str, ...]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HOLDS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0)
"""Bounds in seconds for how long the event loop or the writer is held at a time."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_STATUSES = 6
_SOURCES = (("http",), ("handler",))
"""origins of a commit"""


class Counter:
    """A number for each combination of labels that has occurred, or is `known` beforehand."""

    def __init__(self, name: str, about: str, *labels: str, known: Iterable[Labels] = ()) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self._values: dict[Labels, int] = dict.fromkeys(known, 0)

    def add(self, *labels: str) -> None:
        """Counts one more."""
        self._values[labels] = self._values.get(labels, 0) + 1

    def values(self) -> dict[Labels, int]:
        """Returns the current numbers."""
        return self._values.copy()

    def begin(self, *labels: str) -> None:
        """Starts counting for these labels, from 0 if nothing was counted."""
        self._values.setdefault(labels, 0)

    def forget(self, *labels: str) -> None:
        """Removes the number for these labels."""
        self._values.pop(labels, None)


class Distribution:
    """The distribution of values: counts by the bounds that they do not exceed, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RouteMeter:
    """The requests to a route: counts by class of status (1 to 5), and seconds to the response.

    The seconds last until the response begins.
    """

    __slots__ = ("seconds", "statuses")

    def __init__(self) -> None:
        self.statuses = [0] * _STATUSES
        self.seconds = Distribution(SECONDS)

    def note(self, status: int, seconds: float) -> None:
        """Counts a request that was responded to."""
        self.statuses[status // 100] += 1
        self.seconds.note(seconds)


class Meters:
    """The counters of one part of the platform: its attributes that are counters."""

    @property
    def counters(self) -> tuple[Counter, ...]:
        """All counters, in the order in which they were declared."""
        return tuple(one for one in vars(self).values() if isinstance(one, Counter))


class CommitMeters(Meters):
    """What became of commits."""

    def __init__(self) -> None:
        self.made = Counter("soorma_commits", "Commits written.", "source", known=_SOURCES)
        self.conflicts = Counter(
            "soorma_conflicts",
            "Commits refused because what they rely on was changed.",
            "source",
            known=_SOURCES,
        )
        self.waiting = 0
        """commits of handlers that wait for their turn at a key"""
        self.reservations = Counter(
            "soorma_reservations", "Turns at keys that handlers have fought for.", known=[()]
        )
        self.reservations_expired = Counter(
            "soorma_reservations_expired",
            "Turns that ended because their handlers were not heard of.",
            known=[()],
        )
        self.fenced = Counter(
            "soorma_fenced",
            "Commits and failures refused because their delivery was given to another.",
            known=[()],
        )
        self.published = Counter(
            "soorma_events_published",
            "Events added to the log.",
            "topic",
            known=[(topic.value,) for topic in Topic],
        )
        self.payloads_refused = Counter(
            "soorma_payloads_refused",
            "Requests refused because a payload does not fit its schema.",
            known=[()],
        )


class MemoryMeters(Meters):
    """Memories that are stored, searched and embedded."""

    def __init__(self) -> None:
        self.stored = Counter(
            "soorma_memories",
            "Passages and interactions stored, changed or forgotten by commits, by what was done.",
            "outcome",
        )
        self.secrets = Counter(
            "soorma_memory_secrets",
            "Secrets found in what memories were to store, by kind and by what was done.",
            "kind",
            "action",
        )
        self.searches = Counter(
            "soorma_memory_searches",
            "Searches of memories, by kind and by how they were made.",
            "memory",
            "mode",
        )
        self.embedded = Counter(
            "soorma_memory_parts_embedded", "Parts that were embedded.", known=[()]
        )
        self.unembedded = 0
        """parts that wait to be embedded, counted up to a limit"""
        self.embedding_model = ""
        """what identifies the model in use; empty without one"""
        self.embedding_failures = Counter(
            "soorma_memory_embedding_failures", "Calls of the model that failed.", known=[()]
        )
        self.embedding_failing_since: float | None = None
        """the monotonic time of the first failure since a call succeeded; None if none failed"""
        self.index_bytes = 0
        """memory of the indexes that are kept"""
        self.index_bytes_limit = 0
        self.indexes_dropped = Counter(
            "soorma_memory_indexes_dropped",
            "Indexes dropped because there was no room for them.",
            known=[()],
        )


class IssuerStanding(NamedTuple):
    """The keys of the issuer that are known, and the seconds for which they cannot be fetched."""

    keys: int
    failing_seconds: float


class DoorMeters(Meters):
    """Who was let in, and who was not."""

    def __init__(self) -> None:
        self.keys: Callable[[], Mapping[str, int]] = dict
        """counts the keys by their state"""
        self.issuer: Callable[[], IssuerStanding] = lambda: IssuerStanding(0, 0.0)
        """tells how it is with the issuer's keys, if there is an issuer"""
        self.unauthorized = Counter(
            "soorma_unauthorized",
            "Requests refused as they had no valid credential.",
            known=[()],
        )
        self.forbidden = Counter(
            "soorma_forbidden",
            "Requests refused as their credential does not permit them.",
            known=[()],
        )
        self.too_many = Counter(
            "soorma_too_many_requests",
            "Requests and commits refused as a quota of their tenant was used up, by quota.",
            "limit",
            known=[("requests",), ("events",), ("connections",)],
        )
        self.used = Counter(
            "soorma_credentials_used",
            "Requests and sockets that were admitted, by the kind of their credential.",
            "kind",
            known=[("key",), ("token",)],
        )


class GroupMeters(Meters):
    """What became of deliveries, by group."""

    def __init__(self) -> None:
        self.deliveries = Counter("soorma_deliveries", "Attempts sent to an agent.", "group")
        self.retries = Counter("soorma_retries", "Failed attempts that are tried again.", "group")
        self.dead_letters = Counter(
            "soorma_dead_letters", "Deliveries that became dead letters.", "group"
        )
        self.discarded = Counter(
            "soorma_discarded", "Deliveries discarded because their plan has ended.", "group"
        )


class Metrics:
    """All counts of the services of a process, by the part of the platform that they are of."""

    def __init__(self) -> None:
        self.routes: dict[Labels, RouteMeter] = {}
        """by (service, method, route)"""
        self.loop_held = Distribution(HOLDS)
        """processor seconds for which the event loop was held, each time that it was"""
        self.commits = CommitMeters()
        self.memories = MemoryMeters()
        self.door = DoorMeters()
        self.groups = GroupMeters()

    @property
    def counters(self) -> tuple[Counter, ...]:
        """All counters."""
        parts = (self.commits, self.memories, self.door, self.groups)
        return tuple(counter for part in parts for counter in part.counters)

    def route(self, service: str, method: str, path: str) -> RouteMeter:
        """Returns the meter of a route; `path` is as declared, with names in braces."""
        return self.routes.setdefault((service, method, path), RouteMeter())
