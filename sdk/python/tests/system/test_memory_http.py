"""The memory service as any HTTP client sees it: paths, responses, conditions, pages, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from platform_process import PlatformProcess
from running import Answer, Raw, path_of, platform_in, unique

NAMES = [
    "a b",
    "a/b",
    "a%2Fb",
    "100%",
    "ключ",
    "\U0001f600",
    "?q=1#f",
    "+",
    "%00",
    "...",
    "a\nb",
    "x" * 255,
    "é" * 255,
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("memory")) as platform:
        yield platform


@pytest.fixture
def memory(running: PlatformProcess) -> Raw:
    """The service for a tenant and user of this test's own."""
    return Raw(running.memory_url, unique("tenant"), unique("user"))


@pytest.fixture
def plan() -> str:
    return unique("plan")


def commit(memory: Raw, *plans: Any, **headers: str) -> Answer:
    return memory("POST", "/v1/memory/commit", {"plans": list(plans)}, **headers)


def part(plan_id: str, *operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"plan_id": plan_id, "operations": list(operations), **more}


def keys_of(memory: Raw, plan_id: str) -> list[str]:
    return [entry["key"] for entry in memory("GET", path_of(plan_id)).json["entries"]]


@pytest.mark.behaviour("http.familiar-fields")
def test_put_and_get_answer_the_familiar_fields(memory: Raw, plan: str) -> None:
    put = memory("PUT", path_of(plan, "k"), {"value": {"z": 1, "a": [None, 2.5]}})
    assert put.status == 200
    assert put.headers["content-type"] == "application/json"
    entry = put.json
    assert entry.keys() - {"userId", "expiresAt"} == {
        "id",
        "tenantId",
        "planId",
        "key",
        "value",
        "updatedAt",
        "revision",
    }
    assert (entry["tenantId"], entry["planId"], entry["key"]) == (
        memory.headers["X-Tenant-ID"],
        plan,
        "k",
    )
    assert list(entry["value"]) == ["z", "a"]
    assert entry["revision"] == 1
    assert datetime.fromisoformat(entry["updatedAt"]).tzinfo is not None
    got = memory("GET", path_of(plan, "k"))
    assert (got.status, got.json) == (200, entry)
    again = memory("PUT", path_of(plan, "k"), {"value": 2}).json
    assert (again["id"], again["revision"]) == (entry["id"], 2)


@pytest.mark.behaviour("memory.delete")
def test_delete_tells_whether_there_was_a_key(memory: Raw, plan: str) -> None:
    memory("PUT", path_of(plan, "k"), {"value": 1})
    assert memory("DELETE", path_of(plan, "k")).json == {"deleted": True, "revision": 2}
    assert memory("DELETE", path_of(plan, "k")).json["deleted"] is False
    missing = memory("GET", path_of(plan, "k"))
    assert (missing.status, missing.code) == (404, "key_missing")
    assert (missing.json["plan_id"], missing.json["key"]) == (plan, "k")


@pytest.mark.behaviour("expiry.cleanup", "expiry.revision-goes-on")
def test_delete_of_a_plan_removes_everything_and_its_revision_goes_on(
    memory: Raw, plan: str
) -> None:
    for key in "abc":
        memory("PUT", path_of(plan, key), {"value": key})
    commit(memory, part(plan, {"op": "record_action", "name": "done"}))
    assert memory("DELETE", path_of(plan)).json == {"deleted": 3, "revision": 5}
    assert keys_of(memory, plan) == []
    assert memory("GET", f"/v1/memory/actions/{plan}").json["actions"] == []
    assert memory("PUT", path_of(plan, "a"), {"value": 1}).json["revision"] == 6


