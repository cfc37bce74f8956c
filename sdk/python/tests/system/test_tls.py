"""A platform that serves TLS, or is behind proxies: what others on a network would see of it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
from cli_shell import Shell
from platform_process import BLOCK, PlatformProcess, clean_environment
from private_ca import Pair, PrivateCA
from running import WAIT, PythonProcess, Raw, eventually
from served_platform import AGENT, APP, OPERATOR, ServedPlatform

from soorma.cli.exits import Exit
from soorma_common.protocol import WHY_HEADER

PUBLIC = "soorma.example"
PROXY, ELSEWHERE = "127.0.0.2", "203.0.113.9"
PORTS = [port for port in BLOCK if port not in (8084, 8086)]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return PrivateCA(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secured(ca: PrivateCA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPlatform]:
    """A platform with TLS."""
    folder = tmp_path_factory.mktemp("secured")
    with ServedPlatform(folder, ca, ca.issue("shared"), SOORMA_LEASE_SECONDS="1") as platform:
        yield platform


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPlatform]:
    """A platform without TLS, behind a proxy that calls it from another address of this machine."""
    named = {"SOORMA_TRUSTED_PROXIES": PROXY, "SOORMA_PUBLIC_HOSTS": PUBLIC}
    with ServedPlatform(tmp_path_factory.mktemp("proxied"), **named) as platform:
        yield platform


def soorma(
    platform: PlatformProcess, *arguments: str, exits: Exit = Exit.OK, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command with this environment and no other settings."""
    done = subprocess.run(
        [sys.executable, "-m", "soorma.cli", *arguments],
        cwd=platform.folder,
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == exits, done.stderr
    return done


def whoami(platform: ServedPlatform, url: str, exits: Exit = Exit.OK, **env: str) -> str:
    """Returns what `soorma whoami` says of a platform at an address."""
    sent = {"SOORMA_IDENTITY_URL": url, "SOORMA_API_KEY": platform.keys[OPERATOR], **env}
    done = soorma(platform, "whoami", exits=exits, **sent)
    return done.stdout + done.stderr


# TLS


@pytest.mark.behaviour("security.tls")
def test_every_port_serves_tls(secured: ServedPlatform) -> None:
    assert PORTS == [8080, 8081, 8082, 8083, 8085]
    for port in PORTS:
        assert secured.ask("/health", port=port, role=None).json["status"] == "ok"
    assert secured.ask().json["key"]["name"] == OPERATOR
    page = secured.ask("/").body.decode()
    for port in PORTS:
        assert f"https://127.0.0.1:{port + secured.offset}" in page
    assert "http://" not in page
    assert f"gateway={secured.gateway_url}" in secured.log.read_text().replace('":"', "=")


@pytest.mark.behaviour("security.tls")
def test_plain_http_is_told_to_encrypt(secured: ServedPlatform) -> None:
    for port in PORTS:
        plain = Raw(f"http://127.0.0.1:{port + secured.offset}")
        answer = plain("PUT", "/v1/memory/working/p/k", body=b"x" * 300_000)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert "https://" in answer.json["detail"]
    said = whoami(secured, f"http://127.0.0.1:{8085 + secured.offset}", Exit.REFUSED)
    assert "begin the address with https://" in said


@pytest.mark.behaviour("security.tls")
def test_who_completes_no_handshake_holds_up_nobody(secured: ServedPlatform) -> None:
    place = ("127.0.0.1", 8080 + secured.offset)
    with ExitStack() as held:
        for _ in range(50):
            for said in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
                client = held.enter_context(closing(socket.create_connection(place, WAIT)))
                client.sendall(said)
        assert secured.ask().status == 200
    with closing(socket.create_connection(place, WAIT)) as client:
        client.sendall(b"\x16nothing of TLS" * 100)
        while client.recv(1000):  # an alert at most, then the end
            pass
    assert secured.ask().status == 200


@pytest.mark.behaviour("security.tls")
def test_a_platform_that_is_not_trusted_gets_no_key(secured: ServedPlatform, ca: PrivateCA) -> None:
    with closing(http.client.HTTPSConnection("127.0.0.1", 8080 + secured.offset)) as connection:
        connection.timeout = WAIT
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/health")
    url = f"https://127.0.0.1:{8085 + secured.offset}"
    said = whoami(secured, url, Exit.UNAVAILABLE)
    assert "is not trusted" in said
    assert "SSL_CERT_FILE" in said
    assert "Key " in whoami(secured, url, SSL_CERT_FILE=str(ca.root))


PACKER = """
worker = Worker("packer")

@worker.on_event("order.paid", topic="business-facts")
async def pack(event, context):
    time.sleep(2)  # the lease of a second is renewed meanwhile, from a thread
    await WorkflowState(context.memory, event.plan_id).set("packed", context.attempt)

worker.run()
"""

SHOP = """
async def main():
    async with PlatformContext.from_env() as platform:
        await platform.bus.publish("order.paid", "business-facts", {}, plan_id="order-1")
        state = WorkflowState(platform.memory, "order-1")
        while not (attempt := await state.get("packed", default=0)):
            await asyncio.sleep(0.05)
        say("packed in attempt", attempt)

asyncio.run(main())
"""


@pytest.mark.behaviour("security.tls")
async def test_agents_and_clients_speak_tls(secured: ServedPlatform, ca: PrivateCA) -> None:
    trust = {
        "SSL_CERT_FILE": str(ca.root),
        "SOORMA_TENANT_ID": "acme",
        "SOORMA_USER_ID": "ada",
    }
    with PythonProcess(secured, PACKER, SOORMA_API_KEY=secured.keys[AGENT], **trust) as packer:
        await packer.subscribed()
        with PythonProcess(secured, SHOP, SOORMA_API_KEY=secured.keys[APP], **trust) as shop:
            assert await shop.until("packed") == "packed in attempt 1"


# the certificate


def shown_by(platform: ServedPlatform) -> str:
    """Returns the fingerprint of the certificate that new connections get."""
    assert platform.context is not None
    place = ("127.0.0.1", 8080 + platform.offset)
    with (
        socket.create_connection(place, WAIT) as plain,
        platform.context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        shown = encrypted.getpeercert(binary_form=True)
    assert shown is not None
    return sha256(shown).hexdigest()


def fingerprint(pair: Pair) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(pair.cert.read_text())).hexdigest()


def log_of(platform: PlatformProcess, message: str) -> list[str]:
    return [line for line in platform.log.read_text().splitlines() if message in line]


@pytest.mark.behaviour("security.certificate")
async def test_a_renewed_certificate_is_served_without_a_restart(
    ca: PrivateCA, tmp_path: Path
) -> None:
    pair = ca.issue("renewed")
    with ServedPlatform(tmp_path, ca, pair) as platform, closing(platform.connection()) as standing:
        assert shown_by(platform) == fingerprint(pair)

        def goes_on() -> bool:
            standing.request("GET", "/health")
            answer = standing.getresponse()
            return answer.read() != b"" and answer.status == 200

        assert goes_on()
        first = standing.sock
        ca.issue("next").put_in_place_of(pair)
        new = fingerprint(pair)
        await eventually(lambda: shown_by(platform) == new)
        assert goes_on()

        pair.cert.write_text("nothing that could be served")
        await eventually(lambda: log_of(platform, "the certificate stays as it was"))
        assert shown_by(platform) == new
        assert goes_on()

        ca.issue("last", "other.example").put_in_place_of(pair)
        await eventually(lambda: len(log_of(platform, "certificate renewed")) == 2)
        said = whoami(
            platform,
            f"https://127.0.0.1:{8085 + platform.offset}",
            Exit.UNAVAILABLE,
            SSL_CERT_FILE=str(ca.root),
        )
        assert "call it by a name that its certificate is for" in said
        assert goes_on()
        assert standing.sock is first, "the same connection all the time"
        assert len(log_of(platform, "the certificate stays as it was")) == 1
        assert platform.stop() == 0
        assert not log_of(platform, "graceful"), "an unused connection does not hold up the end"


@pytest.mark.behaviour("security.certificate", "security.off-loopback")
def test_a_platform_does_not_start_without_what_it_needs(
    shell: Shell, ca: PrivateCA, tmp_path: Path
) -> None:
    pair, other = ca.issue("first"), ca.issue("second")
    keys = {"SOORMA_API_KEY": ""}
    wrong = Pair(pair.cert, other.key).variables()
    said = shell.soorma("serve", exits=Exit.START_FAILED, **wrong, **keys).stderr
    assert f"SOORMA_TLS_KEY: the key in {other.key} is not that of" in said
    locked = ca.encrypted(pair).variables()
    assert "is encrypted" in shell.soorma("serve", exits=Exit.START_FAILED, **locked).stderr
    gone = Pair(tmp_path / "gone.pem", pair.key).variables()
    assert "cannot be read" in shell.soorma("serve", exits=Exit.START_FAILED, **gone).stderr
    half = {"SOORMA_TLS_CERT": str(pair.cert)}
    said = shell.soorma("serve", exits=Exit.USAGE, **half).stderr
    assert "SOORMA_TLS_KEY is missing" in said
    said = shell.soorma("serve", "--host", "0.0.0.0", exits=Exit.USAGE).stderr
    assert "SOORMA_TLS_CERT" in said
    assert "SOORMA_TRUSTED_PROXIES" in said
    assert "SOORMA_PUBLIC_HOSTS" in said
    said = shell.soorma("serve", "--host", "0.0.0.0", exits=Exit.USAGE, **pair.variables()).stderr
    assert "SOORMA_PUBLIC_HOSTS" in said
    assert "SOORMA_TLS_CERT" not in said


@pytest.mark.behaviour("security.off-loopback")
def test_soorma_dev_is_for_this_machine(shell: Shell, ca: PrivateCA) -> None:
    pair = ca.issue("dev").variables()
    for arguments in (("dev",), ("dev", "--secure"), ("dev", "--foreground")):
        said = shell.soorma(*arguments, exits=Exit.USAGE, **pair).stderr
        assert "SOORMA_TLS_CERT is for soorma serve" in said
    elsewhere = {"SOORMA_HOST": "0.0.0.0", "SOORMA_TRUSTED_PROXIES": PROXY}
    said = shell.soorma(
        "dev", "--secure", exits=Exit.USAGE, SOORMA_PUBLIC_HOSTS=PUBLIC, **elsewhere
    ).stderr
    assert "loopback only" in said


# proxies


@pytest.mark.behaviour("security.proxies", "security.host")
@pytest.mark.parametrize("port", [8080, 8085])
def test_a_platform_behind_a_proxy_believes_that_one(proxied: ServedPlatform, port: int) -> None:
    def status(source: str, **headers: str) -> int:
        return proxied.ask(port=port, source=source, **headers).status

    forwarded = {"X_Forwarded_For": ELSEWHERE, "X_Forwarded_Proto": "https"}
    page = f"https://{PUBLIC}"
    assert status(PROXY, Host=PUBLIC, **forwarded) == 200
    assert status(PROXY, Host=PUBLIC, Origin=page, **forwarded) == 200
    assert status(PROXY, Host=PUBLIC, Origin=f"http://{PUBLIC}", **forwarded) == 403
    assert status(PROXY, Host="soorma:8080", X_Forwarded_Host=PUBLIC, **forwarded) == 200
    assert status(PROXY, Host="soorma:8080", **forwarded) == 403
    assert status(PROXY, Host="localhost", **forwarded) == 403

    # from anybody else it is ignored
    assert status("127.0.0.3", Host="localhost", **forwarded) == 200
    assert status("127.0.0.3", Host="evil.example", X_Forwarded_Host=PUBLIC, **forwarded) == 403
    assert status("127.0.0.3", Host=PUBLIC, Origin=page, **forwarded) == 403


@pytest.mark.behaviour("security.tls", "security.proxies")
def test_a_cookie_is_for_encrypted_connections(
    secured: ServedPlatform, proxied: ServedPlatform
) -> None:
    def cookie(platform: ServedPlatform, **headers: str) -> str:
        key = json.dumps({"key": platform.keys[OPERATOR]}).encode()
        sent = {"Content_Type": "application/json", **headers}
        return platform.ask("/session", role=None, body=key, **sent).headers["set-cookie"]

    through = {"Host": PUBLIC, "source": PROXY}
    assert cookie(secured).endswith("; Secure")
    assert cookie(proxied, X_Forwarded_Proto="https", **through).endswith("; Secure")
    assert "Secure" not in cookie(proxied)


@pytest.mark.behaviour("security.own-health")
def test_a_container_asks_for_its_health_by_any_name(proxied: ServedPlatform) -> None:
    for host in ("localhost", "10.0.0.4:8080", "soorma-0.soorma"):
        for port in PORTS:
            answer = proxied.ask("/health", port=port, role=None, Host=host)
            assert answer.json["status"] == "ok"
        assert (proxied.ask(Host=host).status == 200) is (host == "localhost")


HEADERS = [
    ("Forwarded", f"for={ELSEWHERE}"),
    ("X-Forwarded-For", ELSEWHERE),
    ("X-Forwarded-Host", "localhost"),
    ("Via", "1.1 proxy"),
]


@pytest.mark.behaviour("security.open-without-proxies")
@pytest.mark.parametrize(("name", "value"), HEADERS)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/memory/working", "/v1/events/groups"])
def test_an_open_platform_is_not_for_those_behind_proxies(
    running: PlatformProcess, path: str, name: str, value: str
) -> None:
    answer = Raw(running.gateway_url)("GET", path, **{name.replace("-", "_"): value})
    assert (answer.status, answer.code) == (403, "forbidden")
    assert "soorma dev --secure" in answer.json["detail"]


@pytest.mark.behaviour("security.open-without-proxies")
@pytest.mark.parametrize(("name", "value"), HEADERS)
async def test_nor_are_its_sockets(running: PlatformProcess, name: str, value: str) -> None:
    async with aiohttp.ClientSession() as session:
        for url in (running.events_url, running.gateway_url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/v1/events/connect", headers={name: value})
            assert refused.value.status == 403
            assert "soorma%20serve" in (refused.value.headers or {})[WHY_HEADER]
