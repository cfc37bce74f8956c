"""The layer between an agent and the platform: it is empty except in tests.

There, it counts, traces and stops what passes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from soorma.bus import Outbox
from soorma.context import HandlerContext, StepRunner
from soorma.memory.plans import Plans
from soorma.runtime.handlers import Handler
from soorma.runtime.presence import Presence
from soorma.runtime.threads import Threads
from soorma.transport.calls import Caller
from soorma_common.events import Event


class Harness:
    """A layer that lets everything pass.

    If there is a `caller`, an agent uses that one from its next start on.
    """

    caller: Caller | None = None

    def began(self, presence: Presence, abandon: Callable[[], Awaitable[None]]) -> None:
        """Is called once the agent has begun; `abandon` ends it like a killed process."""

    def plans(self, plans: Plans) -> Plans:
        """Returns the object through which a handler reads and changes plans."""
        return plans

    def outbox(self, outbox: Outbox) -> Outbox:
        """Returns the object through which a handler publishes."""
        return outbox

    def steps(self, steps: StepRunner) -> StepRunner:
        """Returns the object that runs a handler's steps."""
        return steps

    async def run(
        self, handler: Handler, event: Event, context: HandlerContext, threads: Threads
    ) -> None:
        """Runs a handler on an event."""
        await handler(event, context, threads)
