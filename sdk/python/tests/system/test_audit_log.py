"""The audit of actions on a closed platform: who has done what, over HTTP and by the command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from cli_shell import Shell
from closed_platform import Closed, Key, closed_in
from running import WAIT, Answer, eventually, unique

from soorma.cli.exits import Exit
from soorma_common.protocol import PROTOCOL

SEA = "The sea is salty."


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("closed")) as running:
        yield running


class Office:
    """A tenant, with an operator and an application of its own."""

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        self.tenant = unique("tenant")
        self.ops = closed.key("operator", tenant_id=self.tenant)
        self.app = closed.key("app", tenant_id=self.tenant, user_id="ann")

    def ask(
        self, key: Key, service: str, method: str, path: str, *content: Any, **more: str
    ) -> Answer:
        answer = self.closed.raw(service, key.credential, **more)(method, path, *content)
        assert answer.status == 200, answer.body
        return answer

    def page(self, query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.ask(
            self.ops, "identity", "GET", f"/v1/identity/audit?{query}"
        ).json
        return found

    def told(self, query: str = "") -> list[tuple[str, str | None, str | None, str | None]]:
        """Returns what is in the audit, the first row first."""
        return [
            (row["action"], row.get("by"), row.get("user_id"), row.get("subject"))
            for row in reversed(self.page(query)["entries"])
        ]


@pytest.fixture
def office(closed: Closed) -> Office:
    return Office(closed)


@pytest.mark.behaviour("identity.audit")
def test_keys_plans_and_memories(office: Office) -> None:
    ops, app, tenant = office.ops, office.app, office.tenant
    before = office.told()
    assert [row[0] for row in before] == ["key.created", "key.created"]
    body = {"name": "shop", "role": "app"}
    made = office.ask(ops, "identity", "POST", "/v1/identity/keys", body).json
    shop = made["key"]["id"]
    successor = office.ask(
        ops, "identity", "POST", f"/v1/identity/keys/{shop}/rotate", {"overlap": 60}
    ).json
    office.ask(ops, "identity", "DELETE", f"/v1/identity/keys/{shop}")

    office.ask(app, "memory", "PUT", "/v1/memory/working/p/k", {"value": SEA})
    office.ask(app, "memory", "DELETE", "/v1/memory/working/p")
    knowledge = {"passages": [{"content": SEA, "source": "mail"}]}
    stored = office.ask(app, "memory", "POST", "/v1/memory/semantic", knowledge).json
    passage = stored["stored"][0]["id"]
    office.ask(app, "memory", "DELETE", f"/v1/memory/semantic/{passage}")
    office.ask(app, "memory", "POST", "/v1/memory/semantic", knowledge)
    office.ask(app, "memory", "POST", "/v1/memory/forget", {"source": "mail"})
    origin = {"source": "mail", "reason": SEA}
    office.ask(ops, "memory", "POST", "/v1/memory/tenant/quarantines", origin)
    office.ask(ops, "memory", "DELETE", "/v1/memory/tenant/quarantines?source=mail")
    said = {"interactions": [{"session_id": "s", "role": "user", "content": SEA}]}
    office.ask(app, "memory", "POST", "/v1/memory/episodic", said)
    office.ask(ops, "memory", "POST", "/v1/memory/tenant/forget", {"everything": True})

    assert office.told()[len(before) :] == [
        ("key.created", ops.id, None, shop),
        ("key.rotated", ops.id, None, shop),
        ("key.revoked", ops.id, None, shop),
        ("plan.deleted", app.id, "ann", "p"),
        ("memories.forgotten", app.id, "ann", passage),
        ("memories.forgotten", app.id, "ann", "memories by source"),
        ("quarantine.begun", ops.id, None, "source:mail"),
        ("quarantine.ended", ops.id, None, "source:mail"),
        ("memories.forgotten", ops.id, "ann", "all memories"),
    ]
    shown = json.dumps(office.page())
    for secret in (SEA, made["credential"], successor["credential"]):
        assert secret.rpartition("_")[2] not in shown
    assert all(row["tenant_id"] == tenant for row in office.page()["entries"])


@asynccontextmanager
async def agent_of(office: Office, credential: str, event_type: str) -> AsyncIterator[None]:
    """An agent that is connected, and settles nothing."""
    headers = {"Authorization": f"Bearer {credential}"}
    url = f"{office.closed.platform.events_url}/v1/events/connect"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as one:
        hello = {
            "frame": "hello", "agent": "packer", "instance": unique("i"), "max_concurrency": 1,
            "subscriptions": [{"type": event_type}], "protocol": PROTOCOL,
        }  # fmt: skip
        await one.send_bytes(json.dumps(hello).encode())
        welcome = await one.receive(timeout=WAIT)
        assert json.loads(welcome.data)["frame"] == "welcome"
        yield


@pytest.mark.behaviour("identity.audit")
async def test_subscriptions_and_dead_letters(office: Office) -> None:
    grants = {"agents": ["packer"], "subscribe": ["paid"], "publish": ["packed"]}
    _, credential = office.closed.key("agent", tenant_id=office.tenant, **grants)
    ops, app = office.ops, office.app
    async with agent_of(office, credential, "paid"):
        pass
    event = {"type": "paid", "topic": "business-facts", "data": {"text": SEA}}
    office.ask(app, "events", "POST", "/v1/events/publish", event)
    before = len(office.told())

    def end() -> Answer:
        raw = office.closed.raw("events", ops.credential)
        return raw("DELETE", "/v1/events/groups/packer/subscriptions/paid")

    # It may take a moment until the platform has noticed that the agent is gone.
    ended = await eventually(lambda: answer if (answer := end()).status == 200 else None)
    assert ended.json["waited"] == 1
    (letter,) = office.ask(ops, "events", "GET", "/v1/events/dead-letters").json["dead_letters"]
    async with agent_of(office, credential, "paid"):
        office.ask(ops, "events", "POST", f"/v1/events/dead-letters/{letter['id']}/replay")
    assert office.told()[before:] == [
        ("subscription.ended", ops.id, None, "packer"),
        ("deadletter.replayed", ops.id, "ann", str(letter["id"])),
    ]
    assert SEA not in json.dumps(office.page())


@pytest.mark.behaviour("identity.audit", "identity.tenants")
def test_it_is_for_operators_and_of_their_tenant(closed: Closed, office: Office) -> None:
    other = Office(closed)
    path = f"/v1/identity/audit?tenant_id={office.tenant}"
    assert closed.raw("identity", other.ops.credential)("GET", path).code == "forbidden"
    assert closed.raw("identity", office.app.credential)("GET", path).status == 403
    viewer = closed.key("viewer", tenant_id=office.tenant)
    assert closed.raw("identity", viewer.credential)("GET", path).status == 403
    everything = closed.raw("identity", closed.operator)
    assert {row["tenant_id"] for row in everything("GET", path).json["entries"]} == {office.tenant}
    tenants = {
        row.get("tenant_id")
        for row in everything("GET", "/v1/identity/audit?limit=1000").json["entries"]
    }
    assert {office.tenant, other.tenant, None} <= tenants


@pytest.mark.behaviour("identity.audit")
def test_it_is_read_page_by_page_and_by_action(office: Office) -> None:
    for plan in ("p", "q", "r"):
        office.ask(office.app, "memory", "DELETE", f"/v1/memory/working/{plan}")
    first = office.page("action=plan.deleted&limit=2")
    assert [row["subject"] for row in first["entries"]] == ["r", "q"]
    last = office.page(f"action=plan.deleted&limit=2&before={first['next']}")
    assert [row["subject"] for row in last["entries"]] == ["p"]
    assert last["next"] is None
    wrong = office.closed.raw("identity", office.ops.credential)
    answer = wrong("GET", "/v1/identity/audit?action=plan.eaten")
    assert (answer.status, "plan.deleted" in answer.json["detail"]) == (422, True)


@pytest.mark.behaviour("identity.audit", "command.audit")
def test_the_command_lists_it(shell: Shell) -> None:
    shell.soorma("dev", "--secure")
    shell.soorma("keys", "create", "shop", "--role", "app", "--tenant", "acme")
    table = shell.soorma("audit").stdout
    assert "bootstrap" in table
    found = json.loads(shell.soorma("audit", "--tenant", "acme", "--json").stdout)
    (row,) = found["entries"]
    assert (row["action"], row["by_name"]) == ("key.created", "operator")
    assert row["detail"] == {"name": "shop", "role": "app"}
    few = shell.soorma("audit", "--limit", "1")
    assert "there are older ones" in few.stderr
    assert "nobody has done anything" in shell.soorma("audit", "--action", "plan.deleted").stderr
    shell.soorma("dev", "--stop")
    beside = ("audit", "--database", ".soorma/soorma.db")
    assert shell.soorma(*beside).stdout == table
    assert json.loads(shell.soorma(*beside, "--tenant", "acme", "--json").stdout) == found
    assert "there are older ones" in shell.soorma(*beside, "--limit", "1").stderr
    assert (
        "there is no database"
        in shell.soorma("audit", "--database", "none.db", exits=Exit.DATABASE).stderr
    )
