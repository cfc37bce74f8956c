"""The embedded store: one writer thread for changes, point reads inline on a connection of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced, Unavailable
from soorma_common.limits import Limits
from soorma_common.names import Owner, Scope
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
from soorma_platform.clock import Readings, SystemClocks
from soorma_platform.engine.history import BEGINNINGS, check_horizon, check_past, rebuild
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.rows import (
    Decision,
    EntryRow,
    HistoryRow,
    HolderRow,
    LogEntry,
    Needs,
    Notice,
    PlanRow,
    PlanState,
    Snapshot,
    TimerRow,
)
from soorma_platform.stores.protocol import (
    Claimed,
    ClockStanding,
    DeadLetterInfo,
    GroupInfo,
    Membership,
    Offer,
    PastValues,
    Retention,
    Standing,
    Survey,
)
from soorma_platform.stores.sqlite import aside, deaths, deliveries, past, registry, transactions
from soorma_platform.stores.sqlite.clock import RecordClock
from soorma_platform.stores.sqlite.database import SQL, FailuresNamed, connect, migrate
from soorma_platform.stores.sqlite.locking import RecordLock, lock_file
from soorma_platform.stores.sqlite.offers import NEVER, Offers
from soorma_platform.stores.sqlite.overview import Overview, standings
from soorma_platform.stores.sqlite.owners import among, kept
from soorma_platform.stores.sqlite.taking import Cursor
from soorma_platform.stores.sqlite.transactions import behind, is_over, one, page_of, rows_of
from soorma_platform.stores.sqlite.upkeep import Upkeep
from soorma_platform.stores.sqlite.vitals import BEAT_SECONDS, HOPELESS_SECONDS, SILENT_SECONDS, Vitals
from soorma_platform.stores.sqlite.writer import Writer

T = TypeVar("T")
_FAR = 1 << 62
LOG_PAGE = 256 * 1024
"""Bytes of events that are read at once for a reader of the log: who is behind takes turns with all others."""
FEW = 16
"""Keys, and events, of a change up to which the event loop may make it itself."""
_ENVELOPE = 6
_ARGUMENT = 4
_REVISION = 2


class SqliteStore:
    """A `Store` in one file. Open it with `await SqliteStore.open(path, …)`; one process at a time."""

    def __init__(
        self,
        lock: RecordLock,
        connections: tuple[apsw.Connection, apsw.Connection],
        on_commit: Callable[[Notice], None],
        limits: Limits,
        clock: RecordClock,
        lease: float,
    ) -> None:
        path = lock.path
        self._failures = FailuresNamed(path)
        self._lock = lock
        self._writing, self._reading = connections
        self._clock = clock
        self._history_limits = (limits.history_revisions, limits.history_bytes)
        self._offers = Offers(clock.read, lease)
        self._writer = Writer(self._writing, path, on_commit, self._offers)
        self._upkeep = Upkeep(self.transact, self._writer, clock, self._offers)
        self._overview = Overview(path)
        self._vitals = Vitals(path)
        self._path = path

    @classmethod
    async def open(
        cls,
        path: Path,
        on_commit: Callable[[Notice], None],
        *,
        limits: Limits | None = None,
        clock: Readings | None = None,
        lease: float = 30.0,
        may_migrate: bool = True,
    ) -> SqliteStore:
        """Opens or makes the database at `path`; `on_commit` hears of every commit, in their order.

        Leases that agents held when the last process ended last at least `lease` seconds from now: a restart
        of the platform is no fault of theirs. `clock` are the machine's, unless it is a test that has them in its hand.
        Raises Unavailable, with what to do, if the file is in use, locked, damaged, of a newer Soorma, or on a
        full or read-only disk.
        """
        lock = lock_file(path)
        path = lock.path
        try:
            writing = connect(path)
            lock.hold_record()
            migrate(writing, path, allowed=may_migrate)
            with FailuresNamed(path):
                own = RecordClock(writing, clock or SystemClocks())
                begin(writing, own.read(), lease)
            reading = connect(path)
        except BaseException:
            lock.close()
            raise
        return cls(lock, (writing, reading), on_commit, limits or Limits(), own, lease)

    async def close(self) -> None:
        """Finishes what was accepted, then closes the file."""
        with suppress(Unavailable):  # it is a little behind then, as after a crash
            await self._change(lambda connection: self._clock.keep(connection, is_closed=True), durable=False)
        await self._writer.close()
        await self._overview.close()
        self._reading.close()
        self._writing.close()
        self._lock.close()

    @property
    def is_writing(self) -> bool:
        """Whether a change is under way: accepted, and those whom it concerns not told yet."""
        return self._writer.is_busy

    async def transact(self, needs: Needs, decide: Callable[[Snapshot], Decision]) -> Decision:
        def job(connection: apsw.Connection) -> tuple[Decision, Notice]:
            snapshot = transactions.load(connection, needs, self._clock.read())
            if needs.forks:
                past.load_origins(connection, needs, snapshot)
            decision = decide(snapshot)
            return decision, transactions.write(connection, needs, decision, self._history_limits)

        decision: Decision = await self._writer.run(job, brief=_is_brief(needs))
        return decision

    # plans

    async def entry(self, scope: Scope, plan_id: str, key: str) -> EntryRow | None:
        with self._failures:
            row = one(self._reading, "live_entry", (scope.tenant_id, scope.user_id, plan_id, key, self._now()))
        return EntryRow(*row) if row else None

    async def plan(self, scope: Scope, plan_id: str, keys: set[str]) -> PlanState:
        now = self._clock.read()
        with self._reads(together=True) as connection:
            state = transactions.plan_state(connection, scope, plan_id, keys, now)
        if is_over(state.row.expires_at, now.wall):
            state.entries.clear()
            state.row.live = False
        state.entries = {key: row for key, row in state.entries.items() if not is_over(row.expires_at, now.wall)}
        return state

    async def entries(
        self, scope: Scope, plan_id: str, prefix: str, after: str, limit: int
    ) -> tuple[PlanRow, list[EntryRow]]:
        now = self._now()
        with self._reads(together=True) as connection:
            plan = transactions.plan_row(connection, scope, plan_id, now)
            return plan, transactions.live_entries(connection, plan, now, limit, prefix, after)

    async def plans(
        self, scope: Scope, after: str, limit: int, status: str | None = None, *, stalled: bool = False
    ) -> list[PlanRow]:
        values = (scope.tenant_id, scope.user_id, after, self._now(), status, stalled, limit)
        rows = await self._overview.look(lambda connection: rows_of(connection, "live_plans", values))
        return [transactions.to_plan(row) for row in rows]

    async def history(
        self, scope: Scope, plan_id: str, key: str | None, after: int | None, until: int | None, limit: int
    ) -> tuple[PlanRow, list[HistoryRow]]:
        now = self._now()

        def look(connection: apsw.Connection) -> tuple[PlanRow, int, list[HistoryRow]]:
            plan = transactions.plan_row(connection, scope, plan_id, now)
            begin = (plan.horizon - 1 if past.is_fork(connection, plan) else plan.horizon) if after is None else after
            far = _FAR if until is None else until
            return plan, begin, _whole_revisions(connection, plan, key, begin, far, limit)

        if key is None:
            with self._reads(together=True) as connection:
                plan, start, rows = look(connection)
        else:  # its changes may lie far apart
            plan, start, rows = await self._overview.look(look)
        if rows and rows[0].revision == plan.horizon == start + 1 and rows[0].key is None and rows[0].op in BEGINNINGS:
            return plan, rows  # the reader has seen all that there was before everything was removed
        check_horizon(f"of plan {plan_id!r} revision", start, plan.horizon)
        return plan, rows

    async def actions(self, scope: Scope, plan_id: str, after: int, limit: int) -> list[HistoryRow]:
        now = self._now()
        with self._reads(together=True) as connection:
            plan = transactions.plan_row(connection, scope, plan_id, now)
            if is_over(plan.expires_at, now):
                return []
            rows = connection.execute(SQL["actions"], (plan.id, plan.incarnation, after, limit))
            return [transactions.to_history(row) for row in rows]

    async def value_at(self, scope: Scope, plan_id: str, key: str, revision: int, seq: int) -> str | None:
        now = self._now()

        def look(connection: apsw.Connection) -> str | None:
            plan = transactions.plan_row(connection, scope, plan_id, now)
            check_horizon(f"of plan {plan_id!r} revision", revision, plan.horizon)
            entry = one(connection, "entry", (plan.id, plan.incarnation, key))
            if entry and entry[_REVISION] < revision:
                return str(entry[1])  # it was not written since
            base = one(connection, "base", (plan.id, plan.incarnation, key))
            rows = connection.execute(SQL["key_history"], (plan.id, plan.incarnation, revision, seq, key))
            return rebuild(map(transactions.to_history, rows), base[0] if base else None)

        return await self._overview.look(look)  # the key's last change may lie many revisions back

    async def values_at(
        self, scope: Scope, plan_id: str, revision: int, prefix: str, after: str, limit: int
    ) -> PastValues:
        now = self._now()
        least, below = (prefix, behind(prefix)) if prefix else (None, None)
        keys = past.Range(after, least, below, limit)

        def look(connection: apsw.Connection) -> PastValues:
            plan = transactions.plan_row(connection, scope, plan_id, now)
            check_past(plan, revision)
            rows, following = past.entries_at(connection, plan, revision, keys)
            return PastValues([(row.key, row.value) for row in rows], following)

        return await self._overview.look(look)

    # the log

    async def log(self, after: int, limit: int) -> list[LogEntry]:
        with self._reads(together=True) as connection:
            check_horizon("position", after, one(connection, "log_bounds", ())[0])
            return [LogEntry(*row) for row in page_of(connection, "log", (after, limit), _ENVELOPE, LOG_PAGE)[0]]

    async def log_end(self) -> int:
        with self._reads() as connection:
            return int(one(connection, "log_bounds", ())[1])

    async def event(self, tenant_id: str, event_id: str) -> LogEntry | None:
        with self._reads() as connection:
            row = one(connection, "event", (tenant_id, event_id))
        return LogEntry(*row) if row else None

    async def correlated(self, scope: Scope, correlation_id: str, after: int, limit: int) -> list[LogEntry]:
        values = (correlation_id, after, scope.tenant_id, scope.user_id, limit)
        with self._reads() as connection:
            return [LogEntry(*row) for row in page_of(connection, "correlated", values, _ENVELOPE)[0]]

    # timers

    async def due_timers(self, limit: int) -> list[TimerRow]:
        now = self._clock.read()
        with self._reads() as connection:
            rows = [
                row
                for is_delay, time in ((True, now.steady), (False, now.wall))
                for row in rows_of(connection, "due_timers", (is_delay, time, limit))
            ]
        due = [transactions.to_timer(row) for row in rows]
        return sorted(due, key=lambda timer: (timer.left(now), timer.id))[:limit]

    async def next_timer(self) -> float | None:
        with self._reads() as connection:
            due = one(connection, "next_timer", ())
        now = self._clock.read()
        left = [at - time for at, time in zip(due, (now.steady, now.wall), strict=True) if at is not None]
        return min(left) / 1000 if left else None

    async def timers(self, scope: Scope, plan_id: str | None, after: int, limit: int) -> list[TimerRow]:
        values = (scope.tenant_id, scope.user_id, after, plan_id, limit)
        rows = await self._overview.look(lambda connection: rows_of(connection, "timers", values))
        return [transactions.to_timer(row) for row in rows]

    # deliveries

    async def subscribe(self, owner: Owner, group: str, subscriptions: list[Subscription]) -> Membership:
        tenant_id = kept(owner)

        def begin(connection: apsw.Connection) -> tuple[Membership, Cursor | None]:
            membership = deliveries.subscribe(connection, self._clock.read(), tenant_id, group, subscriptions)
            return membership, deliveries.join(connection, self._uptime(), tenant_id, membership, None)

        place: Cursor | None
        membership, place = await self._change(begin)  # for nearly all, one flush of the disk is enough
        while place is not None:  # others have their turns between two steps
            place = await self._change(
                partial(deliveries.join, now=self._uptime(), tenant_id=tenant_id, membership=membership, place=place)
            )
        return membership

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
        def job(connection: apsw.Connection) -> tuple[None, Notice | None]:
            now = self._clock.read()
            if process and one(connection, "is_outdated", (process, instance, group_id, number)):
                raise Fenced("this agent has connected again since: what its earlier connection says does not count")
            values = (replica, group_id, instance, max_concurrency, process or replica, now.wall, now.uptime, number)
            connection.execute(SQL["insert_replica"], values)
            self._offers.heard(replica)
            if not process:
                return None, None
            agent = (process, instance, replica)
            return None, Notice(groups=deaths.rejoin(connection, now.uptime, group_id, agent, running))

        await self._writer.run(job, durable=False)

    async def drain(self, replica: str) -> None:
        await self._change(lambda tx: tx.execute(SQL["drain_replica"], (replica,)), durable=False)

    async def leave(self, replica: str) -> None:
        def job(connection: apsw.Connection) -> tuple[None, Notice]:
            freed = deaths.free(connection, self._uptime(), replica, deaths.CLOSED)
            connection.execute(SQL["remove_replica"], (replica,))
            self._offers.suspect(freed.suspected)
            return None, Notice(groups=freed.groups)

        await self._writer.run(job)

    def offered(self, offer: Offer) -> AbstractContextManager[None]:
        return self._offers.offered(offer)

    async def claim(self, offer: Offer) -> None:
        def job(_: apsw.Connection) -> tuple[None, None]:
            self._offers.ask(offer)
            return None, None

        await self._writer.run(job, durable=False, brief=True)

    async def next_ready(self, subscription_ids: list[int]) -> float | None:
        queries = ("next_ready", "next_suspect") if self._offers.has_suspects else ("next_ready",)
        with self._reads() as connection:
            times = [one(connection, query, (id_,))[0] for id_ in subscription_ids for query in queries]
        earliest = min((at for at in times if at is not None), default=NEVER)
        earliest = min(earliest, self._offers.next_lapse)
        return None if earliest == NEVER else (earliest - self._uptime()) / 1000

    async def renew(self, replica: str, fences: list[str], lease: float) -> list[str]:
        def job(connection: apsw.Connection) -> list[str]:
            moment = self._clock.read()
            ends = deliveries.lease_ends(moment.uptime, lease)
            self._offers.lease_until(min(ends))
            self._offers.heard(replica)
            return deliveries.renew(connection, moment, replica, fences, ends)

        return await self._change(job, durable=False)

    async def resume(self, fences: list[str], lease: float, replica: str) -> list[Claimed]:
        def job(connection: apsw.Connection) -> list[Claimed]:
            self._offers.lease_until(until := self._in(lease))
            return deliveries.resume(connection, fences, until, replica)

        return await self._change(job, durable=False)

    async def give_back(self, fences: list[str]) -> None:
        await self._writer.run(lambda tx: (None, deliveries.give_back(tx, self._uptime(), fences)))

    async def holder(self, fence: str) -> HolderRow | None:
        with self._reads() as connection:
            row = one(connection, "holder", (fence,))
        return HolderRow(*row) if row else None

    async def survey(self, group_id: int) -> Survey:
        def job(connection: apsw.Connection) -> tuple[Survey, Notice]:
            return self._offers.survey(connection, group_id), Notice(groups={group_id})

        found: Survey = await self._writer.run(job, durable=False)
        return found

    async def unsubscribe(self, owner: Owner, group: str, event_type: str, topic: str, *, drop: bool) -> int | None:
        place = (among(owner), group, event_type, topic)
        found = await self._change(lambda tx: aside.ending(tx, place, self._offers.served, drop))
        while found is not None and not found.is_over:
            found = await self._writer.run(partial(self._end_some, before=found))
        return None if found is None else found.removed

    def _end_some(self, connection: apsw.Connection, before: aside.Ending) -> tuple[aside.Ending, Notice]:
        return aside.end_some(connection, self._clock.read(), before)

    async def seen(self, subscription_ids: list[int]) -> None:
        now = self._clock.read()
        values = (msgspec.json.encode(subscription_ids).decode(), now.wall, now.uptime)
        await self._change(lambda tx: tx.execute(SQL["see_subscriptions"], values), durable=False)

    async def subscription_patterns(self, group_id: int) -> dict[int, tuple[str, str]]:
        with self._reads() as connection:
            return deliveries.patterns(connection, group_id)

    async def groups(self, owner: Owner) -> list[GroupInfo]:
        now = self._clock.read()
        served = self._offers.is_served
        return await self._overview.look(lambda connection: deliveries.groups(connection, now, among(owner), served))

    async def standing(self) -> Standing:
        uptime = self._uptime()

        def look(connection: apsw.Connection) -> Standing:
            horizon, end = one(connection, "log_bounds", ())
            groups = list(standings(connection, uptime).values())
            writer, sizes = self._writer, self._overview.file_sizes()
            clock = self.clock()
            return Standing(groups, end, horizon, sizes, writer.batches, writer.seconds, clock, writer.held)

        return await self._overview.look(look)

    async def dead_letters(self, owner: Owner, group: str | None, after: int, limit: int) -> list[DeadLetterInfo]:
        values = (after, group, among(owner), limit)
        rows = await self._overview.look(lambda connection: rows_of(connection, "dead_letters", values))
        return [deliveries.dead_letter_info(row) for row in rows]

    async def replay(self, owner: Owner, dead_letter: int, key: str | None = None) -> bool:
        def job(connection: apsw.Connection) -> tuple[bool, Notice | None]:
            notice = deliveries.replay(connection, self._clock.read(), among(owner), dead_letter, key)
            return notice is not None, notice

        found: bool = await self._writer.run(job)
        return found

    # the registry

    async def announce(self, owner: Owner, name: str, instance: str, announcement: Announcement) -> AgentInfo:
        return await self._change(
            lambda tx: registry.announce(tx, self._clock.read(), kept(owner), name, instance, announcement),
            durable=False,
        )

    async def heartbeat(self, owner: Owner, name: str, instance: str) -> InstanceInfo | None:
        return await self._change(
            lambda tx: registry.heartbeat(tx, self._clock.read(), kept(owner), name, instance), durable=False
        )

    async def deregister(self, owner: Owner, name: str, instance: str) -> bool:
        return await self._change(lambda tx: registry.deregister(tx, self._clock.read(), kept(owner), name, instance))

    async def agents(self, tenant_id: str, wanted: AgentFilter, after: int, limit: int) -> AgentPage:
        now = self._clock.read()
        return await self._overview.look(
            lambda connection: registry.agents(connection, now, tenant_id, wanted, after, limit)
        )

    async def agent(self, tenant_id: str, name: str) -> AgentInfo | None:
        with self._reads(together=True) as connection:
            return registry.agent(connection, self._clock.read(), tenant_id, name)

    async def define(self, owner: Owner, definition: EventDefinition) -> EventInfo:
        return await self._change(lambda tx: registry.define(tx, self._clock.read(), kept(owner), definition))

    async def undefine(self, owner: Owner, event_type: str, version: int) -> bool:
        return await self._change(lambda tx: registry.undefine(tx, kept(owner), event_type, version))

    async def definition(self, tenant_id: str, event_type: str, version: int | None) -> EventInfo | None:
        with self._reads(together=True) as connection:
            return registry.definition(connection, tenant_id, event_type, version)

    async def definitions(
        self, owner: Owner, event_type: str | None, topic: str | None, after: str, limit: int
    ) -> EventPage:
        return await self._overview.look(
            lambda connection: registry.definitions(connection, kept(owner), event_type, topic, after, limit)
        )

    # upkeep

    async def upkeep(self, limits: Limits, retention: Retention) -> bool:
        self.look_at_clock()
        if self._silent() > BEAT_SECONDS:
            await self._change(lambda tx: tx.execute(SQL["beat"]), durable=False)
        more: bool = await self._upkeep.step(limits, retention)
        return more

    def look_at_clock(self) -> None:
        self._clock.look()
        if self._clock.tell():
            self._clock.is_old = True

    def clock(self) -> ClockStanding:
        return ClockStanding(self._clock.jumps, self._clock.settles_in)

    async def check(self) -> None:
        if lost := self._vitals.lost():
            raise Unavailable(lost)
        if self._writer.failure is not None:
            raise self._writer.failure
        if (seconds := self._silent()) > SILENT_SECONDS:
            raise Unavailable(f"no change of the database {self._path} has got through for {seconds:.0f} seconds")
        with self._reads() as connection:
            one(connection, "log_bounds", ())

    def hopeless(self) -> str | None:
        return self._vitals.lost() or self._writer.hopeless(HOPELESS_SECONDS)

    def _silent(self) -> float:
        """Seconds since the last change got through."""
        return time.monotonic() - self._writer.written_at

    async def _change(self, job: Callable[[apsw.Connection], T], *, durable: bool = True) -> T:
        """Runs a change that nobody is told of."""
        value: T = await self._writer.run(lambda connection: (job(connection), None), durable=durable)
        return value

    def _now(self) -> int:
        return self._clock.wall()

    def _uptime(self) -> int:
        return self._clock.read().uptime

    def _in(self, seconds: float) -> int:
        return self._uptime() + round(seconds * 1000)

    @contextmanager
    def _reads(self, *, together: bool = False) -> Iterator[apsw.Connection]:
        """The reading connection; `together`: all statements see the same commit."""
        with self._failures:
            if not together:
                yield self._reading
                return
            self._reading.execute("BEGIN")
            try:
                yield self._reading
            finally:
                self._reading.execute("COMMIT")


def begin(connection: apsw.Connection, now: Moment, lease: float) -> None:
    """What a platform that starts does to the record of the one before: its agents have a lease to come back."""
    connection.execute(SQL["spare_leases"], (now.uptime + round(lease * 1000),))
    connection.execute(SQL["forget_replicas"])


def _is_brief(needs: Needs) -> bool:
    """Whether it comes to a few rows."""
    keys = sum(len(keys) for keys in needs.plans.values())
    looks_around = needs.counted or needs.forks or needs.sagas
    return keys <= FEW and len(needs.events) <= FEW and not looks_around


def _whole_revisions(
    connection: apsw.Connection, plan: PlanRow, key: str | None, after: int, until: int, limit: int
) -> list[HistoryRow]:
    """About `limit` rows, none of whose revisions is cut."""
    place = (plan.id, plan.incarnation)
    rows, more = page_of(connection, "history", (*place, after, until, key, limit), _ARGUMENT)
    if more or len(rows) == limit:
        last = rows[-1][0]
        rows = [row for row in rows if row[0] < last]
        if not rows:
            rows = rows_of(connection, "history", (*place, last - 1, last, key, -1))
    return [transactions.to_history(row) for row in rows]
