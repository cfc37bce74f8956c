"""The platform's services seen from outside: their addresses, and their health."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from soorma.local import PORTS, VARIABLES, Running, address, ports_at, variables

__all__ = [
    "HEALTH_SECONDS",
    "MOST_OFFSET",
    "OK",
    "PORTS",
    "VARIABLES",
    "address",
    "ask",
    "exports",
    "health",
    "health_of",
    "health_of_all",
    "ports_at",
    "unwell",
    "variables",
]

MOST_OFFSET = 65535 - max(PORTS.values())
HEALTH_SECONDS = 2.0
LARGEST_ANSWER = 65536
OK = "ok"


def exports(host: str, ports: Mapping[str, int]) -> list[str]:
    """Returns the lines that a shell needs for the SDK to find this platform, if it needs any."""
    usual = variables("localhost", PORTS)
    found = variables(host, ports).items()
    return [
        f"export {name}={url}"
        for name, url in found
        if (os.environ.get(name) or usual[name]) != url
    ]


def health(host: str, port: int, service: str, seconds: float = HEALTH_SECONDS) -> str:
    """Returns `ok`, or what is wrong with the service, in words."""
    try:
        answer = ask(host, port, seconds)
    except OSError as error:
        return f"no answer ({error.strerror or str(error) or type(error).__name__})"
    if answer.get("service") != service:
        return "another program answers"
    if answer.get("status") == OK:
        return OK
    store = answer.get("store")
    detail = store.get("detail") if isinstance(store, dict) else None
    return f"failing ({detail or answer.get('status') or 'unknown'})"


def ask(host: str, port: int, seconds: float = HEALTH_SECONDS) -> dict[str, object]:
    """Returns a port's response to GET /health, empty if it is no JSON object; OSError if none."""
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - slow to import

    connection = HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        body = connection.getresponse().read(LARGEST_ANSWER)
    except ConnectionError:
        raise
    except HTTPException:
        return {}
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def health_of_all(
    host: str, ports: Mapping[str, int], seconds: float = HEALTH_SECONDS
) -> dict[str, str]:
    """Returns the health of each service; requests all at once."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow to import

    with ThreadPoolExecutor(len(ports)) as pool:
        states = pool.map(lambda service: health(host, ports[service], service, seconds), ports)
        return dict(zip(ports, states, strict=True))


def health_of(running: Running, seconds: float = HEALTH_SECONDS) -> dict[str, str]:
    """Returns the health of each service of a platform that was started in a folder."""
    return health_of_all(running.host, running.ports, seconds)


def unwell(states: Mapping[str, str]) -> str:
    """Lists the services that are not well, each with its trouble; empty if all are."""
    return ", ".join(f"{service}: {state}" for service, state in states.items() if state != OK)
