"""Planted faults, each a mistake that the platform must not make: the simulator finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import apsw
import pytest
from msgspec.structs import replace

from simulator.platform import Disk
from soorma.bus import PlatformOutbox
from soorma.memory.collected import CollectedMemories
from soorma.memory.memories import PlatformMemories
from soorma.runtime.transaction import HandlerTransaction
from soorma_common.events import Envelope
from soorma_common.memories import AnyMemoryOperation
from soorma_common.names import Scope
from soorma_common.semantic import MemoryDone
from soorma_platform.engine import publishing
from soorma_platform.engine.commands import Decision, Snapshot
from soorma_platform.engine.plans import PlanEditor
from soorma_platform.engine.rows.deliveries import DeliveryRow, InHand, Settled
from soorma_platform.engine.rows.events import KnownIds, NewDelivery
from soorma_platform.engine.rows.idempotency import ResponseNeed
from soorma_platform.engine.rows.steps import StepsFound
from soorma_platform.engine.rows.timers import TimerGone, TimerRow
from soorma_platform.engine.steps import RecordStep
from soorma_platform.engine.timers import FireTimer
from soorma_platform.services.agents import AgentConnection
from soorma_platform.stores.ports.deliveries import Claimed, Prefetch
from soorma_platform.stores.sqlite import claims, deliveries, steps
from soorma_platform.stores.sqlite.database import SQL
from soorma_platform.stores.sqlite.prefetch import Prefetches
from soorma_platform.stores.sqlite.store import LOADERS, WRITERS
from soorma_platform.work import reservations
from soorma_platform.work.reservations import Reservations
from soorma_platform.work.timekeeper import Timekeeper

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def answer_before_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit is confirmed before it is on disk: a crash undoes the last one."""
    patch.setattr(Disk, "keeps_the_last_commit", False)


def fencing_off(patch: pytest.MonkeyPatch) -> None:
    """A previous holder of a delivery may still settle it."""
    _remember_deliveries(patch)


def no_read_check(patch: pytest.MonkeyPatch) -> None:
    """A handler's reads are not checked at its commit."""
    patch.setattr(PlanEditor, "check_reads", lambda *_: None)


def publish_at_once(patch: pytest.MonkeyPatch) -> None:
    """A handler's events do not wait for its commit."""

    async def send(self: HandlerTransaction, events: list[Envelope]) -> None:
        outbox: PlatformOutbox = self._outbox
        await outbox.send(events)

    patch.setattr(HandlerTransaction, "send", send)


def remember_at_once(patch: pytest.MonkeyPatch) -> None:
    """What a handler remembers does not wait for its commit."""

    async def change(
        self: CollectedMemories, scope: Scope, operations: list[AnyMemoryOperation]
    ) -> list[MemoryDone]:
        platform: PlatformMemories = self._platform
        return await platform.change(scope, operations)

    patch.setattr(CollectedMemories, "change", change)


def forgotten_parts_stay(patch: pytest.MonkeyPatch) -> None:
    """The index of a forgotten passage is left behind."""
    _reword(patch, "remove_parts", "WHERE passage = ?", "WHERE passage = -?")


def idle_reported_again(patch: pytest.MonkeyPatch) -> None:
    """A session that was reported as idle is reported again, although nothing more was said."""
    _reword(patch, "report_session", "quiet_since = NULL", "quiet_since = quiet_since")


def _reword(patch: pytest.MonkeyPatch, query: str, old: str, new: str) -> None:
    assert old in SQL[query], f"{query} does not say {old!r} any more: nothing would be planted"
    patch.setitem(SQL, query, SQL[query].replace(old, new))


def lease_never_renewed(patch: pytest.MonkeyPatch) -> None:
    """Renewals by an agent at work are received, but do not prolong its leases."""
    for query in ("renew", "renew_on_the_way"):
        _reword(patch, query, "ready_at = min(", "ready_at = min(ready_at, ")


def turn_kept(patch: pytest.MonkeyPatch) -> None:
    """A reserved key stays reserved, whatever becomes of its handler: others wait for ever."""
    patch.setattr(Reservations, "release", lambda *_: None)
    patch.setattr(reservations, "RESERVED_SECONDS", 1e9)


def compensations_forwards(patch: pytest.MonkeyPatch) -> None:
    """Compensations run in the order of the work that they undo."""
    _reword(patch, "next_compensation", "DESC", "ASC")


def timer_removed_first(patch: pytest.MonkeyPatch) -> None:
    """A timer is removed in one transaction, and its event is published in the next."""

    class Remove(FireTimer):
        def decide(self, found: Snapshot) -> Decision[str | None]:
            decision = super().decide(found)
            gone = [row for row in decision.writes if isinstance(row, TimerGone)]
            return Decision(decision.outcome, gone)

    class Publish(FireTimer):
        def decide(self, found: Snapshot) -> Decision[str | None]:
            row = publishing.publish(self._event, self.scope, found, limits=None)
            return Decision(None, [row] if row else [])

    async def fire(self: Timekeeper, timer: TimerRow) -> None:
        if await self._store.transact(Remove(timer)) is not None:
            await self._store.transact(Publish(timer))

    patch.setattr(Timekeeper, "_fire", fire)


