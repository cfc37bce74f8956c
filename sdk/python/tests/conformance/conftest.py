"""Lets the suites of this folder import each other, with their assertions explained like those of tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

for _suite in Path(__file__).parent.glob("*_suite.py"):
    pytest.register_assert_rewrite(_suite.stem)
pytest.register_assert_rewrite("record")
