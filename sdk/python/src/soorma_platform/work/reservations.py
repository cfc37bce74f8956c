"""Reservations of keys: handlers that conflict over a key take turns at it, in order.

They are soft state of one process: losing them costs further runs, never an update. The engine
decides what is correct, and checks every commit, reserved or not.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from itertools import count
from operator import attrgetter
from typing import NamedTuple

from soorma_common.causes import Cause
from soorma_common.names import Scope
from soorma_platform.metrics import Metrics

RESERVED_SECONDS = 5.0
"""Time for which a reservation lasts without a sign of life from its holder.

The SDK gives three in that time, so one that is lost frees no key.
"""


class ReservedKey(NamedTuple):
    """A key of a plan, in its scope."""

    scope: Scope
    plan_id: str
    key: str


class Turn:
    """A turn of a handler at some keys: it waits for all of them, or holds all of them.

    `age` counts the turns. It stays when keys are added, so that no turn is overtaken for ever.
    """

    __slots__ = (
        "age",
        "fence",
        "granted",
        "keys",
        "owner",
        "timer",
        "trace_id",
        "until",
        "waiting",
    )

    def __init__(self, fence: str, owner: str, age: int, trace_id: str | None = None) -> None:
        self.fence = fence
        self.owner = owner
        self.age = age
        self.trace_id = trace_id
        self.keys: frozenset[ReservedKey] = frozenset()
        self.granted = False
        self.until = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: asyncio.Future[bool] | None = None


_by_age = attrgetter("age")


class Lines:
    """The holders of keys, and the turns that wait for each, the oldest first.

    A turn enters the lines of all its keys at once, and is granted when it is first in each of them
    and nobody holds one. A waiting turn holds nothing and all lines have one order, so the oldest
    of turns that wait for each other waits for holders only: there is no deadlock, and no turn
    starves as long as holders finish.
    """

    def __init__(self) -> None:
        self.holders: dict[ReservedKey, Turn] = {}
        self.lines: dict[ReservedKey, list[Turn]] = {}

    def is_taken(self, key: ReservedKey) -> bool:
        """Returns True if a turn holds the key or waits for it."""
        return key in self.holders or key in self.lines

    def enter(self, turn: Turn, keys: frozenset[ReservedKey]) -> list[Turn]:
        """Lets a turn wait for these keys instead of those it holds or waits for.

        Returns the turns that this has granted.
        """
        # It gives up what it holds before it waits for more: a waiting turn holds nothing.
        left = self._step_back(turn)
        turn.keys = keys
        for key in keys:
            line = self.lines.setdefault(key, [])
            # By age, not at the end: all lines have one order, or two turns could wait for each
            # other.
            line.insert(bisect_left(line, turn.age, key=_by_age), turn)
        return self._grant(left | keys)

    def leave(self, turn: Turn) -> list[Turn]:
        """Gives up a turn's keys and places, and returns the turns that this has granted."""
        return self._grant(self._step_back(turn))

    def _step_back(self, turn: Turn) -> frozenset[ReservedKey]:
        for key in turn.keys:
            if turn.granted:
                del self.holders[key]
            else:
                self._step_out(turn, key)
        left, turn.keys, turn.granted = turn.keys, frozenset(), False
        return left

    def _step_out(self, turn: Turn, key: ReservedKey) -> None:
        line = self.lines[key]
        line.pop(bisect_left(line, turn.age, key=_by_age))
        if not line:
            del self.lines[key]

    def _grant(self, keys: Iterable[ReservedKey]) -> list[Turn]:
        """Grants, oldest first, turns at one of these keys that are first at all of their own."""
        heads = {line[0].age: line[0] for key in keys if (line := self.lines.get(key))}
        return [heads[age] for age in sorted(heads) if self._grant_one(heads[age])]

    def _grant_one(self, turn: Turn) -> bool:
        if any(key in self.holders or self.lines[key][0] is not turn for key in turn.keys):
            return False
        for key in turn.keys:
            self._step_out(turn, key)
            self.holders[key] = turn
        turn.granted = True
        return True


