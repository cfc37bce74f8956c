"""Checks of the agents: they are alive, and handle the events of their groups."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from soorma.cli import connection
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import PATIENCE_SECONDS, Scene, speaks_for
from soorma.transport.headers import tenant_headers
from soorma_common.names import DEFAULT_TENANT
from soorma_common.terminal import plain

LATE_SECONDS = 60.0
MISSED = 2 / 3
"""The share of its time to live after which an instance is silent; a report is due each third."""

MOST_AGENTS = 1000


def announced(scene: Scene) -> Iterator[Finding]:
    """Finds registered agents that are no longer heard from."""
    headers = tenant_headers(_tenant(scene) or DEFAULT_TENANT)
    found = yield from asked(
        scene, "registry", "agents", "/v1/registry/agents", headers, limit=MOST_AGENTS
    )
    if found is None:
        return
    silent = [
        f"{agent['name']} ({instance['instance']}) for {duration(age)}"
        for agent in found["agents"]
        for instance in agent["instances"]
        if (age := _age(instance["heard_at"])) > instance["ttl"] * MISSED
    ]
    if silent:
        yield warning(
            "agents",
            plain(f"nothing is heard of {', '.join(silent)}"),
            "they hang, are frozen or are gone: look at their logs, start them again",
        )
    else:
        yield ok(
            "agents",
            plain(", ".join(agent["name"] for agent in found["agents"])) or "none is alive",
        )


def groups(scene: Scene) -> Iterator[Finding]:
    """Finds groups whose events wait because no agent, or too few, take them."""
    found = yield from asked(
        scene, "events", "groups", "/v1/events/groups", tenant_id=_tenant(scene)
    )
    if found is None:
        return
    late = [finding for group in found["groups"] for finding in _late(group)]
    yield from late
    if not late:
        connected = sum(len(group["replicas"]) for group in found["groups"])
        yield ok(
            "groups",
            f"{len(found['groups'])}, with {connected} agents connected; none keeps events waiting",
        )


def dead_letters(scene: Scene) -> Iterator[Finding]:
    """Finds dead letters."""
    found = yield from asked(
        scene, "events", "dead letters", "/v1/events/dead-letters", tenant_id=_tenant(scene)
    )
    if found is None:
        return
    letters = found["dead_letters"]
    if not letters:
        yield ok("dead letters", "none")
        return
    count = f"{len(letters)} or more" if found["next"] else str(len(letters))
    last = letters[-1]
    yield warning(
        "dead letters",
        plain(f"{count} wait; of group {last['group']}: {last['type']}, {last['reason']}"),
        "soorma events dead-letters lists them; when the cause is mended, soorma events replay "
        "gives them back",
    )


def asked(
    scene: Scene,
    service: str,
    check: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    **query: object,
) -> Generator[Finding, None, Mapping[str, Any] | None]:
    """Returns a service's response; None if it is down, or if it fails, which yields a problem."""
    health = scene.responses.get(service)
    if health is None or not speaks_for(health, service):
        return None
    response = connection.probe(
        health.address,
        path,
        seconds=PATIENCE_SECONDS,
        headers={**(headers or {}), **connection.key_headers()},
        **query,
    )
    if response.document is not None and response.status == HTTPStatus.OK:
        return response.document
    why = response.trouble or (response.document or {}).get("detail") or f"status {response.status}"
    yield problem(check, f"{health.address}{path}: {why}", "soorma dev --logs may say why")
    return None


def _tenant(scene: Scene) -> str | None:
    return scene.environment.get("SOORMA_TENANT_ID") or None


def _late(group: Mapping[str, Any]) -> Iterator[Finding]:
    waiting, oldest = group["waiting"], group["oldest_at"]
    if not waiting or oldest is None:
        return
    age = _age(oldest)
    told = plain(f"{waiting} events wait for {group['name']}, the oldest for {duration(age)}")
    if not group["replicas"]:
        yield warning(
            "groups",
            f"{told}, and none of its agents is connected",
            f"start {plain(group['name'])}",
        )
    elif group["ready"] and age > LATE_SECONDS:
        count = len(group["replicas"])
        yield warning(
            "groups",
            f"{told}, with {count} connected",
            "start more of it, or raise its max_concurrency",
        )
    for one in group["subscriptions"]:
        if one["set_aside"] and not one["served"]:
            name, kind = plain(group["name"]), plain(one["type"])
            topic = "" if one["topic"] == "*" else f" --topic {one['topic']}"
            command = shlex.join(["soorma", "events", "unsubscribe", name, kind])
            yield warning(
                "groups",
                f"{one['set_aside']} events of type {kind} wait for {name}, and no connected agent "
                "of it handles them",
                f"start one that does, or end the subscription: {command}{topic}",
            )


def _age(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def duration(seconds: float) -> str:
    """Returns a time for people."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


CHECKS = (announced, groups, dead_letters)
