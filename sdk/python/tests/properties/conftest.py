"""The number of examples: by the depth of the run, or HYPOTHESIS_PROFILE=thorough (an hour)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from depth import DEPTH
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "sample", max_examples=30, deadline=None, print_blob=True, suppress_health_check=_SLOW
)
settings.register_profile("whole", settings.get_profile("sample"), max_examples=200)
settings.register_profile("thorough", settings.get_profile("sample"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", DEPTH))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks all properties as proofs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("proof")
