"""A tenant that knows all names of another one, with every operation there is: nothing crosses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from closed_platform import Closed, closed_in
from depth import at_depth, dice
from running import unique

pytestmark = [pytest.mark.proof, pytest.mark.whole, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
SERVICES = ("registry", "events", "memory", "identity")
ROLES = at_depth(("operator",), ("operator", "app"))
TRIED = at_depth(("memory",), SERVICES)
PHASES = at_depth("fuzzing", "examples,coverage,fuzzing")
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance,no_crossing"


class Target(NamedTuple):
    """A tenant with something of everything: its names by parameter, and a text in all of it."""

    closed: Closed
    names: dict[str, list[str]]
    secret: str
    credential: str

    def state(self) -> dict[str, Any]:
        """What it has, as it sees it itself."""
        found = {}
        for service, path in (
            ("memory", "/v1/memory/working"),
            ("memory", "/v1/memory/working/their-plan"),
            ("memory", "/v1/memory/history/their-plan"),
            ("memory", "/v1/memory/actions/their-plan"),
            ("memory", "/v1/memory/semantic"),
            ("memory", "/v1/memory/episodic"),
            ("memory", "/v1/memory/sessions"),
            ("memory", "/v1/memory/procedural"),
            ("memory", "/v1/memory/quarantines"),
            ("registry", "/v1/registry/events"),
            ("identity", "/v1/identity/keys"),
            ("identity", "/v1/identity/blocks"),
            ("identity", "/v1/identity/audit"),
        ):
            got = self.closed.raw(service, self.credential, X_User_ID="eve")("GET", path)
            assert got.status == 200, (path, got.body)
            found[path] = _without_use(got.json)
        return found


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with closed_in(tmp_path_factory.mktemp("tenants"), SOORMA_EMBEDDINGS="none") as closed:
        yield _target(closed)


def _target(closed: Closed) -> Target:
    secret = unique("secret")
    theirs = closed.key("operator", tenant_id="umbrella")
    memory = closed.raw("memory", theirs.credential, X_User_ID="eve")
    events = closed.raw("events", theirs.credential, X_User_ID="eve")
    registry = closed.raw("registry", theirs.credential)
    identity = closed.raw("identity", theirs.credential)
    made = [
        memory("PUT", "/v1/memory/working/their-plan/their-key", {"value": secret}),
        memory(
            "POST", "/v1/memory/commit",
            {"plans": [{"plan_id": "their-plan",
                        "operations": [{"op": "record_action", "name": secret}]}],
             "memories": [
                {"op": "store_knowledge", "content": f"{secret} is known.", "id": "their-passage",
                 "external_id": "their-document", "source": "their-source", "is_public": True},
                {"op": "log_interaction", "role": "user", "content": f"{secret} was said.",
                 "id": "their-interaction", "session_id": "their-session"},
                {"op": "store_procedure", "name": "their-skill", "content": f"Do {secret}.",
                 "id": "their-version", "is_public": True},
            ]},
        ),
        events(
            "POST", "/v1/events/publish",
            {"type": "their-type", "topic": "business-facts", "id": "their-event",
             "plan_id": "their-plan", "correlation_id": "their-correlation",
             "data": {"text": secret}, "response_event": "their-response"},
        ),
        registry("PUT", "/v1/registry/events/their-type/versions/1",
                 {"topic": "business-facts", "description": secret}),
        identity("POST", "/v1/identity/blocks",
                 {"subject": secret, "issuer": "https://a.example", "tenant_id": "umbrella"}),
    ]  # fmt: skip
    for one in made:
        assert one.status < 300, one.body
    key = closed.key("app", tenant_id="umbrella", user_id="eve")
    names = {
        "tenant_id": ["umbrella"], "user_id": ["eve"], "plan_id": ["their-plan"],
        "key": ["their-key"], "event_id": ["their-event"], "passage_id": ["their-passage"],
        "interaction_id": ["their-interaction"], "session_id": ["their-session"],
        "id": ["their-passage", "their-event", "their-interaction", "their-version"],
        "external_id": ["their-document"], "source": ["their-source"], "name": ["their-skill"],
        "type": ["their-type"], "correlation_id": ["their-correlation"],
        "key_id": [key.id, theirs.id], "block_id": [made[-1].json["id"]], "family": [key.id],
        "number": ["1"],
    }  # fmt: skip
    return Target(closed, names, secret, theirs.credential)


def _without_use(found: Any) -> Any:
    """What was found without the times of use, which are the tenant's own."""
    if isinstance(found, dict):
        return {name: _without_use(one) for name, one in found.items() if name != "used_at"}
    return [_without_use(one) for one in found] if isinstance(found, list) else found


@pytest.mark.behaviour("identity.no-crossing")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("service", TRIED)
def test_nothing_crosses(target: Target, service: str, role: str) -> None:
    before = target.state()
    assert target.secret in json.dumps(before)
    key = target.closed.key(role, tenant_id="acme")
    said = schemathesis(target, service, key.credential, at_depth(3, 30))
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
    assert target.state() == before


@pytest.mark.behaviour("identity.no-crossing")
def test_a_crossing_is_found(target: Target) -> None:
    """With a key of the other tenant, its requests are answered: the check says so."""
    of_one = ("--include-operation-id", "memory_get")
    said = schemathesis(target, "memory", target.credential, 200, *of_one)
    assert said.returncode == 1
    assert "Tenants cross" in said.stdout


def schemathesis(
    target: Target, service: str, credential: str, examples: int, *more: str
) -> subprocess.CompletedProcess[str]:
    seed = dice(f"crossing {service}").getrandbits(32)
    url = getattr(target.closed.platform, f"{service}_url")
    told = {"names": target.names, "secret": target.secret, "credential": credential, "seed": seed}
    command = (
        *(sys.executable, "-W", "ignore", "-m", "schemathesis.cli"),
        *("--config-file", "schemathesis_tenants.toml", "run", f"{url}/openapi.json"),
        *("--checks", CHECKS, "--no-color", "--generation-database", "none"),
        *("--phases", PHASES, "--max-examples", str(examples)),
        *("--seed", str(seed), "--header", f"Authorization: Bearer {credential}", *more),
    )
    env = {**os.environ, "SOORMA_TARGET": json.dumps(told)}
    return subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False)
