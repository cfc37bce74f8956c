"""The event service over plain HTTP: publishing, CloudEvents, the stream, groups, and refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from platform_process import PlatformProcess
from running import Answer, Raw, config_of, eventually, platform_in, unique

from soorma import Agent, Reject

DEFAULT_TENANT = "00000000-0000-0000-0000-000000000000"
DEFAULT_USER = "00000000-0000-0000-0000-000000000001"
PUBLISH = "/v1/events/publish"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("events")) as platform:
        yield platform


@pytest.fixture
def events(running: PlatformProcess) -> Iterator[Raw]:
    """The service for a tenant and user of this test; healthy afterwards, whatever it was sent."""
    raw = Raw(running.events_url, unique("tenant"), unique("user"))
    yield raw
    assert raw.is_healthy()
    assert raw("POST", PUBLISH, event()).status == 200


def event(**more: Any) -> dict[str, Any]:
    return {"type": "a", "topic": "business-facts", **more}


def published(events: Raw, after: int = 0, **query: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events of this test's tenant, as the stream sends them, with positions."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    path = f"/v1/events/stream?after={after}&tenant_id={events.headers['X-Tenant-ID']}"
    with Raw(events.url).stream(f"{path}&{asked}" if asked else path) as stream:
        assert stream.status == 200
        while True:
            kind, position, data = stream.next()
            assert kind == "event"
            yield int(position or 0), data


def first(events: Raw, **query: str) -> dict[str, Any]:
    return next(published(events, **query))[1]


# publishing


@pytest.mark.behaviour("events.round-trip")
def test_an_event_is_completed_and_comes_back(events: Raw) -> None:
    given = event(data={"b": 1, "a": [None, 2**70]}, session_id="s", plan_id="p", subject="about",
                  source="me", response_event="r", response_topic="action-results", trace_id="t",
                  parent_event_id="parent", payload_schema_name="schema")  # fmt: skip
    answer = events("POST", PUBLISH, given)
    assert answer.status == 200
    told = first(events)
    assert told.pop("id") == answer.json["id"]
    assert told.pop("correlation_id") == answer.json["id"]
    assert told.pop("time").endswith(("Z", "+00:00"))
    assert told.pop("tenant_id") == events.headers["X-Tenant-ID"]
    assert told.pop("user_id") == events.headers["X-User-ID"]
    assert told == given
    assert list(told["data"]) == ["b", "a"]


@pytest.mark.behaviour("events.round-trip")
def test_what_is_unset_is_absent(events: Raw) -> None:
    events("POST", PUBLISH, event())
    assert first(events).keys() == {
        "id",
        "type",
        "topic",
        "source",
        "time",
        "correlation_id",
        "tenant_id",
        "user_id",
    }


@pytest.mark.behaviour("ids.defaults")
def test_without_ids_it_is_of_the_default_tenant_and_user(running: PlatformProcess) -> None:
    raw, kind = Raw(running.events_url), unique("kind")
    raw("POST", PUBLISH, event(type=kind))
    with raw.stream(f"/v1/events/stream?after=0&types={kind}") as stream:
        told = stream.next()[2]
    assert (told["tenant_id"], told["user_id"]) == (DEFAULT_TENANT, DEFAULT_USER)


@pytest.mark.behaviour("http.encoded-ids")
def test_a_header_and_the_body_name_the_same_tenant(events: Raw) -> None:
    ours = events.headers["X-Tenant-ID"]
    assert events("POST", PUBLISH, event(tenant_id=ours)).status == 200
    coded = Raw(events.url, "caf%C3%A9%20" + ours, "%25")
    coded("POST", PUBLISH, event(plan_id="p"))
    with coded.stream(f"/v1/events/stream?after=0&tenant_id=caf%C3%A9%20{ours}") as stream:
        told = stream.next()[2]
    assert (told["tenant_id"], told["user_id"]) == (f"café {ours}", "%"), (
        "as the memory service reads these headers"
    )


@pytest.mark.behaviour("security.one-tenant")
@pytest.mark.parametrize("name", ["tenant_id", "user_id"])
def test_who_acts_for_one_publishes_for_no_other(events: Raw, name: str) -> None:
    for body in (event(**{name: "other"}), [event(), event(**{name: "other"})]):
        refused = events("POST", PUBLISH, body)
        assert (refused.status, refused.code) == (422, "invalid_request")
        assert name in refused.json["detail"]
        assert "'other'" in refused.json["detail"]
    told = published(events)
    events("POST", PUBLISH, event(type="last"))
    assert next(told)[1]["type"] == "last"


@pytest.mark.behaviour("events.all-or-nothing")
def test_a_batch_is_all_or_nothing(events: Raw) -> None:
    answer = events("POST", PUBLISH, [event(data=n) for n in range(3)])
    assert len(answer.json["ids"]) == 3
    wrong = events("POST", PUBLISH, [event(data=3), event(topic="nothing")])
    assert (wrong.status, wrong.code) == (422, "invalid_name")
    wrong = events("POST", PUBLISH, [event(data=3, user_id="one"), event(user_id="two")])
    assert (wrong.status, wrong.code) == (422, "invalid_request")
    events("POST", PUBLISH, event(data="last"))
    told = published(events)
    assert [next(told)[1]["data"] for _ in range(4)] == [0, 1, 2, "last"]


@pytest.mark.behaviour("events.id-once", "events.id-conflict", "tenants.event-ids")
def test_the_same_id_again_does_nothing(events: Raw) -> None:
    identity = unique("id")
    given = event(id=identity, data=[1, {"a": 2}])
    for _ in range(3):
        assert events("POST", PUBLISH, given).json == {"id": identity}
    for other in ({**given, "data": 2}, {**given, "type": "b"}, {**given, "user_id": "other"}):
        refused = events(
            "POST", PUBLISH, other, X_User_ID=other.get("user_id", events.headers["X-User-ID"])
        )
        assert (refused.status, refused.code, refused.json["event_id"]) == (
            409,
            "event_id_conflict",
            identity,
        )
    assert events("POST", PUBLISH, given, X_Tenant_ID=unique("tenant")).status == 200, (
        "an id is of its tenant"
    )
    assert events("POST", PUBLISH, [given, event(data="last")]).status == 200
    told = published(events)
    assert [next(told)[1]["data"] for _ in range(2)] == [[1, {"a": 2}], "last"]


@pytest.mark.behaviour("events.id-once", "events.id-conflict")
def test_the_same_id_twice_in_a_batch(events: Raw) -> None:
    given = event(id=unique("id"))
    assert events("POST", PUBLISH, [given, given]).json["ids"] == [given["id"]] * 2
    assert events("POST", PUBLISH, [given, {**given, "data": 1}]).code == "event_id_conflict"
    events("POST", PUBLISH, event(data="last"))
    told = published(events)
    assert [next(told)[1].get("data") for _ in range(2)] == [None, "last"]


@pytest.mark.behaviour("events.cloudevents")
def test_cloudevents_both_ways(events: Raw) -> None:
    cloud = {
        "specversion": "1.0", "id": unique("id"), "source": "/me", "type": "a",
        "topic": "business-facts", "time": "2031-01-02T03:04:05Z", "data": {"n": 1},
        "datacontenttype": "application/json", "planid": "p", "correlationid": "c",
        "sessionid": "s", "responseevent": "r", "responsetopic": "action-results",
        "parenteventid": "parent", "payloadschemaname": "schema",
        "traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01",
    }  # fmt: skip
    single = "application/cloudevents+json"
    assert events("POST", PUBLISH, cloud, Content_Type=single).json == {"id": cloud["id"]}
    told = first(events)
    assert (told["plan_id"], told["correlation_id"], told["trace_id"]) == ("p", "c", "ab" * 16)
    assert (told["source"], told["time"], told["data"]) == ("/me", cloud["time"], {"n": 1})
    back = first(events, format="cloudevents")
    span = back.pop("traceparent")
    assert span.startswith("00-" + "ab" * 16)
    expected = {
        **cloud,
        "tenantid": events.headers["X-Tenant-ID"],
        "userid": events.headers["X-User-ID"],
    }
    del expected["traceparent"]
    assert back == expected
    assert all(name.isalnum() and name.islower() for name in back)
    batch = [{**cloud, "id": unique("id")} for _ in range(2)]
    answer = events("POST", PUBLISH, batch, Content_Type="application/cloudevents-batch+json")
    assert answer.json["ids"] == [one["id"] for one in batch]


@pytest.mark.behaviour("events.cloudevents-strict")
@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type", "topic"])
def test_a_cloudevent_needs_its_attributes(events: Raw, missing: str) -> None:
    cloud = {
        "specversion": "1.0",
        "id": unique("id"),
        "source": "/me",
        "type": "a",
        "topic": "business-facts",
    }
    del cloud[missing]
    answer = events("POST", PUBLISH, cloud, Content_Type="application/cloudevents+json")
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert missing in answer.json["detail"]


@pytest.mark.behaviour("events.refused", "topics.names")
@pytest.mark.parametrize(
    "change",
    [{"topic": 1}, {"topic": "Business-Facts"}, {"topic": "business-facts.x"}, {"topic": ""},
     {"type": ""}, {"type": 1}, {"type": "x" * 256}, {"id": ""}, {"id": "."}, {"id": "a\0"},
     {"plan_id": ""}, {"plan_id": 1}, {"tenant_id": "x" * 256}, {"response_topic": "nothing"},
     {"more": 1}, {"source": ""},
     {"data": {"plan_id": "x" * 256}}],
    ids=lambda change: ascii(change)[:40],
)  # fmt: skip
def test_what_is_no_event_is_refused(events: Raw, change: dict[str, Any]) -> None:
    answer = events("POST", PUBLISH, {**event(), **change})
    assert answer.status == 422, answer.body
    assert answer.code in {"invalid_name", "invalid_request"}


@pytest.mark.behaviour("events.refused", "http.one-form")
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"1", b"[]", b"[1]", b"{}", b'{"type":"a"}', b"{", b"[" * 100_000, b"\xff",
     b'{"type":"a","topic":"business-facts","data":NaN}',
     b'{"type":"a","topic":"business-facts","data":1e400}',
     b'{"type":"a","topic":"business-facts","data":"\\ud800"}',
     b'{"type":"\\ud800","topic":"business-facts"}',
     b'{"type":"a","topic":"business-facts","data":' + b"[" * 200 + b"]" * 200 + b"}"],
    ids=lambda body: f"{body[:60]!a} {len(body)}",
)  # fmt: skip
@pytest.mark.parametrize("kind", ["json", "cloudevents+json", "cloudevents-batch+json"])
def test_garbage_is_refused(events: Raw, body: bytes, kind: str) -> None:
    answer = events("POST", PUBLISH, body=body, Content_Type=f"application/{kind}")
    assert answer.status == 422, answer.body
    assert answer.code in {"invalid_request", "invalid_value", "invalid_name"}


@pytest.mark.behaviour("events.refused")
def test_a_time_is_a_time(events: Raw) -> None:
    for wrong in ("yesterday", "", "2031-01-02", "2031-13-02T03:04:05Z"):
        answer = events("POST", PUBLISH, event(time=wrong))
        assert (answer.status, answer.code) == (422, "invalid_request"), wrong


FAR_TIMES = [
    {"at": at}
    for at in ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z",
               "9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999-12:00", "2031-01-02T03:04:05",
               "12026-01-01T00:00:00Z", 1e12)
] + [{"delay": delay} for delay in (-1, 315_360_001, 1e300, "60", True, None)]  # fmt: skip


@pytest.mark.behaviour("timers.far-times")
@pytest.mark.parametrize(
    "when", [*FAR_TIMES, {"delay": 315_360_000}, {"at": "9999-12-30T23:59:59Z"}], ids=str
)
def test_a_far_time_is_refused(running: PlatformProcess, events: Raw, when: dict[str, Any]) -> None:
    timer = {**when, "event": event()}
    memory = Raw(running.memory_url, events.headers["X-Tenant-ID"], events.headers["X-User-ID"])
    deadline = {
        "plans": [{"plan_id": unique("plan"), "operations": [{"op": "deadline", "timer": timer}]}]
    }
    for answer in (
        events("POST", "/v1/events/timers", timer),
        memory("POST", "/v1/memory/commit", deadline),
    ):
        if when in FAR_TIMES:
            assert (answer.status, answer.code) == (422, "invalid_request"), answer.body
        else:
            assert answer.status == 200, answer.body


@pytest.mark.behaviour("limits.named")
def test_the_limits_name_themselves(events: Raw) -> None:
    for body, limit in (
        (event(data="x" * 512 * 1024), "event_bytes"),
        ([event()] * 1001, "commit_events"),
    ):
        answer = events("POST", PUBLISH, body)
        assert (answer.status, answer.code, answer.json["limit"]) == (413, "limit_exceeded", limit)


@pytest.mark.behaviour("security.host", "security.origin", "security.declared-as-json")
def test_guards(events: Raw) -> None:
    assert events("POST", PUBLISH, event(), Origin="http://example.com").code == "forbidden"
    assert events("POST", PUBLISH, event(), Host="example.com").code == "forbidden"
    assert (
        events("POST", PUBLISH, event(), Content_Type="text/plain").code == "unsupported_media_type"
    )
    assert events("GET", PUBLISH).code == "method_not_allowed"
    assert events("GET", "/v1/events/nothing").code == "not_found"
    for method in ("GET", "POST"):
        assert events(method, "/v1/events/connect").status in {404, 405, 426}


# the stream


@pytest.mark.behaviour("readers.stream", "readers.resumes")
def test_the_stream_goes_on_behind_the_last_event_id(events: Raw) -> None:
    events("POST", PUBLISH, [event(data=n) for n in range(5)])
    told = published(events)
    seen = [next(told) for _ in range(2)]
    told.close()
    path = f"/v1/events/stream?tenant_id={events.headers['X-Tenant-ID']}"
    with events.stream(path, Last_Event_ID=str(seen[-1][0])) as stream:
        events("POST", PUBLISH, event(data=5))
        rest = [stream.next() for _ in range(4)]
    assert [one["data"] for _, one in seen] + [one["data"] for _, _, one in rest] == list(range(6))


@pytest.mark.behaviour("readers.stream")
def test_the_stream_begins_now(events: Raw) -> None:
    events("POST", PUBLISH, event(data="before"))
    with events.stream(f"/v1/events/stream?tenant_id={events.headers['X-Tenant-ID']}") as stream:
        assert stream.block().keys() == {"id"}
        events("POST", PUBLISH, event(data="after"))
        assert stream.next()[2]["data"] == "after"


@pytest.mark.behaviour("readers.stream")
def test_the_stream_is_filtered(events: Raw) -> None:
    for kind, topic, correlation, user in (
        ("a", "task-events", "x", "one"),
        ("b", "plan-events", "x", "one"),
        ("a", "plan-events", "y", "two"),
        ("c", "system-events", "y", "two"),
    ):
        events(
            "POST",
            PUBLISH,
            event(type=kind, topic=topic, correlation_id=correlation),
            X_User_ID=user,
        )
    for query, expected in (
        ({"types": "a,c"}, ["a task-events", "a plan-events", "c system-events"]),
        (
            {"topics": "plan-events,system-events"},
            ["b plan-events", "a plan-events", "c system-events"],
        ),
        ({"types": "a", "topics": "plan-events"}, ["a plan-events"]),
        ({"correlation_id": "y"}, ["a plan-events", "c system-events"]),
        ({"user_id": "one"}, ["a task-events", "b plan-events"]),
    ):
        told = published(events, **query)
        assert [
            f"{one['type']} {one['topic']}" for _, one in (next(told) for _ in expected)
        ] == expected


@pytest.mark.behaviour("http.whose-log")
def test_the_headers_say_whose_log_is_read(events: Raw) -> None:
    mine, tenant, user = unique("mine"), events.headers["X-Tenant-ID"], events.headers["X-User-ID"]
    strangers = (unique("tenant"), user), (tenant, unique("user"))
    for other in strangers:
        Raw(events.url, *other)("POST", PUBLISH, event(type=unique("other")))
    events("POST", PUBLISH, event(type=mine))
    for query in ("", f"&tenant_id={tenant}&user_id={user}", "&tenant_id=&user_id="):
        with events.stream(f"/v1/events/stream?after=0{query}") as stream:
            assert stream.next()[2]["type"] == mine, query
    with Raw(events.url, tenant).stream("/v1/events/stream?after=0") as stream:
        assert [stream.next()[2]["user_id"] for _ in range(2)] == [strangers[1][1], user]
    for name, said in (("tenant_id", "X-Tenant-ID"), ("user_id", "X-User-ID")):
        refused = events("GET", f"/v1/events/stream?{name}=other")
        assert refused.code == "invalid_request"
        assert all(
            word in refused.json["detail"]
            for word in (name, "'other'", said, repr(events.headers[said]))
        )


@pytest.mark.behaviour("http.whose-log")
async def test_the_header_says_whose_groups_and_dead_letters_are_meant(
    running: PlatformProcess, events: Raw
) -> None:
    agent = Agent(
        unique("agent"), config=config_of(running, tenant_id=events.headers["X-Tenant-ID"])
    )

    @agent.on_event("refused")
    async def refuse(event: Any, context: Any) -> None:
        raise Reject("no")

    letters, other = "/v1/events/dead-letters", Raw(events.url, unique("tenant"))
    async with agent:
        events("POST", PUBLISH, event(type="refused"))
        (letter,) = await eventually(lambda: events("GET", letters).json["dead_letters"])
        assert letter["group"] == agent.name
        assert other("GET", letters).json["dead_letters"] == []
        for raw, sees in ((events, True), (other, False), (Raw(events.url), True)):
            groups = raw("GET", "/v1/events/groups").json["groups"]
            assert (agent.name in [group["name"] for group in groups]) is sees
        assert other("POST", f"{letters}/{letter['id']}/replay").code == "not_found"
        for method, path in (
            ("GET", letters),
            ("GET", "/v1/events/groups"),
            ("POST", f"{letters}/1/replay"),
        ):
            assert events(method, f"{path}?tenant_id=other").code == "invalid_request"
        assert events("POST", f"{letters}/{letter['id']}/replay").status == 200


@pytest.mark.behaviour("http.positions")
def test_positions_that_are_none_are_refused(events: Raw) -> None:
    for value in ("x", "-1", "\xb2", "9" * 5000):
        answer = events("GET", "/v1/events/stream", Last_Event_ID=value)
        assert (answer.status, answer.code) == (422, "invalid_request"), value
    for query in ("after=x", "after=%C2%B2", "topics=nothing", "types=" + "x" * 256):
        assert events("GET", f"/v1/events/stream?{query}").status == 422, query
    assert events("GET", "/v1/events/stream", Last_Event_ID="9" * 15).code == "not_found", (
        "the log is not there yet"
    )
    assert events("GET", "/v1/events/stream?after=" + "9" * 15).code == "not_found"


@pytest.mark.behaviour("readers.horizon")
def test_below_the_horizon_the_log_is_gone(tmp_path_factory: pytest.TempPathFactory) -> None:
    with platform_in(tmp_path_factory.mktemp("short"), SOORMA_KEEP_EVENTS="0.1") as platform:
        raw = Raw(platform.events_url)
        raw("POST", PUBLISH, [event(data=n) for n in range(3)])

        def asked() -> Answer | None:
            with raw.stream("/v1/events/stream?after=0") as stream:
                if stream.status == 200:
                    return None
            return raw("GET", "/v1/events/stream?after=0")

        answer = asyncio.run(eventually(asked))
        assert (answer.status, answer.code, answer.json["horizon"]) == (410, "history_gone", 3)
        with raw.stream("/v1/events/stream?after=3") as stream:
            assert stream.status == 200
            raw("POST", PUBLISH, event(data="next"))
            assert stream.next()[2]["data"] == "next"


# groups and dead letters


@pytest.mark.behaviour("groups.looked-at")
async def test_groups_tell_who_is_there_and_what_waits(
    running: PlatformProcess, events: Raw
) -> None:
    tenant_id = events.headers["X-Tenant-ID"]
    agent = Agent(
        unique("agent"), config=config_of(running, tenant_id=tenant_id), max_concurrency=3
    )

    @agent.on_event("a", topic="business-facts")
    async def handle(event: Any, context: Any) -> None: ...

    def ours() -> Any:
        groups = events("GET", f"/v1/events/groups?tenant_id={tenant_id}").json["groups"]
        return next((group for group in groups if group["name"] == agent.name), None)

    async with agent:
        group = ours()
        assert group["tenant_id"] == tenant_id
        assert (group["waiting"], group["ready"], group["in_hand"], group["oldest_at"]) == (
            0,
            0,
            0,
            None,
        )
        assert [(one["type"], one["topic"], one["ordered"]) for one in group["subscriptions"]] == [
            ("a", "business-facts", True)
        ]
        assert [(one["instance"], one["max_concurrency"]) for one in group["replicas"]] == [
            (agent.instance, 3)
        ]
    for plan in ("p", "p", "q"):
        events("POST", PUBLISH, event(plan_id=plan))
    group = await eventually(lambda: None if ours()["replicas"] else ours())
    assert (group["waiting"], group["ready"], group["in_hand"]) == (3, 2, 0)
    assert group["oldest_at"] is not None
    other = Raw(events.url)("GET", f"/v1/events/groups?tenant_id={unique('tenant')}").json["groups"]
    assert agent.name not in [group["name"] for group in other]


@pytest.mark.behaviour("deadletters.listed")
async def test_dead_letters_have_pages(running: PlatformProcess, events: Raw) -> None:
    tenant_id = events.headers["X-Tenant-ID"]
    agent = Agent(unique("agent"), config=config_of(running, tenant_id=tenant_id))

    @agent.on_event("refused")
    async def refuse(event: Any, context: Any) -> None:
        raise Reject(f"because {event.data}")

    path = f"/v1/events/dead-letters?tenant_id={tenant_id}"
    async with agent:
        events("POST", PUBLISH, [event(type="refused", data=n, plan_id="p") for n in range(5)])
        await eventually(lambda: len(events("GET", path).json["dead_letters"]) == 5)
    page = events("GET", path + "&limit=3").json
    rest = events("GET", f"{path}&limit=3&after={page['next']}").json
    letters = page["dead_letters"] + rest["dead_letters"]
    assert sorted(letter["reason"] for letter in letters) == [f"because {n}" for n in range(5)]
    assert (
        rest["next"] is None
        or events("GET", f"{path}&after={rest['next']}").json["dead_letters"] == []
    )
    letter = letters[0]
    assert (letter["group"], letter["type"], letter["plan_id"], letter["attempts"]) == (
        agent.name,
        "refused",
        "p",
        1,
    )
    assert events("GET", path + "&group=other").json["dead_letters"] == []
    for number in (letter["id"], "x", "%C2%B2", "9" * 30, "-1"):
        refused = Raw(events.url)(
            "POST", f"/v1/events/dead-letters/{number}/replay?tenant_id={unique('tenant')}"
        )
        assert (refused.status, refused.code) == (404, "not_found"), number


@pytest.mark.behaviour("requests.over-http")
def test_an_answer_is_asked_for_over_http(events: Raw) -> None:
    asked = events(
        "POST", PUBLISH, event(type="ask", response_event="answered", correlation_id="c")
    ).json["id"]
    path = f"/v1/events/answer/{asked}?timeout="
    assert events("GET", path + "0").json == {"event": None}
    events("POST", PUBLISH, event(type="answered", correlation_id="c", data="elsewhere"))
    events("POST", PUBLISH, event(type="answered", topic="action-results", correlation_id="other"))
    assert events("GET", path + "0").json == {"event": None}
    for n in range(2):
        events(
            "POST",
            PUBLISH,
            event(type="answered", topic="action-results", correlation_id="c", data=n),
        )
    assert events("GET", path + "10").json["event"]["data"] == 0
    plain = events("POST", PUBLISH, event()).json["id"]
    assert events("GET", f"/v1/events/answer/{plain}").code == "not_found"
    assert events("GET", f"/v1/events/answer/{unique('none')}").code == "not_found"
    assert events("GET", path + "0", X_User_ID=unique("user")).code == "not_found"


# the agents' socket


@pytest.mark.behaviour("http.agents-socket")
@pytest.mark.parametrize(
    "frames",
    [
        [b""], [b"\xff"], [b"{"], [b"[]"], [b"null"], ["text"], [""],
        [b'{"frame":"drain"}'], [b'{"frame":"nothing"}'], [b'{"frame":"hello"}'],
        [b'{"frame":"hello","agent":"","instance":"i","subscriptions":[{"type":"a"}]}'],
        [b'{"frame":"hello","agent":"a","instance":"i","subscriptions":[]}'],
        [(b'{"frame":"hello","agent":"a","instance":"i","subscriptions":'
          b'[{"type":"a","topic":"no"}]}')],
        [(b'{"frame":"hello","agent":"a","instance":"i","subscriptions":'
          b'[{"type":"a","retry":{"max_attempts": 0}}]}')],
        [(b'{"frame":"hello","agent":"a","instance":"i","subscriptions":'
          b'[{"type":"a"}],"max_concurrency":0}')],
        [(b'{"frame":"hello","agent":"a","instance":"i","subscriptions":'
          b'[{"type":"a"}],"tenant_id":"\\u0000"}')],
        [b"[" * 100_000],
        [b'{"frame":"hello","agent":"\\ud800","instance":"i","subscriptions":[{"type":"a"}]}'],
    ],
    ids=lambda frames: f"{frames[0][:70]!a} {len(frames[0])}",
)  # fmt: skip
async def test_a_socket_that_speaks_nonsense_is_closed_with_the_reason(
    events: Raw, frames: list[Any]
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{events.url}/v1/events/connect") as socket,
    ):
        for frame in frames:
            spoken = (
                frame
                if isinstance(frame, str)
                else frame.replace(b'"hello",', b'"hello","protocol":1,')
            )
            await (
                socket.send_str(spoken) if isinstance(spoken, str) else socket.send_bytes(spoken)
            )
        message = await socket.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.BINARY, message
        goodbye = json.loads(message.data)
        assert (goodbye["frame"], goodbye["problem"]["status"]) == ("goodbye", 422)
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


@pytest.mark.behaviour("http.agents-socket")
@pytest.mark.parametrize(
    "frame", [b"\xff", b"[]", "text", b'{"frame":"commit"}', b'{"frame":"nothing"}']
)
async def test_nonsense_after_the_hello_closes_the_socket_too(events: Raw, frame: Any) -> None:
    hello = {
        "frame": "hello",
        "agent": unique("agent"),
        "instance": "i",
        "subscriptions": [{"type": unique("a")}],
    }
    hello["protocol"] = 1
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{events.url}/v1/events/connect") as socket,
    ):
        await socket.send_bytes(json.dumps(hello).encode())
        assert json.loads((await socket.receive(timeout=10)).data)["frame"] == "welcome"
        await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
        assert json.loads((await socket.receive(timeout=10)).data)["frame"] == "goodbye"
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.behaviour("security.host", "security.origin")
@pytest.mark.parametrize("headers", [{"Origin": "http://example.com"}, {"Host": "example.com"}])
async def test_a_web_page_gets_no_socket(events: Raw, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await session.ws_connect(f"{events.url}/v1/events/connect", headers=headers)
    assert raised.value.status == 403
