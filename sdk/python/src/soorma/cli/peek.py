"""A quick look at a service over plain HTTP, for commands that must not pay for an HTTP client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

LARGEST_ANSWER = 4 * 1024 * 1024


class Answer(NamedTuple):
    """What an address answered: status, JSON object and date; without an object, what is the trouble."""

    address: str
    document: Mapping[str, Any] | None
    status: int = 0
    date: str | None = None
    trouble: str = ""


def ask(
    address: str, path: str, *, seconds: float, headers: Mapping[str, str] | None = None, **query: object
) -> Answer:
    """The answer to a GET, whatever its status; what is None in the query is left out."""
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    try:
        connection = _connection(address, seconds)
        try:
            target = f"{urlsplit(address).path.rstrip('/')}{path}" + (f"?{asked}" if asked else "")
            connection.request("GET", target, headers=headers or {})
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER)
        finally:
            connection.close()
    except OSError as error:
        return Answer(address, None, trouble=f"no answer ({error.strerror or str(error) or type(error).__name__})")
    except (HTTPException, ValueError) as error:
        return Answer(address, None, trouble=f"no answer that HTTP knows ({str(error) or type(error).__name__})")
    return _understood(address, response, body)


def _connection(address: str, seconds: float) -> HTTPConnection:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError("the address must begin with http:// or https://")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=seconds)


def _understood(address: str, response: HTTPResponse, body: bytes) -> Answer:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    trouble = "" if isinstance(document, dict) else "another program answers"
    return Answer(address, None if trouble else document, response.status, response.headers["Date"], trouble)
