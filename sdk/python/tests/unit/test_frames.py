"""The frames of an agent's connection are read strictly."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from soorma_common.delivery import AgentFrame, ServiceFrame, Subscription
from soorma_common.retry import RetryPolicy

agent_frames = msgspec.json.Decoder(AgentFrame)
service_frames = msgspec.json.Decoder(ServiceFrame)

HELLO = {"frame": "hello", "agent": "a", "instance": "i", "subscriptions": [{"type": "e"}]}
COMMIT = {
    "frame": "commit",
    "number": 1,
    "tenant_id": "t",
    "user_id": "u",
    "commit": {"fence": "f"},
}
FAIL = {"frame": "fail", "number": 1, "fence": "f", "reason": "r"}
RELEASE = {"frame": "release", "number": 1, "fences": ["f"]}
DRAIN = {"frame": "drain"}
FRAMES: list[dict[str, Any]] = [HELLO, COMMIT, FAIL, RELEASE, DRAIN]


def _plans(operation: dict[str, Any]) -> dict[str, Any]:
    return {**COMMIT, "commit": {"plans": [{"plan_id": "p", "operations": [operation]}]}}


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["frame"])
def test_a_frame_is_read_and_written(frame: dict[str, Any]) -> None:
    decoded = agent_frames.decode(json.dumps(frame))
    assert type(decoded).__struct_config__.tag == frame["frame"]
    written = msgspec.json.encode(decoded)
    assert agent_frames.decode(written) == decoded
    assert frame.items() <= json.loads(written).items() or frame["frame"] in ("hello", "commit")


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["frame"])
def test_a_frame_takes_nothing_it_does_not_know(frame: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        agent_frames.decode(json.dumps({**frame, "unknown": 1}))


@pytest.mark.parametrize(
    ("frame", "missing"), [(frame, name) for frame in FRAMES for name in frame if name != "frame"]
)
def test_a_frame_lacks_nothing_it_needs(frame: dict[str, Any], missing: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        agent_frames.decode(
            json.dumps({name: value for name, value in frame.items() if name != missing})
        )


@pytest.mark.parametrize(
    "bad",
    [
        {"frame": "unknown"},
        {},
        {**HELLO, "max_concurrency": 0},
        {**HELLO, "max_concurrency": 10_001},
        {**HELLO, "subscriptions": [{"type": "e", "retry": {"max_attempts": 0}}]},
        {**HELLO, "subscriptions": [{"type": "e", "retry": {"jitter": 2}}]},
        {**HELLO, "subscriptions": [{"type": "e", "retry": {"first_delay": -1}}]},
        {**HELLO, "subscriptions": [{"type": "e", "retry": {"factor": 0.5}}]},
        {**HELLO, "subscriptions": [{"type": "e", "retry": {"then": "explode"}}]},
        {**HELLO, "subscriptions": [{"topic": "*"}]},
        {**FAIL, "after": "soon"},
        {**RELEASE, "fences": "f"},
        _plans({"op": "explode", "key": "k"}),
        _plans({"op": "set", "key": "k"}),
        _plans({"op": "set", "key": "k", "value": 1, "unknown": 1}),
        _plans({"op": "increment", "key": "k", "by": "1"}),
        _plans({"op": "increment", "key": "k", "by": True}),
        _plans({"op": "ttl"}),
        {**COMMIT, "commit": {"unknown": 1}},
        {**COMMIT, "commit": {"plans": [{"plan_id": 5}]}},
    ],
)
def test_what_is_no_frame_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        agent_frames.decode(json.dumps(bad))


@pytest.mark.behaviour("retries.backoff", "lanes.max-concurrency")
def test_the_documented_defaults() -> None:
    hello = agent_frames.decode(json.dumps(HELLO))
    assert hello.max_concurrency == 32
    assert hello.tenant_id is None
    assert hello.subscriptions == [Subscription("e", "*", ordered=True, retry=RetryPolicy())]
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.first_delay, policy.factor, policy.longest_delay) == (
        5,
        0.5,
        2.0,
        30.0,
    )
    assert (policy.jitter, policy.then) == (0.2, "dead_letter")


@pytest.mark.parametrize(
    "frame",
    [
        {"frame": "welcome", "replica": "r", "kept": []},
        {
            "frame": "deliver",
            "fence": "f",
            "attempt": 1,
            "handler": {"type": "e"},
            "event": {"type": "e"},
        },
        {"frame": "answer", "number": 1, "body": None},
        {"frame": "answer", "number": 1, "problem": {"code": "fenced"}},
        {"frame": "goodbye"},
    ],
)
def test_a_services_frame_is_read_and_written(frame: dict[str, Any]) -> None:
    decoded = service_frames.decode(
        json.dumps({**frame, "later": "a field that a newer service adds"})
    )
    again = service_frames.decode(msgspec.json.encode(decoded))
    assert msgspec.json.encode(again) == msgspec.json.encode(decoded)
