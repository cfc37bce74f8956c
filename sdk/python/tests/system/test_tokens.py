"""Tokens of an issuer on a running platform, which has no key of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from platform_process import PlatformProcess, clean_environment
from running import Answer, Raw, context_of, eventually
from token_issuer import AUDIENCE, TokenIssuer, key_named

from soorma import PlatformContext
from soorma.errors import Forbidden, Unauthorized, Unavailable

ENDS_WITHIN = 2.0


@pytest.fixture
async def issuer() -> AsyncIterator[TokenIssuer]:
    async with TokenIssuer() as running:
        yield running


@pytest.fixture
async def platform(issuer: TokenIssuer, tmp_path: Path) -> AsyncIterator[PlatformProcess]:
    """A closed platform without a key, that accepts the issuer's tokens."""
    env = {
        "SOORMA_ACCESS": "closed",
        "SOORMA_OIDC_ISSUER": issuer.url,
        "SOORMA_OIDC_AUDIENCE": AUDIENCE,
    }
    process = PlatformProcess(tmp_path, env)
    try:
        # In a thread: it asks the issuer, which runs here.
        await asyncio.to_thread(process.start)
        yield process
    finally:
        await asyncio.to_thread(process.close)


def context_with(platform: PlatformProcess, token: str, **more: str) -> PlatformContext:
    return context_of(platform, api_key=token, retry_seconds=0, **more)


@pytest.mark.behaviour("identity.tokens")
async def test_a_user_works_with_a_token(platform: PlatformProcess, issuer: TokenIssuer) -> None:
    async with context_with(platform, issuer.token()) as alice:
        await alice.memory.set_plan_state("p", "k", 1)
        assert await alice.memory.get_value("p", "k") == 1
        with pytest.raises(Forbidden):
            await alice.memory.get_value("p", "k", tenant_id="umbrella", user_id="alice")
    async with context_with(platform, issuer.token(role="viewer")) as viewer:
        assert await viewer.memory.get_value("p", "k") == 1
        with pytest.raises(Forbidden, match="does not permit memory:write"):
            await viewer.memory.set_plan_state("p", "k", 2)
    async with context_with(platform, issuer.token(sub="bob")) as bob:
        assert [plan async for plan in bob.memory.list_plans()] == []
    for refused in (issuer.token(tenant_id=None), issuer.token(aud="x"), issuer.token(exp=5)):
        async with context_with(platform, refused) as nobody:
            with pytest.raises(Unauthorized, match="the token"):
                await nobody.memory.get_value("p", "k")
    assert issuer.fetches == 1


@pytest.mark.behaviour("identity.tokens")
async def test_an_operator_manages_a_tenant_and_makes_keys_for_it(
    platform: PlatformProcess, issuer: TokenIssuer
) -> None:
    identity = Raw(f"{platform.gateway_url}")
    bearer = f"Bearer {issuer.token(role='operator', sub='root')}"

    def call(method: str, path: str, content: object = ...) -> Answer:
        return identity(method, f"/v1/identity/{path}", content, Authorization=bearer)

    made = await asyncio.to_thread(call, "POST", "keys", {"name": "shop", "role": "app"})
    assert (made.status, made.json["key"]["tenant_id"]) == (200, "acme")
    assert made.json["key"]["created_by"] == "token:root"
    refused = await asyncio.to_thread(
        call, "POST", "keys", {"name": "x", "role": "app", "tenant_id": "umbrella"}
    )
    assert refused.status == 403
    who = (await asyncio.to_thread(call, "GET", "whoami")).json
    assert (who["tenant_id"], who.get("user_id"), who.get("key")) == ("acme", None, None)
    assert who["token"]["subject"] == "root"


@pytest.mark.behaviour("identity.token-ends")
async def test_a_stream_ends_with_its_token(platform: PlatformProcess, issuer: TokenIssuer) -> None:
    async with context_with(platform, issuer.token()) as alice:
        await alice.memory.set_plan_state("p", "k", 1)
    expiry = int(time.time()) + 3
    token = issuer.token(exp=expiry)
    async with context_of(platform, api_key=token, retry_seconds=5) as soon:
        async with aclosing(soon.memory.watch_plan("p")) as watching:
            assert await anext(watching) == []
            # It ends, and a new one is refused.
            with pytest.raises(Unauthorized, match="has expired"):
                await asyncio.wait_for(anext(watching), 10)
        assert 0 <= time.time() - expiry <= ENDS_WITHIN
        with pytest.raises(Unauthorized, match="has expired"):
            await soon.memory.get_value("p", "k")


