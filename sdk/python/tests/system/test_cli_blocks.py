"""`soorma blocks`: tokens that are refused although they are signed and valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_terminal import Terminal
from closed_platform import Closed, closed_in

from soorma.cli.exits import Exit

pytestmark = pytest.mark.behaviour("command.blocks")
ISSUER = "https://login.example"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("closed")) as running:
        yield running


@pytest.fixture
def terminal(closed: Closed, tmp_path: Path) -> Terminal:
    found = Terminal(closed.platform, tmp_path)
    found.env["SOORMA_API_KEY"] = closed.operator
    return found


def listed(terminal: Terminal) -> dict[str, dict[str, object]]:
    found = json.loads(terminal.run("blocks", "list", "--json").stdout)["blocks"]
    return {one["id"]: one for one in found}


def test_a_user_and_a_token_are_blocked_listed_and_free_again(terminal: Terminal) -> None:
    assert "no token is blocked" in terminal.run("blocks", "list").stderr
    made = ("blocks", "create", "--user", "alice", "--tenant", "acme", "--issuer", ISSUER)
    told = terminal.run(*made).stdout
    assert told.startswith("Blocked ")
    assert told.strip().endswith("user alice, in tenant acme")
    one = terminal.run(
        "blocks", "create", "--token", "8c1f0e", "--issuer", ISSUER, "--expires", "1h", "--json"
    )
    token = json.loads(one.stdout)
    assert (token["jti"], "tenant_id" in token) == ("8c1f0e", False)
    table = terminal.run("blocks", "list").stdout
    for cell in ("alice", "acme", "blocked", "8c1f0e", "until "):
        assert cell in table
    user = next(id_ for id_, block in listed(terminal).items() if block.get("subject") == "alice")
    assert terminal.run("blocks", "lift", user).stdout.startswith(f"Lifted {user}: user alice")
    assert listed(terminal)[user]["lifted_at"]
    assert "lifted" in terminal.run("blocks", "list").stdout
    actions = json.loads(terminal.run("audit", "--json").stdout)["entries"]
    assert [one["action"] for one in actions[:3]] == [
        "block.lifted", "block.created", "block.created",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "exits", "why"),
    [
        (("create",), Exit.USAGE, "give one of the two"),
        (("create", "--user", "alice", "--token", "1"), Exit.USAGE, "give one of the two"),
        (("create", "--user", "alice", "--expires", "soon"), Exit.USAGE, "a time such as"),
        (("create", "--user", "alice"), Exit.USAGE, "SOORMA_OIDC_ISSUER"),
        (("lift", "none"), Exit.NOT_FOUND, "there is no block"),
    ],
)
def test_what_cannot_be_says_why(
    terminal: Terminal, arguments: tuple[str, ...], exits: Exit, why: str
) -> None:
    failed = terminal.run("blocks", *arguments, exits=exits)
    assert why in failed.stderr