@pytest.mark.behaviour("topics.names", "http.encoded-ids")
@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_a_key_and_a_plan(memory: Raw, name: str) -> None:
    put = memory("PUT", path_of(name, name), {"value": name})
    assert put.status == 200, put.body
    assert (put.json["planId"], put.json["key"]) == (name, name)
    assert memory("GET", path_of(name, name)).json["value"] == name
    assert keys_of(memory, name) == [name]
    assert memory("DELETE", path_of(name, name)).json["deleted"] is True


@pytest.mark.behaviour("memory.value-round-trip")
@pytest.mark.parametrize(
    "text",
    ["null", "true", "0", "-0", "-0.0", "1e300", "1.0", "123456789012345678901234567890",
     '""', '"\\u0000"', "[]", "{}",
     '{"b":1,"a":{"d":1,"c":2}}', '"\u00e9\U0001f600"', "[[[[1]]]]", '{"":1}', "9007199254740993"],
)  # fmt: skip
def test_a_value_comes_back_as_it_went_in(memory: Raw, plan: str, text: str) -> None:
    put = memory("PUT", path_of(plan, "k"), body=f'{{"value": {text}}}'.encode())
    assert put.status == 200, put.body
    for answer in (put, memory("GET", path_of(plan, "k"))):
        assert f'"value":{text}'.encode() in answer.body


@pytest.mark.behaviour("conditions.not-modified")
def test_etag_and_if_none_match_spare_the_body(memory: Raw, plan: str) -> None:
    put = memory("PUT", path_of(plan, "k"), {"value": 1})
    tag = put.headers["etag"]
    assert tag == '"1"'
    same = memory("GET", path_of(plan, "k"), If_None_Match=tag)
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    memory("PUT", path_of(plan, "k"), {"value": 2})
    assert memory("GET", path_of(plan, "k"), If_None_Match=tag).json["value"] == 2


@pytest.mark.behaviour("conditions.if-match")
def test_if_match_sets_only_at_that_revision(memory: Raw, plan: str) -> None:
    tag = memory("PUT", path_of(plan, "k"), {"value": 1}).headers["etag"]
    memory("PUT", path_of(plan, "other"), {"value": 1})
    second = memory("PUT", path_of(plan, "k"), {"value": 2}, If_Match=tag)
    assert (second.status, second.headers["etag"]) == (200, '"3"')
    stale = memory("PUT", path_of(plan, "k"), {"value": 9}, If_Match=tag)
    assert (stale.status, stale.code) == (412, "conflict")
    assert (stale.json["current_revision"], stale.json["expected_revision"]) == (3, 1)
    assert memory("DELETE", path_of(plan, "k"), If_Match=tag).status == 412
    assert memory("GET", path_of(plan, "k")).json["value"] == 2
    assert memory("DELETE", path_of(plan, "k"), If_Match='"3"').json["deleted"] is True


@pytest.mark.behaviour("conditions.if-match")
def test_if_none_match_star_sets_only_what_is_missing(memory: Raw, plan: str) -> None:
    assert memory("PUT", path_of(plan, "k"), {"value": 1}, If_None_Match="*").status == 200
    taken = memory("PUT", path_of(plan, "k"), {"value": 2}, If_None_Match="*")
    assert (taken.status, taken.code, taken.json["current_revision"]) == (412, "conflict", 1)
    assert memory("GET", path_of(plan, "k")).json["value"] == 1


@pytest.mark.behaviour("conditions.expected-in-a-commit", "conditions.compare-and-set")
def test_expected_revision_in_a_commit(memory: Raw, plan: str) -> None:
    commit(memory, part(plan, {"op": "set", "key": "a", "value": 1}))
    refused = commit(
        memory, part(plan, {"op": "set", "key": "a", "value": 2, "expected_revision": 0})
    )
    assert (refused.status, refused.code, refused.json["current_revision"]) == (409, "conflict", 1)
    refused = commit(memory, part(plan, {"op": "set", "key": "a", "value": 2}, expected_revision=0))
    assert (refused.status, refused.code, refused.json["current_revision"]) == (409, "conflict", 1)
    refused = commit(memory, part(plan, {"op": "set", "key": "b", "value": 2}, reads={"a": 0}))
    assert (refused.status, refused.code) == (409, "conflict")
    assert keys_of(memory, plan) == ["a"]
    assert (
        commit(
            memory, part(plan, {"op": "set", "key": "a", "value": 2}, reads={"a": 1, "b": 0})
        ).status
        == 200
    )