@pytest.mark.behaviour("identity.token-ends")
@pytest.mark.parametrize("block", [{"subject": "alice"}, {"jti": "1"}])
async def test_a_stream_ends_and_no_request_is_taken_once_its_user_or_token_is_blocked(
    platform: PlatformProcess, issuer: TokenIssuer, block: dict[str, str]
) -> None:
    gateway = Raw(platform.gateway_url)
    operator = f"Bearer {issuer.token(role='operator', sub='root', jti='2')}"

    def call(method: str, path: str, content: object = ...) -> Answer:
        return gateway(method, f"/v1/identity/blocks{path}", content, Authorization=operator)

    token = issuer.token()
    async with context_of(platform, api_key=token, retry_seconds=5) as alice:
        await alice.memory.set_plan_state("p", "k", 1)
        async with aclosing(alice.memory.watch_plan("p")) as watching:
            assert await anext(watching) == []
            following = asyncio.ensure_future(anext(watching))
            made = await asyncio.to_thread(call, "POST", "", block)
            began = time.monotonic()
            assert (made.status, made.json["tenant_id"]) == (200, "acme")
            with pytest.raises(Unauthorized, match="was blocked here"):
                await asyncio.wait_for(following, 10)
            assert time.monotonic() - began <= ENDS_WITHIN
        with pytest.raises(Unauthorized, match="was blocked here"):
            await alice.memory.set_plan_state("p", "k", 2)
        listed = await asyncio.to_thread(call, "GET", "")
        assert [one["id"] for one in listed.json["blocks"]] == [made.json["id"]]
        lifted = await asyncio.to_thread(call, "DELETE", f"/{made.json['id']}")
        assert lifted.json["lifted_at"]
        await alice.memory.set_plan_state("p", "k", 2)
    viewer = f"Bearer {issuer.token(role='app')}"
    refused = await asyncio.to_thread(
        lambda: gateway("POST", "/v1/identity/blocks", block, Authorization=viewer)
    )
    assert refused.status == 403


@pytest.mark.behaviour("identity.token-keys")
async def test_what_is_known_of_an_issuer_goes_on_without_it(
    platform: PlatformProcess, issuer: TokenIssuer
) -> None:
    health = Raw(platform.gateway_url)
    async with context_with(platform, issuer.token()) as alice:
        await alice.memory.set_plan_state("p", "k", 1)
        await issuer.stop()
        issuer.status = 500  # of a connection that stands
        await alice.memory.set_plan_state("p", "k", 2)
    unknown = issuer.token(key=key_named("two"))
    async with context_with(platform, unknown) as other:
        with pytest.raises((Unauthorized, Unavailable)):
            await other.memory.get_value("p", "k")
    answer = await asyncio.to_thread(health, "GET", "/health", Authorization=f"Bearer {unknown}")
    assert answer.json["status"] == "ok", "the issuer's trouble is not the platform's"
    log = platform.log.read_text()
    assert json.dumps(issuer.token())[1:40] not in log


WITHOUT = "import sys; sys.modules['joserfc'] = None; from soorma_platform.__main__ import main; "


@pytest.mark.behaviour("identity.tokens")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    env = clean_environment(
        SOORMA_DATABASE=str(tmp_path / "soorma.db"),
        SOORMA_OIDC_ISSUER="https://login.example",
        SOORMA_OIDC_AUDIENCE=AUDIENCE,
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + "sys.exit(main())"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "need joserfc: pip install -e 'sdk/python[oidc]'" in done.stderr
    assert not (tmp_path / "soorma.db").exists()


@pytest.mark.behaviour("identity.tokens")
def test_a_platform_without_an_issuer_imports_no_cryptography() -> None:
    program = (
        "import sys, soorma_platform.runtime; print({'joserfc', 'cryptography'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.behaviour("identity.token-keys")
async def test_it_starts_without_the_issuer_and_finds_it_later(
    issuer: TokenIssuer, tmp_path: Path
) -> None:
    await issuer.stop()
    env = {
        "SOORMA_ACCESS": "closed",
        "SOORMA_OIDC_ISSUER": issuer.url,
        "SOORMA_OIDC_AUDIENCE": AUDIENCE,
        "SOORMA_OIDC_JWKS_URL": issuer.keys_url,
    }
    process = PlatformProcess(tmp_path, env)
    try:
        await asyncio.to_thread(process.start)
        async with context_with(process, issuer.token()) as alice:
            with pytest.raises(Unavailable, match="cannot be fetched"):
                await alice.memory.get_value("p", "k")
            await issuer.start()

            async def works() -> bool:
                try:
                    await alice.memory.set_plan_state("p", "k", 1)
                except Unavailable:
                    return False
                return True

            await eventually(works, 30)
    finally:
        await asyncio.to_thread(process.close)
    assert "keys of the issuer not fetched" in process.log.read_text()
