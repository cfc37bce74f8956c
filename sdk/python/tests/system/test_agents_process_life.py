"""An agent and its process: signals at any time, exits, forks, threads that never return."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import PythonProcess, config_of, eventually, unique

from soorma import EventClient, PlatformContext, WorkflowState

HANDLER = """
worker = Worker(os.environ["NAME"], retry=RetryPolicy(max_attempts=1), \
drain_timeout=2, max_concurrency=2)
EXTRA
@worker.on_event("next")
async def after(event, context):
    await WorkflowState(context.memory, event.data).set("next", True)
worker.run()
"""


def _program(extra: str) -> str:
    return HANDLER.replace("EXTRA", extra)


HOOKS = {
    "async": "@worker.on_startup\nasync def wait():\n    say('starts')\n    await "
    "asyncio.sleep(300)",
    "blocking": "@worker.on_startup\ndef wait():\n    say('starts')\n    time.sleep(300)",
    "swallowing": (
        "@worker.on_startup\nasync def wait():\n    say('starts')\n    while True:\n"
        "        try: await asyncio.sleep(300)\n        except asyncio.CancelledError: pass"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.behaviour("agents.signals")
def test_a_signal_ends_an_agent_that_is_starting(
    running: PlatformProcess, hook: str, number: signal.Signals
) -> None:
    with PythonProcess(running, _program(HOOKS[hook]), NAME=unique("agent")) as agent:
        agent.until_blocking("starts")
        agent.send(number)
        code = agent.wait()
    assert code == (0 if hook == "async" else -number)
    assert not any("Traceback" in line for line in agent.lines)


@pytest.mark.behaviour("agents.signals")
def test_a_signal_ends_an_agent_without_a_platform(running: PlatformProcess) -> None:
    program = "os.environ['SOORMA_EVENT_SERVICE_URL'] = 'http://127.0.0.1:9'\n" + _program("")
    with PythonProcess(running, program, NAME="agent") as agent:
        agent.until_blocking("not connected")
        agent.send(signal.SIGINT)
        assert agent.wait() == 0


@pytest.mark.parametrize("how", ["await asyncio.sleep(300)", "time.sleep(300)"])
@pytest.mark.behaviour("agents.signals")
async def test_the_second_signal_ends_it_at_once(
    running: PlatformProcess, context: PlatformContext, how: str
) -> None:
    extra = (
        f"@worker.on_event('slow')\nasync def slow(event, context):\n    say('begins')\n    {how}"
    )
    with PythonProcess(
        running,
        _program(extra).replace("drain_timeout=2", "drain_timeout=200"),
        NAME=unique("agent"),
    ) as agent:
        await agent.subscribed()
        await context.bus.publish("slow", "business-facts")
        await agent.until("begins")
        agent.send(signal.SIGTERM)
        await agent.until("another signal ends it at once")
        agent.send(signal.SIGTERM)
        assert agent.wait() == -signal.SIGTERM


@pytest.mark.behaviour("agents.signals")
async def test_a_handler_that_blocks_the_loop_does_not_keep_an_agent_from_ending(
    running: PlatformProcess, context: PlatformContext
) -> None:
    extra = (
        "@worker.on_event('slow')\nasync def slow(event, context):\n    say('begins')\n    "
        "time.sleep(300)"
    )
    program = _program(extra).replace(
        "worker.run()", "import soorma.agents.agent as a; a.LONGEST_BLOCK = 0.5\nworker.run()"
    )
    with PythonProcess(
        running, program.replace("drain_timeout=2", "drain_timeout=0.5"), NAME=unique("agent")
    ) as agent:
        await agent.subscribed()
        await context.bus.publish("slow", "business-facts")
        await agent.until("begins")
        agent.send(signal.SIGTERM)
        assert agent.wait() == -signal.SIGTERM


EXITS = {
    "sys.exit in a task": "await asyncio.create_task(leave())",
    "sys.exit in a group": "await asyncio.gather(leave(), asyncio.sleep(5))",
    "sys.exit": "sys.exit(3)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.behaviour("handlers.any-end")
async def test_an_exit_of_a_handler_does_not_end_the_agent(
    running: PlatformProcess, context: PlatformContext, how: str
) -> None:
    extra = (
        "async def leave():\n    sys.exit(3)\n"
        f"@worker.on_event('leave')\nasync def left(event, context):\n    {EXITS[how]}"
    )
    tenant = context.memory.scope().tenant_id
    with PythonProcess(
        running, _program(extra), NAME=unique("agent"), SOORMA_TENANT_ID=tenant
    ) as agent:
        await agent.subscribed()
        await context.bus.publish("leave", "business-facts")
        await context.bus.publish("next", "business-facts", "plan")
        await WorkflowState(context.memory, "plan").wait_for("next", True)
        expected = "KeyboardInterrupt" if "Key" in how else "SystemExit: 3"
        await agent.until(expected)
        agent.send(signal.SIGTERM)
        assert agent.wait() == 0


@pytest.mark.behaviour("agents.exits")
def test_an_exit_of_the_programs_own_ends_the_agent_in_order(running: PlatformProcess) -> None:
    extra = (
        "@worker.on_startup\nasync def begin():\n    global task\n    task = "
        "asyncio.create_task(later())\n"
        "async def later():\n    await asyncio.sleep(0.5)\n    sys.exit(7)\n"
        "@worker.on_shutdown\ndef end():\n    say('shuts down')"
    )
    with PythonProcess(running, _program(extra), NAME=unique("agent")) as agent:
        agent.until_blocking("shuts down")
        assert agent.wait() == 7


FORKS = {
    "multiprocessing": (
        "from multiprocessing import get_context\n"
        "    p = get_context('fork').Process(target=time.sleep, args=(60,))\n    p.start()\n"
        "    await asyncio.sleep(0.2)\n    p.terminate()\n    p.join(5)\n    say('child ended', "
        "p.exitcode)"
    ),
    "os.fork": (
        "pid = os.fork()\n    if pid == 0:\n        time.sleep(60)\n        os._exit(0)\n    await "
        "asyncio.sleep(0.2)\n"
        "    os.kill(pid, 15)\n    say('child ended', os.waitstatus_to_exitcode(os.waitpid(pid, "
        "0)[1]))"
    ),
    "a child that returns": (
        "pid = os.fork()\n    if pid == 0:\n        return\n"
        "    say('child ended', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    ),
    "a child that raises": (
        "pid = os.fork()\n    if pid == 0:\n        raise ValueError\n"
        "    say('child ended', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    ),
    "a child that awaits": (
        "pid = os.fork()\n    if pid == 0:\n        await asyncio.sleep(60)\n"
        "    say('child ended', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    ),
}


@pytest.mark.parametrize(
    ("plain", "how"),
    [(False, how) for how in FORKS]
    + [(True, how) for how in FORKS if how != "a child that awaits"],
)
@pytest.mark.behaviour("agents.forks")
async def test_a_child_that_is_forked_is_no_agent(
    running: PlatformProcess, context: PlatformContext, plain: bool, how: str
) -> None:
    body = FORKS[how]
    if plain:
        body = body.replace("await asyncio.sleep", "time.sleep")
    extra = (
        f"@worker.on_event('fork')\n{'' if plain else 'async '}def fork(event, context):\n    "
        f"{body}"
    )
    tenant = context.memory.scope().tenant_id
    with PythonProcess(
        running, _program(extra), NAME=unique("agent"), SOORMA_TENANT_ID=tenant
    ) as agent:
        await agent.subscribed()
        await context.bus.publish("fork", "business-facts")
        said = await agent.until("child ended")
        assert said.endswith("-15" if "child" not in how else "70")
        await context.bus.publish("next", "business-facts", "plan")
        await WorkflowState(context.memory, "plan").wait_for("next", True)
        agent.send(signal.SIGTERM)
        assert agent.wait() == 0


@pytest.mark.behaviour("retries.threads")
async def test_an_agent_with_too_many_stuck_threads_ends_with_the_reason(
    running: PlatformProcess, context: PlatformContext
) -> None:
    extra = (
        "@worker.on_event('stuck', timeout=0.05)\ndef stuck(event, context):\n    time.sleep(300)"
    )
    with PythonProcess(running, _program(extra), NAME=unique("agent")) as agent:
        await agent.subscribed()
        await context.bus.publish_many(
            {"event_type": "stuck", "topic": "business-facts"} for _ in range(8)
        )
        await agent.until("8 threads are stuck in functions whose time was over")
        assert agent.wait() == 1


@pytest.mark.behaviour("agents.signals", "handlers.any-end")
async def test_a_handler_that_catches_everything_does_not_keep_the_process(
    running: PlatformProcess, context: PlatformContext
) -> None:
    extra = (
        "import soorma.runtime.runs as r, soorma.agents.loops as l\nr.STUBBORN_SECONDS = "
        "l.LAST_SECONDS = 0.5\n"
        "@worker.on_event('stubborn', timeout=0.2)\nasync def stubborn(event, context):\n    while "
        "True:\n"
        "        try: await asyncio.sleep(0.05)\n        except BaseException: pass"
    )
    with PythonProcess(running, _program(extra), NAME=unique("agent")) as agent:
        await agent.subscribed()
        await context.bus.publish("stubborn", "business-facts")
        await agent.until("goes on although it was cancelled")
        agent.send(signal.SIGTERM)
        assert agent.wait() == 1


@pytest.mark.parametrize("factory", ["asyncio.new_event_loop", None])
@pytest.mark.behaviour("agents.event-loop")
def test_the_event_loop_is_the_programs_choice(
    running: PlatformProcess, factory: str | None
) -> None:
    extra = (
        "@worker.on_startup\ndef tell():\n    say('on', "
        "type(asyncio.get_running_loop()).__module__)"
    )
    program = _program(extra).replace("worker.run()", f"worker.run(loop_factory={factory})")
    with PythonProcess(running, program, NAME=unique("agent")) as agent:
        said = agent.until_blocking("on ")
    assert said == ("on uvloop" if factory is None else "on asyncio.unix_events")


@pytest.mark.behaviour("agents.event-loop")
def test_a_policy_that_the_program_has_set_decides(running: PlatformProcess) -> None:
    extra = (
        "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())\n"
        "@worker.on_startup\ndef tell():\n    say('on', "
        "type(asyncio.get_running_loop()).__module__)"
    )
    with PythonProcess(running, _program(extra), NAME=unique("agent")) as agent:
        assert agent.until_blocking("on ") == "on asyncio.unix_events"


@pytest.mark.parametrize("how", ["itself", "in a task", "under a time limit", "and connects again"])
@pytest.mark.behaviour("readers.disconnect")
async def test_a_listener_may_disconnect_its_client(
    running: PlatformProcess, context: PlatformContext, how: str
) -> None:
    tenant = context.memory.scope().tenant_id
    client, heard, went_on, tasks = (
        EventClient("client", config=config_of(running, tenant_id=tenant)),
        [],
        [],
        [],
    )

    @client.on_event("news")
    async def listen(event: Any) -> None:
        heard.append(event.data)
        if len(heard) > 1:
            return
        match how:
            case "itself":
                await client.disconnect()
            case "in a task":
                tasks.append(asyncio.create_task(client.disconnect()))
            case "under a time limit":
                await asyncio.wait_for(client.disconnect(), 5)
            case "and connects again":
                await client.disconnect()
                await client.connect(["business-facts"])
        went_on.append(event.data)

    await client.connect(["business-facts"])
    # which may begin after the second was handed out
    burst = (1,) if how == "in a task" else (1, 2)
    await context.bus.publish_many(
        {"event_type": "news", "topic": "business-facts", "data": n} for n in burst
    )
    await eventually(lambda: went_on == [1])
    await asyncio.gather(*tasks)
    await context.bus.publish("news", "business-facts", 3)
    if how == "and connects again":
        await eventually(lambda: heard == [1, 3])
    await client.disconnect()
    reading = [task for task in asyncio.all_tasks() if task.get_name() == "soorma-client-client"]
    await asyncio.wait_for(asyncio.gather(*reading, return_exceptions=True), 5)
    assert heard == ([1, 3] if how == "and connects again" else [1])
