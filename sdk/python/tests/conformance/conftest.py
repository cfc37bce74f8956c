"""Lets this folder's suites import each other, with their assertions rewritten as in tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

for _suite in Path(__file__).parent.glob("*_suite.py"):
    pytest.register_assert_rewrite(_suite.stem)
pytest.register_assert_rewrite("record")
