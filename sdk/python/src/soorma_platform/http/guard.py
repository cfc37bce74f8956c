"""The guard before the door: which requests may come in at all, by their peer and a few headers.

On loopback a web page must not reach in: Host must be a loopback name (against DNS rebinding),
Origin absent or our own. Bodies must be declared as JSON, which a page cannot do without a
preflight that nobody allows. An open platform believes everybody, so it serves this machine only,
and refuses what has come through a proxy.

A closed platform may be called from elsewhere, by the public names that its settings list. Loopback
names are for connections from loopback alone. What headers say of proxies means something only if
a proxy that the settings name has sent it; from anybody else it is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from soorma_platform.http.asgi import AsgiScope
from soorma_platform.http.hosts import LONGEST_HOST, PublicHosts, host_of, is_origin
from soorma_platform.http.peers import Address, TrustedProxies, address_of
from soorma_platform.listening import HOSTS_SETTING, PROXIES_SETTING

HEALTH = "/health"
_X_FORWARDED, _OF_PROXIES = b"x-forwarded-", (b"forwarded", b"via")
_FIRST, _LAST = b"forwarded", b"x-forwarded."
"""No header that matters here is before the one or behind the other, in the order of bytes."""
_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_OF_SOCKETS = {"http": "ws", "https": "wss"}
_MAPPED = "::ffff:"

Headers = list[tuple[bytes, bytes]]


class Guard(Protocol):
    """Refuses requests and sockets before anything of them is read."""

    def refusal(self, scope: AsgiScope) -> str | None:
        """Returns the reason why a request is refused (403), None if it is not.

        `client` and `scheme` of the scope are then those of the client, even behind proxies that
        are trusted; the port of such a client is 0.
        """
        ...


class OpenGuard:
    """The guard of a platform that believes everybody on this machine."""

    def refusal(self, scope: AsgiScope) -> str | None:
        """Returns the reason why a request is refused, None if it is not."""
        hosts, origin, forwarded = _stated(scope["headers"])
        if forwarded:
            return _proxied(forwarded[0][0])
        if len(hosts) != 1 or len(hosts[0]) > LONGEST_HOST or len(origin) > LONGEST_HOST:
            return _malformed(hosts, origin)
        return _refusal_on_loopback(hosts[0], origin, scope.get("scheme", "http"))


class ClosedGuard:
    """The guard of a platform that needs credentials.

    Without TLS of its own, it is called through its proxies, if there are any, or from loopback.
    """

    def __init__(self, public: PublicHosts, proxies: TrustedProxies, *, serves_tls: bool) -> None:
        self._public = public
        self._proxies = proxies
        self._is_behind = bool(proxies) and not serves_tls
        self._trusts = lru_cache(maxsize=1024)(lambda peer: proxies.include(address_of(peer)))
        self._refusal_direct = lru_cache(maxsize=1024)(self._decide_direct)

    def refusal(self, scope: AsgiScope) -> str | None:
        """Returns the reason why a request is refused, None if it is not."""
        hosts, origin, forwarded = _stated(scope["headers"])
        peer, port = scope.get("client") or ("", 0)  # it is None if the peer has gone
        if peer.startswith(_MAPPED):
            scope["client"] = (str(address_of(peer)), port)
        is_proxied = bool(forwarded) and self._trusts(peer)
        if scope["path"] == HEALTH and not (origin or is_proxied) and _is_local(address_of(peer)):
            return None  # a container asks itself for its health, by whatever name it has
        if len(hosts) != 1 or len(hosts[0]) > LONGEST_HOST or len(origin) > LONGEST_HOST:
            return _malformed(hosts, origin)
        if is_proxied:
            return self._refusal_behind_proxies(scope, peer, hosts[0], origin, forwarded)
        return self._refusal_direct(peer, hosts[0], origin, scope.get("scheme", "http"))

    def _decide_direct(self, peer: str, host: bytes, origin: bytes, scheme: str) -> str | None:
        address = address_of(peer)
        is_local = _is_local(address)
        if self._is_behind and not is_local and not self._proxies.include(address):
            return (
                "this platform is behind a proxy: call it there, by its public name; a proxy that "
                f"calls it from {peer} has to be listed in {PROXIES_SETTING}"
            )
        name, page = host.decode("latin-1"), origin.decode("latin-1")
        return self._refusal_of(name, page, _SCHEMES[scheme], is_local=is_local)

    def _refusal_behind_proxies(
        self, scope: AsgiScope, peer: str, host: bytes, origin: bytes, forwarded: Headers
    ) -> str | None:
        schemes, hosts = _forwarded(forwarded, _PROTO), _forwarded(forwarded, _HOST)
        if len(schemes) > 1 or len(hosts) > 1:
            return "the proxies name several hosts or schemes; which is meant is not to be guessed"
        scheme = _SCHEMES.get((schemes or {scope.get("scheme", "http")}).pop().lower())
        if scheme is None:
            return "the header X-Forwarded-Proto of the proxy must be http or https"
        scope["scheme"] = _OF_SOCKETS[scheme] if scope["type"] == "websocket" else scheme
        address = address_of(peer)
        assert address is not None  # noqa: S101 - it is a proxy's
        client = self._proxies.client_of(
            address, (value.decode("latin-1") for name, value in forwarded if name == _FOR)
        )
        scope["client"] = (str(client), 0)
        named = (hosts or {host.decode("latin-1")}).pop()
        # The proxy's connection may come from loopback, but its client does not.
        return self._refusal_of(named, origin.decode("latin-1"), scheme, is_local=False)

    def _refusal_of(self, host: str, origin: str, scheme: str, *, is_local: bool) -> str | None:
        found = host_of(host)
        if found is None or not (
            self._public.include(found, scheme) or (is_local and found.is_loopback)
        ):
            return (
                f"the Host {host[:LONGEST_HOST]!r} is no name of this platform; call it by one "
                f"that {HOSTS_SETTING} lists, or from its own machine as localhost"
            )
        if origin and not is_origin(origin, scheme, found):
            return _of_a_page(origin)
        return None


def _is_local(address: Address | None) -> bool:
    return address is not None and address.is_loopback


def _stated(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], bytes, Headers]:
    """Returns all Hosts, the Origin, and the headers that proxies add."""
    hosts: list[bytes] = []
    origin = b""
    forwarded: Headers = []
    for name, value in headers:
        # This runs for each header of each request: most are passed over by their first letters.
        if name < _FIRST or name > _LAST:
            continue
        if name == b"host":
            hosts.append(value)
        elif name == b"origin":
            origin = value
        elif name in _OF_PROXIES or name.startswith(_X_FORWARDED):
            forwarded.append((name, value))
    return hosts, origin, forwarded


def _forwarded(headers: Headers, wanted: bytes) -> set[str]:
    """Returns the different values of a header that proxies add."""
    texts = (value.decode("latin-1") for name, value in headers if name == wanted)
    return {one.strip(" \t") for text in texts for one in text.split(",")}


@lru_cache(maxsize=256)
def _refusal_on_loopback(host: bytes, origin: bytes, scheme: str) -> str | None:
    name, page = host.decode("latin-1"), origin.decode("latin-1")
    found = host_of(name)
    if found is None or not found.is_loopback:
        return (
            f"the Host {name!r} is not this machine's loopback; call the platform as localhost "
            "or 127.0.0.1"
        )
    if page and not is_origin(page, _SCHEMES[scheme], found):
        return _of_a_page(page)
    return None


def _proxied(header: bytes) -> str:
    name = header.decode("latin-1").title()
    return (
        f"this request came through a proxy (it has the header {name}), and this platform believes "
        "everybody, so it serves its own machine only; start it closed, with keys: soorma serve, "
        "or soorma dev --secure"
    )


def _malformed(hosts: list[bytes], origin: bytes) -> str:
    if len(hosts) > 1:
        return (
            f"the header Host is there {len(hosts)} times; which of them is meant is not to be "
            "guessed"
        )
    if not hosts:
        return "the header Host is missing; it says by which name the platform is called"
    name = "Origin" if len(origin) > LONGEST_HOST else "Host"
    return f"the header {name} is longer than a name can be"


def _of_a_page(origin: str) -> str:
    return f"requests of web pages from {origin!r} are not taken"
