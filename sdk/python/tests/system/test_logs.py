"""The logs of agents and platform: JSON with ids, readable lines on a terminal, and no values."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from platform_process import PlatformProcess, clean_environment
from running import (
    AT_ONCE,
    PythonProcess,
    Raw,
    Seen,
    addresses_of,
    config_of,
    context_of,
    eventually,
    platform_in,
    unique,
)

from soorma import Agent, PlatformContext, Reject, Retry

SECRET = "a-value-that-nobody-may-read"

AGENT = """
import logging
log = logging.getLogger("mine")
worker = Worker("writer")

@worker.on_event("coroutine")
async def in_a_coroutine(event, context):
    await WorkflowState(context.memory, "plan").set("k", event.data)
    log.info("handled %s", "so", extra={"step": 3})

@worker.on_event("plain")
def in_a_thread(event, context):
    log.info("handled %s", "so")

@worker.on_event("failing", retry=RetryPolicy(max_attempts=2, first_delay=0))
async def failing(event, context):
    {}["nothing"]

@worker.on_event("debug")
async def quietly(event, context):
    log.debug("handled so")
    log.warning("handled aloud")
"""
RUN = "\nworker.run()\n"


def started(
    platform: PlatformProcess, context: PlatformContext, program: str, **env: str
) -> PythonProcess:
    """A program, confined to the tenant of the test."""
    return PythonProcess(
        platform, program, SOORMA_TENANT_ID=context.memory.scope().tenant_id, **env
    )


def json_lines(process: PythonProcess) -> list[dict[str, Any]]:
    """The process's log, all of it JSON."""
    return [json.loads(line) for line in process.lines]


def line_of(process: PythonProcess, message: str) -> dict[str, Any]:
    """The one line with that message."""
    (found,) = [line for line in json_lines(process) if line["message"] == message]
    return found


# agents


@pytest.mark.behaviour("logs.in-hand")
@pytest.mark.parametrize("kind", ["coroutine", "plain"])
async def test_each_line_says_what_is_in_hand(
    running: PlatformProcess, context: PlatformContext, kind: str
) -> None:
    scope = context.memory.scope()
    with started(running, context, AGENT + RUN) as process:
        await process.subscribed()
        event_id = await context.bus.publish(
            kind, "business-facts", SECRET, plan_id="plan", correlation_id="c", trace_id="t"
        )
        await process.until("handled so")
        line = line_of(process, "handled so")
        greeting = next(
            line for line in json_lines(process) if "is subscribed to" in line["message"]
        )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    instance = line.pop("instance")
    assert (greeting["agent"], greeting["instance"], "plan_id" in greeting) == (
        "writer",
        instance,
        False,
    )
    assert line.pop("step", None) == (3 if kind == "coroutine" else None)
    assert line == {
        "level": "info",
        "logger": "mine",
        "message": "handled so",
        "agent": "writer",
        "tenant_id": scope.tenant_id,
        "user_id": scope.user_id,
        "plan_id": "plan",
        "event_id": event_id,
        "event_type": kind,
        "attempt": 1,
        "correlation_id": "c",
        "trace_id": "t",
    }


@pytest.mark.behaviour("logs.failures")
async def test_a_failure_is_one_line_with_its_traceback(
    running: PlatformProcess, context: PlatformContext
) -> None:
    with started(running, context, AGENT + RUN) as process:
        await process.subscribed()
        event_id = await context.bus.publish("failing", "business-facts", SECRET)
        await process.until("the handler failed", 2)
        lines = [line for line in json_lines(process) if "the handler failed" in line["message"]]
    assert [(line["level"], line["event_id"], line["attempt"]) for line in lines] == [
        ("error", event_id, 1),
        ("error", event_id, 2),
    ]
    assert lines[0]["exception"].startswith("Traceback (most recent call last):\n")
    assert lines[0]["exception"].endswith("KeyError: 'nothing'")
    assert SECRET not in str(process.lines)


@pytest.mark.behaviour("logs.settings")
@pytest.mark.parametrize(("level", "said", "unsaid"), [
    ("debug", ["handled so", "handled aloud", "debug"], []),
    ("warning", ["handled aloud"], ["handled so", "is subscribed to", "begins"]),
])  # fmt: skip
async def test_the_level(
    running: PlatformProcess,
    context: PlatformContext,
    level: str,
    said: list[str],
    unsaid: list[str],
) -> None:
    with started(running, context, AGENT + RUN, SOORMA_LOG_LEVEL=level) as process:
        await context.bus.publish("debug", "business-facts", SECRET)
        await process.until("handled aloud")
    told = "\n".join(process.lines)
    assert [words for words in said if words not in told] == []
    assert [words for words in unsaid if words in told] == []
    assert SECRET not in told


@pytest.mark.behaviour("logs.settings")
@pytest.mark.parametrize("variable", ["SOORMA_LOG_LEVEL", "SOORMA_LOG_FORMAT"])
def test_a_variable_that_is_off_ends_the_agent(running: PlatformProcess, variable: str) -> None:
    with PythonProcess(running, AGENT + RUN, **{variable: "loud"}) as process:
        assert process.wait() == 1
    assert f"{variable} must be one of" in process.lines[-1]


