"""Log records as lines: their content, whatever a program logs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from soorma import logs
from soorma_common.errors import InvalidRequest
from soorma_common.logs import FIELDS, ConsoleFormatter, JsonFormatter, formatter
from soorma_common.names import DEFAULT_TENANT


def record(
    message: str = "said %s", *args: Any, level: int = logging.INFO, **extra: Any
) -> logging.LogRecord:
    made = logging.LogRecord("mine", level, __file__, 1, message, args or ("so",), None)
    vars(made).update(extra)
    return made


def of_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def fail() -> None:
    raise ValueError("no\ngood")


def trouble() -> Any:
    try:
        fail()
    except ValueError:
        return sys.exc_info()


@pytest.fixture
def handler() -> Iterator[dict[str, Any]]:
    """Binds the fields of a handler, as its attempt does."""
    fields = {
        "agent": "writer",
        "tenant_id": "t",
        "plan_id": "p",
        "event_id": "e",
        "attempt": 2,
        "trace_id": None,
    }
    logs.bind(fields)
    yield fields
    logs.bind({})


def test_a_line_of_json() -> None:
    made = record(step=3, what={"a": [1]})
    made.created = 1_700_000_000.1239
    assert list(of_json(made).items()) == [
        ("time", "2023-11-14T22:13:20.123Z"),
        ("level", "info"),
        ("logger", "mine"),
        ("message", "said so"),
        ("step", 3),
        ("what", {"a": [1]}),
    ]


def test_an_exception_is_one_field() -> None:
    made = record(level=logging.ERROR)
    made.exc_info = trouble()
    found = of_json(made)
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ValueError: no\ngood")


def test_the_stack_that_was_asked_for() -> None:
    assert of_json(record(stack_info="Stack:\n  here"))["exception"] == "Stack:\n  here"


def test_exc_info_without_an_exception_is_nothing() -> None:
    assert "exception" not in of_json(record(exc_info=(None, None, None)))


def test_what_is_none_is_left_out() -> None:
    assert "plan_id" not in of_json(record(plan_id=None))


def test_the_records_own_fields_win() -> None:
    found = of_json(record(**{FIELDS: {"level": "loud", "message": "other", "name": "bob"}}))
    assert (found["level"], found["message"], found["name"]) == ("info", "said so", "bob")


class Opaque:
    def __repr__(self) -> str:
        return "<opaque>"


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.behaviour("logs.forms")
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Opaque(), "<opaque>"),
        (_endless(), "[[...]]"),
        (10**30, 10**30),
        ("caf\udce9", "caf\\udce9"),
        ({1: 2}, {"1": 2}),
        ("é \x1b \n", "é \x1b \n"),
    ],
)
def test_whatever_is_given_is_told(value: Any, told: Any) -> None:
    assert of_json(record(value=value))["value"] == told


def test_a_message_that_is_no_text() -> None:
    assert of_json(record("caf\udce9 %s"))["message"] == "caf\\udce9 so"


def test_a_line_to_read() -> None:
    line = ConsoleFormatter().format(record(step=3, words="two words", level=logging.WARNING))
    assert line[12:] == ' warning  mine: said so  step=3 words="two words"'
    assert line[2] == line[5] == ":"


def test_a_traceback_to_read() -> None:
    made = record(level=logging.ERROR)
    made.exc_info = trouble()
    first, *rest = ConsoleFormatter().format(made).splitlines()
    assert first.endswith("error    mine: said so")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-2:] == ["ValueError: no", "good"]


def test_people_are_spared_what_they_know() -> None:
    ids = {
        "event_id": "e-1",
        "plan_id": "p",
        "tenant_id": DEFAULT_TENANT,
        "user_id": "u",
        "agent": "a",
        "instance": "i",
    }
    assert ConsoleFormatter().format(record(**ids)).endswith("said so  event_id=e-1 plan_id=p")
    assert (
        ConsoleFormatter()
        .format(record(**ids | {"tenant_id": "t"}))
        .endswith("plan_id=p tenant_id=t")
    )
    assert ConsoleFormatter().format(record("event e-1 %s", **ids)).endswith("event e-1 so")
    assert (
        ConsoleFormatter().format(record(**{FIELDS: {"agent": "a"}})).endswith("said so  agent=a")
    )


@pytest.mark.behaviour("logs.forms")
def test_a_field_cannot_forge_a_line() -> None:
    assert "\n" not in ConsoleFormatter().format(
        record(plan_id="p\n12:00:00.000 error    mine: forged")
    )


@pytest.mark.behaviour("logs.forms")
def test_a_message_can_neither_forge_a_line_nor_steer_the_terminal() -> None:
    made = record("event %s", "\x1b[2J\n12:00:00.000 error    mine: forged\r")
    assert (
        ConsoleFormatter()
        .format(made)
        .endswith("event \\u001b[2J\\n12:00:00.000 error    mine: forged\\u000d")
    )
    made.exc_info = (ValueError, ValueError("\x1b[2J"), None)
    said = ConsoleFormatter(colours=True).format(made)
    assert "\x1b[2J" not in said
    assert said.endswith("ValueError: \\u001b[2J")


def test_colours_are_for_terminals_that_want_them() -> None:
    made = record(level=logging.ERROR)
    assert "\x1b[31m" in formatter("auto", terminal=True, env={}).format(made)
    assert "\x1b" not in formatter("auto", terminal=True, env={"NO_COLOR": "1"}).format(made)
    assert "\x1b" not in formatter("console", terminal=False, env={}).format(made)


@pytest.mark.behaviour("logs.forms", "logs.settings")
@pytest.mark.parametrize(
    ("name", "terminal", "kind"),
    [
        ("auto", True, ConsoleFormatter),
        ("auto", False, JsonFormatter),
        ("json", True, JsonFormatter),
        ("console", False, ConsoleFormatter),
    ],
)
def test_which_format(name: str, terminal: bool, kind: type) -> None:
    assert type(formatter(name, terminal=terminal, env={})) is kind


@pytest.mark.parametrize("variable", ["SOORMA_LOG_LEVEL", "SOORMA_LOG_FORMAT"])
def test_a_variable_that_is_off_is_named(variable: str) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(InvalidRequest, match=f"{variable} must be one of .*, not 'loud'"):
        logs.configure({variable: "loud"})
    assert logging.getLogger().handlers == before


# the context


def test_outside_of_handlers_there_is_none() -> None:
    made = record()
    assert logs.ContextFilter().filter(made)
    assert {getattr(made, name) for name in logs.CONTEXT} == {None}
    assert logs.context() == {}
    assert logs.add_context(None, "info", {"event": "said"}) == {"event": "said"}


def test_what_always_holds() -> None:
    made = record()
    logs.ContextFilter(agent="writer").filter(made)
    assert vars(made)["agent"] == "writer"


@pytest.mark.behaviour("logs.in-hand")
def test_the_fields_of_the_handler(handler: dict[str, Any]) -> None:
    made = record()
    logs.ContextFilter(agent="other", instance="i").filter(made)
    told = {name: getattr(made, name) for name in logs.CONTEXT}
    assert told == dict.fromkeys(logs.CONTEXT) | handler | {"instance": "i"}
    assert logs.context() == {name: value for name, value in handler.items() if value is not None}


@pytest.mark.behaviour("logs.in-hand")
def test_what_a_call_says_itself_wins(handler: dict[str, Any]) -> None:
    made = record(plan_id="another", attempt=None)
    logs.ContextFilter().filter(made)
    assert (vars(made)["plan_id"], vars(made)["attempt"]) == ("another", None)
    assert logs.add_context(None, "info", {"plan_id": "another"})["plan_id"] == "another"


def test_a_format_may_name_the_fields(handler: dict[str, Any]) -> None:
    made = record()
    logs.ContextFilter().filter(made)
    assert logging.Formatter("%(plan_id)s %(attempt)s %(message)s").format(made) == "p 2 said so"


async def test_each_task_has_its_own() -> None:
    async def handle(plan_id: str) -> str:
        logs.bind({"plan_id": plan_id})
        await asyncio.sleep(0)
        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(copy_context().run, logs.context).result()
        assert found == logs.context()
        return str(logs.context()["plan_id"])

    assert await asyncio.gather(*(handle(f"p{n}") for n in range(10))) == [
        f"p{n}" for n in range(10)
    ]
