"""Rules for all the code in the tree that no linter checks."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from soorma_common import errors, memory
from soorma_common.errors import SoormaError

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py"))
POINTS = re.compile(r'"""\s*See [`:]')


def test_a_docstring_says_something_itself() -> None:
    """One that only points to another is omitted, so that readers and editors inherit that one."""
    assert len(MODULES) > 300, "the tree was found"
    found = [
        str(path.relative_to(ROOT)) for path in MODULES if POINTS.search(path.read_text("utf-8"))
    ]
    assert not found


def test_the_sdk_keeps_to_what_is_public() -> None:
    """Each exception needs a good reason: there are three."""
    sdk = [path.read_text("utf-8") for path in (ROOT / "src" / "soorma").rglob("*.py")]
    assert sum(text.count("noqa: SLF001") for text in sdk) <= 3


def test_no_two_classes_have_one_name() -> None:
    """A search for a name finds one thing, in all three packages."""
    found = defaultdict(list)
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path.relative_to(ROOT / "src").as_posix())
    assert len(found) > 500, "the classes were found"
    assert not {name: modules for name, modules in found.items() if len(modules) > 1}


def test_who_asks_is_read_in_one_place_and_said_in_one() -> None:
    """The platform reads it at its door, and the SDK sends it where it calls."""
    header = re.compile(r"x-(tenant|user)-id", re.IGNORECASE)
    sources = {
        path.relative_to(ROOT / "src").as_posix(): path for path in (ROOT / "src").rglob("*.py")
    }
    found = {name for name, path in sources.items() if header.search(path.read_text("utf-8"))}
    assert found == {"soorma_platform/identity/door.py", "soorma/transport/headers.py"}


def test_a_protocol_is_small() -> None:
    """An implementation is about one noun."""
    found = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).startswith("Protocol") for base in node.bases
            ):
                found[node.name] = sum(
                    isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body
                )
    assert len(found) > 20, "the protocols were found"
    assert not {name: count for name, count in found.items() if count > 12}


def test_a_store_raises_no_error_of_a_rule() -> None:
    """The engine alone refuses a commit.

    A store fails as a whole, or says why it cannot be opened or restored.
    """
    raised = re.compile(r"\braise (\w+)\(")
    rules = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SoormaError)
    }
    rules -= {"Unavailable"}
    assert len(rules) > 10, "the errors were found"
    stores = ROOT / "src/soorma_platform/stores"
    found = {
        (path.name, name)
        for path in stores.rglob("*.py")
        for name in raised.findall(path.read_text("utf-8"))
    }
    assert not {place for place in found if place[1] in rules}


def test_an_entry_says_the_same_in_either_case() -> None:
    """Alone its names are in camelCase, among others in snake_case: a new field goes into both."""
    assert memory.KeyEntry.__annotations__ == memory.Entry.__annotations__
