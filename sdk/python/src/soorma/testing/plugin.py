"""The pytest plugin: the fixture `soorma_platform`, a running `LocalPlatform` of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from soorma.testing.platform import LocalPlatform


async def _soorma_platform() -> AsyncIterator[LocalPlatform]:
    """The test's own platform in this process, without a socket: a `LocalPlatform`."""
    from soorma.testing.platform import LocalPlatform  # noqa: PLC0415 - loaded only if used

    async with LocalPlatform() as platform:
        yield platform


def _fixture(function: Any) -> Any:
    """Returns an async fixture: of pytest-asyncio if it is installed, else for anyio's plugin."""
    if find_spec("pytest_asyncio") is None:
        return pytest.fixture(name="soorma_platform")(function)
    import pytest_asyncio  # noqa: PLC0415 - not everybody has it

    return pytest_asyncio.fixture(name="soorma_platform")(function)


soorma_platform = _fixture(_soorma_platform)
