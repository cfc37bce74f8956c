"""The rooms of the command: a module is found by its name, and none knows the database."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import soorma.cli

CLI = Path(soorma.cli.__file__).parent
MODULES = sorted(CLI.rglob("*.py"))
MOST_MODULES = 12
MOST_LINES = 350
DATABASE = re.compile(r"(apsw|sqlite3|soorma_platform\.stores\.sqlite)(\.|$)")


def test_no_room_has_too_many_modules() -> None:
    counts = Counter(path.parent.relative_to(CLI).as_posix() for path in MODULES)
    assert {"dev", "data", "store", "doctor", "run"} < counts.keys(), "the rooms were found"
    assert {room: count for room, count in counts.items() if count > MOST_MODULES} == {}


def test_no_module_is_long() -> None:
    assert [
        path.name for path in MODULES if len(path.read_text("utf-8").splitlines()) > MOST_LINES
    ] == []


def test_none_imports_the_database() -> None:
    found = {
        (path.name, name) for path in MODULES for name in _imported(path) if DATABASE.match(name)
    }
    assert found == set()


def _imported(path: Path) -> Iterator[str]:
    """Yields each name that a module imports, even in its functions, with the module it is from."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