@pytest.mark.behaviour("expiry.key", "expiry.swept", "watch.without-gap")
def test_a_key_with_a_time_to_live_expires(memory: Raw, plan: str) -> None:
    put = memory("PUT", path_of(plan, "k"), {"value": 1, "ttl": 0.2}).json
    lives = datetime.fromisoformat(put["expiresAt"]) - datetime.fromisoformat(put["updatedAt"])
    assert lives.total_seconds() == pytest.approx(0.2)
    with memory.stream(f"/v1/memory/watch/{plan}?after=1") as stream:
        kind, _, data = stream.next()
    assert (kind, data["changes"][0]["op"], data["changes"][0]["key"]) == ("commit", "expire", "k")
    assert memory("GET", path_of(plan, "k")).code == "key_missing"
    assert keys_of(memory, plan) == []


@pytest.mark.behaviour("memory.keys-and-prefixes")
def test_a_list_has_pages_and_a_prefix(memory: Raw, plan: str) -> None:
    operations = [
        {"op": "set", "key": f"{group}{n:02}", "value": n} for group in "ab" for n in range(25)
    ]
    commit(memory, part(plan, *operations))
    found: list[Any] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        page = memory("GET", f"{path_of(plan)}?prefix=b&limit=10&after={after}").json
        assert page["revision"] == 1
        found += page["entries"]
        after = page["next"]
        pages += 1
    assert pages == 3
    assert [entry["key"] for entry in found] == [f"b{n:02}" for n in range(25)]
    assert [entry["value"] for entry in found] == list(range(25))
    names = memory("GET", f"{path_of(plan)}?values=false&limit=3").json
    assert (names["keys"], names["next"]) == (["a00", "a01", "a02"], "a02")
    assert memory("GET", f"{path_of(plan)}?limit=50").json["next"] is None


@pytest.mark.behaviour("memory.keys-and-prefixes")
def test_a_prefix_is_taken_by_the_letter(memory: Raw, plan: str) -> None:
    keys = ["a%b", "a_b", "ab", "A", "é", "\U0001f600x"]
    commit(memory, part(plan, *({"op": "set", "key": key, "value": 0} for key in keys)))
    for prefix, expected in (
        ("a%25", ["a%b"]), ("a_", ["a_b"]), ("a", ["a%b", "a_b", "ab"]), ("%C3%A9", ["é"]),
        ("%F0%9F%98%80", ["\U0001f600x"]), ("zz", []),
    ):  # fmt: skip
        assert (
            memory("GET", f"{path_of(plan)}?values=false&prefix={prefix}").json["keys"] == expected
        )


@pytest.mark.behaviour("memory.plans-listed")
def test_the_plans_of_a_user_have_pages(memory: Raw) -> None:
    plans = sorted(unique("plan") for _ in range(5))
    for plan_id in plans:
        memory("PUT", path_of(plan_id, "k"), {"value": "four"})
    first = memory("GET", "/v1/memory/working?limit=3").json
    rest = memory("GET", f"/v1/memory/working?limit=3&after={first['next']}").json
    assert [plan["plan_id"] for plan in first["plans"] + rest["plans"]] == plans
    assert rest["next"] is None
    told = first["plans"][0]
    assert (told["revision"], told["keys"], told["actions"], told["size_bytes"]) == (1, 1, 0, 7)
    memory("DELETE", path_of(plans[0]))
    assert [plan["plan_id"] for plan in memory("GET", "/v1/memory/working").json["plans"]] == plans[
        1:
    ]