@pytest.mark.behaviour("logs.structlog")
async def test_structlog_goes_the_same_way(
    running: PlatformProcess, context: PlatformContext
) -> None:
    program = """
import structlog
worker = Worker("writer")
@worker.on_event("a")
async def handle(event, context):
    log = structlog.get_logger("mine").bind(step=3)
    log.debug("unheard")
    log.info("handled so", name="bob")
    try:
        {}["nothing"]
    except KeyError:
        log.exception("handled badly")
"""
    with started(running, context, program + RUN) as process:
        await process.subscribed()
        event_id = await context.bus.publish("a", "business-facts", plan_id="p")
        await process.until("handled badly")
        line, worse = line_of(process, "handled so"), line_of(process, "handled badly")
    assert (line["plan_id"], line["event_id"], line["attempt"], line["agent"]) == (
        "p",
        event_id,
        1,
        "writer",
    )
    assert (line["level"], line["logger"], line["step"], line["name"]) == ("info", "mine", 3, "bob")
    assert worse["exception"].endswith("KeyError: 'nothing'")


@pytest.mark.behaviour("logs.structlog")
async def test_a_structlog_of_its_own_is_given_the_context(
    running: PlatformProcess, context: PlatformContext
) -> None:
    program = """
import structlog
from soorma import logs
structlog.configure(processors=[logs.add_context, \
structlog.processors.KeyValueRenderer(sort_keys=True)])
worker = Worker("writer")
@worker.on_event("a")
async def handle(event, context):
    structlog.get_logger().info("handled", trace_id="mine")
"""
    with started(running, context, program + RUN) as process:
        await process.subscribed()
        event_id = await context.bus.publish(
            "a", "business-facts", plan_id="p", correlation_id="c", trace_id="t"
        )
        line = await process.until("event='handled'")
    assert f"attempt=1 correlation_id='c' event='handled' event_id='{event_id}'" in line
    assert "plan_id='p'" in line
    assert "trace_id='mine'" in line


@pytest.mark.behaviour("logs.structlog")
async def test_who_logs_in_its_own_way_is_left_alone(
    running: PlatformProcess, context: PlatformContext
) -> None:
    program = """
import logging
from soorma import logs
handler = logging.StreamHandler(sys.stdout)
handler.addFilter(logs.ContextFilter())
handler.setFormatter(logging.Formatter("own: %(message)s of %(plan_id)s in attempt %(attempt)s"))
logging.basicConfig(level="INFO", handlers=[handler])
"""
    with started(running, context, program + AGENT + RUN, SOORMA_LOG_FORMAT="json") as process:
        await process.subscribed()
        await context.bus.publish("coroutine", "business-facts", plan_id="p")
        await process.until("own: handled so of p in attempt 1")
        assert all(line.startswith("own: ") for line in process.lines)


# terminals


@contextmanager
def on_a_terminal(program: list[str], folder: Path, **env: str) -> Iterator[int]:
    """A program whose standard error is a terminal; yields the other end of it."""
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST  # line ends as they are written
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        program,
        cwd=folder,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        stderr=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    """The output of the terminal, up to the line that holds `text`."""
    said = b""
    while text.encode() not in said or not said.endswith(b"\n"):
        with suppress(OSError):  # the program has ended
            more = os.read(terminal, 4096)
            said += more
            if more:
                continue
        raise AssertionError(f"{text!r} was not said: {said!r}")
    return said.decode()


@pytest.mark.behaviour("logs.forms")
async def test_an_agent_on_a_terminal_is_readable(
    running: PlatformProcess, context: PlatformContext
) -> None:
    program = [
        sys.executable,
        "-P",
        "-c",
        f"from soorma import Worker, WorkflowState, RetryPolicy\n{AGENT}{RUN}",
    ]
    tenant_id = context.memory.scope().tenant_id
    env = addresses_of(running) | {"SOORMA_TENANT_ID": tenant_id, "NO_COLOR": "1"}
    with on_a_terminal(program, running.folder, **env) as terminal:
        read_until(terminal, "is subscribed to")
        event_id = await context.bus.publish(
            "coroutine", "business-facts", SECRET, plan_id="my plan", trace_id="t"
        )
        line = read_until(terminal, "handled so").splitlines()[-1]
        await context.bus.publish("failing", "business-facts", SECRET)
        failure = read_until(terminal, "KeyError: 'nothing'").splitlines()
    known = f'tenant_id={tenant_id} plan_id="my plan" event_id={event_id}'
    told = f"info     mine: handled so  step=3 {known} event_type=coroutine attempt=1 trace_id=t"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} {re.escape(told)}", line)
    assert "Traceback (most recent call last):" in failure
    assert SECRET not in line + "".join(failure)


