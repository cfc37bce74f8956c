"""Ends of plans and awaited requests as a program without the SDK sees them."""

from __future__ import annotations

from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Answer, Raw, unique


@pytest.fixture
def user() -> str:
    return unique("user")


@pytest.fixture
def memory(running: PlatformProcess, user: str) -> Raw:
    return Raw(running.memory_url, "acme", user)


@pytest.fixture
def events(running: PlatformProcess, user: str) -> Raw:
    return Raw(running.events_url, "acme", user)


def commit(memory: Raw, **parts: Any) -> Answer:
    plans = [{"plan_id": plan_id, **part} for plan_id, part in parts.items()]
    return memory("POST", "/v1/memory/commit", {"plans": plans})


@pytest.mark.behaviour("plans.if-active")
def test_an_operation_says_whether_it_ended_the_plan(memory: Raw) -> None:
    assert commit(memory, b={"operations": [{"op": "complete", "result": 1}]}).json["plans"][0][
        "results"
    ] == [True]
    cancel = {"operations": [{"op": "cancel", "reason": "enough", "if_active": True}]}
    done = commit(memory, a=cancel, b=cancel, c=cancel)
    assert [plan["results"] for plan in done.json["plans"]] == [[True], [False], [True]]
    found = [memory("GET", f"/v1/memory/plans/{plan}").json["status"] for plan in "abc"]
    assert found == ["cancelled", "completed", "cancelled"]
    assert commit(memory, a={"operations": [{"op": "fail"}]}).json["code"] == "plan_ended"


@pytest.mark.behaviour("plans.status-read")
def test_a_commit_names_the_status_that_it_relies_on(memory: Raw) -> None:
    put = {"op": "set", "key": "k", "value": 1}
    assert commit(memory, p={"operations": [put], "expected_status": "missing"}).status == 200
    refused = commit(memory, p={"operations": [put], "expected_status": "missing"})
    assert (refused.status, refused.json["code"], refused.json["current_status"]) == (
        409,
        "conflict",
        "active",
    )
    assert commit(memory, p={"operations": [put], "expected_status": "odd"}).status == 422


@pytest.mark.behaviour("plans.status-read", "expiry.plan")
def test_a_plan_whose_time_is_over_is_not_there(memory: Raw, running: PlatformProcess) -> None:
    """The plan has expired for a read of its status as for one of a key, before it is swept."""
    commit(
        memory,
        p={"operations": [{"op": "set", "key": "k", "value": 1}, {"op": "ttl", "ttl": 0.001}]},
    )
    while memory("GET", "/v1/memory/working/p/k").status != 404:
        pass
    assert memory("GET", "/v1/memory/plans/p").status == 404


@pytest.mark.behaviour("requests.over-http")
def test_only_a_request_is_awaited(events: Raw) -> None:
    path, asked = "/v1/events/publish?awaited=true", {"type": "ask", "topic": "action-requests"}
    assert events("POST", path, {**asked, "response_event": "told"}).status == 200
    for body in (asked, [{**asked, "response_event": "told"}]):
        refused = events("POST", path, body)
        assert (refused.status, refused.json["code"]) == (422, "invalid_request")
