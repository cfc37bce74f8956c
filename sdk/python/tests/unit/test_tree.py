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


def test_the_sdk_keeps_to_what_is_public() -> None:
    """Each exception is one to think about: there are three, with their reasons."""
    sdk = [path.read_text("utf-8") for path in (ROOT / "src" / "soorma").rglob("*.py")]
    assert sum(text.count("noqa: SLF001") for text in sdk) <= 3


def test_who_asks_is_read_in_one_place_and_said_in_one() -> None:
    """By the platform at its door, by the SDK where it calls."""
    header = re.compile(r"x-(tenant|user)-id", re.IGNORECASE)
    sources = {path.relative_to(ROOT / "src").as_posix(): path for path in (ROOT / "src").rglob("*.py")}
    found = {name for name, path in sources.items() if header.search(path.read_text("utf-8"))}
    assert found == {"soorma_platform/identity/door.py", "soorma/transport/headers.py"}