@pytest.mark.behaviour("logs.forms")
@pytest.mark.parametrize(
    ("env", "pattern"),
    [
        ({}, r"\d\d:\d\d:\d\d\.\d{3} info     soorma: platform ready  \x1b\[2m.*\x1b\[0m"),
        (
            {"NO_COLOR": "1"},
            r"\d\d:\d\d:\d\d\.\d{3} info     soorma: platform ready  .*events=http://[^\x1b]*",
        ),
        ({"SOORMA_LOG_FORMAT": "json"}, r'\{"time":.*"message":"platform ready".*\}'),
    ],
)
def test_the_platform_on_a_terminal(tmp_path: Path, env: dict[str, str], pattern: str) -> None:
    platform = PlatformProcess(tmp_path)
    known = {
        "SOORMA_PORT_OFFSET": str(platform.offset),
        "SOORMA_DATABASE": str(platform.database),
        "SOORMA_ACCESS": "open",
    }
    try:
        with on_a_terminal(
            [sys.executable, "-P", "-m", "soorma_platform"], tmp_path, **known, **env
        ) as terminal:
            line = read_until(terminal, "platform ready").splitlines()[-1]
    finally:
        platform.close()
    assert re.fullmatch(pattern, line)


# the platform


def platform_lines(platform: PlatformProcess, message: str) -> list[dict[str, Any]]:
    """The lines of the platform's log with this message; all its lines are JSON."""
    lines = [json.loads(line) for line in platform.log.read_text("utf-8").splitlines()]
    return [line for line in lines if line["message"] == message]


@pytest.mark.behaviour("logs.platform")
async def test_the_platform_logs_what_becomes_of_an_event(
    running: PlatformProcess, context: PlatformContext, agent: Agent
) -> None:
    @agent.on_event("a", retry=AT_ONCE)
    async def handle(event: Any, handler: Any) -> None:
        if handler.attempt == 1:
            raise Retry(f"again: {event.data}")
        raise Reject(f"no: {event.data}")

    async with agent:
        event_id = await context.bus.publish(
            "a", "business-facts", SECRET, plan_id="p", correlation_id="c", trace_id="t"
        )
        messages = (
            "attempt failed, the event is delivered again",
            "event given up, it is a dead letter now",
        )
        expected = {
            "tenant_id": agent.tenant_id,
            "user_id": context.memory.scope().user_id,
            "plan_id": "p",
            "event_id": event_id,
            "event_type": "a",
            "group": agent.name,
            "correlation_id": "c",
            "trace_id": "t",
        }
        for attempt, (message, level) in enumerate(
            zip(messages, ("info", "warning"), strict=True), 1
        ):
            (line,) = await eventually(
                lambda message=message: [
                    line
                    for line in platform_lines(running, message)
                    if line["event_id"] == event_id
                ]
            )
            assert line.items() >= (expected | {"attempt": attempt, "level": level}).items()
    assert SECRET not in running.log.read_text("utf-8")


@pytest.mark.behaviour("logs.platform")
def test_the_platform_logs_a_fenced_commit(running: PlatformProcess) -> None:
    tenant = unique("tenant")
    commit = {
        "plans": [{"plan_id": "p", "operations": [{"op": "set", "key": "k", "value": SECRET}]}],
        "fence": "0" * 32,
    }
    assert (
        Raw(running.memory_url, tenant, "u")("POST", "/v1/memory/commit", commit).code == "fenced"
    )
    message = "commit fenced, nothing of it was written"
    (line,) = [line for line in platform_lines(running, message) if line["tenant_id"] == tenant]
    known = {"level": "warning", "plan_id": "p", "user_id": "u"}
    assert line.items() >= known.items()
    assert SECRET not in running.log.read_text("utf-8")


@pytest.mark.behaviour("logs.platform")
@pytest.mark.parametrize("path", ["/v1/events/stream", "/v1/memory/watch/p"])
def test_a_stop_ends_streams_and_complains_of_none(tmp_path: Path, path: str) -> None:
    with platform_in(tmp_path / "stopped") as platform:
        with Raw(platform.gateway_url, "t", "u").stream(path) as stream:
            assert stream.block().keys() == {"id"}
            assert platform.stop() == 0
        levels = {
            json.loads(line)["level"] for line in platform.log.read_text("utf-8").splitlines()
        }
        assert levels == {"info"}


@pytest.mark.behaviour("logs.settings")
async def test_the_platform_logs_less_where_it_is_told_to(tmp_path: Path) -> None:
    seen = Seen()
    with platform_in(
        tmp_path / "quiet", SOORMA_LOG_LEVEL="error", SOORMA_LOG_FORMAT="console"
    ) as platform:
        agent = Agent(unique("agent"), config=config_of(platform))

        @agent.on_event("a")
        async def handle(event: Any, _: Any) -> None:
            seen.append(event)
            raise Reject("no")

        async with agent, context_of(platform) as context:
            await context.bus.publish("a", "business-facts")
            await seen.until(1)
        assert platform.stop() == 0
        assert platform.log.read_text("utf-8") == ""


# the price


@pytest.mark.behaviour("costs.imports")
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("soorma", ["logging", "structlog", "prometheus_client"]),
        ("soorma.agents", ["structlog", "prometheus_client"]),
        ("soorma_platform.runtime", ["structlog", "prometheus_client"]),
    ],
)
def test_what_is_not_used_is_not_imported(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print(*(name for name in {unwanted} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []
