"""What a store must be able to do. `tests/conformance` says it again as tests that each store inherits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from soorma_common.delivery import RecordedStep, Subscription
from soorma_common.limits import Limits
from soorma_common.names import Owner, PlanStatus, Scope
from soorma_common.registry import (
    AgentFilter,
    AgentInfo,
    AgentPage,
    Announcement,
    EventDefinition,
    EventInfo,
    EventPage,
    InstanceInfo,
)
from soorma_platform.engine.rows import (
    Decision,
    EntryRow,
    HistoryRow,
    HolderRow,
    LogEntry,
    Needs,
    PlanRow,
    PlanState,
    Snapshot,
    TimerRow,
)
from soorma_platform.metrics import Distribution

LARGEST_CLAIM = 16
SNAPSHOT_BYTES = 16 * 1024
SNAPSHOT_KEYS = 100
"""A plan up to this size goes along with its event, so that reads in the handler cost no round trip."""


CONNECTED_SECONDS = 180.0
"""For how long a subscription counts as one of a connected replica: the services say so each minute."""


class Claimed(msgspec.Struct):
    """A delivery in an agent's hands, under `fence`, with its event."""

    fence: str
    attempt: int
    subscription_id: int
    position: int
    tenant_id: str
    user_id: str
    plan_id: str | None
    envelope: str
    type: str
    lease: float = 0.0
    """seconds for which it is the agent's from the claim on"""
    steps: list[RecordedStep] = []
    """results of steps that earlier attempts have recorded"""
    plan: PlanRow | None = None
    """its plan as of the claim; None without a plan"""
    entries: list[EntryRow] | None = None
    """all live keys of that plan, None where they are more than go along with an event"""
    status: PlanStatus = "missing"
    """how far the plan's life had come at the claim"""
    outlives: bool = False
    """whether it is handled though its plan has ended"""
    is_late: bool = False
    """whether only a handler that takes events of plans that have ended takes it"""
    is_suspect: bool = False
    """whether processes died with it: its replica gets nothing else until it has ended"""
    verdict: str | None = None
    """the reason to give it up, unhandled, for the processes that died of it"""


class Offer:
    """A replica that takes deliveries, as many as it has credit for: each claim spends of it.

    Its connection grants and takes, the store spends and fills, each in a thread of its own and neither waiting for the
    other: `granted` is written by the one only, `spent` by the other. What the store gives to somebody else, as nothing
    was heard of the replica, it says in `lost`; the connection grants for it then.
    """

    __slots__ = (
        "_filled",
        "_lost",
        "granted",
        "group_id",
        "has_suspect",
        "lease",
        "most",
        "process",
        "replica",
        "spent",
        "subscription_ids",
    )

    def __init__(self, replica: str, lease: float, most: int = 0, process: str = "") -> None:
        self.replica = replica
        self.lease = lease
        """seconds"""
        self.most = most
        """its credit while it has nothing in hand"""
        self.process = process or replica
        """replicas of one process die together"""
        self.has_suspect = False
        """whether it has been given one, which it may have handled since"""
        self.group_id = 0
        self.subscription_ids: list[int] = []
        """of what it takes deliveries, first of the first"""
        self.granted = 0
        self.spent = 0
        self._filled: deque[Claimed] = deque()
        self._lost: deque[str] = deque()

    @property
    def credit(self) -> int:
        """How many deliveries it can take now."""
        return self.granted - self.spent

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in its hands."""
        return self.credit >= self.most

    @property
    def is_testing(self) -> bool:
        """Whether it has a suspect in hand."""
        return self.has_suspect and not self.is_idle

    @property
    def filled(self) -> list[Claimed]:
        """What was claimed for it and not taken yet."""
        return list(self._filled)

    def fill(self, claimed: list[Claimed]) -> None:
        """These are in the replica's hands: it is committed."""
        self.has_suspect = any(one.is_suspect for one in claimed) or self.is_testing
        self.spent += len(claimed)
        self._filled.extend(claimed)

    def lose(self, fences: list[str]) -> None:
        """These are in the replica's hands no more: it is committed."""
        self._lost.extend(fences)

    def lost(self) -> list[str]:
        """The fences that were taken from it since the last time."""
        return [self._lost.popleft() for _ in range(len(self._lost))]

    def take(self) -> list[Claimed]:
        """What was claimed for it since the last time."""
        return [self._filled.popleft() for _ in range(len(self._filled))]


class Unserved(msgspec.Struct):
    """A subscription that no connected replica of its group has a handler for, and how many events are set aside."""

    type: str
    topic: str
    waiting: int


