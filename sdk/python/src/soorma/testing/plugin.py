"""The pytest plugin: the fixture `soorma_platform`, a running `LocalPlatform` for each test that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from soorma.testing.platform import LocalPlatform


async def _soorma_platform() -> AsyncIterator[LocalPlatform]:
    """A platform in this process, without a socket, of this test's own: a `soorma.testing.LocalPlatform`."""
    from soorma.testing.platform import LocalPlatform  # noqa: PLC0415 - only tests that ask for it pay for it

    async with LocalPlatform() as platform:
        yield platform


def _fixture(function: Any) -> Any:
    """An async fixture: of pytest-asyncio where it is installed, else as anyio's plugin takes it."""
    if find_spec("pytest_asyncio") is None:
        return pytest.fixture(name="soorma_platform")(function)
    import pytest_asyncio  # noqa: PLC0415 - not everybody has it

    return pytest_asyncio.fixture(name="soorma_platform")(function)


soorma_platform = _fixture(_soorma_platform)
