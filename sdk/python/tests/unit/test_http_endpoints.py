"""Endpoints are found by their paths as sent, and parameters have their declared types."""

from __future__ import annotations

from typing import Any

import pytest

from soorma_common.errors import (
    InvalidName,
    InvalidRequest,
    LimitExceeded,
    SoormaError,
    Unavailable,
)
from soorma_common.limits import LARGEST_BODY
from soorma_platform import http
from soorma_platform.http import Request
from soorma_platform.http.endpoints import Table, names_of
from soorma_platform.http.requests import UnsupportedMediaType


def request(
    query: str = "", headers: dict[str, str] | None = None, *messages: dict[str, Any]
) -> Request:
    """Returns a request as a server passes it on, with the messages that contain its body."""
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    lines = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    asgi = {"method": "GET", "raw_path": b"/", "query_string": query.encode(), "headers": lines}
    return Request(asgi, receive)


def chunk(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


JSON = {"Content-Type": "application/json"}


@pytest.fixture
def table() -> Table[str]:
    made: Table[str] = Table()
    for path in ("/a", "/a/{x}", "/a/{x}/{y}", "/a/fixed", "/a/{x}/tail"):
        made.add(
            path, "GET", path, tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
        )
    return made


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("/a", "/a"),
        ("/a/1", "/a/{x}"),
        ("/a/fixed", "/a/fixed"),
        ("/a/1/2", "/a/{x}/{y}"),
        ("/a/1/tail", "/a/{x}/tail"),
        ("/a/1%2F2", "/a/{x}"),
        ("/a/", "/a/{x}"),
    ],
)
def test_a_path_leads_to_its_endpoint(table: Table[str], sent: str, meant: str) -> None:
    items, _ = table.find(sent)
    assert items["GET"][0] == meant


@pytest.mark.parametrize("sent", ["", "/", "/b", "//a", "/a/1/2/3", "/A"])
def test_other_paths_lead_nowhere(table: Table[str], sent: str) -> None:
    assert table.find(sent) == ({}, [])


def test_names_of_a_path_are_decoded_once(table: Table[str]) -> None:
    items, parts = table.find("/a/x%2Fy%2525/%C3%A9")
    assert names_of(items["GET"][1], parts) == {"x": "x/y%25", "y": "é"}
    with pytest.raises(InvalidName):
        names_of(("x",), ["%ff"])


def test_numbers_are_bounded_and_never_guessed() -> None:
    limit = http.Number("limit", "", least=1, most=10, default=5)
    assert [limit.of(request(query)) for query in ("", "limit=1", "limit=10")] == [5, 1, 10]
    for text in ("0", "11", "-1", "1.5", "1e3", "", "\u0661", " 1", "9" * 40):
        with pytest.raises(InvalidRequest, match="limit must be a whole number from 1 to 10"):
            limit.of(request(f"limit={text}"))


def test_a_parameter_is_said_once() -> None:
    with pytest.raises(InvalidRequest, match="'limit' is in the query more than once"):
        request("limit=2&limit=7").query  # noqa: B018 - it is read then


@pytest.mark.parametrize(
    ("parameter", "query", "value"),
    [
        (http.Choice("w", "", ("a", "b")), "", "a"),
        (http.Choice("w", "", ("a", "b")), "w=b", "b"),
        (http.Text("t", ""), "t=", None),
        (http.Text("t", ""), "t=a%20b", "a b"),
        (http.Names("n", ""), "n=a,b", frozenset({"a", "b"})),
        (http.Names("n", ""), "", None),
    ],
)
def test_a_parameter_says_what_was_sent(parameter: Any, query: str, value: object) -> None:
    assert parameter.of(request(query)) == value


@pytest.mark.parametrize(
    ("parameter", "query"),
    [
        (http.Choice("w", "", ("a", "b")), "w=c"),
        (http.Text("t", ""), "t=.."),
        (http.Names("n", ""), "n=a,,b"),
    ],
)
def test_a_parameter_refuses_what_it_does_not_take(parameter: Any, query: str) -> None:
    with pytest.raises(InvalidRequest):
        parameter.of(request(query))


async def test_a_body_comes_whole_in_however_many_pieces() -> None:
    assert await request("", JSON, chunk(b"{}")).body() == b"{}"
    pieces = [chunk(b"[1,", more=True), chunk(b"", more=True), chunk(b"2]")]
    assert (
        await request(
            "", {"Content-Type": "application/cloudevents+json; charset=utf-8"}, *pieces
        ).body()
        == b"[1,2]"
    )


async def test_a_body_is_declared_bounded_and_whole() -> None:
    refused: list[tuple[type[SoormaError], dict[str, str], list[dict[str, Any]]]] = [
        (UnsupportedMediaType, {}, [chunk(b"{}")]),
        (UnsupportedMediaType, {"Content-Type": "text/plain"}, [chunk(b"{}")]),
        (UnsupportedMediaType, {"Content-Type": "multipart/form-data"}, [chunk(b"{}")]),
        (Unavailable, JSON, [chunk(b"{", more=True), {"type": "http.disconnect"}]),
        (Unavailable, JSON, [{"type": "http.disconnect"}]),
        (LimitExceeded, JSON, [chunk(b"x" * (LARGEST_BODY // 2 + 1), more=True)] * 3),
        (LimitExceeded, JSON, [chunk(b"x" * (LARGEST_BODY + 1))]),
    ]
    for error, headers, messages in refused:
        with pytest.raises(error):
            await request("", headers, *messages).body()


async def test_an_answer_is_one_start_and_one_body() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await http.WholeResponse(b"{}", tag=b'"7"')({}, _nothing, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["headers"] == [
        (b"content-length", b"2"),
        (b"content-type", b"application/json"),
        (b"etag", b'"7"'),
    ]


async def _nothing() -> dict[str, Any]:
    raise AssertionError("an answer reads nothing")