@pytest.mark.behaviour("memory.many")
def test_many_keys_at_once(memory: Raw, plan: str) -> None:
    commit(memory, part(plan, *({"op": "set", "key": key, "value": key} for key in "abc")))
    answer = memory("POST", f"/v1/memory/many/{plan}", {"keys": ["c", "a", "nothing"]}).json
    assert answer["plan_id"] == plan
    assert answer["revision"] == 1
    assert {key: entry["value"] for key, entry in answer["entries"].items()} == {"a": "a", "c": "c"}


@pytest.mark.behaviour("history.every-operation", "history.value-at")
def test_history_tells_every_operation(memory: Raw, plan: str) -> None:
    operations: list[dict[str, Any]] = [
        {"op": "set", "key": "s", "value": {"a": 1}},
        {"op": "increment", "key": "n", "by": 2},
        {"op": "append", "key": "l", "value": "x"},
        {"op": "extend", "key": "l", "value": ["y", "z"]},
        {"op": "merge", "key": "s", "value": {"b": None}},
        {"op": "delete", "key": "n"},
        {"op": "record_action", "name": "done"},
        {"op": "ttl", "ttl": 60},
    ]
    for operation in operations:
        assert commit(memory, part(plan, operation)).status == 200
    answer = memory("GET", f"/v1/memory/history/{plan}").json
    assert [(row["op"], row.get("key")) for row in answer["changes"]] == [
        (operation["op"], operation.get("key")) for operation in operations
    ]
    assert [row.get("argument") for row in answer["changes"]] == [
        {"a": 1}, 2, "x", ["y", "z"], {"b": None}, None, "done", 60
    ]  # fmt: skip
    assert [row["revision"] for row in answer["changes"]] == list(range(1, 9))
    assert (answer["revision"], answer["horizon"], answer["next"]) == (8, 0, None)
    of_key = memory("GET", f"/v1/memory/history/{plan}?key=l").json["changes"]
    assert [row["op"] for row in of_key] == ["append", "extend"]
    assert memory("GET", path_of(plan, "s") + "?revision=4").json["value"] == {"a": 1}
    assert memory("GET", path_of(plan, "n") + "?revision=8").code == "key_missing"
    assert memory("GET", path_of(plan, "n") + "?revision=9").code == "not_found"


@pytest.mark.behaviour("history.pages")
def test_history_has_pages_of_whole_revisions(memory: Raw, plan: str) -> None:
    for n in range(7):
        commit(memory, part(plan, *({"op": "set", "key": f"{n}{m}", "value": m} for m in range(3))))
    rows, after, pages = [], 0, 0
    while after is not None:
        page = memory("GET", f"/v1/memory/history/{plan}?limit=4&after={after}").json
        rows += page["changes"]
        after, pages = page["next"], pages + 1
    assert pages > 3
    assert [row["key"] for row in rows] == [f"{n}{m}" for n in range(7) for m in range(3)]


@pytest.mark.behaviour("history.actions")
def test_actions_are_numbered_and_have_pages(memory: Raw, plan: str) -> None:
    commit(memory, part(plan, *({"op": "record_action", "name": f"step {n}"} for n in range(5))))
    first = memory("GET", f"/v1/memory/actions/{plan}?limit=3").json
    rest = memory("GET", f"/v1/memory/actions/{plan}?limit=3&after={first['next']}").json
    actions = first["actions"] + rest["actions"]
    assert [(action["number"], action["name"]) for action in actions] == [
        (n + 1, f"step {n}") for n in range(5)
    ]
    assert rest["next"] is None
    assert all(datetime.fromisoformat(action["at"]) for action in actions)


