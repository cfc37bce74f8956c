"""The guard before the door: by which names, from where and through whom requests may come in."""

from __future__ import annotations

from typing import Any

import pytest

from soorma_common.errors import InvalidRequest
from soorma_platform.http.guard import ClosedGuard, Guard, OpenGuard
from soorma_platform.http.hosts import HostName, PublicHosts, host_of
from soorma_platform.http.peers import TrustedProxies

LAPTOP, STRANGER, PROXY = "127.0.0.1", "203.0.113.9", "192.0.2.7"
PUBLIC = "soorma.example"


def scope(
    host: str | None = "localhost:8080",
    *sent: tuple[str, str],
    peer: str | None = LAPTOP,
    scheme: str = "http",
    path: str = "/v1/memory/working/p/k",
) -> dict[str, Any]:
    """Returns a request as a server passes it on."""
    headers = ([] if host is None else [("host", host)]) + list(sent)
    return {
        "type": "websocket" if scheme.startswith("ws") else "http",
        "scheme": scheme,
        "path": path,
        "client": None if peer is None else (peer, 40_000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }


def closed(*public: str, proxies: tuple[str, ...] = (), serves_tls: bool = False) -> ClosedGuard:
    return ClosedGuard(PublicHosts(public), TrustedProxies(proxies), serves_tls=serves_tls)


def takes(guard: Guard, *parts: Any, **more: Any) -> bool:
    return guard.refusal(scope(*parts, **more)) is None


# on loopback


@pytest.mark.behaviour("security.host", "security.origin")
@pytest.mark.parametrize("guard", [OpenGuard(), closed(), closed(PUBLIC)])
@pytest.mark.parametrize(
    ("host", "origin", "taken"),
    [
        ("localhost:8083", None, True),
        ("LOCALHOST:8083", None, True),
        ("localhost", None, True),
        ("127.0.0.1:8083", None, True),
        ("127.8.9.1", None, True),
        ("[::1]:8083", None, True),
        ("[0:0::1]", None, True),
        ("localhost:8083", "http://localhost:8083", True),
        ("localhost", "http://localhost:80", True),
        ("localhost:8083", "http://localhost:9999", False),
        ("localhost:8083", "https://localhost:8083", False),
        ("localhost:8083", "http://localhost:8083/", False),
        ("localhost:8083", "http://me@localhost:8083", False),
        ("localhost:8083", "http://evil.example", False),
        ("localhost:8083", "null", False),
        ("evil.example:8083", None, False),
        ("localhost.evil.example", None, False),
        ("localhost.", None, False),
        ("me@localhost", None, False),
        ("localhost/", None, False),
        ("localhost:99999", None, False),
        ("localhost:80:80", None, False),
        ("192.0.2.1", None, False),
        ("[2001:db8::1]", None, False),
        ("", None, False),
        ("[::1", None, False),
        ("::1", None, False),
        ("x" * 5000, None, False),
        ("localhost", "http://" + "x" * 5000, False),
        (None, None, False),
    ],
)
def test_web_pages_are_kept_out(
    guard: Guard, host: str | None, origin: str | None, taken: bool
) -> None:
    assert takes(guard, host, *([("Origin", origin)] if origin else [])) is taken


@pytest.mark.behaviour("security.host")
@pytest.mark.parametrize("guard", [OpenGuard(), closed(PUBLIC)])
def test_a_host_is_named_once(guard: Guard) -> None:
    for first, second in (("localhost", "localhost"), ("", "localhost"), ("evil", "localhost")):
        why = guard.refusal(scope(first, ("Host", second)))
        assert why is not None
        assert "2 times" in why


@pytest.mark.behaviour("security.open-without-proxies")
@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-FORWARDED-Proto",
        "x-forwarded-",
        "Via",
    ],
)
def test_an_open_platform_takes_nothing_of_a_proxy(header: str) -> None:
    for scheme in ("http", "ws"):
        why = OpenGuard().refusal(scope("localhost", (header, "anything"), scheme=scheme))
        assert why is not None
        assert header.title() in why
        assert "soorma serve" in why
        assert "soorma dev --secure" in why


@pytest.mark.behaviour("security.open-without-proxies")
@pytest.mark.parametrize("header", ["Viable", "X-Forward", "X-Tenant-ID", "Forwarded-By"])
def test_similar_headers_are_no_proxy(header: str) -> None:
    assert takes(OpenGuard(), "localhost", (header, "anything"))


# by public names