class Reservations:
    """The turns of all agents connected to this process, by the fences of their deliveries."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lines = Lines()
        self._turns: dict[str, Turn] = {}
        self._owners: set[str] = set()
        self._ages = count()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def would_wait_for_itself(self, fence: str, cause: Cause, keys: Iterable[ReservedKey]) -> bool:
        """Returns True if a key's holder may be waiting for the response to this very request.

        The holder is in the same trace then, and a request begins a correlation of its own.
        """
        if not self._turns or cause.trace_id is None or cause.event_id != cause.correlation_id:
            return False
        holders = (self._lines.holders.get(key) for key in keys)
        return any(
            one is not None and one.fence != fence and one.trace_id == cause.trace_id
            for one in holders
        )

    async def await_turn(
        self, fence: str, owner: str, keys: Iterable[ReservedKey], trace_id: str | None = None
    ) -> bool | None:
        """Waits while others have reserved, or wait for, keys that a commit would change.

        Returns whether the delivery holds them then; None if there was nothing to wait for.
        """
        mine = self._turns.get(fence)
        held = mine.keys if mine is not None and mine.granted else frozenset()
        if taken := [key for key in keys if key not in held and self._lines.is_taken(key)]:
            return await self.reserve(fence, owner, taken, trace_id)
        return None

    async def reserve(
        self, fence: str, owner: str, keys: Iterable[ReservedKey], trace_id: str | None = None
    ) -> bool:
        """Waits until a delivery holds these keys and those requested before; False if released.

        To get more keys, it gives up those it holds and waits for all of them, in the place of its
        age.
        """
        if owner not in self._owners:
            return False  # its connection has ended: nobody would release the turn
        turn = self._turns.get(fence)
        if turn is None:
            turn = self._turns[fence] = Turn(fence, owner, next(self._ages), trace_id)
        needed = turn.keys.union(keys)
        if turn.waiting is not None:
            return await asyncio.shield(turn.waiting)  # sent twice: one of them waits for both
        if not (turn.granted and needed == turn.keys):
            self._begin(self._lines.enter(turn, needed))
        if turn.granted:
            self._prolong(turn)
            return True
        turn.waiting = asyncio.get_running_loop().create_future()
        self._metrics.commits.waiting += 1
        try:
            return await turn.waiting
        except asyncio.CancelledError:
            self.release(fence)
            raise
        finally:
            turn.waiting = None
            self._metrics.commits.waiting -= 1

    def holds(self, fence: str, keys: Iterable[ReservedKey]) -> bool:
        """Returns True if a delivery holds all of these keys now."""
        turn = self._turns.get(fence)
        return turn is not None and turn.granted and turn.keys.issuperset(keys)

    def renew(self, fences: Iterable[str], lost: Iterable[str] = ()) -> None:
        """Renews what these deliveries hold, as their handlers are alive.

        Releases the `lost` ones, which other agents have.
        """
        if not self._turns:
            return
        for fence in fences:
            if (turn := self._turns.get(fence)) is not None and turn.granted:
                self._prolong(turn)
        for fence in lost:
            self.release(fence)

    def release(self, fence: str) -> None:
        """Frees the keys and places of a delivery that has ended, or was given to another agent."""
        turn = self._turns.pop(fence, None) if self._turns else None  # every commit calls this
        if turn is None:
            return
        if turn.timer is not None:
            turn.timer.cancel()
        if turn.waiting is not None and not turn.waiting.done():
            turn.waiting.set_result(False)
        self._begin(self._lines.leave(turn))

    def join(self, owner: str) -> None:
        """Lets a connected agent take turns from now on."""
        self._owners.add(owner)

    def leave(self, owner: str) -> None:
        """Ends the turns of an agent that has gone; what waits in them is decided now."""
        self._owners.discard(owner)
        self._let_go(owner)

    def _let_go(self, owner: str) -> None:
        gone = [turn for turn in self._turns.values() if turn.owner == owner]
        # Waiting turns go first, so that they are not granted in passing.
        for turn in sorted(gone, key=lambda turn: turn.granted):
            self.release(turn.fence)

    def _begin(self, granted: list[Turn]) -> None:
        for turn in granted:
            self._metrics.commits.reservations.add()
            self._prolong(turn)
            # One timer for a turn, which looks again: `renew` is called often.
            if turn.timer is None:
                self._watch(turn, RESERVED_SECONDS)
            if turn.waiting is not None and not turn.waiting.done():
                turn.waiting.set_result(True)

    def _prolong(self, turn: Turn) -> None:
        turn.until = asyncio.get_running_loop().time() + RESERVED_SECONDS

    def _watch(self, turn: Turn, seconds: float) -> None:
        """Schedules a look for when the reservation would end."""
        turn.timer = asyncio.get_running_loop().call_later(seconds, self._look, turn)

    def _look(self, turn: Turn) -> None:
        turn.timer = None
        if not turn.granted:
            return  # it waits again, for more keys; it is watched once it has them
        left = turn.until - asyncio.get_running_loop().time()
        if left > 0:
            self._watch(turn, left)
            return
        self._metrics.commits.reservations_expired.add()
        # The other turns of a process that stands still would expire one after the other.
        self._let_go(turn.owner)