def timer_left(patch: pytest.MonkeyPatch) -> None:
    """A fired timer is not removed in that transaction, and its event has a new id each time."""
    decide = FireTimer.decide

    def again(self: FireTimer, found: Snapshot) -> Decision[str | None]:
        found.part(KnownIds).published.clear()
        decision = decide(self, found)
        return Decision(
            decision.outcome, [row for row in decision.writes if not isinstance(row, TimerGone)]
        )

    patch.setattr(FireTimer, "decide", again)


def step_not_fenced(patch: pytest.MonkeyPatch) -> None:
    """A previous holder of a delivery may still record its steps, and the last result counts."""
    seen = _remember_deliveries(patch, commits_too=False)
    # nor does its connection hear that it has it no more
    patch.setattr(Prefetch, "lost", lambda *_: [])
    _reword(patch, "insert_step", "INSERT INTO", "INSERT OR REPLACE INTO")
    decide = RecordStep.decide

    def with_old_fences(self: RecordStep, found: Snapshot) -> Decision[None]:
        in_hand = found.part(InHand)
        in_hand.delivery = in_hand.delivery or seen.get(self._fence)
        found.part(StepsFound).recorded = None
        return decide(self, found)

    patch.setattr(RecordStep, "decide", with_old_fences)


def steps_not_brought_along(patch: pytest.MonkeyPatch) -> None:
    """A later attempt does not learn of the recorded steps."""
    patch.setattr(steps, "recorded", lambda *_: [])


def stored_responses_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A repeated request does not get the first response: the change is made again."""
    patch.setitem(LOADERS, ResponseNeed, lambda *_: None)


def lanes_without_order(patch: pytest.MonkeyPatch) -> None:
    """Each event of a lane is ready at once."""
    deliver = publishing._deliver

    def at_once(subscriber: Any, lane: str | None, busy: Any, now: int) -> NewDelivery:
        return replace(deliver(subscriber, lane, busy, now), ready_at=now)

    patch.setattr(publishing, "_deliver", at_once)


def settled_apart(patch: pytest.MonkeyPatch) -> None:
    """A commit writes its changes, and settles its delivery in a transaction that may not come."""
    patch.setitem(WRITERS, Settled, lambda *_: None)


def revisions_skipped(patch: pytest.MonkeyPatch) -> None:
    """A plan's revision rises with each operation, whatever the history says."""
    remember = PlanEditor._remember

    def skip(self: PlanEditor, *args: Any, **more: Any) -> None:
        remember(self, *args, **more)
        self.row.revision += len(self.change.history) > 1

    patch.setattr(PlanEditor, "_remember", skip)


def slot_never_freed(patch: pytest.MonkeyPatch) -> None:
    """An attempt that has ended leaves no room for another."""

    def keep_slot(self: AgentConnection, fence: str) -> None:
        self._in_hand.pop(fence, None)

    patch.setattr(AgentConnection, "_forget", keep_slot)


def slot_kept(patch: pytest.MonkeyPatch) -> None:
    """Deliveries taken from a silent agent still occupy its room."""
    patch.setattr(Prefetch, "lost", lambda *_: [])


def silence_unnoticed(patch: pytest.MonkeyPatch) -> None:
    """Nobody notices that a lease has expired."""
    patch.setattr(Prefetches, "_free_lapsed", lambda *_: set())


def suspects_never_tested(patch: pytest.MonkeyPatch) -> None:
    """A suspect is held back for a replica that never comes."""
    patch.setattr(claims, "claim_suspect", lambda *_: [])


def deaths_are_failures(patch: pytest.MonkeyPatch) -> None:
    """The death of its process costs an event an attempt."""
    _reword(patch, "die", "deaths = deaths + 1,", "deaths = deaths + 1, failures = failures + 1,")


def unsent_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Some claimed deliveries are forgotten before they are sent; their leases never expire."""
    take = Prefetch.take

    def forget(self: Prefetch) -> list[Claimed]:
        taken = take(self)
        return taken[:1]

    patch.setattr(Prefetch, "take", forget)


def _remember_deliveries(
    patch: pytest.MonkeyPatch, *, commits_too: bool = True
) -> dict[str, DeliveryRow]:
    """All deliveries by the fences they ever had; commits find them by these."""
    find, claimed = deliveries.delivery, claims._claimed
    seen: dict[str, DeliveryRow] = {}

    def remembering(connection: apsw.Connection, *how: Any) -> Any:
        one = claimed(connection, *how)
        if row := find(connection, one.fence):
            seen[one.fence] = row
        return one

    patch.setattr(claims, "_claimed", remembering)
    if commits_too:
        patch.setattr(deliveries, "delivery", lambda tx, fence: find(tx, fence) or seen.get(fence))
    return seen


PLANTS: tuple[Plant, ...] = (
    answer_before_commit,
    fencing_off,
    no_read_check,
    publish_at_once,
    remember_at_once,
    forgotten_parts_stay,
    idle_reported_again,
    lease_never_renewed,
    compensations_forwards,
    timer_removed_first,
    timer_left,
    step_not_fenced,
    steps_not_brought_along,
    stored_responses_forgotten,
    lanes_without_order,
    settled_apart,
    revisions_skipped,
    slot_never_freed,
    slot_kept,
    silence_unnoticed,
    suspects_never_tested,
    deaths_are_failures,
    unsent_forgotten,
    turn_kept,
)
