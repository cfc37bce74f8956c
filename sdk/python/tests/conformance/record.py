"""A store with a clock under the test's control, driven the way the services drive it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from soorma_common.causes import NOBODY, Cause
from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced
from soorma_common.events import Envelope, Event, plan_of
from soorma_common.groups import DeadLetterInfo, GroupInfo
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.memories import AnyMemoryOperation
from soorma_common.memory import Commit, Committed, PlanCommit
from soorma_common.names import All, Owner, Scope
from soorma_common.operations import Append, Delete, Extend, Increment, Merge, Set
from soorma_common.retry import RetryPolicy
from soorma_common.semantic import (
    Hits,
    MemoryDone,
    Passage,
    SearchBody,
    StoreKnowledge,
    check_search,
)
from soorma_common.values import encode
from soorma_platform.engine.dead_letters import ReplayDeadLetter
from soorma_platform.engine.deliveries import FailDelivery, FailureOutcome
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.rows.events import LogEntry
from soorma_platform.engine.rows.notices import Notice
from soorma_platform.engine.rows.plans import HistoryRow, PlanRow
from soorma_platform.identity.quotas import Quotas
from soorma_platform.identity.traffic import Traffic
from soorma_platform.metrics import Metrics
from soorma_platform.services.directory import Directory
from soorma_platform.services.groups import (
    Membership,
    dead_letter_info,
    group_info,
    subscribe,
    unsubscribe,
)
from soorma_platform.stores.ports import Store
from soorma_platform.stores.ports.deliveries import Claimed, Prefetch
from soorma_platform.stores.ports.groups import Replica
from soorma_platform.work.committer import Committer
from soorma_platform.work.history import PastValues, history_of, log_from, value_at, values_at
from soorma_platform.work.payloads import PayloadCheck
from soorma_platform.work.recall import Recall
from soorma_platform.work.recall.knowledge import passage_of
from soorma_platform.work.upkeep import Upkeep

ALICE = Scope("acme", "alice")
BOB = Scope("acme", "bob")
STRANGER = Scope("umbrella", "alice")

MISSING = object()
LEASE = 30.0
ALL = 1_000_000
START = 1_800_000_000.0
LONGEST_UPKEEP = 2_000
LARGEST_INDEX = 1 << 26


class Clock:
    """A machine's clocks, set by the test: `now` is the wall clock's time.

    See `soorma_platform.clock.Readings`.
    """

    def __init__(self) -> None:
        self.now = START
        self.boot: str | None = "first"
        self.standstill = math.inf
        self._jumped = self._slept = 0.0

    def wall(self) -> float:
        return self.now

    def awake(self) -> float:
        return self.since_boot() - self._slept

    def since_boot(self) -> float:
        return self.now - self._jumped

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock ahead, or back, while no time passes."""
        self.now += seconds
        self._jumped += seconds

    def sleep(self, seconds: float) -> None:
        """Lets time pass while the machine sleeps."""
        self.now += seconds
        self._slept += seconds


OpenStore: TypeAlias = Callable[..., Awaitable[Store]]


def raw(value: Any) -> msgspec.Raw:
    """A value as it travels."""
    return msgspec.Raw(encode(value).encode())


def put(key: str, value: Any, **more: Any) -> Set:
    """A set."""
    return Set(key=key, value=raw(value), **more)


def append(key: str, value: Any, **more: Any) -> Append:
    """An append."""
    return Append(key=key, value=raw(value), **more)


def extend(key: str, value: Any, **more: Any) -> Extend:
    """An extend."""
    return Extend(key=key, value=raw(value), **more)


def merge(key: str, value: Any, **more: Any) -> Merge:
    """A merge."""
    return Merge(key=key, value=raw(value), **more)


def increment(key: str, by: float = 1, **more: Any) -> Increment:
    """An increment."""
    return Increment(key=key, by=by, **more)


def delete(key: str, **more: Any) -> Delete:
    """A delete."""
    return Delete(key=key, **more)


def part(
    plan: str, *operations: Any, reads: dict[str, int] | None = None, expected: int | None = None
) -> PlanCommit:
    """The part of a commit that touches one plan."""
    return PlanCommit(plan, list(operations), reads or {}, expected)


