"""Schemas and payloads made to take long: they are checked in isolation, and hold up nobody."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Raw, unique

TEXT = "a" * 200_000

COSTLY: dict[str, tuple[Any, Any]] = {
    "backtracks": (
        {"patternProperties": {rf"^(?=a)(a*)*{n}\1$": {} for n in range(300)}},
        {"a" * 24 + f"!{n}": 1 for n in range(1000)},
    ),
    "many states": ({"pattern": "(a{100}){80}"}, TEXT),
    "many of many states": (
        {"allOf": [{"pattern": f"(a{{100}}){{8{n}}}"} for n in range(10)]},
        TEXT,
    ),
    "many patterns": (
        {"patternProperties": {f"^a*{n}$": {} for n in range(2000)}},
        {f"aaaa{n}x": 1 for n in range(20_000)},
    ),
    "a long enum": (
        {"items": {"not": {"enum": [f"{n}" for n in range(5000)]}}},
        [f"x{n}" for n in range(40_000)],
    ),
    "unique": ({"uniqueItems": True}, [[n] for n in range(40_000)]),
    "choices": (
        {"items": {"not": {"anyOf": [{"const": [n]} for n in range(1500)]}}},
        [[-n] for n in range(50_000)],
    ),
    "contains": ({"allOf": [{"contains": {"const": f"c{n}"}} for n in range(400)]}, [0] * 100_000),
}
"""Each takes a second and more, or could."""


@contextmanager
def slowest_of_others(raw: Raw) -> Iterator[list[float]]:
    """Measures how long each request of another client takes meanwhile."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set() or len(took) <= 3:  # a check may be over before we have asked
            began = time.monotonic()
            assert raw.is_healthy()
            took.append(time.monotonic() - began)
            over.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


@pytest.mark.behaviour("schemas.apart")
@pytest.mark.parametrize("case", COSTLY)
def test_nobody_waits_for_a_costly_check(running: PlatformProcess, case: str) -> None:
    schema, payload = COSTLY[case]
    name, tenant = unique("costly"), unique("t")
    registry, events = (Raw(url, tenant, "u") for url in (running.registry_url, running.events_url))
    body = {"topic": "business-facts", "schema": schema}
    began = time.monotonic()
    with slowest_of_others(Raw(running.memory_url)) as took:
        defined = registry("PUT", f"/v1/registry/events/{name}/versions/1", body)
        if defined.status == 200:
            answer = events(
                "POST",
                "/v1/events/publish",
                {"type": name, "topic": "business-facts", "data": payload},
            )
            assert answer.status in (200, 422), answer.body[:300]
            if answer.status == 422:
                assert answer.code == "invalid_payload"
        else:
            assert defined.code in ("invalid_value", "limit_exceeded"), defined.body[:300]
    assert time.monotonic() - began < 15
    assert len(took) > 3
    assert sorted(took)[len(took) // 2] < 0.1, "half of the others' requests were quick"
    assert max(took) < 1.0, "a busy machine may hold up one of them, but no check does"


@pytest.mark.behaviour("schemas.apart", "schemas.enforced")
def test_a_large_payload_is_checked_as_a_small_one_is(running: PlatformProcess) -> None:
    name, tenant = unique("large"), unique("t")
    registry, events = (Raw(url, tenant, "u") for url in (running.registry_url, running.events_url))
    schema = {
        "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    }
    registry(
        "PUT",
        f"/v1/registry/events/{name}/versions/1",
        {"topic": "business-facts", "schema": schema},
    )
    fits = [{"n": n} for n in range(20_000)]
    for payload, status in ((fits, 200), ([*fits, {"n": "1"}], 422), (fits[:3], 200), ([{}], 422)):
        answer = events(
            "POST", "/v1/events/publish", {"type": name, "topic": "business-facts", "data": payload}
        )
        assert answer.status == status
        if status == 422:
            path = "" if payload == [{}] else "/n"
            assert answer.json["path"] == f"/{len(payload) - 1}{path}"


@pytest.mark.behaviour("schemas.apart")
def test_a_pattern_that_looks_around_still_counts(running: PlatformProcess) -> None:
    name, tenant = unique("around"), unique("t")
    registry, events = (Raw(url, tenant, "u") for url in (running.registry_url, running.events_url))
    body = {"topic": "business-facts", "schema": {"pattern": "^(?!bad)[a-z]+$"}}
    assert registry("PUT", f"/v1/registry/events/{name}/versions/1", body).status == 200
    for text, status in (("good", 200), ("badly", 422)):
        answer = events(
            "POST", "/v1/events/publish", {"type": name, "topic": "business-facts", "data": text}
        )
        assert answer.status == status


@pytest.mark.behaviour("schemas.apart")
def test_checking_goes_on_when_its_process_dies(platform: PlatformProcess) -> None:
    name = unique("dies")
    registry, events = (Raw(url, "t", "u") for url in (platform.registry_url, platform.events_url))
    body = {"topic": "business-facts", "schema": {"patternProperties": {"^a": {"type": "integer"}}}}
    assert registry("PUT", f"/v1/registry/events/{name}/versions/1", body).status == 200
    children = Path(f"/proc/{platform.pid}/task/{platform.pid}/children")
    for _ in range(2):
        answer = events(
            "POST",
            "/v1/events/publish",
            {"type": name, "topic": "business-facts", "data": {"a": "x"}},
        )
        assert (answer.status, answer.json["path"]) == (422, "/a")
        (child,) = [
            int(pid)
            for path in children.parent.parent.glob("*/children")
            for pid in path.read_text().split()
        ]

        os.kill(child, signal.SIGKILL)
    platform.stop()
    assert not Path(f"/proc/{child}").exists()
