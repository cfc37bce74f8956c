"""Agent processes on a store, without their code.

They take events, handle them, die and freeze as a test says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

from record import LEASE, Record, ids

from soorma_common.names import All
from soorma_platform.engine.deliveries import verdict
from soorma_platform.services.groups import Membership
from soorma_platform.stores.ports.deliveries import Claimed

_numbers = count(1)


class Worker:
    """A replica in a process of its own."""

    def __init__(self, record: Record, member: Membership, most: int, process: str = "") -> None:
        self.name = f"replica {next(_numbers)}"
        self.process = process or f"process of {self.name}"
        self.prefetch = record.prefetch(member, most, replica=self.name)
        self.prefetch.most, self.prefetch.process = most, self.process
        self.in_hand: dict[str, Claimed] = {}
        self.given_up: list[str] = []
        self._record = record
        self._member = member
        self._stack = ExitStack()

    async def start(self, running: list[str] | None = None, number: int = 0) -> Worker:
        """Connects, for the `number`-th time; `running` are the fences that it had before."""
        store, place = (
            self._record.store,
            (self._member.group_id, self.name, "host", self.prefetch.most),
        )
        await self._record.join(*place, self.process, running or [], number)
        for claimed in await store.deliveries.resume(running or [], LEASE, self.name):
            self.in_hand[claimed.fence] = claimed
            self.prefetch.freed -= 1
            self.prefetch.has_suspect |= claimed.is_suspect
        self._stack.enter_context(store.deliveries.prefetching(self.prefetch))
        return self

    async def take(self) -> list[str]:
        """Claims deliveries and gives up condemned ones; returns the sorted ids of the others."""
        await self._record.store.deliveries.claim(self.prefetch)
        self.hear()
        new, condemned = self.prefetch.take(), list[Claimed]()
        for claimed in new:
            reason = verdict(claimed.suspect) if claimed.suspect else None
            if reason is None:
                self.in_hand[claimed.fence] = claimed
                continue
            await self._record.fail(claimed, reason, reject=True, unbegun=True)
            self.given_up += ids([claimed])
            condemned.append(claimed)
            self.prefetch.freed += 1
        return sorted(ids(one for one in new if one not in condemned))

    def hear(self) -> list[str]:
        """Notes what was taken from it; returns the ids of the events."""
        lost = [self.in_hand.pop(fence) for fence in self.prefetch.lost(self.in_hand)]
        self.prefetch.freed += len(lost)
        return ids(lost)

    async def settle(self, id_: str | None = None) -> None:
        """Ends one handler, or all, with success."""
        for claimed in [one for one in self.in_hand.values() if id_ in (None, *ids([one]))]:
            await self._record.settle(claimed)
            self._done(claimed)

    async def fail(self, id_: str, **how: object) -> None:
        """Ends a handler with a failure."""
        claimed = next(one for one in self.in_hand.values() if ids([one]) == [id_])
        await self._record.fail(claimed, **how)  # type: ignore[arg-type]
        self._done(claimed)

    def _done(self, claimed: Claimed) -> None:
        del self.in_hand[claimed.fence]
        self.prefetch.freed += 1

    async def renew(self) -> list[str]:
        """Sends a sign of life; returns the fences that are still valid."""
        return await self._record.store.deliveries.renew(self.name, list(self.in_hand), LEASE)

    async def drain(self) -> None:
        """Announces that it is about to stop."""
        self.prefetch.subscription_ids = []
        await self._record.store.groups.drain(self.name)

    async def die(self) -> None:
        """Closes its connection."""
        self._stack.close()
        await self._record.store.groups.leave(self.name)

    def disappear(self) -> None:
        """Cleans up at the end of a test."""
        self._stack.close()

    @property
    def slots(self) -> int:
        """The room, and what is in hand: always as many as it takes."""
        return self.prefetch.room + len(self.in_hand) + len(self.prefetch.filled)


class Crew:
    """Some replicas of a group that are replaced when they die. Time passes in ticks."""

    def __init__(self, record: Record, member: Membership, size: int, most: int) -> None:
        self._record = record
        self._member = member
        self._most = most
        self.workers: list[Worker] = []
        self._frozen: list[Worker] = []
        self.size = size
        self.deaths = 0
        self.handled: list[str] = []
        self.given_up: list[str] = []

    async def work(
        self,
        kills: Callable[[str], str | None],
        seconds: float = 0.1,
        *,
        longest: float,
        restart: float = 0.5,
    ) -> float:
        """Handles events, each in so many seconds, until none is left; returns how long that took.

        `kills` returns how an event ends its process: "closed", "silent", or None.
        """
        began, back_at = self._record.clock.now, 0.0
        busy_until: dict[str, float] = {}
        while self._record.clock.now - began < longest:
            now = self._record.clock.now
            if len(self.workers) < self.size and now >= back_at:
                self.workers.append(await Worker(self._record, self._member, self._most).start())
            for worker in self._frozen:
                await worker.take()
            for worker in list(self.workers):
                if await self._tick(worker, busy_until, kills, seconds):
                    self.workers.remove(worker)
                    self.deaths += 1
                    back_at = now + restart
            if not await self._left():
                return self._record.clock.now - began
            self._record.clock.advance(0.05)
        raise AssertionError(f"not done in {longest} s: {await self._left()} left")

    async def _tick(
        self,
        worker: Worker,
        busy_until: dict[str, float],
        kills: Callable[[str], str | None],
        seconds: float,
    ) -> bool:
        """True if the worker has died."""
        now = self._record.clock.now
        # Three times in the shortest lease that there is with LEASE.
        if self._record.clock.now % 3 < 0.05:
            await worker.renew()
        given_up = len(worker.given_up)
        await worker.take()
        self.given_up += worker.given_up[given_up:]
        for fence, claimed in list(worker.in_hand.items()):
            if busy_until.setdefault(fence, now + seconds) > now:
                continue
            (id_,) = ids([claimed])
            how = kills(id_)
            if how == "closed":
                await worker.die()
                return True
            if how == "silent":
                self._frozen.append(worker)  # the platform goes on sending to it
                return True
            self.handled.append(id_)
            await worker.settle(id_)
        return False

    async def _left(self) -> int:
        (group,) = [one for one in await self._record.groups(All.TENANTS) if one.name == "g"]
        return group.waiting + group.in_hand

    def stop(self) -> None:
        """Cleans up at the end of a test."""
        for worker in (*self.workers, *self._frozen):
            worker.disappear()


@contextmanager
def standing(*workers: Worker | Crew) -> Iterator[None]:
    """Cleans them up at the end of the test."""
    try:
        yield
    finally:
        for worker in workers:
            if isinstance(worker, Crew):
                worker.stop()
            else:
                worker.disappear()