class Survey(msgspec.Struct):
    """What nobody serves in a group; `more`: there is more to set aside, or to put into its place again."""

    unserved: list[Unserved]
    more: bool


class Membership(msgspec.Struct):
    """A group as a replica joined it: ids of its own subscriptions, and of all that exist in the group."""

    group_id: int
    own: dict[int, Subscription]
    all: dict[int, tuple[str, str]]
    """(type, topic) by id"""


class ReplicaInfo(msgspec.Struct, rename="camel"):
    """A connected agent process of a group."""

    id: str
    instance: str
    max_concurrency: int
    connected_at: str


class SubscriptionInfo(msgspec.Struct, rename="camel"):
    """A group's subscription, and when a replica with it was last connected.

    `served` unless replicas of the group are connected and none of them has a handler for it: then what waits for it
    is set aside.
    """

    type: str
    topic: str
    ordered: bool
    seen_at: str
    served: bool
    set_aside: int


class GroupInfo(msgspec.Struct, rename="camel"):
    """A consumer group: how much waits for it, how much is in hand, how old the oldest of it is."""

    name: str
    tenant_id: str | None
    created_at: str
    waiting: int
    ready: int
    in_hand: int
    oldest_at: str | None
    subscriptions: list[SubscriptionInfo]
    replicas: list[ReplicaInfo]


class GroupStanding(msgspec.Struct):
    """How a group stands. `events` are those it has not done with, by lanes: a lane's first event is `ready`,
    `delayed` (it failed, and waits to be tried again), `in_hand` of an agent, or `parked`.

    `oldest_seconds` is the age of the oldest of the events, None without any.
    """

    name: str
    events: int
    ready: int
    delayed: int
    in_hand: int
    parked: int
    replicas: int
    dead_letters: int
    oldest_seconds: float | None


class ClockStanding(msgspec.Struct):
    """How the record's clock stands: how often the system's clock jumped since the platform started, or just before.

    For `settles_in` seconds nothing that has expired is removed; 0 where it is.
    """

    jumps: int = 0
    settles_in: float = 0.0


class Standing(msgspec.Struct):
    """How the record stands. `sizes` in bytes by file; `batches` and `seconds` of the transactions of this process."""

    groups: list[GroupStanding]
    log_end: int
    log_horizon: int
    sizes: dict[str, int]
    batches: Distribution
    seconds: Distribution
    clock: ClockStanding
    held: Distribution


class DeadLetterInfo(msgspec.Struct, rename="camel"):
    """An event that a group gave up."""

    id: int
    group: str
    event_id: str
    type: str
    topic: str
    tenant_id: str
    user_id: str
    plan_id: str | None
    attempts: int
    """begun and not given back"""
    failures: int
    deaths: int
    """of processes that had it in hand"""
    reason: str
    at: str
    parked: bool
    event: msgspec.Raw


class PastValues(msgspec.Struct):
    """Keys of a plan with the values they had, as JSON text; `next`: there may be more behind that key."""

    values: list[tuple[str, str]]
    next: str | None


class Retention(msgspec.Struct, frozen=True):
    """How long what is no longer needed is kept, in seconds in which a platform ran on the record."""

    events: float = 7 * 86_400.0
    groups: float = 7 * 86_400.0
    plans: float = 30 * 86_400.0
    """of a plan that has ended"""


