"""A key in a file: read at the start, and again when it is not accepted any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soorma import ClientConfig
from soorma.errors import InvalidRequest, Unauthorized
from soorma.testing import LocalPlatform

pytestmark = pytest.mark.behaviour("identity.key-file")
OWN = {"tenant_id": "acme", "user_id": "alice"}


@pytest.fixture
async def platform() -> AsyncIterator[LocalPlatform]:
    async with LocalPlatform(closed=True) as running:
        yield running


def config_of(file: Path) -> ClientConfig:
    return ClientConfig.from_env({"SOORMA_API_KEY_FILE": str(file)})


async def test_a_new_key_is_in_use_as_soon_as_the_file_holds_it(
    platform: LocalPlatform, tmp_path: Path
) -> None:
    first, second = [await platform.key("app", **OWN) for _ in range(2)]
    file = tmp_path / "key"
    file.write_text(f"{first}\n")
    context = platform.context_of(config_of(file).api_key)
    await context.memory.set_plan_state("p", "k", 1)
    file.write_text(f"{second}\n")
    await platform.revoke(first)
    await context.memory.set_plan_state("p", "k", 2)
    assert await context.memory.get_value("p", "k") == 2
    await platform.revoke(second)
    with pytest.raises(Unauthorized):
        await context.memory.set_plan_state("p", "k", 3)


def test_what_is_wrong_with_the_file_is_said_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(InvalidRequest, match=r"SOORMA_API_KEY_FILE: .*key cannot be read: No such"):
        config_of(file)
    for content in (b"", b" \n", b"\xc3\xa9"):
        file.write_bytes(content)
        with pytest.raises(InvalidRequest, match="holds no API key"):
            config_of(file)


def test_a_key_and_a_file_are_not_both_named(tmp_path: Path) -> None:
    env = {"SOORMA_API_KEY": "soorma_secret", "SOORMA_API_KEY_FILE": str(tmp_path / "key")}
    with pytest.raises(InvalidRequest, match="both set") as refused:
        ClientConfig.from_env(env)
    assert "soorma_secret" not in str(refused.value)


def test_the_key_is_shown_by_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("soorma_secret")
    config = config_of(file)
    assert "soorma_secret" not in repr(config) + repr(config.api_key)
