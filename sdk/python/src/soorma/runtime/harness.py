"""The place between an agent and its platform: empty, but in tests, which count, trace and stop what passes."""

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
    """Lets everything pass.

    With a `caller`, an agent works over that one from its next start on.
    """

    caller: Caller | None = None

    def began(self, presence: Presence, abandon: Callable[[], Awaitable[None]]) -> None:
        """Hears that the agent has begun; `abandon` ends it as a killed process ends."""

    def plans(self, plans: Plans) -> Plans:
        """Returns what a handler reads and changes plans through."""
        return plans

    def outbox(self, outbox: Outbox) -> Outbox:
        """Returns what a handler publishes through."""
        return outbox

    def steps(self, steps: StepRunner) -> StepRunner:
        """Returns what a handler takes steps through."""
        return steps

    async def run(
        self, handler: Handler, event: Event, context: HandlerContext, threads: Threads
    ) -> None:
        """Runs a handler on an event."""
        await handler(event, context, threads)
