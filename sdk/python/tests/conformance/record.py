"""A store with a clock in the test's hand, driven the way the services drive it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from soorma_common.delivery import RetryPolicy, Subscription
from soorma_common.events import Envelope, Event, plan_of
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.memory import NOBODY, Cause, Commit, Committed, PlanCommit
from soorma_common.names import All, Owner, Scope
from soorma_common.operations import Append, Delete, Extend, Increment, Merge, Set
from soorma_common.values import encode
from soorma_platform.engine import deliveries
from soorma_platform.engine.rows import Decision, LogEntry, Notice
from soorma_platform.services.committer import Committer
from soorma_platform.stores.protocol import Claimed, Membership, Offer, Retention, Store

ALICE = Scope("acme", "alice")
BOB = Scope("acme", "bob")
STRANGER = Scope("umbrella", "alice")

MISSING = object()
LEASE = 30.0
ALL = 1_000_000
START = 1_800_000_000.0
LONGEST_UPKEEP = 2_000


class Clock:
    """A machine's clocks, as the test says: `now` is the wall clock's time. See `soorma_platform.clock.Readings`."""

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


def part(plan: str, *operations: Any, reads: dict[str, int] | None = None, expected: int | None = None) -> PlanCommit:
    """The part of a commit that touches one plan."""
    return PlanCommit(plan, list(operations), reads or {}, expected)


def event(kind: str, plan: str | None = None, *, id: str | None = None, data: Any = None, **fields: Any) -> Envelope:  # noqa: A002
    """An event on business-facts, if nothing else is said."""
    known = {"topic": "business-facts", **fields}
    return Envelope(type=kind, id=id, plan_id=plan, data=msgspec.UNSET if data is None else raw(data), **known)


def seen(claimed: Claimed) -> Event:
    """The event of a delivery as a handler sees it."""
    return Event.from_json(claimed.envelope)


def ids(claimed: Iterable[Claimed]) -> list[str]:
    """The ids of the events of deliveries."""
    return [str(seen(one).id) for one in claimed]


class Record:
    """An open store; what a test does to it goes the way of a commit."""

    INSTANCE = "host"
    """of all replicas"""

    def __init__(self, opener: OpenStore, limits: Limits, lease: float, clock: Clock) -> None:
        self.clock = clock
        self.limits = limits
        self.notices: list[Notice] = []
        self._opener = opener
        self._lease = lease

    async def open(self) -> None:
        """Opens the store, or opens it again after `close`."""
        self.store = await self._opener(self.notices.append, limits=self.limits, clock=self.clock, lease=self._lease)
        self._committer = Committer(self.store, self.limits)

    async def close(self) -> None:
        """Closes the store."""
        await self.store.close()

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
        """A commit; two are the same request if their bodies are."""
        commit = Commit(list(parts), list(events), fence)
        body = msgspec.json.encode(commit) if body is None else body
        return await self._committer.commit(scope, commit, body=body, key=key, cause=cause)

    async def do(self, plan: str, *operations: Any, scope: Scope = ALICE, **more: Any) -> list[Any]:
        """A commit on one plan: its decoded results."""
        done = await self.commit(part(plan, *operations), scope=scope, **more)
        return [decode(bytes(result)) for result in done.plans[0].results]

    async def get(self, plan: str, key: str, scope: Scope = ALICE) -> Any:
        """A key's value, or MISSING."""
        row = await self.store.entry(scope, plan, key)
        return MISSING if row is None else decode(row.value)

    async def state(self, plan: str, scope: Scope = ALICE) -> dict[str, Any]:
        """All keys and values of a plan."""
        _, rows = await self.store.entries(scope, plan, "", "", ALL)
        return {row.key: decode(row.value) for row in rows}

    async def revision(self, plan: str, scope: Scope = ALICE) -> int:
        """The plan's revision."""
        return (await self.store.plan(scope, plan, set())).row.revision

    async def at(self, plan: str, key: str, revision: int, scope: Scope = ALICE) -> Any:
        """A key's value after a revision, or MISSING."""
        text = await self.store.value_at(scope, plan, key, revision, ALL)
        return MISSING if text is None else decode(text)

    async def changes(self, plan: str, after: int, key: str | None = None, scope: Scope = ALICE) -> list[Any]:
        """(revision, op, key) of the plan's history."""
        _, rows = await self.store.history(scope, plan, key, after, None, ALL)
        return [(row.revision, row.op, row.key) for row in rows]

    async def actions(self, plan: str, scope: Scope = ALICE) -> list[str]:
        """The names of the plan's actions."""
        return [decode(row.argument or "null") for row in await self.store.actions(scope, plan, 0, ALL)]

    async def sweep(self, retention: Retention | None = None) -> int:
        """Upkeep until there is nothing left to do; how many steps that took."""
        steps = 1
        while await self.store.upkeep(self.limits, retention or Retention()):
            steps += 1
            assert steps < LONGEST_UPKEEP, "upkeep does not end"
        return steps

    # events

    async def publish(self, kind: str, plan: str | None = None, *, scope: Scope = ALICE, **fields: Any) -> str:
        """Publishes an event; returns its id."""
        done = await self.commit(events=[event(kind, plan, **fields)], scope=scope)
        return done.events[0]

    async def subscribe(self, group: str, *wanted: str | Subscription, tenant: Owner = All.TENANTS) -> Membership:
        """Subscribes a group to types or to whole subscriptions."""
        made = [one if isinstance(one, Subscription) else Subscription(one) for one in wanted]
        return await self.store.subscribe(tenant, group, made)

    async def claim(
        self, member: Membership, limit: int = ALL, lease: float = LEASE, replica: str = "r1"
    ) -> list[Claimed]:
        """Claims from all subscriptions that the group has, by a replica that is connected."""
        await self.store.join(member.group_id, replica, self.INSTANCE, 1)
        offer = self.offer(member, limit, lease, replica)
        claimed: list[Claimed] = []
        while True:  # at most LARGEST_CLAIM come at once
            await self.store.claim(offer)
            if not (more := offer.take()):
                return claimed
            claimed += more

    def offer(self, member: Membership, credit: int = ALL, lease: float = LEASE, replica: str = "r1") -> Offer:
        """An offer to take deliveries of all subscriptions that the group has."""
        offer = Offer(replica, lease)
        offer.group_id, offer.granted, offer.subscription_ids = member.group_id, credit, list(member.all)
        return offer

    async def settle(
        self, claimed: Claimed, *parts: PlanCommit, events: Iterable[Envelope] = (), key: str | None = None
    ) -> Committed:
        """The handler returned: its commit, with events of the plan in hand."""
        scope = Scope(claimed.tenant_id, claimed.user_id)
        made = [replace(one, plan_id=plan_of(one) or claimed.plan_id) for one in events]
        return await self.commit(*parts, scope=scope, events=made, fence=claimed.fence, key=key)

    async def fail(
        self, claimed: Claimed, reason: str = "no luck", *, draw: float = 0.0, notice: str = "", **more: Any
    ) -> Decision:
        """The handler failed; `notice` is the id of the event that tells of a dead letter."""
        failure = deliveries.Failure(claimed.fence, reason, draw, notice or f"dead-{claimed.fence}", **more)
        scope = Scope(claimed.tenant_id, claimed.user_id)
        needs = deliveries.needs_of_failure(failure, scope, claimed.plan_id)
        return await self.store.transact(needs, lambda found: deliveries.fail(failure, found, self.limits))

    async def work_off(self, member: Membership, *, rounds: int = 2000) -> list[str]:
        """Claims one delivery after the other and settles it; the ids of the events in the order handled."""
        handled: list[str] = []
        for _ in range(rounds):
            claimed = await self.claim(member, 1)
            if not claimed:
                return handled
            handled += ids(claimed)
            await self.settle(claimed[0])
        raise AssertionError("there is no end to the deliveries")

    async def log(self, after: int = 0) -> list[LogEntry]:
        """The log from a position on."""
        return await self.store.log(after, ALL)


ONCE = RetryPolicy(max_attempts=1)
PARKING = RetryPolicy(max_attempts=1, then="park")
