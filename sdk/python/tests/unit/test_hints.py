"""Hints, representations and refusals: the texts that a person sees of things and mistakes."""

from __future__ import annotations

import asyncio
import importlib
import linecache
import threading
import types
from pathlib import Path
from typing import Any

import pytest

import soorma
from soorma import (
    Agent,
    ClientConfig,
    EventClient,
    MemoryClient,
    PlatformContext,
    Worker,
    WorkflowState,
    hints,
)
from soorma.errors import InvalidRequest

SECRET = ClientConfig(*(f"http://me:secret@{service}:1" for service in ("memory", "events")))


# --- Names ---------------------------------------------------------------------------------


@pytest.mark.behaviour("errors.hints")
@pytest.mark.parametrize("name", [*hints.NAMES, "Workr"])
def test_a_name_that_is_not_there_says_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=r"here|meant|elsewhere"):
        getattr(soorma, name)
    with pytest.raises(ImportError, match=r"here|meant|elsewhere"):
        exec(f"from soorma import {name}")
    assert not hasattr(soorma, name)


@pytest.mark.behaviour("errors.hints")
def test_other_names_and_modules_are_as_ever() -> None:
    with pytest.raises(ImportError, match="cannot import name"):
        exec("from soorma import zzz")
    assert isinstance(importlib.import_module("soorma.logs"), types.ModuleType)
    exec("from soorma import workflow, logs")


@pytest.mark.behaviour("errors.hints")
@pytest.mark.parametrize("name", [*hints.DECORATORS, "on_evnt"])
def test_an_attribute_of_an_agent_says_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=r"use|here|meant"):
        getattr(Worker("worker"), name)
    assert not hasattr(Worker("worker"), name)


# --- Representations -----------------------------------------------------------------------


@pytest.mark.behaviour("clients.shown")
async def test_things_show_what_they_are_and_no_password() -> None:
    agent = Worker("writer", config=SECRET)

    @agent.on_event("post.wanted")
    async def write(_event: Any, _context: Any) -> None: ...

    async with PlatformContext.on(SECRET, "test") as context, MemoryClient(config=SECRET) as memory:
        client = EventClient("viewer", config=SECRET)
        state = WorkflowState(memory, "plan-1", "acme", "ann")
        shown = [
            repr(each)
            for each in (
                agent,
                context,
                context.bus,
                context.registry,
                memory,
                client,
                state,
                SECRET,
            )
        ]
        await client.disconnect()
        assert "closed" in repr(client)
    assert not [each for each in shown if "secret" in each or " object at " in each]
    assert shown[0] == "Worker('writer', takes post.wanted, not running)"
    assert shown[6] == "WorkflowState('plan-1', tenant_id='acme', user_id='ann')"
    assert "http://events:1" in shown[5]


# --- Notebooks and threads -----------------------------------------------------------------


def cell(agent: Agent, filename: str, line: int = 1) -> Any:
    """A handler as a cell of a notebook defines it."""
    code = "\n" * (line - 1) + "@agent.on_event('x')\nasync def handle(event, context): ...\n"
    names: dict[str, Any] = {"agent": agent, "__name__": "__main__"}
    exec(compile(code, filename, "exec"), names)
    return names["handle"]


@pytest.mark.behaviour("agents.defined-again")
@pytest.mark.parametrize("second", [("<cell 1>", 1), ("<cell 2>", 3), ("<cell 1>", 7)])
def test_a_cell_that_is_run_twice_replaces_the_handler(second: tuple[str, int]) -> None:
    agent = Worker("notebook")
    cell(agent, "<cell 1>")
    now = cell(agent, *second)
    assert len(agent._handlers) == 1
    assert agent._handlers[agent._handlers.subscriptions[0]].function is now


@pytest.mark.behaviour("agents.defined-again")
def test_two_of_one_file_are_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "agents.py"
    file.touch()
    agent = Worker("program")
    cell(agent, str(file))
    with pytest.raises(InvalidRequest, match="has the handler"):
        cell(agent, str(file), line=9)
    linecache.clearcache()


@pytest.mark.behaviour("agents.defined-again")
def test_another_function_is_a_mistake() -> None:
    agent = Worker("notebook")
    cell(agent, "<cell 1>")
    with pytest.raises(InvalidRequest, match="has the handler"):

        @agent.on_event("x")
        async def another(_event: Any, _context: Any) -> None: ...


@pytest.mark.behaviour("agents.run-elsewhere")
async def test_run_in_a_running_loop_names_start() -> None:
    with pytest.raises(InvalidRequest, match=r"await agent\.start\(\)"):
        Worker("cell").run()


@pytest.mark.behaviour("agents.run-elsewhere")
def test_run_in_a_thread_names_start() -> None:
    caught: list[Exception] = []

    def run() -> None:
        try:
            Worker("thread").run()
        except InvalidRequest as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "await agent.start()" in str(caught[0])
    assert asyncio._get_running_loop() is None
