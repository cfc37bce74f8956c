"""What the tests with real processes share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from platform_process import …` in these tests

from platform_process import PlatformProcess


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A running platform of this test's own, with everything it has in a folder of its own."""
    folder = tmp_path / "platform"
    folder.mkdir()
    with PlatformProcess(folder) as running:
        yield running
