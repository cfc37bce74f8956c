"""Refusals of the memory service: each has its own code, and changes and harms nothing."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from platform_process import PlatformProcess
from running import WAIT, Answer, Raw, path_of, platform_in, unique

MIB = 1024 * 1024


@pytest.fixture
def memory(running: PlatformProcess) -> Iterator[Raw]:
    """The service for a tenant and user of this test; healthy afterwards, whatever it was sent."""
    raw = Raw(running.memory_url, unique("tenant"), unique("user"))
    yield raw
    assert raw.is_healthy()
    plan = unique("plan")
    assert raw("PUT", path_of(plan, "k"), {"value": 1}).status == 200


@pytest.fixture
def plan() -> str:
    return unique("plan")


def commit(memory: Raw, plan: str, *operations: Any, **more: Any) -> Answer:
    return memory(
        "POST",
        "/v1/memory/commit",
        {"plans": [{"plan_id": plan, "operations": list(operations)}], **more},
    )


def sent(memory: Raw, data: bytes, *, seconds: float = 10) -> bytes:
    """Sends these bytes as they are, and returns the response."""
    parts = urlsplit(memory.url)
    with closing(
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=seconds)
    ) as connection:
        with suppress(ConnectionError):  # it may hang up on the way
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        return received


def head(plan: str, headers: str) -> bytes:
    """The part of a PUT before its body."""
    path = path_of(plan, "k")
    known = "Host: localhost\r\nX-Tenant-ID: t\r\nX-User-ID: u\r\nContent-Type: application/json"
    return f"PUT {path} HTTP/1.1\r\n{known}\r\n{headers}\r\n".encode()


# names and identity


@pytest.mark.behaviour("topics.names")
@pytest.mark.parametrize(
    "name", [".", "..", "%2E", "%2e%2E", "%00", "a%00b", "%ED%A0%80", "%FF", "x" * 256,
             "%C3%A9" * 256, "%F0%9F%98%80" * 256]
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_what_is_no_name_is_refused(memory: Raw, plan: str, name: str, method: str) -> None:
    content = {"value": 1} if method == "PUT" else ...
    for path in (f"/v1/memory/working/{plan}/{name}", f"/v1/memory/working/{name}/k"):
        answer = memory(method, path, content)
        assert (answer.status, answer.code) == (422, "invalid_name"), path
    assert memory("GET", path_of(plan)).json["entries"] == []


@pytest.mark.behaviour("topics.names")
def test_names_in_a_body_are_checked_too(memory: Raw, plan: str) -> None:
    for name in ("", ".", "..", "a\0", "x" * 256):
        for answer in (
            commit(memory, name, {"op": "set", "key": "k", "value": 1}),
            commit(memory, plan, {"op": "set", "key": name, "value": 1}),
            commit(memory, plan, {"op": "record_action", "name": name}),
            memory("POST", "/v1/memory/commit", {"plans": [{"plan_id": plan, "reads": {name: 0}}]}),
            memory("POST", f"/v1/memory/many/{plan}", {"keys": [name]}),
        ):
            assert (answer.status, answer.code) == (422, "invalid_name"), name


@pytest.mark.behaviour("http.which-ids")
@pytest.mark.parametrize(
    ("tenant", "user", "missing"),
    [
        (None, "u", ["X-Tenant-ID"]),
        ("t", None, ["X-User-ID"]),
        (None, None, ["X-Tenant-ID", "X-User-ID"]),
        ("", "u", ["X-Tenant-ID"]),
    ],
)
def test_without_ids_it_says_what_to_send(
    memory: Raw, plan: str, tenant: Any, user: Any, missing: list[str]
) -> None:
    ids = {"X_Tenant_ID": tenant, "X_User_ID": user}
    for method, path, content in (
        ("GET", path_of(plan, "k"), ...),
        ("PUT", path_of(plan, "k"), {"value": 1}),
        ("DELETE", path_of(plan, "k"), ...),
        ("DELETE", path_of(plan), ...),
        ("GET", path_of(plan), ...),
        ("GET", "/v1/memory/working", ...),
        ("POST", f"/v1/memory/many/{plan}", {"keys": []}),
        ("GET", f"/v1/memory/history/{plan}", ...),
        ("GET", f"/v1/memory/actions/{plan}", ...),
        ("GET", f"/v1/memory/watch/{plan}", ...),
        ("POST", "/v1/memory/commit", {"plans": []}),
    ):
        answer = memory(method, path, content, **ids)
        assert (answer.status, answer.code) == (422, "invalid_request"), path
        assert answer.json["missing"] == missing
        assert "X-Tenant-ID" in answer.json["detail"]
        assert "X-User-ID" in answer.json["detail"]


@pytest.mark.behaviour("topics.names", "http.encoded-ids")
@pytest.mark.parametrize("name", [".", "..", "%00", "%ED%A0%80", "x" * 256])
def test_ids_are_names_too(memory: Raw, plan: str, name: str) -> None:
    for header in ("X_Tenant_ID", "X_User_ID"):
        answer = memory("GET", path_of(plan, "k"), **{header: name})
        assert (answer.status, answer.code) == (422, "invalid_name")


# bodies

NO_JSON = [
    "", " ", "{", "nope", "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "[1,]", '{"a":1,}',
    "{'a':1}", "[1 2]", "01", "1.", ".5", "+1", "0x1", '"\\ud800"', '{"\\udc00":1}', '"\t"',
    '"\\x"', "[" * 100_000, "[" * 129 + "]" * 129,
    '{"a":' * 129 + "1" + "}" * 129, "tru", "1" * 5000, "undefined", "// c\n1", "\ufeff1",
]  # fmt: skip


@pytest.mark.behaviour("memory.not-json-refused", "http.one-form")
@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: f"{ascii(text)[:20]} {len(text)}")
def test_only_strict_json_is_a_value(memory: Raw, plan: str, text: str) -> None:
    body = f'{{"value": {text}}}'.encode()
    answer = memory("PUT", path_of(plan, "k"), body=body)
    # a very long integer may be kept, if it is kept as it is
    if text.isdigit() and answer.status == 200:
        assert f'"value":{text}'.encode() in memory("GET", path_of(plan, "k")).body
        return
    assert answer.status == 422, answer.body
    assert answer.code in {"invalid_value", "invalid_request"}
    for op in ("set", "append", "extend", "merge"):
        operation = f'{{"op":"{op}","key":"k","value":{text}}}'
        part = f'{{"plans":[{{"plan_id":"{plan}","operations":[{operation}]}}]}}'.encode()
        answer = memory("POST", "/v1/memory/commit", body=part)
        assert answer.status == 422, (op, answer.body)
        assert answer.code in {"invalid_value", "invalid_request"}
    assert memory("GET", path_of(plan)).json["entries"] == []


@pytest.mark.behaviour("http.one-form")
@pytest.mark.parametrize(
    "inner", [b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b"\x00", b'"\x00"']
)
def test_only_utf8_is_a_value(memory: Raw, plan: str, inner: bytes) -> None:
    answer = memory("PUT", path_of(plan, "k"), body=b'{"value": ' + inner + b"}")
    assert (answer.status, answer.code in {"invalid_value", "invalid_request"}) == (422, True), (
        answer.body
    )
    assert memory("GET", path_of(plan, "k")).status == 404


@pytest.mark.behaviour("http.one-form", "expiry.refused")
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"1", b'"value"', b"{}", b'{"Value": 1}', (b'{"value": 1, "more": '
                                                                    b'2}'), b'{"value": 1} x',
     (b'{"value": 1, "ttl": '
     b'0}'), b'{"value": 1, "ttl": -1}', b'{"value": 1, "ttl": "1"}', b'{"value": 1, "ttl": 1e300}',
     b'{"value": 1, "ttl": NaN}', b"\x00\x01\x02", b"\xff\xfe", b"{" * 10_000, b'{"a":' * 10_000],
    ids=lambda body: f"{ascii(body)[:30]} {len(body)}",
)  # fmt: skip
def test_a_put_has_one_form(memory: Raw, plan: str, body: bytes) -> None:
    answer = memory("PUT", path_of(plan, "k"), body=body)
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body
    assert memory("GET", path_of(plan)).json["revision"] == 0


@pytest.mark.behaviour("http.one-form")
@pytest.mark.parametrize(
    "part",
    [
        {"operations": [{"op": "nothing", "key": "k"}]},
        {"operations": [{"key": "k", "value": 1}]},
        {"operations": [{"op": "set", "key": "k"}]},
        {"operations": [{"op": "set", "key": 1, "value": 1}]},
        {"operations": [{"op": "set", "key": "k", "value": 1, "more": 1}]},
        {"operations": [{"op": "increment", "key": "k", "by": "1"}]},
        {"operations": [{"op": "increment", "key": "k", "by": True}]},
        {"operations": [{"op": "record_action"}]},
        {"operations": [{"op": "ttl", "ttl": 0}]},
        {"operations": [{"op": "ttl"}]},
        {"operations": {}},
        {"operations": [], "reads": {"k": "1"}},
        {"operations": [], "reads": {"k": 1.5}},
        {"operations": [], "expected_revision": "1"},
        {"operations": [], "more": 1},
    ],
    ids=json.dumps,
)
def test_a_commit_has_one_form(memory: Raw, plan: str, part: dict[str, Any]) -> None:
    answer = memory("POST", "/v1/memory/commit", {"plans": [{"plan_id": plan, **part}]})
    assert (answer.status, answer.code) == (422, "invalid_request"), answer.body
    assert memory("GET", path_of(plan)).json["revision"] == 0


@pytest.mark.behaviour("http.one-form")
def test_a_plan_stands_once_in_a_commit(memory: Raw, plan: str) -> None:
    part = {"plan_id": plan, "operations": [{"op": "increment", "key": "n"}]}
    answer = memory("POST", "/v1/memory/commit", {"plans": [part, part]})
    assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.behaviour("http.garbage")
def test_huge_revisions_and_numbers_are_no_fault(memory: Raw, plan: str) -> None:
    for number in (2**63 - 1, 2**63, 2**64, 10**30, -(2**63), -1):
        for answer in (
            commit(
                memory, plan, {"op": "set", "key": "k", "value": 1, "expected_revision": number}
            ),
            memory(
                "POST", "/v1/memory/commit", {"plans": [{"plan_id": plan, "reads": {"k": number}}]}
            ),
            memory(
                "POST",
                "/v1/memory/commit",
                {"plans": [{"plan_id": plan, "expected_revision": number}]},
            ),
        ):
            assert answer.status in {409, 422}, (number, answer.body)
        assert commit(
            memory, plan, {"op": "increment", "key": f"n{number}", "by": number}
        ).status in {200, 422}
        got = memory("GET", path_of(plan, f"n{number}"))
        assert got.status == 404 or got.json["value"] == number


@pytest.mark.behaviour("operations.increment")
def test_increment_stays_within_what_json_can_say(memory: Raw, plan: str) -> None:
    commit(memory, plan, {"op": "set", "key": "n", "value": 1.7e308})
    answer = commit(memory, plan, {"op": "increment", "key": "n", "by": 1.7e308})
    assert (answer.status, answer.code) == (422, "invalid_value")
    assert memory("GET", path_of(plan, "n")).json["value"] == 1.7e308
    big = 2**64 - 1
    commit(memory, plan, {"op": "set", "key": "big", "value": big})
    assert commit(memory, plan, {"op": "increment", "key": "big"}).json["plans"][0]["results"] == [
        big + 1
    ]
    assert memory("GET", path_of(plan, "big")).json["value"] == big + 1


@pytest.mark.behaviour("operations.wrong-type")
@pytest.mark.parametrize(
    ("value", "operation"),
    [(value, {"op": "increment"}) for value in ("1", True, None, [1], {"a": 1})]
    + [(value, {"op": "append", "value": 1}) for value in ("1", 1, None, {"a": 1})]
    + [(value, {"op": "extend", "value": [1]}) for value in ("1", 1, None, {"a": 1})]
    + [(value, {"op": "merge", "value": {"a": 1}}) for value in ("1", 1, None, [1])]
    + [([1], {"op": "extend", "value": {"a": 1}}), ({"a": 1}, {"op": "merge", "value": [1]})],
)
def test_an_operation_that_does_not_fit_leaves_the_value(
    memory: Raw, plan: str, value: Any, operation: Any
) -> None:
    memory("PUT", path_of(plan, "k"), {"value": value})
    answer = commit(memory, plan, {**operation, "key": "k"})
    assert (answer.status, answer.code, answer.json["key"]) == (422, "wrong_type", "k")
    got = memory("GET", path_of(plan, "k")).json
    assert (got["value"], got["revision"]) == (value, 1)


# limits


@pytest.mark.behaviour("limits.named", "limits.defaults")
def test_the_limits_name_themselves_and_change_nothing(memory: Raw, plan: str) -> None:
    memory("PUT", path_of(plan, "k"), {"value": ["x" * (MIB - 100)]})
    big = "x" * MIB
    too_many = [{"op": "increment", "key": "n"}] * 1001
    events = [{"type": "t", "topic": "business-facts"}] * 1001
    for answer, limit, maximum in (
        (memory("PUT", path_of(plan, "v"), {"value": big}), "value_bytes", MIB),
        (
            commit(memory, plan, {"op": "append", "key": "k", "value": "x" * 200}),
            "value_bytes",
            MIB,
        ),
        (commit(memory, plan, *too_many), "commit_operations", 1000),
        (memory("POST", "/v1/memory/commit", {"events": events}), "commit_events", 1000),
        (
            memory("POST", "/v1/memory/commit", {"events": [{**events[0], "data": big}]}),
            "event_bytes",
            MIB // 2,
        ),
    ):
        assert (answer.status, answer.code) == (413, "limit_exceeded")
        assert (answer.json["limit"], answer.json["maximum"]) == (limit, maximum)
        assert answer.json["actual"] > maximum
        assert limit in answer.json["detail"]
    assert memory("GET", path_of(plan) + "?values=false").json == {
        "plan_id": plan, "revision": 1, "keys": ["k"], "next": None
    }  # fmt: skip


@pytest.mark.behaviour("limits.defaults")
def test_a_plan_holds_16_mib(memory: Raw, plan: str) -> None:
    value = "x" * (MIB - 1000)
    for n in range(16):
        assert memory("PUT", path_of(plan, str(n)), {"value": value}).status == 200
    answer = memory("PUT", path_of(plan, "more"), {"value": value})
    assert (answer.status, answer.code, answer.json["limit"]) == (
        413,
        "limit_exceeded",
        "plan_bytes",
    )
    assert memory("GET", path_of(plan, "more")).status == 404
    assert memory("DELETE", path_of(plan, "0")).status == 200
    assert memory("PUT", path_of(plan, "more"), {"value": value}).status == 200


@pytest.mark.behaviour("limits.defaults")
def test_a_plan_holds_10_000_keys(memory: Raw, plan: str) -> None:
    for start in range(0, 10_000, 1000):
        done = commit(
            memory,
            plan,
            *({"op": "set", "key": str(n), "value": 0} for n in range(start, start + 1000)),
        )
        assert done.status == 200
    answer = commit(
        memory, plan, {"op": "set", "key": "new", "value": 0}, {"op": "set", "key": "0", "value": 1}
    )
    assert (answer.status, answer.json["limit"], answer.json["maximum"]) == (
        413,
        "plan_keys",
        10_000,
    )
    assert memory("GET", path_of(plan, "0")).json["value"] == 0
    assert commit(memory, plan, {"op": "set", "key": "0", "value": 1}).status == 200


@pytest.mark.behaviour("limits.configurable")
def test_limits_can_be_configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    env = {"SOORMA_LIMIT_VALUE_BYTES": "10", "SOORMA_LIMIT_PLAN_ACTIONS": "2"}
    with platform_in(tmp_path_factory.mktemp("small"), **env) as platform:
        memory, plan = Raw(platform.memory_url, "t", "u"), unique("plan")
        answer = memory("PUT", path_of(plan, "k"), {"value": "x" * 10})
        assert (answer.json["limit"], answer.json["maximum"], answer.json["actual"]) == (
            "value_bytes",
            10,
            12,
        )
        assert memory("PUT", path_of(plan, "k"), {"value": "x" * 8}).status == 200
        answer = commit(memory, plan, *[{"op": "record_action", "name": "a"}] * 3)
        assert answer.json["limit"] == "plan_actions"


@pytest.mark.behaviour("limits.bounded-reads")
def test_a_body_may_not_be_larger_than_32_mib(memory: Raw, plan: str) -> None:
    body = b'{"value": "' + b"x" * (33 * MIB) + b'"}'
    answer = sent(
        memory, head(plan, f"Content-Length: {len(body)}\r\nConnection: close\r\n") + body
    )
    assert b" 413 " in answer.split(b"\r\n", 1)[0]
    in_chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = sent(
        memory, head(plan, "Transfer-Encoding: chunked\r\nConnection: close\r\n") + in_chunks
    )
    assert b" 413 " in answer.split(b"\r\n", 1)[0]


# whoever is not meant


@pytest.mark.behaviour("http.no-such-path", "http.problem-documents")
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/memory/nothing", 404, "not_found"),
        ("GET", "/v1/memory/working/a/b/c", 404, "not_found"),
        ("GET", "//v1/memory/working", 404, "not_found"),
        ("POST", "/v1/memory/working/a/b", 405, "method_not_allowed"),
        ("PATCH", "/v1/memory/working/a/b", 405, "method_not_allowed"),
        ("PUT", "/v1/memory/working/a", 405, "method_not_allowed"),
        ("GET", "/v1/memory/commit", 405, "method_not_allowed"),
        ("TRACE", "/v1/memory/working/a/b", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods(
    memory: Raw, method: str, path: str, status: int, code: str
) -> None:
    answer = memory(method, path)
    assert (answer.status, answer.code) == (status, code)
    where = f"at {memory.url.removeprefix('http://')}, which is the memory service"
    assert f"there is no {method} {path} {where}" in answer.json["detail"]


@pytest.mark.behaviour("http.no-such-method")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/memory/working/a/b", {"DELETE", "GET", "HEAD", "PUT"}),
        ("PUT", "/v1/memory/working/a", {"DELETE", "GET", "HEAD"}),
        ("GET", "/v1/memory/commit", {"POST"}),
        ("DELETE", "/health", {"GET", "HEAD"}),
    ],
)
def test_an_unknown_method_is_told_which_there_are(
    memory: Raw, method: str, path: str, allowed: set[str]
) -> None:
    answer = memory(method, path)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed
    for named in allowed & {"GET", "HEAD"}:
        assert memory(named, path).status in {200, 404}, "what is named is answered"


@pytest.mark.behaviour("security.host")
@pytest.mark.parametrize(
    "host", ["example.com", "localhost.example.com", "10.0.0.1", "127.0.0.1.example.com", "[bad",
             "", "localhost@example.com", "[::1"]
)  # fmt: skip
def test_another_host_is_refused(memory: Raw, plan: str, host: str) -> None:
    answer = memory("GET", path_of(plan, "k"), Host=host)
    assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.behaviour("security.host")
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1234", "127.0.0.1:80", "127.1.2.3", "[::1]:8083"]
)
def test_every_loopback_host_is_taken(memory: Raw, plan: str, host: str) -> None:
    assert memory("GET", path_of(plan, "k"), Host=host).status == 404


@pytest.mark.behaviour("security.origin")
@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "null",
        "http://localhost",
        "https://127.0.0.1:1",
        "http://[bad",
        "file://",
        "x",
    ],
)
def test_a_web_page_of_another_origin_is_refused(memory: Raw, plan: str, origin: str) -> None:
    for method, content in (("GET", ...), ("PUT", {"value": 1}), ("DELETE", ...)):
        answer = memory(method, path_of(plan, "k"), content, Origin=origin)
        assert (answer.status, answer.code) == (403, "forbidden")
    assert memory("GET", path_of(plan)).json["revision"] == 0


@pytest.mark.behaviour("security.origin")
def test_our_own_origin_is_taken(memory: Raw, plan: str) -> None:
    assert memory("PUT", path_of(plan, "k"), {"value": 1}, Origin=memory.url).status == 200


@pytest.mark.behaviour("security.declared-as-json")
@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json", ""],
)
def test_a_body_must_be_declared_as_json(memory: Raw, plan: str, kind: str | None) -> None:
    body = b'{"value": 1}'
    answer = memory("PUT", path_of(plan, "k"), body=body, Content_Type=kind)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    commits = memory("POST", "/v1/memory/commit", body=b"{}", Content_Type=kind)
    assert commits.status == 415
    assert memory("GET", path_of(plan)).json["revision"] == 0


@pytest.mark.behaviour("http.unpacked")
@pytest.mark.parametrize(
    "header", ["Content-Encoding: gzip", "Content-Encoding: br", "Transfer-Encoding: gzip, chunked"]
)
def test_a_packed_body_is_refused(memory: Raw, plan: str, header: str) -> None:
    body = gzip.compress(b'{"value": 1}')
    length = "" if "chunked" in header else f"Content-Length: {len(body)}\r\n"
    if not length:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = sent(memory, head(plan, f"{length}{header}\r\n") + body)
    assert b" 415 " in answer.split(b"\r\n", 1)[0]
    assert f"not packed as '{header}'".encode() in answer


@pytest.mark.behaviour("http.unpacked")
def test_what_is_not_packed_may_say_so(memory: Raw, plan: str) -> None:
    assert (
        memory("PUT", path_of(plan, "k"), {"value": 1}, Content_Encoding="identity").status == 200
    )


@pytest.mark.behaviour("http.unpacked")
def test_a_body_that_is_announced_as_too_large_is_refused_at_once(memory: Raw, plan: str) -> None:
    answer = sent(memory, head(plan, f"Content-Length: {10**15}\r\n") + b"{")
    assert b" 413 " in answer.split(b"\r\n", 1)[0]
    assert b"request_bytes" in answer


@pytest.mark.behaviour("security.declared-as-json")
def test_a_charset_does_not_hurt(memory: Raw, plan: str) -> None:
    kind = "Application/JSON; charset=utf-8"
    assert memory("PUT", path_of(plan, "k"), {"value": 1}, Content_Type=kind).status == 200


@pytest.mark.behaviour("security.origin")
def test_a_preflight_gets_nothing(memory: Raw, plan: str) -> None:
    for origin in ("http://example.com", memory.url):
        answer = memory(
            "OPTIONS",
            path_of(plan, "k"),
            Origin=origin,
            Access_Control_Request_Method="PUT",
            Access_Control_Request_Headers="content-type",
        )
        assert answer.status in {403, 405}
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.behaviour("conditions.refused", "idempotency.caller")
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("If-Match", "1"),
        ("If-Match", '"x"'),
        ("If-Match", '"-1"'),
        ("If-Match", '"\xb2"'),
        ("If-Match", '"' + "9" * 5000 + '"'),
        ("If-None-Match", '"1"'),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", '"' + "x" * 254 + '"'),
        ("Idempotency-Key", '""'),
        ("Idempotency-Key", ""),
    ],
)
def test_conditions_that_say_nothing_are_refused(
    memory: Raw, plan: str, header: str, value: str
) -> None:
    answer = memory("PUT", path_of(plan, "k"), {"value": 1}, **{header: value})
    if (header, value) == ("If-Match", "1"):  # the quotes may be forgotten
        assert answer.status in {412, 422}
    else:
        assert answer.status == 422, answer.body
    assert memory("GET", path_of(plan)).json["revision"] == 0


@pytest.mark.behaviour("http.positions")
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "\xb2", "9" * 30, "9" * 5000, "0x1"])
def test_positions_that_are_none_are_refused(memory: Raw, plan: str, value: str) -> None:
    answer = memory("GET", f"/v1/memory/watch/{plan}", Last_Event_ID=value)
    assert (answer.status, answer.code) == (422, "invalid_request")
    query = value.encode("latin-1").hex(" ").replace(" ", "%")
    for path in (
        f"/v1/memory/watch/{plan}?after=%{query}",
        f"/v1/memory/history/{plan}?after=%{query}",
        f"/v1/memory/actions/{plan}?after=%{query}",
        f"{path_of(plan)}?limit=%{query}",
        f"{path_of(plan, 'k')}?revision=%{query}",
    ):
        answer = memory("GET", path)
        assert (answer.status, answer.code) == (422, "invalid_request"), path


@pytest.mark.behaviour("limits.bounded-reads")
def test_a_thousand_keys_can_be_read_at_once_and_no_more(memory: Raw, plan: str) -> None:
    keys = [str(n) for n in range(1001)]
    assert memory("POST", f"/v1/memory/many/{plan}", {"keys": keys[:1000]}).status == 200
    assert memory("POST", f"/v1/memory/many/{plan}", {"keys": keys}).status == 422


@pytest.mark.behaviour("http.garbage")
@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /v1/memory/working/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        (
            b"PUT /v1/memory/working/a/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
            b"chunked\r\n\r\nZZ\r\n"
        ),
        b"GET /v1/memory/working/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n",
        (
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "
            b"websocket\r\n\r\n"
        ),
        (
            b"PUT /v1/memory/working/a/b HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: "
            b"t\r\nX-User-ID: u\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        ),
    ],
    ids=lambda data: f"{data[:24]!a} {len(data)}",
)
def test_garbage_on_the_wire_is_no_fault(memory: Raw, data: bytes) -> None:
    status = sent(memory, data).split(b"\r\n", 1)[0]
    assert b" 50" not in status, status


@pytest.mark.behaviour("http.garbage", "watch.leaves-nothing-open")
def test_a_client_that_goes_away_leaves_no_trace(
    running: PlatformProcess, memory: Raw, plan: str
) -> None:
    parts = urlsplit(memory.url)
    before = sockets_of(running.pid)
    for _ in range(20):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", f"/v1/memory/watch/{plan}", headers=memory.headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.close()
        connection.close()
    until = time.monotonic() + WAIT
    while (left := sockets_of(running.pid)) > before:
        assert time.monotonic() < until, f"{left} sockets are open, {before} were"
        time.sleep(0.02)
    assert memory.is_healthy()
    assert memory("GET", path_of(plan)).json["entries"] == []


def sockets_of(pid: int) -> int:
    """The number of sockets that the process has open: from /proc, or by lsof without it."""
    if sys.platform == "linux":
        found = 0
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found += str(each.readlink()).startswith("socket:")
        return found
    command = ["lsof", "-a", "-n", "-P", "-p", str(pid), "-i"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return len(listed.stdout.splitlines())


@pytest.mark.behaviour("forgetting.by-tenant", "security.access")
def test_who_acts_for_another_tenant_forgets_nothing_of_one(
    memory: Raw, running: PlatformProcess
) -> None:
    tenant = memory.headers["X-Tenant-ID"]
    stored = memory("POST", "/v1/memory/semantic", {"passages": [{"content": "Known."}]})
    assert stored.status == 200
    door = "/v1/memory/tenant/forget"
    path = f"{door}?tenant_id={tenant}"
    other, operator = Raw(running.memory_url, unique("other")), Raw(running.memory_url)
    refused = other("POST", path, {"everything": True})
    assert (refused.status, refused.code) == (422, "invalid_request")
    for body in ({}, {"everything": True, "source": "x"}, {"users": "all"}):
        refused = operator("POST", path, body)
        assert (refused.status, refused.code) == (422, "invalid_request"), body
    refused = operator("POST", door, {"everything": True})
    assert (refused.status, refused.code) == (422, "invalid_request")
    assert "say which tenant" in refused.json["detail"]
    fence = "0" * 32
    refused = memory("POST", door, {"everything": True}, X_Soorma_Fence=fence)
    assert (refused.status, refused.code) == (403, "forbidden")
    preview = operator("POST", path, {"everything": True, "preview": True})
    assert (preview.status, preview.json["passages"]) == (200, 1)
    receipt = operator("POST", path, {"everything": True})
    assert (receipt.status, receipt.json["passages"]) == (200, 1)