@pytest.mark.behaviour("security.host")
@pytest.mark.parametrize(
    ("public", "host", "scheme", "taken"),
    [
        (PUBLIC, PUBLIC, "https", True),
        (PUBLIC, "Soorma.Example", "https", True),
        (PUBLIC, f"{PUBLIC}:8443", "https", True),
        (PUBLIC, f"{PUBLIC}.", "https", False),
        (PUBLIC, f"a.{PUBLIC}", "https", False),
        (PUBLIC, "other.example", "https", False),
        (f"{PUBLIC}:8443", f"{PUBLIC}:8443", "https", True),
        (f"{PUBLIC}:8443", PUBLIC, "https", False),
        (f"{PUBLIC}:443", PUBLIC, "https", True),
        (f"{PUBLIC}:443", PUBLIC, "http", False),
        (f"{PUBLIC}:80", PUBLIC, "http", True),
        (f"{PUBLIC}:443", PUBLIC, "wss", True),
        ("203.0.113.5", "203.0.113.5:8080", "https", True),
        ("[2001:DB8::5]", "[2001:db8:0::5]:8080", "https", True),
        (PUBLIC, "localhost:8080", "https", False),
        (PUBLIC, "127.0.0.1", "https", False),
    ],
)
def test_a_platform_is_called_by_its_public_names(
    public: str, host: str, scheme: str, taken: bool
) -> None:
    guard = closed(public, "another.example", serves_tls=True)
    assert takes(guard, host, peer=STRANGER, scheme=scheme) is taken


