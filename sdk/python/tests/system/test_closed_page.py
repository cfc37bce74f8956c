"""The page of a closed platform: a key begins a session, and its cookie opens no data."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from closed_platform import Closed, closed_in
from platform_process import PlatformProcess
from running import Answer, Raw

from soorma_common import __version__


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("closed")) as running:
        yield running


def browser(closed: Closed, cookie: str = "") -> Raw:
    raw = Raw(closed.platform.gateway_url)
    if cookie:
        raw.headers["Cookie"] = f"other=1; {cookie}"
    return raw


def begun(closed: Closed, key: str) -> Answer:
    return browser(closed)("POST", "/session", {"key": key})


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.mark.behaviour("identity.page")
def test_the_page_asks_for_a_key_and_says_nothing_else(closed: Closed) -> None:
    page = browser(closed)("GET", "/")
    assert page.status == 200
    text = page.body.decode()
    assert 'type="password"' in text
    assert __version__ not in text
    assert "The record" not in text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/metrics", "/openapi.json", "/asyncapi.json"):
        assert browser(closed)("GET", path).status == 401


@pytest.mark.behaviour("identity.page")
def test_a_key_begins_a_session_that_shows_the_page(closed: Closed) -> None:
    viewer = closed.key("viewer")
    answer = begun(closed, viewer.credential)
    assert (answer.status, answer.json) == (200, {"is_open": True})
    said = answer.headers["set-cookie"]
    assert re.fullmatch(
        r"soorma_session=[0-9a-f]{64}; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict", said
    )
    cookie = cookie_of(answer)
    assert "The record" in browser(closed, cookie)("GET", "/").body.decode()
    assert browser(closed, cookie)("GET", "/health").json["store"] == {"status": "ok"}
    for path in ("/metrics", "/openapi.json", "/asyncapi.json"):
        assert browser(closed, cookie)("GET", path).status == 200
    ended = browser(closed, cookie)("DELETE", "/session")
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert 'type="password"' in browser(closed, cookie)("GET", "/").body.decode()


@pytest.mark.behaviour("identity.page")
def test_a_session_opens_no_data_and_no_change(closed: Closed) -> None:
    cookie = cookie_of(begun(closed, closed.operator))
    ids = {"X_Tenant_ID": "acme", "X_User_ID": "ann"}
    through = browser(closed, cookie)
    for method, path, *body in (
        ("GET", "/v1/memory/working"),
        ("PUT", "/v1/memory/working/p/k", {"value": 1}),
        ("GET", "/v1/identity/keys"),
        ("GET", "/v1/identity/whoami"),
        ("POST", "/v1/identity/keys", {"name": "x", "role": "operator"}),
    ):
        assert through(method, path, *body, **ids).status == 401
    for service in ("memory", "events", "registry", "identity"):
        raw = Raw(getattr(closed.platform, f"{service}_url"))
        assert raw("GET", "/metrics", Cookie=cookie).status == 401


@pytest.mark.behaviour("identity.page", "identity.revoked")
def test_a_session_ends_with_its_key(closed: Closed) -> None:
    viewer = closed.key("viewer")
    cookie = cookie_of(begun(closed, viewer.credential))
    assert browser(closed, cookie)("GET", "/metrics").status == 200
    closed.revoke(viewer.id)
    assert browser(closed, cookie)("GET", "/metrics").status == 401


@pytest.mark.behaviour("identity.page", "identity.keys")
def test_no_session_without_a_valid_key(closed: Closed) -> None:
    for key in ("", "x", closed.operator[:-1], closed.operator + "0"):
        answer = begun(closed, key)
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    page = browser(closed)("POST", "/session", body=b"key=x", Content_Type="text/plain")
    assert page.status == 415
    evil = {"Origin": "http://evil.example"}
    strange = browser(closed)("POST", "/session", {"key": closed.operator}, **evil)
    assert strange.status == 403
    for cookie in ("soorma_session=", "soorma_session=" + "0" * 64, "soorma_session=\xff"):
        assert browser(closed, cookie)("GET", "/metrics").status == 401


@pytest.mark.behaviour("identity.page")
def test_an_open_platform_has_no_sessions(running: PlatformProcess) -> None:
    gateway = Raw(running.gateway_url)
    assert "The record" in gateway("GET", "/").body.decode()
    assert gateway("POST", "/session", {"key": "x"}).code == "invalid_request"
