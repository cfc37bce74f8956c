"""A closed platform in a test, with tokens of an issuer: its clock ends them, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from token_issuer import AUDIENCE, TokenIssuer

from soorma import Worker
from soorma.errors import Forbidden, Unauthorized
from soorma.testing import LocalPlatform
from soorma_platform.identity.oidc import OidcSettings


@pytest.fixture
async def issuer() -> AsyncIterator[TokenIssuer]:
    async with TokenIssuer() as running:
        yield running


@pytest.fixture
async def platform(issuer: TokenIssuer) -> AsyncIterator[LocalPlatform]:
    settings = OidcSettings(issuer.url, AUDIENCE)
    async with LocalPlatform(closed=True, oidc=settings) as running:
        yield running


@pytest.mark.behaviour("identity.token-ends")
async def test_a_token_and_its_streams_end_at_their_time(
    platform: LocalPlatform, issuer: TokenIssuer
) -> None:
    alice = platform.context_of(issuer.token())
    await alice.memory.set_plan_state("p", "k", 1)
    async with aclosing(alice.memory.watch_plan("p")) as watching:
        assert await anext(watching) == []
        await platform.advance(3500)
        assert await alice.memory.get_value("p", "k") == 1
        following = asyncio.ensure_future(anext(watching))
        await platform.advance(100)
        with pytest.raises(Unauthorized, match="has expired"):
            await asyncio.wait_for(following, 10)
    with pytest.raises(Unauthorized, match="has expired"):
        await alice.memory.set_plan_state("p", "k", 2)


@pytest.mark.behaviour("identity.tokens")
@pytest.mark.parametrize("claims", [{"role": "agent"}, {"role": "operator"},
                                    {"role": None, "scope": "deliveries:take"}])  # fmt: skip
async def test_no_token_takes_deliveries(
    platform: LocalPlatform, issuer: TokenIssuer, claims: dict[str, str]
) -> None:
    agent = Worker("packer", api_key=issuer.token(**claims))

    @agent.on_event("order.paid", topic="business-facts")
    async def pack(event: object, context: object) -> None:
        raise AssertionError

    with pytest.raises(Forbidden):
        await platform.run(agent)