@pytest.mark.behaviour("history.gone")
def test_below_the_horizon_history_is_gone(memory: Raw, plan: str) -> None:
    memory("PUT", path_of(plan, "k"), {"value": 1})
    memory("PUT", path_of(plan, "k"), {"value": 2})
    memory("DELETE", path_of(plan))
    memory("PUT", path_of(plan, "k"), {"value": 3})
    for path in (
        f"/v1/memory/history/{plan}?after=1",
        f"/v1/memory/watch/{plan}?after=1",
        path_of(plan, "k") + "?revision=1",
    ):
        gone = memory("GET", path)
        assert (gone.status, gone.code, gone.json["horizon"]) == (410, "history_gone", 3), path


@pytest.mark.behaviour("watch.without-gap")
def test_watch_goes_on_behind_the_last_event_id(memory: Raw, plan: str) -> None:
    for n in range(3):
        memory("PUT", path_of(plan, "k"), {"value": n})
    path = f"/v1/memory/watch/{plan}"
    with memory.stream(f"{path}?after=0") as stream:
        assert stream.status == 200
        first = [stream.next() for _ in range(2)]
    assert [identity for _, identity, _ in first] == ["1", "2"]
    with memory.stream(path, Last_Event_ID="2") as stream:
        memory("PUT", path_of(plan, "k"), {"value": 3})
        rest = [stream.next() for _ in range(2)]
    assert [data["changes"][0]["argument"] for _, _, data in first + rest] == [0, 1, 2, 3]
    assert [data["revision"] for _, _, data in first + rest] == [1, 2, 3, 4]


@pytest.mark.behaviour("watch.begins-now", "watch.without-gap")
def test_watch_begins_now_and_sees_the_cleanup(memory: Raw, plan: str) -> None:
    memory("PUT", path_of(plan, "k"), {"value": 1})
    with memory.stream(f"/v1/memory/watch/{plan}") as stream:
        assert stream.block() == {"id": "1"}
        commit(
            memory,
            part(plan, {"op": "set", "key": "a", "value": 1}, {"op": "record_action", "name": "x"}),
        )
        memory("DELETE", path_of(plan))
        kind, identity, both = stream.next()
        assert (kind, identity, [row["op"] for row in both["changes"]]) == (
            "commit",
            "2",
            ["set", "record_action"],
        )
        _, identity, last = stream.next()
        assert (identity, [row["op"] for row in last["changes"]]) == ("3", ["cleanup"])


@pytest.mark.behaviour("operations.one-commit")
def test_a_commit_is_all_or_nothing_over_several_plans(memory: Raw, plan: str) -> None:
    other = unique("plan")
    answer = commit(
        memory,
        part(plan, {"op": "increment", "key": "n"}, {"op": "increment", "key": "n", "by": 2}),
        part(
            other, {"op": "append", "key": "l", "value": 1}, {"op": "set", "key": "s", "value": 1}
        ),
    ).json
    assert [(done["plan_id"], done["revision"], done["results"]) for done in answer["plans"]] == [
        (plan, 1, [1, 3]),
        (other, 1, [[1], None]),
    ]
    refused = commit(
        memory,
        part(plan, {"op": "set", "key": "half", "value": 1}),
        part(other, {"op": "increment", "key": "l"}),
    )
    assert (refused.status, refused.code) == (422, "wrong_type")
    assert keys_of(memory, plan) == ["n"]
    assert memory("GET", path_of(other, "l")).json["value"] == [1]
    assert len(memory("GET", f"/v1/memory/history/{plan}").json["changes"]) == 2


@pytest.mark.behaviour("idempotency.first-answer", "idempotency.other-body")
def test_an_idempotency_key_gets_the_first_answer(memory: Raw, plan: str) -> None:
    key = unique("key")
    operation = {"op": "increment", "key": "n"}
    first = commit(memory, part(plan, operation), Idempotency_Key=key)
    assert commit(memory, part(plan, operation), Idempotency_Key=key).json == first.json
    assert memory("GET", path_of(plan, "n")).json["value"] == 1
    other = commit(memory, part(plan, {**operation, "by": 2}), Idempotency_Key=key)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    assert commit(memory, part(plan, operation), Idempotency_Key=unique("key")).json["plans"][0][
        "results"
    ] == [2]


