"""Keeps web pages out of a platform on loopback.

Host must be a loopback name (against DNS rebinding), Origin absent or this service itself. Bodies
must be declared as JSON, which a page cannot do without a preflight that nobody allows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the reason why a request with these headers is refused, None if it is not."""
    host, origin = b"", b""
    for name, value in headers:
        if name == b"host":
            if host:
                return "the header Host is there twice; which of them is meant is not to be guessed"
            host = value
        elif name == b"origin":
            origin = value
    return _refusal(host, origin)


@lru_cache(maxsize=256)
def _refusal(host: bytes, origin: bytes) -> str | None:
    name, page = host.decode("latin-1"), origin.decode("latin-1")
    if not _is_loopback(name):
        return (
            f"the Host {name!r} is not this machine's loopback; call the platform as localhost "
            "or 127.0.0.1"
        )
    if page and _netloc(page) != name:
        return f"requests of web pages from {page!r} are not taken"
    return None


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
