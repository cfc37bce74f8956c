"""The agent that docs/TESTING.md tests."""
# ruff: noqa: ANN001, ANN201

from soorma import Worker, WorkflowState

worker = Worker("greeter")


@worker.on_event("person.arrived", topic="business-facts")
async def greet(event, context):
    state = WorkflowState(context.memory, event.plan_id)
    count = await state.increment("greeted")
    await context.bus.publish(
        "person.greeted", "business-facts", {"name": event.data["name"], "number": count}
    )


if __name__ == "__main__":
    worker.run()
