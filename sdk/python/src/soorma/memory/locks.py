"""Claims: places that one holder has for a time, and the line of those who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from msgspec.structs import replace

from soorma.memory.plan import BoundPlan, check_ttl
from soorma.memory.renewal import LEASE_SECONDS, Found, PlaceRenewer
from soorma_common.errors import Conflict, HistoryGone, InvalidRequest, SoormaError
from soorma_common.memory import Change
from soorma_common.operations import MOST_PLACES, Acquire, Release

H = TypeVar("H", bound="Hold")


class Hold:
    """A place at a plan's key, held until it is released or its `ttl` (seconds) is over."""

    def __init__(
        self, plan: BoundPlan, asked: Acquire, ttl: float, key: str, revision: int
    ) -> None:
        self.key = key
        self.ttl = ttl
        self.revision = revision
        self.plan = plan
        self._asked = asked
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.key!r} of plan {self.plan.id!r}, revision "
            f"{self.revision}>"
        )

    async def renew(self, ttl: float | None = None) -> None:
        """Renews the claim for its time to live, or `ttl` seconds; Conflict if it was lost."""
        seconds = self.ttl if ttl is None else claim_ttl(ttl)
        async with self._changing:
            found, _ = await self.plan.applied(replace(self._asked, ttl=seconds, renew=True))
            if found is None or found.get("place") != self.key:
                raise Conflict(
                    f"the claim of {self.key!r} in plan {self.plan.id!r} was lost: its time was "
                    "over, or it was released; claim it again",
                    plan_id=self.plan.id,
                    key=self.key,
                    expected_revision=self.revision,
                )
            self.revision = found["revision"]

    async def release(self) -> bool:
        """Releases the claim to whoever waits first; True if it was still held."""
        return await _release(self.plan, self._asked)

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[int]:
        """Yields the revision; no `renew` changes it while the context is open."""
        async with self._changing:
            yield self.revision

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()


@dataclass
class Wish:
    """A request for a place, with its deadline and the future place."""

    plan: BoundPlan
    asked: Acquire
    deadline: float
    place: asyncio.Future[Found] = field(init=False)
    asking: asyncio.Task[tuple[Any, int]] | None = None

    def hear(self, found: Found) -> None:
        """Sets the place, or None if the ticket is gone; ignores a ticket that is still valid."""
        if not self.place.done() and (found is None or "place" in found):
            self.place.set_result(found)


