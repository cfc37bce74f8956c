"""An agent of the workflow on Soorma, in its own process: `python soorma_workflow.py 1|2|3|long`.

Each of the three carries out one step. The agent of the long workflow hands each step on to itself.
With `--again` it waits for a command before it takes over what another process has left.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib.metadata import version
from typing import Final

import apsw
import uvloop
from common import STEPS, Clock, State, next_state, start, tell

from soorma import Event, HandlerContext, Worker, WorkflowState

TOPIC: Final = "action-requests"
LONG = "long"
role = sys.argv[1]
agent = Worker(f"step-{role}")
clock = Clock()


async def step(event: Event, context: HandlerContext) -> State:
    """One step in the plan's state, which is a value as with the other two."""
    plan = WorkflowState(context.memory, str(event.plan_id))
    before: State = await plan.get("state", start())
    if role == LONG:
        clock.begins(before["step"])
    after = next_state(before)
    await plan.set("state", after)
    return after


@agent.on_event(f"step.{role}", topic=TOPIC)
async def handle(event: Event, context: HandlerContext) -> None:
    """A step, and the event that hands over."""
    state = await step(event, context)
    plan = {"plan_id": event.plan_id}
    if role == LONG:
        await context.bus.publish(f"step.{LONG}", TOPIC, plan)
    elif state["step"] < STEPS:
        await context.bus.publish(f"step.{state['step'] + 1}", TOPIC, plan)
    else:
        await context.bus.publish("workflow.ended", "action-results", {**plan, **state})


async def main() -> None:
    """Serves until its input ends."""
    if "--again" not in sys.argv:
        await agent.start()
    tell(version=version("soorma-core"), sqlite=apsw.sqlite_lib_version())
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if command["do"] == "long":
            clock.measure(command["earlier"], command["more"])
            await agent.context.bus.publish(f"step.{LONG}", TOPIC, {"plan_id": LONG})
        else:
            clock.resume()
            await agent.start()
    os._exit(0)  # whatever it has in hand


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `agent.run()` has it
        runner.run(main())
