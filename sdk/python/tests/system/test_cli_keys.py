"""`soorma keys`, `soorma whoami`, `soorma dev --secure`, and a `soorma serve` that is closed."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cli_shell import SECONDS, Shell, read_until
from platform_process import IDENTITY_PORT, MEMORY_PORT

from soorma.cli.exits import Exit

CREDENTIAL = re.compile(r"soorma_[0-9a-f]{16}_[0-9a-f]{64}")
PACKERS = ("--role", "agent", "--tenant", "acme", "--agent", "packer", "--subscribe",
           "order.paid@business-facts", "--publish", "order.packed@business-facts")  # fmt: skip


def status_of(shell: Shell, key: str | None = None, path: str = "/v1/memory/working") -> int:
    headers = {"X-Tenant-ID": "acme", "X-User-ID": "ann"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{shell.url(MEMORY_PORT)}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def listed(shell: Shell, **env: str) -> dict[str, dict[str, object]]:
    found = json.loads(shell.soorma("keys", "list", "--json", **env).stdout)["keys"]
    return {key["name"]: key for key in found}


@pytest.mark.behaviour("identity.closed-by-default", "identity.keys")
def test_a_closed_platform_on_a_laptop(shell: Shell) -> None:
    said = shell.soorma("dev", "--secure").stdout
    assert "It is closed" in said
    keys = shell.folder / ".soorma" / "keys.toml"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert "operator" in shell.soorma("whoami").stdout
    assert status_of(shell) == 401

    shop = shell.soorma("keys", "create", "shop", "--role", "app", "--tenant", "acme").stdout
    assert CREDENTIAL.fullmatch(shop.strip())
    assert status_of(shell, shop.strip()) == 200
    shell.soorma("keys", "create", "packers", *PACKERS)
    found = listed(shell)
    assert set(found) == {"operator", "app", "agent", "viewer", "shop", "packers"}
    assert found["packers"]["subscribe"] == ["order.paid@business-facts"]
    assert shop.strip().rpartition("_")[2] not in json.dumps(found)
    table = shell.soorma("keys", "list").stdout
    assert re.search(r"shop +app +acme +all +valid", table)

    identity = str(found["shop"]["id"])
    successor = shell.soorma("keys", "rotate", identity, "--overlap", "1h").stdout.strip()
    assert status_of(shell, shop.strip()) == status_of(shell, successor) == 200
    shell.soorma("keys", "revoke", identity, "--yes")
    assert status_of(shell, shop.strip()) == 401
    assert status_of(shell, successor) == 200
    assert "revoked" in shell.soorma("keys", "list").stdout

    before = keys.read_text()
    shell.soorma("dev", "--stop")
    shell.soorma("dev", "--secure")
    assert keys.read_text() == before
    assert status_of(shell, successor) == 200
    assert status_of(shell, shop.strip()) == 401
    refused = shell.soorma("dev", exits=Exit.RUNNING_ELSEWHERE).stderr
    assert "access secure, not open" in refused


@pytest.mark.behaviour("identity.closed-by-default")
def test_a_key_of_the_environment_comes_first(shell: Shell) -> None:
    shell.soorma("dev", "--secure")
    acme = shell.soorma("keys", "create", "a", "--role", "viewer", "--tenant", "acme").stdout
    said = json.loads(shell.soorma("whoami", "--json", SOORMA_API_KEY=acme.strip()).stdout)
    assert (said["key"]["role"], said["tenant_id"]) == ("viewer", "acme")
    wrong = shell.soorma("whoami", exits=Exit.REFUSED, SOORMA_API_KEY="soorma_x").stderr
    assert "holds no API key" in wrong


@pytest.mark.behaviour("identity.closed-by-default")
def test_an_open_platform_says_so(shell: Shell) -> None:
    shell.soorma("dev")
    assert "This platform is open" in shell.soorma("whoami").stdout


@pytest.mark.behaviour("identity.closed-by-default")
def test_serve_needs_a_key_and_is_never_open(shell: Shell) -> None:
    refused = shell.soorma("serve", exits=Exit.NO_KEYS).stderr
    assert "soorma keys create NAME --role operator --database" in refused
    refused = shell.soorma("serve", exits=Exit.USAGE, SOORMA_ACCESS="open").stderr
    assert "soorma serve is closed" in refused
    database = shell.folder / ".soorma" / "soorma.db"
    key = shell.make_key(database)
    serving = shell.spawn("serve")
    read_until(serving, "platform ready")
    assert (status_of(shell), status_of(shell, key)) == (401, 200)
    in_use = shell.soorma(
        "keys", "list", "--database", str(database), exits=Exit.RUNNING_ELSEWHERE
    ).stderr
    assert "leave --database out" in in_use
    address = shell.url(IDENTITY_PORT)
    found = listed(shell, SOORMA_API_KEY=key, SOORMA_IDENTITY_URL=address)
    assert found["operator"]["role"] == "operator"
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SECONDS) == Exit.OK
    # An operator who has lost the key stops the platform, and works on the record.
    told = shell.soorma("keys", "list", "--database", str(database), "--json").stdout
    (known,) = json.loads(told)["keys"]
    shell.soorma("keys", "revoke", known["id"], "--yes", "--database", str(database))
    shell.soorma("serve", exits=Exit.NO_KEYS)


@pytest.mark.behaviour("identity.bootstrap")
def test_keys_to_begin_with(shell: Shell, tmp_path: Path) -> None:
    first, other = (shell.soorma("keys", "generate").stdout.strip() for _ in range(2))
    file = tmp_path / "keys.toml"

    def write(credential: str, more: str = "") -> None:
        file.write_text(
            f'[[keys]]\nname = "ops"\nrole = "operator"\ncredential = "{credential}"\n{more}'
        )

    def serve() -> str:
        """Serves until it is ready; returns the state of the key."""
        serving = shell.spawn("serve", SOORMA_BOOTSTRAP_KEYS_FILE=str(file))
        read_until(serving, "platform ready")
        status = status_of(shell, first)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(SECONDS) == Exit.OK
        return str(status)

    write(first)
    assert [serve(), serve()] == ["200", "200"]
    database = str(shell.folder / ".soorma" / "soorma.db")
    shell.soorma("keys", "revoke", first.split("_")[1], "--yes", "--database", database)
    shell.soorma("keys", "create", "second", "--role", "operator", "--database", database)
    assert serve() == "401"

    swapped = "_".join((*first.split("_")[:2], other.split("_")[2]))
    for content, why in (
        (swapped, "another secret"),
        ("soorma_x", "is none that soorma keys generate makes"),
    ):
        write(content)
        refused = shell.soorma(
            "serve", exits=Exit.START_FAILED, SOORMA_BOOTSTRAP_KEYS_FILE=str(file)
        ).stderr
        assert why in refused
        assert other.split("_")[2] not in refused
    write(first, 'scopes = ["memory:everything"]\n')
    told = shell.soorma("serve", exits=Exit.START_FAILED, SOORMA_BOOTSTRAP_KEYS_FILE=str(file))
    assert "key 'ops'" in told.stderr
    file.write_text(f"not toml {first}")
    told = shell.soorma("serve", exits=Exit.START_FAILED, SOORMA_BOOTSTRAP_KEYS_FILE=str(file))
    assert "is not TOML" in told.stderr
    assert first not in told.stderr
    file.write_text("")
    os.chmod(file, 0o666)  # noqa: PTH101 - this is the mistake
    told = shell.soorma("serve", exits=Exit.START_FAILED, SOORMA_BOOTSTRAP_KEYS_FILE=str(file))
    assert "chmod o-w" in told.stderr


@pytest.mark.behaviour("command.says-what-is-wrong")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("create", "a"), "either a role"),
        (("create", "a", "--role", "god"), "one of app, agent, viewer, operator"),
        (("create", "a", "--scope", "memory:eat"), "there is no scope"),
        (("create", "a", "--role", "app", "--user", "ann"), "names its tenant_id"),
        (("create", "a", "--role", "app", "--agent", "x"), "are for keys that take deliveries"),
        (("create", "a", "--role", "agent"), "names its agents and its subscribe"),
        (("create", "a", "--role", "agent", "--agent", "x", "--subscribe", "t@nowhere"),
         "there is no topic"),
        (("create", "a", "--role", "app", "--expires", "soon"), "a time such as 90d"),
        (("create", "", "--role", "app"), "name must have 1 to 255 characters"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be(shell: Shell, arguments: tuple[str, ...], why: str) -> None:
    database = str(shell.folder / "record.db")
    refused = shell.soorma("keys", *arguments, "--database", database, exits=Exit.USAGE)
    assert why in " ".join(refused.stderr.split())
    assert not Path(database).exists()
