"""The worker: greets by name whoever asks for it."""

from soorma import Worker

worker = Worker(
    name="greeter",
    description="Greets people by name",
    capabilities=["greeting"],
    events_consumed=["greeting.requested"],
    events_produced=["greeting.made"],
)


@worker.on_event("greeting.requested", topic="action-requests")
async def greet(event, context):
    name = event.get("data", {}).get("name")
    print(f"[worker] greets {name}", flush=True)
    await context.bus.respond(event, {"greeting": f"Hello, {name}!"})


if __name__ == "__main__":
    worker.run()
