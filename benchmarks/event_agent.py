"""The agent of the event figures: notes when each event of a series came, and reports them all."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from soorma import Event, HandlerContext, Topic, Worker

SETTLE_SECONDS = 0.05
QUIET_SECONDS = 20.0

agent = Worker("bench-agent")
came: dict[str, dict[int, float]] = {}
twice: dict[str, int] = {}
last: dict[str, float] = {}
telling: set[asyncio.Task[None]] = set()


def tell(**what: object) -> None:
    """Reports to whoever started this process."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def handle(event: Event, _: HandlerContext) -> None:
    """Notes one event."""
    now, data = time.perf_counter(), event.data
    series, number = data["series"], data["n"]
    if series not in came:
        came[series], twice[series] = {}, 0
        telling.add(asyncio.create_task(tell_of(series, data["of"])))
    if number in came[series]:
        twice[series] += 1
        return
    came[series][number] = now - data["at"]
    last[series] = now
    if data["echo"]:
        tell(came=number)


async def tell_of(series: str, count: int) -> None:
    """Reports once all have come and no copy of them follows, or nothing has come for long."""
    while (  # noqa: ASYNC110
        len(came[series]) < count and time.perf_counter() - last[series] < QUIET_SECONDS
    ):
        await asyncio.sleep(SETTLE_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)
    lost = count - len(came[series])
    tell(latencies=list(came[series].values()), last=last[series], lost=lost, twice=twice[series])


async def main() -> None:
    """Serves until it is killed."""
    agent.on_event(sys.argv[1], topic=Topic(sys.argv[2]))(handle)
    async with agent:
        tell(ready=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `agent.run()` has it
        runner.run(main())