@pytest.mark.behaviour("security.host")
def test_loopback_names_are_for_connections_from_loopback() -> None:
    guard = closed(PUBLIC, serves_tls=True)
    for peer in (LAPTOP, "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert takes(guard, "localhost", peer=peer)
        assert takes(guard, PUBLIC, peer=peer)
    for one in (STRANGER, "2001:db8::9", "::ffff:203.0.113.9", None):
        why = guard.refusal(scope("localhost", peer=one))
        assert why is not None
        assert "SOORMA_PUBLIC_HOSTS" in why


@pytest.mark.behaviour("security.origin")
def test_the_origin_is_our_own() -> None:
    guard = closed(PUBLIC, serves_tls=True)
    for scheme in ("https", "wss"):
        for origin, taken in (
            (f"https://{PUBLIC}:8080", True),
            (f"http://{PUBLIC}:8080", False),
            (f"https://{PUBLIC}", False),
            ("https://other.example:8080", False),
        ):
            host = f"{PUBLIC}:8080"
            sent = ("Origin", origin)
            assert takes(guard, host, sent, peer=STRANGER, scheme=scheme) is taken
    assert takes(guard, PUBLIC, ("Origin", f"https://{PUBLIC}"), peer=STRANGER, scheme="https")


@pytest.mark.behaviour("security.own-health")
def test_the_health_is_told_to_the_own_machine_by_any_name() -> None:
    guard = closed(PUBLIC, proxies=(LAPTOP,))
    for host in ("10.0.0.4:8080", "soorma-0", "", None, "[bad"):
        assert takes(guard, host, path="/health")
        assert not takes(guard, host, path="/healthy")
        assert not takes(guard, host, path="/metrics")
        assert not takes(guard, host, path="/health", peer=STRANGER)
        assert not takes(guard, host, ("Origin", "http://evil.example"), path="/health")
        # through a proxy on this machine, it is asked for from elsewhere
        assert not takes(guard, host, ("X-Forwarded-For", STRANGER), path="/health")


# through proxies


@pytest.mark.behaviour("security.proxies")
def test_what_anybody_says_of_proxies_is_ignored() -> None:
    guard = closed(PUBLIC, proxies=(PROXY,), serves_tls=True)
    said = [
        ("X-Forwarded-For", "192.0.2.99, 192.0.2.98"),
        ("X-Forwarded-Host", PUBLIC),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=192.0.2.99"),
        ("Via", "1.1 x"),
    ]
    request = scope(PUBLIC, *said, peer=STRANGER)
    assert guard.refusal(request) is None
    assert request["client"] == (STRANGER, 40_000)
    assert request["scheme"] == "http"
    assert not takes(guard, "other.example", *said, peer=STRANGER)
    own = ("Origin", f"https://{PUBLIC}")
    assert not takes(guard, PUBLIC, *said, own, peer=STRANGER)
    assert takes(closed(), "localhost", *said), "on a laptop, too"


@pytest.mark.behaviour("security.proxies")
@pytest.mark.parametrize("kind", ["http", "ws"])
def test_what_a_trusted_proxy_says_counts(kind: str) -> None:
    guard = closed(PUBLIC, proxies=(PROXY,))
    said = [("X-Forwarded-For", f"1.2.3.4, {STRANGER}"), ("X-Forwarded-Proto", "https")]
    request = scope(PUBLIC, *said, ("Origin", f"https://{PUBLIC}"), peer=PROXY, scheme=kind)
    assert guard.refusal(request) is None
    assert request["client"] == (STRANGER, 0)
    assert request["scheme"] == {"http": "https", "ws": "wss"}[kind]
    assert not takes(guard, PUBLIC, *said, ("Origin", f"http://{PUBLIC}"), peer=PROXY)
    # It may have a name of its own for the platform, and says by which one it was called.
    named = ("X-Forwarded-Host", PUBLIC)
    assert takes(guard, "soorma:8080", *said, named, peer=PROXY)
    assert not takes(guard, "soorma:8080", *said, peer=PROXY)
    assert not takes(guard, PUBLIC, *said, ("X-Forwarded-Host", "evil.example"), peer=PROXY)


@pytest.mark.behaviour("security.proxies", "security.host")
def test_the_client_of_a_proxy_on_this_machine_is_elsewhere() -> None:
    guard = closed(PUBLIC, proxies=(LAPTOP,))
    assert takes(guard, "localhost"), "somebody at this machine"
    assert not takes(guard, "localhost", ("X-Forwarded-For", STRANGER))
    assert not takes(guard, "localhost", ("Via", "1.1 proxy"))
    assert takes(guard, PUBLIC, ("X-Forwarded-For", STRANGER))


@pytest.mark.behaviour("security.proxies")
def test_without_tls_a_platform_behind_proxies_is_called_through_them() -> None:
    guard = closed(PUBLIC, proxies=(PROXY, "10.0.0.0/8"))
    for peer in (STRANGER, "::ffff:203.0.113.9", None):
        why = guard.refusal(scope(PUBLIC, ("X-Forwarded-For", "1.2.3.4"), peer=peer))
        assert why is not None
        assert "SOORMA_TRUSTED_PROXIES" in why
    for peer in (PROXY, "10.1.2.3", "::ffff:10.1.2.3", LAPTOP):
        assert takes(guard, PUBLIC, peer=peer)
    assert takes(closed(PUBLIC, proxies=(PROXY,), serves_tls=True), PUBLIC, peer=STRANGER)


@pytest.mark.behaviour("security.proxies")
@pytest.mark.parametrize(
    "said",
    [
        [("X-Forwarded-Host", f"{PUBLIC}, evil.example")],
        [("X-Forwarded-Host", PUBLIC), ("X-Forwarded-Host", "evil.example")],
        [("X-Forwarded-Host", "")],
        [("X-Forwarded-Host", f"me@{PUBLIC}")],
        [("X-Forwarded-Proto", "https, http")],
        [("X-Forwarded-Proto", "gopher")],
        [("X-Forwarded-Proto", "")],
    ],
)
def test_what_is_not_clear_is_not_guessed(said: list[tuple[str, str]]) -> None:
    guard = closed(PUBLIC, proxies=(PROXY,))
    assert not takes(guard, PUBLIC, *said, peer=PROXY)


@pytest.mark.behaviour("security.proxies")
def test_proxies_that_agree_are_believed() -> None:
    guard = closed(PUBLIC, proxies=(PROXY,))
    said = [("X-Forwarded-Proto", "https, https"), ("X-Forwarded-Host", f"{PUBLIC},{PUBLIC}")]
    assert takes(guard, "x", *said, peer=PROXY)


@pytest.mark.behaviour("security.proxies")
def test_an_address_has_one_spelling() -> None:
    request = scope(PUBLIC, peer="::ffff:203.0.113.9")
    assert closed(PUBLIC).refusal(request) is None
    assert request["client"] == (STRANGER, 40_000)


# names


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("A.Example", HostName("a.example")),
        ("a.example:", HostName("a.example")),
        ("a_b-c.example:8080", HostName("a_b-c.example", 8080)),
        ("[::1]:80", HostName("::1", 80)),
        ("[2001:DB8:0::1]", HostName("2001:db8::1")),
        ("10.0.0.1:0", HostName("10.0.0.1", 0)),
    ],
)
def test_names_of_hosts(text: str, host: HostName) -> None:
    assert host_of(text) == host


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize(
    "text",
    ["", "*", "*.example", "https://a.example", "a.example/x", "a example", "a@b", "ä.example",
     "a.example:70000", "[::1", "::1", "[1.2.3.4]", ".example", "a.example."],
)  # fmt: skip
def test_what_is_no_name_of_a_host_is_refused(text: str) -> None:
    assert host_of(text) is None
    with pytest.raises(InvalidRequest, match="SOORMA_PUBLIC_HOSTS"):
        PublicHosts([text])