class Line:
    """The requests of this client that wait at a semaphore; one watch serves them all."""

    _lines: dict[tuple[Any, ...], Line] = {}  # noqa: RUF012 - those with waiting requests
    _leaving: set[asyncio.Task[Any]] = set()  # noqa: RUF012 - for cancelled requests

    def __init__(self, plan: BoundPlan, key: str, known_by: tuple[Any, ...]) -> None:
        self._plan = plan
        self._key = key
        self._known_by = known_by
        self._waiting: dict[str, Wish] = {}
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, plan: BoundPlan, key: str) -> Line:
        """Returns the line at this key."""
        known_by = (asyncio.get_running_loop(), plan.caller.transport, plan.scope, plan.id, key)
        if (line := cls._lines.get(known_by)) is None:
            line = cls._lines[known_by] = cls(plan, key, known_by)
        return line

    async def enter(self, plan: BoundPlan, asked: Acquire, wait: float) -> tuple[Acquire, Found]:
        """Returns the request and its place once it gets one; None if not in `wait` seconds."""
        wish = Wish(plan, asked, asyncio.get_running_loop().time() + wait)
        try:
            found = await self._place_for(wish)
        except BaseException:
            task = asyncio.create_task(_give_back(wish))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            raise
        finally:
            self._leave(asked.holder)
        return wish.asked, found

    async def _place_for(self, wish: Wish) -> Found:
        loop = asyncio.get_running_loop()
        while True:
            wish.place = loop.create_future()
            # before the request: the watch may be quicker than the response
            self._waiting[wish.asked.holder] = wish
            wish.asking = asyncio.create_task(wish.plan.applied(wish.asked))
            found, revision = await asyncio.shield(wish.asking)
            if found is None or "place" in found:
                return found
            wish.asked = replace(wish.asked, ticket=found["ticket"])
            found = await self._wait(wish, revision)
            if found is not None or loop.time() >= wish.deadline:
                return found
            # the ticket was lost with the plan, or in a long pause
            wish.asked = replace(wish.asked, ticket=None)

    async def _wait(self, wish: Wish, revision: int) -> Found:
        """Returns the place; None if there was none in time, or the ticket was lost."""
        plan = wish.plan
        _renewer(plan).keep(plan.caller.transport, plan.scope, plan.id, wish.asked, wish.hear)
        if self._watching is None:
            self._watching = asyncio.create_task(
                self._watch(revision), name=f"soorma-line-{self._key}"
            )
        try:
            async with asyncio.timeout_at(wish.deadline):
                return await wish.place
        except TimeoutError:
            await _release(plan, wish.asked)
            return None

    def _leave(self, holder: str) -> None:
        del self._waiting[holder]
        if self._waiting:
            return
        self._lines.pop(self._known_by, None)
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, after: int | None) -> None:
        """Tells waiting requests of their places; when a place expires, has it handed over."""
        plan = self._plan
        try:
            while True:
                stream = plan.watch(after)
                try:
                    async with aclosing(stream):
                        async for commit in stream:
                            await self._hear(commit)
                except HistoryGone:
                    # cleaned up meanwhile, with all tickets: a renewal finds out about each
                    after = None
                    await _renewer(plan).renew()
        except SoormaError as error:
            self._watching = None
            for wish in self._waiting.values():
                if not wish.place.done():
                    wish.place.set_exception(error)

    async def _hear(self, commit: list[Change]) -> None:
        for change in commit:
            holder = change.argument.get("holder") if isinstance(change.argument, dict) else None
            wish = self._waiting.get(holder or "")
            if (
                wish is not None
                and change.op == "set"
                and not str(change.key).startswith(wish.asked.line)
            ):
                wish.hear({"place": change.key, "revision": change.revision})
        if any(
            change.key is None or (change.op == "expire" and change.key.startswith(self._key))
            for change in commit
        ):
            await self._hand_over()

    async def _hand_over(self) -> None:
        """Makes the platform hand free places to whoever waits, in this client or another."""
        asked = next((wish.asked for wish in self._waiting.values() if wish.asked.ticket), None)
        if asked is not None:
            await self._plan.applied(replace(asked, ttl=None, renew=True))


def claim_ttl(seconds: float | None) -> float:
    """Returns a claim's time to live if it is valid; else raises InvalidRequest."""
    checked = check_ttl(seconds)
    if checked is None:
        raise InvalidRequest(
            "a claim ends with its holder at the latest: ttl is a number of seconds, not None"
        )
    return checked


async def take(
    kind: type[H], plan: BoundPlan, key: str, places: int, ttl: float, wait: float
) -> H | None:
    """Takes a place of a key; None if all stay held, or waited for, for `wait` seconds."""
    if type(places) is not int or not 1 <= places <= MOST_PLACES:
        raise InvalidRequest(f"places is a whole number from 1 to {MOST_PLACES}, not {places!r}")
    if type(wait) not in (int, float) or not wait >= 0:
        raise InvalidRequest(f"wait is a number of seconds from 0, not {wait!r}")
    seconds = claim_ttl(ttl)
    asked = Acquire(
        key=key, holder=str(uuid4()), places=places, ttl=seconds, lease=LEASE_SECONDS, wait=wait > 0
    )
    asked, found = await Line.of(plan, key).enter(plan, asked, wait)
    if found is None:
        return None
    asked = replace(asked, ticket=None)
    _renewer(plan).keep(plan.caller.transport, plan.scope, plan.id, asked, lambda _: None)
    return kind(plan, asked, seconds, found["place"], found["revision"])


async def _give_back(wish: Wish) -> None:
    """Releases what a cancelled request has got or will get."""
    plan, asked = wish.plan, wish.asked
    try:
        found, _ = (None, 0) if wish.asking is None else await wish.asking
        ticket = found.get("ticket") if found else None
        await _release(plan, replace(asked, ticket=ticket or asked.ticket))
    except SoormaError:  # it expires by itself, as after a death
        _renewer(plan).drop(asked.holder)


async def _release(plan: BoundPlan, asked: Acquire) -> bool:
    _renewer(plan).drop(asked.holder)
    given_up = Release(key=asked.key, holder=asked.holder, places=asked.places, ticket=asked.ticket)
    held, _ = await plan.applied(given_up)
    return bool(held)


def _renewer(plan: BoundPlan) -> PlaceRenewer:
    return PlaceRenewer.of(plan.caller.transport)
