"""Quiescence of a test's platform: nothing moves, and what is left waits for something else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from soorma.agents import Agent
from soorma.testing.clock import Clock
from soorma.testing.hosts import Host
from soorma.testing.network import LocalSocket, Network
from soorma_common.errors import TimedOut
from soorma_platform.assembly import Platform
from soorma_platform.engine.publishing import covers
from soorma_platform.stores.sqlite.inspection import Inspection, Outstanding

LOOK_AGAIN_SECONDS = 0.02
"""Seconds until the next look: not every change of the record is seen on the network."""
QUIET_TURNS = 10
"""Turns of the event loop without movement; a reader of the log hears of an event in fewer."""

Reason = Literal["retry", "lease", "turn", "agent", "parked"]


@dataclass(frozen=True)
class Waiting:
    """An event that a group has not handled yet and no agent is handling.

    `reason` is what it waits for: the time of its next attempt (`retry`), the end of a silent
    agent's lease (`lease`), another event of its plan (`turn`), an agent that takes it (`agent`),
    or the replay of its dead letter (`parked`). `due` is the time of the first two. `attempts`
    counts those begun, `failed` is the reason of the last failure.
    """

    group: str
    type: str
    topic: str
    event_id: str
    plan_id: str | None
    attempts: int
    reason: Reason
    due: datetime | None
    failed: str | None


class Quiescence:
    """A view of what moves and what waits on a test's platform."""

    def __init__(
        self,
        network: Network,
        hosts: Mapping[Agent, Host],
        platform: Platform,
        record: Inspection,
        clock: Clock,
    ) -> None:
        self._network = network
        self._platform = platform
        self._hosts = hosts
        self._record = record
        self._clock = clock

    async def settle(self, patience: float) -> None:
        """Returns when nothing moves; TimedOut, with what still does, after `patience` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        quiet = 0
        while quiet < QUIET_TURNS:
            before = self._network.activity
            moving = self.moving()
            if moving and loop.time() >= deadline:
                raise TimedOut(
                    f"the platform has not settled in {patience:g} s: {'; '.join(moving)}",
                    moving=moving,
                )
            if moving:
                await self._network.moved(min(deadline - loop.time(), LOOK_AGAIN_SECONDS))
            else:
                await asyncio.sleep(0)
            quiet = 0 if moving or self._network.activity != before else quiet + 1

    def moving(self) -> list[str]:
        """Describes what will go on by itself."""
        return (
            self._calls()
            or self._writes()
            or self._agents()
            or self._deliveries()
            or self._timers()
        )

    def waiting(self) -> list[Waiting]:
        """The events that will not go on by themselves, the oldest first."""
        rows = [(row, self._reason(row)) for row in self._record.outstanding()]
        return [_told(row, reason, self._clock) for row, reason in rows if reason is not None]

    def next_due(self, until: int) -> int | None:
        """The next time (ms), at most `until`, when a delivery gets ready or a timer is due."""
        rows = [
            row for row in self._record.outstanding() if self._reason(row) in ("retry", "lease")
        ]
        due = [row.ready_at for row in rows if row.ready_at is not None]
        due += [self._on_the_clock(*timer) for timer in self._record.timers()]
        return min((at for at in due if at <= until), default=None)

    def _calls(self) -> list[str]:
        found = [f"{task.get_name()} is not over" for task in self._network.changes]
        for socket in self._network.sockets:
            if not socket.is_open:
                found.append("the platform lets a connection go")
            elif socket.is_live and not socket.is_drained:
                found.append("an agent and the platform exchange frames")
        return found

    def _writes(self) -> list[str]:
        """Describes the platform's own writes: perhaps recorded already, but not yet notified."""
        return ["the platform writes"] if self._platform.store.is_writing else []

    def _agents(self) -> list[str]:
        found = []
        for agent, host in self._hosts.items():
            if host.transport.is_frozen:
                continue
            if host.transport.socket is None or host.transport.socket.replica is None:
                found.append(f"agent {agent.name!r} is not connected")
            found += [f"{attempt.name} of agent {agent.name!r} runs" for attempt in host.attempts]
        return found

    def _deliveries(self) -> list[str]:
        moving = [row for row in self._record.outstanding() if self._reason(row) is None]
        return [
            f"event {row.type!r} {row.event_id} (plan {row.plan_id}) is with {row.group!r}"
            for row in moving
        ]

    def _timers(self) -> list[str]:
        now = self._clock.milliseconds
        due = [timer for timer in self._record.timers() if self._on_the_clock(*timer) <= now]
        return [f"{len(due)} timers are due"] if due else []

    def _on_the_clock(self, due_at: int, is_delay: bool) -> int:
        """The time a timer is due by the clock that never jumps, if the wall clock stays set."""
        return due_at if is_delay else due_at - self._clock.jumped

    def _reason(self, row: Outstanding) -> Reason | None:
        """The reason for which the delivery waits; None if it moves."""
        live = [socket for socket in self._network.sockets if socket.is_live]
        if row.is_parked:
            return "parked"
        if row.is_aside:
            return None if any(_takes(socket, row) for socket in live) else "agent"
        if row.ready_at is None:
            return "turn"
        if row.replica is not None and any(socket.replica == row.replica for socket in live):
            return None
        if row.ready_at > self._clock.milliseconds:
            return "lease" if row.replica else "retry"
        return None if any(_takes(socket, row) for socket in live) else "agent"


def _takes(socket: LocalSocket, row: Outstanding) -> bool:
    hello = socket.hello
    if hello is None or (hello.agent, hello.tenant_id or "") != (row.group, row.group_tenant):
        return False
    return any(covers((mine.type, mine.topic), row.subscribed) for mine in hello.subscriptions)


def _told(row: Outstanding, reason: Reason, clock: Clock) -> Waiting:
    due = (
        row.ready_at + clock.jumped
        if reason in ("retry", "lease") and row.ready_at is not None
        else None
    )
    return Waiting(
        group=row.group,
        type=row.type,
        topic=row.topic,
        event_id=row.event_id,
        plan_id=row.plan_id,
        attempts=row.attempt,
        reason=reason,
        due=None if due is None else datetime.fromtimestamp(due / 1000, UTC),
        failed=row.reason,
    )
