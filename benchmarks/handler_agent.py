"""The agent of the handler figures: the same work as a transaction, and written through."""

from __future__ import annotations

from typing import Final

from soorma import Event, HandlerContext, PlatformContext, Worker, WorkflowState

TOPIC: Final = "action-requests"
RESULTS: Final = "action-results"
READS = 2
WRITES = 6

agent = Worker("bench-handler")


async def work(event: Event, on: PlatformContext) -> None:
    """2 reads, 6 writes and 1 publish."""
    plan = WorkflowState(
        on.memory, str(event.plan_id), str(event["tenant_id"]), str(event["user_id"])
    )
    total = 0
    for number in range(READS):
        total += await plan.get(f"key-{number}", 0)
    for number in range(WRITES):
        await plan.set(f"key-{number}", total + number)
    await on.bus.publish(
        "work.done", RESULTS, {"plan_id": event.plan_id, "number": event.data["number"]}
    )


@agent.on_event("work.whole", topic=TOPIC)
async def whole(event: Event, context: HandlerContext) -> None:
    """All of it is one commit."""
    await work(event, context)


@agent.on_event("work.through", topic=TOPIC)
async def through(event: Event, context: HandlerContext) -> None:
    """Each write, and the publish, is a durable call of its own."""
    await work(event, context.immediate)


if __name__ == "__main__":
    agent.run()