class Store(Protocol):
    """The record. Every failure of the store itself is raised as Unavailable, with nothing half-written."""

    async def transact(self, needs: Needs, decide: Callable[[Snapshot], Decision]) -> Decision:
        """Loads what a decision needs, decides, and writes it, in one transaction.

        Returns when the decision is durable. What `decide` raises is raised here, and nothing is written.
        `decide` must be a pure function: it may be called again on a newer snapshot.
        """
        ...

    # plans

    async def entry(self, scope: Scope, plan_id: str, key: str) -> EntryRow | None:
        """The key's live row."""
        ...

    async def plan(self, scope: Scope, plan_id: str, keys: set[str]) -> PlanState:
        """The plan as of now: its row (revision 0 if it was never written) and the live rows of those keys."""
        ...

    async def entries(
        self, scope: Scope, plan_id: str, prefix: str, after: str, limit: int
    ) -> tuple[PlanRow, list[EntryRow]]:
        """The plan and its live keys in order, from behind `after`."""
        ...

    async def plans(
        self, scope: Scope, after: str, limit: int, status: str | None = None, *, stalled: bool = False
    ) -> list[PlanRow]:
        """The user's plans that hold keys or actions or have ended, by id, from behind `after`; of one status or all.

        `stalled`: only those that were reported as such and have not moved since.
        A key that has expired counts until it is swept, which takes a second or two.
        """
        ...

    async def history(
        self, scope: Scope, plan_id: str, key: str | None, after: int | None, until: int | None, limit: int
    ) -> tuple[PlanRow, list[HistoryRow]]:
        """Rows of revisions in (after, until], oldest first; HistoryGone from before the horizon.

        From no `after` on, all that is kept, with the fork that the plan began with.

        About `limit` of them, and of each revision all. There is more while the last is below the plan's revision.
        """
        ...

    async def actions(self, scope: Scope, plan_id: str, after: int, limit: int) -> list[HistoryRow]:
        """The plan's actions with a number above `after`, in order."""
        ...

    async def value_at(self, scope: Scope, plan_id: str, key: str, revision: int, seq: int) -> str | None:
        """The key's value after operation `seq` of `revision`, as JSON text; None: it was missing."""
        ...

    async def values_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
    ) -> PastValues:
        """The plan's keys after a revision with their values, in order, from behind `after`; holds up nobody.

        Looks at no more than `limit` keys. NotFound of a revision that is still to come, HistoryGone from before the
        horizon.
        """
        ...

    # the log

    async def log(self, after: int, limit: int) -> list[LogEntry]:
        """Events of positions above `after`, in order; HistoryGone from before the log's horizon."""
        ...

    async def log_end(self) -> int:
        """The position of the newest event, 0 in an empty log."""
        ...

    async def event(self, tenant_id: str, event_id: str) -> LogEntry | None:
        """The event of that id."""
        ...

    async def correlated(self, scope: Scope, correlation_id: str, after: int, limit: int) -> list[LogEntry]:
        """Events of that scope and correlation id at positions above `after`, in order."""
        ...

    # timers

    async def due_timers(self, limit: int) -> list[TimerRow]:
        """Timers that are due, the earliest first."""
        ...

    async def next_timer(self) -> float | None:
        """Seconds until the next timer is due, less than 0 if one is; None if there is none."""
        ...

    async def timers(self, scope: Scope, plan_id: str | None, after: int, limit: int) -> list[TimerRow]:
        """A user's waiting timers in the order they were set, of one plan or of all, from behind row `after`."""
        ...

    # deliveries

    async def subscribe(self, owner: Owner, group: str, subscriptions: list[Subscription]) -> Membership:
        """Makes or refreshes a group and gives it recent events nobody took."""
        ...

    async def join(
        self,
        group_id: int,
        replica: str,
        instance: str,
        max_concurrency: int,
        process: str = "",
        running: Collection[str] = (),
        number: int = 0,
    ) -> None:
        """Notes a connected replica, the `number`-th connection of its agent: Fenced if a later one is there.

        If it names its `process`, and was connected before, what it was sent and is not `running` is given to others at
        once, as if it had not been claimed: that was lost on the way.
        """
        ...

    async def drain(self, replica: str) -> None:
        """Notes that a replica is about to stop: from now on its end costs no delivery anything."""
        ...

    async def leave(self, replica: str) -> None:
        """Forgets a replica; what it had in hand may be claimed at once, and still be answered by it until then.

        So is what a claim of it that was not waited for puts into its hands just before. Unless it was draining, its
        process has died, as far as can be known: this counts as a death of each delivery, until `resume` shows that
        the connection was lost and nothing else.
        """
        ...

    def offered(self, offer: Offer) -> AbstractContextManager[None]:
        """While this is entered, what a commit makes ready may be claimed for the offer in the same transaction.

        The bell of the offer's group rings then. A store may leave that out: whoever hears the bell calls `claim`.
        """
        ...

    async def claim(self, offer: Offer) -> None:
        """Puts ready deliveries into the replica's hands, as many as it has credit for, each under a new fence.

        They are in `offer.take()` then. At most LARGEST_CLAIM at once, and none for a replica that is not noted, or was
        not heard of for two thirds of its lease: a frozen agent must not collect what others could do.

        What a replica holds whose lease has run out becomes ready before: its process is dead or frozen, which counts
        as a death of each. An event with which a process went silent once has a shorter lease from then on
        (`engine.suspects`). A delivery that has died twice goes to a replica that has nothing else in hand, and gets
        nothing else until it has ended.
        """
        ...

    async def next_ready(self, subscription_ids: list[int]) -> float | None:
        """Seconds until the next delivery may be ready, none or less if one is; None if none will be by time alone.

        A lease that runs out counts, whosever it is.
        """
        ...

    async def renew(self, replica: str, fences: list[str], lease: float) -> list[str]:
        """Notes that the replica was heard of, in the registry too, and prolongs leases; the fences that still stand.

        What it was sent and has never named is prolonged too: it waits in the socket of an agent that is busy.
        """
        ...

    async def resume(self, fences: list[str], lease: float, replica: str) -> list[Claimed]:
        """Leaves deliveries with an agent that reconnected; returns those whose fences still stand.

        If its end was counted as a death of them, that is taken back.
        """
        ...

    async def give_back(self, fences: list[str]) -> None:
        """Returns deliveries untried: they are ready at once and the attempt does not count."""
        ...

    async def holder(self, fence: str) -> HolderRow | None:
        """Who has the delivery under that fence in hand, with its event."""
        ...

    async def survey(self, group_id: int) -> Survey:
        """Sets aside what no connected replica of the group serves, and puts what one serves again into its place.

        To be called whenever a replica comes, goes, or serves something else. A replica is connected while it is
        `offered`, and serves the subscriptions of its offer. One step of bounded size.
        """
        ...

    async def unsubscribe(self, owner: Owner, group: str, event_type: str, topic: str, *, drop: bool) -> int | None:
        """Ends a subscription; how many events had waited for it, None if there is no such one.

        These become dead letters of the group, or are dropped with the dead letters that it has. Conflict while an
        agent is connected that serves it.
        """
        ...

    async def seen(self, subscription_ids: list[int]) -> None:
        """Notes that a replica with these subscriptions is connected now."""
        ...

    async def subscription_patterns(self, group_id: int) -> dict[int, tuple[str, str]]:
        """(type, topic) of all the group's subscriptions, by id."""
        ...

    async def groups(self, owner: Owner) -> list[GroupInfo]:
        """The groups that serve a tenant, or any."""
        ...

    async def standing(self) -> Standing:
        """How the record stands, for metrics. Costs time in proportion to what waits, but holds up nobody."""
        ...

    async def dead_letters(self, owner: Owner, group: str | None, after: int, limit: int) -> list[DeadLetterInfo]:
        """Dead letters by id, from behind `after`."""
        ...

    async def replay(self, owner: Owner, dead_letter: int, key: str | None = None) -> bool:
        """Delivers a dead letter to its group again, from attempt 1; False if there is none of that id.

        Under the same idempotency key it does so once, and says True again.
        """
        ...

    # the registry

    async def announce(self, owner: Owner, name: str, instance: str, announcement: Announcement) -> AgentInfo:
        """Notes a running instance of an agent, and what the agent is from now on; LimitExceeded past a limit."""
        ...

    async def heartbeat(self, owner: Owner, name: str, instance: str) -> InstanceInfo | None:
        """Notes that the instance was heard of; None if it is not known, or has expired."""
        ...

    async def deregister(self, owner: Owner, name: str, instance: str) -> bool:
        """Forgets an instance at once; False if there is no such one alive."""
        ...

    async def agents(self, tenant_id: str, wanted: AgentFilter, after: int, limit: int) -> AgentPage:
        """Agents with a living instance that serve the tenant, from behind `after`."""
        ...

    async def agent(self, tenant_id: str, name: str) -> AgentInfo | None:
        """The agent of that name that serves the tenant, its own before one that serves all."""
        ...

    async def define(self, owner: Owner, definition: EventDefinition) -> EventInfo:
        """Adds a version of an event type, once; DefinitionConflict if it is there with other content."""
        ...

    async def undefine(self, owner: Owner, event_type: str, version: int) -> bool:
        """Removes a version of an event type; False if there is none."""
        ...

    async def definition(self, tenant_id: str, event_type: str, version: int | None) -> EventInfo | None:
        """A version of an event type, or its newest; a type that the tenant has itself hides that of all tenants."""
        ...

    async def definitions(
        self, owner: Owner, event_type: str | None, topic: str | None, after: str, limit: int
    ) -> EventPage:
        """Event types by name from behind `after`, each in its newest version."""
        ...

    # upkeep

    async def upkeep(self, limits: Limits, retention: Retention) -> bool:
        """One bounded step of sweeping what has expired; True if there is more to do. Looks at the clock first."""
        ...

    def look_at_clock(self) -> None:
        """Sees whether the system's clock has jumped. To be called about each second, or time stands still."""
        ...

    def clock(self) -> ClockStanding:
        """How the record's clock stands."""
        ...

    async def check(self) -> None:
        """Raises Unavailable if the record cannot be read."""
        ...

    def hopeless(self) -> str | None:
        """Why the record cannot be kept any more, whatever is waited for; None while it can."""
        ...

    async def close(self) -> None:
        """Finishes what is under way and closes."""
        ...
