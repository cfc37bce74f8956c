"""Fixtures of the proofs: the processes of the system tests and the models of the properties."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "system"))
sys.path.insert(0, str(Path(__file__).parent.parent / "properties"))
sys.path.insert(0, str(Path(__file__).parent))

from platform_process import PlatformProcess


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A running platform of this test's own."""
    with PlatformProcess(tmp_path) as running:
        yield running
