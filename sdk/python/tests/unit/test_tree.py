"""What holds of all the code in the tree, and that no linter looks for."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py"))
POINTS = re.compile(r'"""\s*See [`:]')


def test_a_docstring_says_something_itself() -> None:
    """One that only points to another is left out, so that readers and editors inherit that one."""
    assert len(MODULES) > 300, "the tree was found"
    found = [str(path.relative_to(ROOT)) for path in MODULES if POINTS.search(path.read_text("utf-8"))]
    assert not found
