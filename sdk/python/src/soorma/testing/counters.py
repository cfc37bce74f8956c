"""Counters of the calls that a handler makes through its context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from soorma.bus import Outbox
from soorma.context import StepRunner
from soorma.memory.plans import Applied, Plans, Stored
from soorma.testing.attempts import counted
from soorma_common.events import Envelope, Event, Timer
from soorma_common.memory import Action, PlanInfo
from soorma_common.names import Scope
from soorma_common.operations import AnyOperation


class CountedPlans:
    """Plans whose calls count as awaits of the attempt under way."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    @property
    def collects(self) -> bool:
        return self._plans.collects

    def check(self, scope: Scope) -> None:
        self._plans.check(scope)

    async def apply(
        self,
        scope: Scope,
        plan_id: str,
        operations: list[AnyOperation],
        expected_revision: int | None = None,
    ) -> Applied:
        what = ", ".join(_told(operation) for operation in operations)
        return await counted(what, self._plans.apply(scope, plan_id, operations, expected_revision))

    async def read(self, scope: Scope, plan_id: str, keys: list[str]) -> dict[str, Stored]:
        return await counted(
            f"get {', '.join(map(repr, keys))}", self._plans.read(scope, plan_id, keys)
        )

    async def keys(self, scope: Scope, plan_id: str, prefix: str) -> list[str]:
        return await counted("keys", self._plans.keys(scope, plan_id, prefix))

    async def plan(self, scope: Scope, plan_id: str) -> PlanInfo:
        return await counted("info", self._plans.plan(scope, plan_id))

    async def actions(self, scope: Scope, plan_id: str) -> list[Action]:
        return await counted("actions", self._plans.actions(scope, plan_id))


class CountedOutbox:
    """An outbox whose calls count as awaits of the attempt under way."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def send(self, events: list[Envelope]) -> None:
        await counted(
            f"publish {', '.join(repr(event.type) for event in events)}", self._outbox.send(events)
        )

    async def set_timer(self, timer: Timer) -> None:
        await counted(f"publish {timer.event.type!r} later", self._outbox.set_timer(timer))

    async def cancel_timer(self, scope: Scope, event_id: str) -> bool | None:
        return await counted(f"cancel {event_id!r}", self._outbox.cancel_timer(scope, event_id))

    async def request(
        self, event: Envelope, response_of: Callable[[Envelope], Awaitable[Event]]
    ) -> Event:
        return await counted(f"request {event.type!r}", self._outbox.request(event, response_of))


class CountedSteps:
    """Steps that count as awaits of the attempt under way."""

    def __init__(self, steps: StepRunner) -> None:
        self._steps = steps

    async def run(self, name: str, *arguments: Any, **how: Any) -> Any:
        return await counted(f"step {name!r}", self._steps.run(name, *arguments, **how))

    def waiting(self) -> AbstractContextManager[None]:
        return self._steps.waiting()


def _told(operation: AnyOperation) -> str:
    kind = type(operation).__struct_config__.tag
    on = getattr(operation, "key", None) or getattr(operation, "name", None)
    return str(kind) if on is None else f"{kind} {on!r}"
