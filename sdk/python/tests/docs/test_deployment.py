"""docs/DEPLOYMENT.md: its commands, one after another on a server, whose units are run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from doc_pages import ROOT, Block, pages
from doc_server import PAGE, WALKED, Server, commands_of_the_page


def section(title: str) -> list[str]:
    """The commands of a section that are for a server."""
    lines = PAGE.read_text("utf-8").splitlines()
    begin = lines.index(f"## {title}") + 1
    ends = (at for at, line in enumerate(lines[begin:], begin) if line.startswith("## "))
    end = next(ends, len(lines))

    def is_inside(block: Block) -> bool:
        return block.language == "bash" and begin < block.line <= end

    inside = [block for block in pages()[PAGE].blocks if is_inside(block)]
    told = commands_of_the_page()
    return [one for block in inside for one in block.commands if told[one] == WALKED]


@pytest.mark.proof
@pytest.mark.whole
@pytest.mark.timeout(300)
@pytest.mark.behaviour("deploy.page", "docs.commands-run")
def test_a_server_is_set_up_and_kept(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        said = [server.run(command) for command in section("A server in ten minutes")]
        together = "\n".join(said)
        assert "(operator), valid" in together
        assert "Workflow completed" in together
        credential = re.compile(r"^soorma_[0-9a-f]{16}_[0-9a-f]{64}$", re.MULTILINE)
        assert len(credential.findall(together)) == 2, "each new key is shown, once"
        for title in ("Backup", "Upgrade"):
            for command in section(title):
                server.run(command)
        (create,) = section("From an open serve")
        server.run("sudo systemctl stop soorma")
        assert credential.match(server.run(create))
        server.run("sudo systemctl start soorma")
        (rotate,) = section("Rotation")
        assert credential.match(server.run(rotate.replace("KEY ", f"{key_of(server, 'shop')} ")))
        revoke, *rescue = section("A lost key")
        server.run(revoke.replace("KEY ", f"{key_of(server, 'packers')} "))
        for command in rescue:
            server.run(command)
        keys = keys_of(server)
        assert {"ops", "rescue", "shop", "packers", "operator", "app", "agents"} == {
            key["name"] for key in keys
        }
        assert {key["name"] for key in keys if "revoked_at" in key} == {"packers"}
        assert [key["name"] for key in keys].count("shop") == 2
        tls(server)


def tls(server: Server) -> None:
    said = [server.run(command) for command in section("TLS")]
    assert any("(operator), valid" in one for one in said)
    (client,) = (one for one in section("A server in ten minutes") if "client.py" in one)
    trusting = (
        "env SSL_CERT_FILE=/etc/ssl/soorma-ca.pem SOORMA_EVENT_SERVICE_URL=https://localhost:8082 "
    )
    assert "Workflow completed" in server.run(client.replace("env ", trusting, 1))


def keys_of(server: Server) -> list[dict[str, str]]:
    (whoami,) = (c for c in section("A server in ten minutes") if c.endswith("soorma whoami"))
    found = json.loads(server.run(whoami.replace("whoami", "keys list --json")))
    keys: list[dict[str, str]] = found["keys"]
    return keys


def key_of(server: Server, name: str) -> str:
    return next(key["id"] for key in keys_of(server) if key["name"] == name)


@pytest.mark.behaviour("deploy.page")
def test_what_the_page_says_of_the_units_is_so() -> None:
    text = PAGE.read_text("utf-8")
    unit = (ROOT / "deploy/systemd/soorma.service").read_text("utf-8")
    codes = re.findall(r"\((\d+)\)", text.partition("that cannot help:")[2].partition("\n- ")[0])
    assert f"RestartPreventExitStatus={' '.join(codes)}\n" in unit