def event(
    kind: str,
    plan: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - as the envelope has it
    data: Any = None,
    **fields: Any,
) -> Envelope:
    """Returns an event, on business-facts unless another topic is given."""
    known = {"topic": "business-facts", **fields}
    return Envelope(
        type=kind, id=id, plan_id=plan, data=msgspec.UNSET if data is None else raw(data), **known
    )


def seen(claimed: Claimed) -> Event:
    """The event of a delivery as a handler sees it."""
    return Event.from_json(claimed.envelope)


def ids(claimed: Iterable[Claimed]) -> list[str]:
    """The ids of the events of deliveries."""
    return [str(seen(one).id) for one in claimed]


class Record:
    """An open store; what a test does to it takes the way of a commit."""

    INSTANCE = "host"
    """of all replicas"""

    def __init__(self, opener: OpenStore, limits: Limits, lease: float, clock: Clock) -> None:
        self.clock = clock
        self.limits = limits
        self.notices: list[Notice] = []
        self._opener = opener
        self._lease = lease
        self._traffic = Traffic()

    async def open(self) -> None:
        """Opens the store, or opens it again after `close`."""
        self.store = await self._opener(self.notices.append, clock=self.clock, lease=self._lease)
        self.directory = Directory(self.store)
        self._payloads = PayloadCheck(self.store.registry)
        self._committer = Committer(
            self.store, self.limits, self._payloads, Metrics(), traffic=self._traffic
        )
        await self._committer.open()
        self.recall = Recall(self.store.memories, self.limits, LARGEST_INDEX)
        self._upkeep: dict[Retention, Upkeep] = {}

    async def close(self) -> None:
        """Closes the store."""
        await self._payloads.close()
        await self.store.close()

    async def limit(self, **quotas: int) -> None:
        """Opens it again, with quotas for each tenant."""
        await self.close()
        self._traffic = Traffic(Quotas(**quotas))
        await self.open()

    async def reopen(self) -> None:
        """Ends the platform and starts it again on the same record."""
        await self.close()
        await self.open()

    # plans

    async def commit(
        self,
        *parts: PlanCommit,
        scope: Scope = ALICE,
        events: Iterable[Envelope] = (),
        fence: str | None = None,
        key: str | None = None,
        cause: Cause = NOBODY,
        body: bytes | None = None,
    ) -> Committed:
        """Commits; two commits are the same request if their bodies are equal."""
        commit = Commit(list(parts), list(events), fence)
        return await self.apply(commit, body, scope=scope, key=key, cause=cause)

    async def apply(
        self,
        commit: Commit,
        body: bytes | None = None,
        *,
        scope: Scope = ALICE,
        key: str | None = None,
        cause: Cause = NOBODY,
    ) -> Committed:
        """Applies a commit, with all that it may hold."""
        body = msgspec.json.encode(commit) if body is None else body
        return await self._committer.commit(scope, commit, body=body, key=key, cause=cause)

    async def do(self, plan: str, *operations: Any, scope: Scope = ALICE, **more: Any) -> list[Any]:
        """Commits operations on one plan; returns their decoded results."""
        done = await self.commit(part(plan, *operations), scope=scope, **more)
        return [decode(bytes(result)) for result in done.plans[0].results]

    async def get(self, plan: str, key: str, scope: Scope = ALICE) -> Any:
        """A key's value, or MISSING."""
        row = await self.store.plans.entry(scope, plan, key)
        return MISSING if row is None else decode(row.value)

    async def state(self, plan: str, scope: Scope = ALICE) -> dict[str, Any]:
        """All keys and values of a plan."""
        _, rows = await self.store.plans.entries(scope, plan, "", "", ALL)
        return {row.key: decode(row.value) for row in rows}

    async def revision(self, plan: str, scope: Scope = ALICE) -> int:
        """The plan's revision."""
        return (await self.store.plans.get(scope, plan, set())).row.revision

    async def at(self, plan: str, key: str, revision: int, scope: Scope = ALICE) -> Any:
        """A key's value after a revision, or MISSING."""
        text = await self.value_at(scope, plan, key, revision, ALL)
        return MISSING if text is None else decode(text)

    async def changes(
        self, plan: str, after: int, key: str | None = None, scope: Scope = ALICE
    ) -> list[Any]:
        """Returns (revision, op, key) of the plan's history."""
        _, rows = await self.history(scope, plan, key, after, None, ALL)
        return [(row.revision, row.op, row.key) for row in rows]

    async def actions(self, plan: str, scope: Scope = ALICE) -> list[str]:
        """The names of the plan's actions."""
        return [
            decode(row.argument or "null")
            for row in await self.store.plans.actions(scope, plan, 0, ALL)
        ]

    async def sweep(self, retention: Retention | None = None) -> int:
        """Runs upkeep until there is nothing left to do; returns the number of steps."""
        steps = 1
        while await self.upkeep(retention):
            steps += 1
            assert steps < LONGEST_UPKEEP, "upkeep does not end"
        return steps

    async def upkeep(self, retention: Retention | None = None) -> bool:
        """Runs one step of upkeep; True if there is more to do."""
        kept = retention or Retention()
        if kept not in self._upkeep:
            self._upkeep[kept] = Upkeep(self.store, self.limits, kept)
        return await self._upkeep[kept].step()

    async def history(
        self,
        scope: Scope,
        plan: str,
        key: str | None,
        after: int | None,
        until: int | None,
        limit: int,
    ) -> tuple[PlanRow, list[HistoryRow]]:
        """Rows of a plan's history, as a reader may see them."""
        return await history_of(self.store.plans, scope, plan, key, after, limit, until)

    async def value_at(
        self, scope: Scope, plan: str, key: str, revision: int, seq: int
    ) -> str | None:
        """A key's text as it was, as a reader may see it."""
        return await value_at(self.store.plans, scope, plan, key, revision, seq)

    async def values_at(
        self, scope: Scope, plan: str, revision: int, prefix: str, after: str, limit: int
    ) -> PastValues:
        """Keys of a plan as they were, as a reader may see them."""
        return await values_at(self.store.plans, scope, plan, revision, prefix, after, limit)

    # memories

    async def remember(
        self,
        *operations: AnyMemoryOperation,
        scope: Scope = ALICE,
        fence: str | None = None,
        reads: dict[str, int] | None = None,
    ) -> list[MemoryDone]:
        """Commits operations on memories."""
        commit = Commit(memories=list(operations), memory_reads=reads or {}, fence=fence)
        return (await self.apply(commit, scope=scope)).memories or []

    async def know(self, content: str, *, scope: Scope = ALICE, **more: Any) -> str:
        """Stores a passage; returns its id."""
        (done,) = await self.remember(StoreKnowledge(content=content, **more), scope=scope)
        return done.id

    async def search(self, query: str, *, scope: Scope = ALICE, **more: Any) -> Hits:
        """Searches passages."""
        body = SearchBody(query=query, **more)
        check_search(body, self.limits)
        return await self.recall.knowledge(scope, body)

    async def found(self, query: str, *, scope: Scope = ALICE, **more: Any) -> list[str]:
        """Returns what is found for a query: the contents, the best first."""
        return [hit.content for hit in await self.search(query, scope=scope, **more)]

    async def passage(self, passage_id: str, scope: Scope = ALICE) -> Passage | None:
        """Returns a passage by its id; None if there is none."""
        row = await self.store.memories.semantic.passage(scope, passage_id)
        return None if row is None else passage_of(row)

    # events

    async def log_page(self, after: int, limit: int) -> list[LogEntry]:
        """A page of the log, as a reader may see it."""
        return await log_from(self.store.log, after, limit)

    async def publish(
        self, kind: str, plan: str | None = None, *, scope: Scope = ALICE, **fields: Any
    ) -> str:
        """Publishes an event; returns its id."""
        done = await self.commit(events=[event(kind, plan, **fields)], scope=scope)
        return done.events[0]

    async def subscribe(
        self, group: str, *wanted: str | Subscription, tenant: Owner = All.TENANTS
    ) -> Membership:
        """Subscribes a group to types or to whole subscriptions."""
        made = [one if isinstance(one, Subscription) else Subscription(one) for one in wanted]
        return await subscribe(self.store, tenant, group, made)

    async def join(
        self,
        group_id: int,
        replica: str,
        instance: str,
        most: int,
        process: str = "",
        running: Iterable[str] = (),
        number: int = 0,
    ) -> None:
        """Notes a connected replica; raises Fenced if its agent has a later connection."""
        made = Replica(replica, instance, most, process, number)
        if not await self.store.groups.join(group_id, made, list(running)):
            raise Fenced("a later connection is there")

    async def unsubscribe(
        self, owner: Owner, group: str, event_type: str, topic: str, *, drop: bool
    ) -> int | None:
        """Ends a subscription; returns how many events had waited for it."""
        return await unsubscribe(self.store.groups, owner, group, event_type, topic, drop=drop)

    async def groups(self, owner: Owner) -> list[GroupInfo]:
        """Returns the groups that serve a tenant, or all groups."""
        return [group_info(one) for one in await self.store.groups.list(owner)]

    async def dead_letters(
        self, owner: Owner, group: str | None, after: int, limit: int
    ) -> list[DeadLetterInfo]:
        """Returns dead letters by id, those above `after`."""
        found = await self.store.groups.dead_letters(owner, group, after, limit)
        return [dead_letter_info(one) for one in found]

    async def replay(self, owner: Owner, number: int, key: str | None = None) -> bool:
        """Delivers a dead letter again."""
        return await self.store.transact(ReplayDeadLetter(owner, number, key))

    async def claim(
        self, member: Membership, limit: int = ALL, lease: float = LEASE, replica: str = "r1"
    ) -> list[Claimed]:
        """Claims from all of the group's subscriptions, with a connected replica."""
        await self.join(member.group_id, replica, self.INSTANCE, 1)
        prefetch = self.prefetch(member, limit, lease, replica)
        claimed: list[Claimed] = []
        while True:  # at most LARGEST_CLAIM come at once
            await self.store.deliveries.claim(prefetch)
            if not (more := prefetch.take()):
                return claimed
            claimed += more

    def prefetch(
        self, member: Membership, room: int = ALL, lease: float = LEASE, replica: str = "r1"
    ) -> Prefetch:
        """Returns a prefetch of all of the group's subscriptions."""
        prefetch = Prefetch(replica, lease)
        prefetch.group_id, prefetch.freed, prefetch.subscription_ids = (
            member.group_id,
            room,
            list(member.all),
        )
        return prefetch

    async def settle(
        self,
        claimed: Claimed,
        *parts: PlanCommit,
        events: Iterable[Envelope] = (),
        key: str | None = None,
    ) -> Committed:
        """Commits what a handler that returned did, its events in the plan in hand."""
        scope = Scope(claimed.tenant_id, claimed.user_id)
        made = [replace(one, plan_id=plan_of(one) or claimed.plan_id) for one in events]
        return await self.commit(*parts, scope=scope, events=made, fence=claimed.fence, key=key)

    async def fail(
        self,
        claimed: Claimed,
        reason: str = "no luck",
        *,
        draw: float = 0.0,
        notice: str = "",
        **more: Any,
    ) -> FailureOutcome:
        """Fails a handler; `notice` is the id of the event that reports a dead letter."""
        scope, letter = Scope(claimed.tenant_id, claimed.user_id), notice or f"dead-{claimed.fence}"
        told = {"draw": draw, "dead_letter_id": letter, "limits": self.limits, **more}
        return await self.store.transact(
            FailDelivery(scope, claimed.plan_id, claimed.fence, reason, **told)
        )

    async def work_off(self, member: Membership, *, rounds: int = 2000) -> list[str]:
        """Claims and settles deliveries one by one; returns the ids of their events in order."""
        handled: list[str] = []
        for _ in range(rounds):
            claimed = await self.claim(member, 1)
            if not claimed:
                return handled
            handled += ids(claimed)
            await self.settle(claimed[0])
        raise AssertionError("there is no end to the deliveries")

    async def log(self, after: int = 0) -> list[LogEntry]:
        """Returns the log after a position."""
        return await self.log_page(after, ALL)


ONCE = RetryPolicy(max_attempts=1)
PARKING = RetryPolicy(max_attempts=1, then="park")