@pytest.mark.behaviour("idempotency.first-answer")
def test_an_idempotency_key_keeps_large_results_too(memory: Raw, plan: str) -> None:
    key, large = unique("key"), "x" * 20_000
    operation = {"op": "append", "key": "l", "value": large}
    first = commit(memory, part(plan, operation), Idempotency_Key=key).json
    commit(memory, part(plan, {"op": "append", "key": "l", "value": "later"}))
    assert commit(memory, part(plan, operation), Idempotency_Key=key).json == first


@pytest.mark.behaviour("idempotency.first-answer", "idempotency.other-body")
def test_an_idempotency_key_covers_put_and_delete(memory: Raw, plan: str) -> None:
    key = unique("key")
    first = memory("PUT", path_of(plan, "k"), {"value": 1}, Idempotency_Key=key)
    assert first.status == 200
    memory("PUT", path_of(plan, "k"), {"value": 2})
    assert (
        memory("PUT", path_of(plan, "k"), {"value": 1}, Idempotency_Key=key).json["revision"] == 1
    )
    assert memory("GET", path_of(plan, "k")).json["value"] == 2
    for path, content in ((path_of(plan, "k"), 3), (path_of(plan, "other"), 1)):
        assert (
            memory("PUT", path, {"value": content}, Idempotency_Key=key).code
            == "idempotency_mismatch"
        )
    gone = unique("key")
    assert memory("DELETE", path_of(plan, "k"), Idempotency_Key=gone).json["deleted"] is True
    assert memory("DELETE", path_of(plan, "k"), Idempotency_Key=gone).json["deleted"] is True
    assert memory("DELETE", path_of(plan), Idempotency_Key=gone).code == "idempotency_mismatch"


@pytest.mark.behaviour("idempotency.other-body")
def test_a_condition_belongs_to_what_an_idempotency_key_covers(memory: Raw, plan: str) -> None:
    key = unique("key")
    memory("PUT", path_of(plan, "k"), {"value": 1})
    assert memory("PUT", path_of(plan, "k"), {"value": 2}, Idempotency_Key=key).status == 200
    other = memory("PUT", path_of(plan, "k"), {"value": 2}, Idempotency_Key=key, If_None_Match="*")
    assert other.status in {412, 422}, (
        "a write that must not overwrite was answered as if it had been made"
    )


@pytest.mark.behaviour("idempotency.of-a-user")
def test_an_idempotency_key_is_its_users_own(
    running: PlatformProcess, memory: Raw, plan: str
) -> None:
    key = unique("key")
    commit(memory, part(plan, {"op": "increment", "key": "n"}), Idempotency_Key=key)
    neighbour = Raw(running.memory_url, memory.headers["X-Tenant-ID"], unique("user"))
    assert (
        commit(
            neighbour, part(plan, {"op": "increment", "key": "n", "by": 5}), Idempotency_Key=key
        ).status
        == 200
    )
    assert memory("GET", path_of(plan, "n")).json["value"] == 1
    assert neighbour("GET", path_of(plan, "n")).json["value"] == 5


@pytest.mark.behaviour("http.encoded-ids")
def test_a_name_in_a_header_may_be_percent_encoded(running: PlatformProcess, plan: str) -> None:
    memory = Raw(running.memory_url, "caf%C3%A9%20" + plan, "%25")
    entry = memory("PUT", path_of(plan, "k"), {"value": 1}).json
    assert (entry["tenantId"], entry["userId"]) == (f"café {plan}", "%")


@pytest.mark.behaviour("http.familiar-fields")
def test_answers_are_compact_json(memory: Raw, plan: str) -> None:
    body = memory("PUT", path_of(plan, "k"), {"value": 1}).body
    assert body == json.dumps(json.loads(body), separators=(",", ":")).encode()
