"""The manifest of behaviours (behaviours.toml): its form, its use by tests, and the page it makes.

    python tests/behaviours.py > ../../docs/BEHAVIOURS.md
    python tests/behaviours.py --named    what each test names, as JSON

It collects all tests by itself: what a run selects or leaves out makes no difference.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
MANIFEST = TESTS / "behaviours.toml"
ROOT = TESTS.parents[2]
PAGE = ROOT / "docs" / "BEHAVIOURS.md"
NAMING = {"conformance", "docs", "proofs", "properties", "system", "testing", "types"}
"""The directories in which every test names a row. Tests of units may."""

STANDARD = re.compile(
    r"(RFC \d+|WHATWG HTML)(, \d+(\.\d+)*)?"
    r"|CloudEvents 1\.0|W3C Trace Context"
    r"|design \d+(, rule [1-5])?|issue \d+"
)
"""Sources that are no page of the repository."""

Named = dict[str, list[str]]
"""The tests, as `system/test_kills.py::test_…`, with the rows they name.

Each stands once, whatever its parameters.
"""


@dataclass(frozen=True)
class Behaviour:
    """A promise to users."""

    id: str
    promise: str
    source: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """All of behaviours.toml."""

    areas: Mapping[str, str]
    pages: Mapping[str, str]
    behaviours: Mapping[str, Behaviour]

    @classmethod
    def read(cls, path: Path = MANIFEST) -> Manifest:
        """The manifest in a file; ValueError if its form is wrong."""
        tables = tomllib.loads(path.read_text("utf-8"))
        areas, pages = tables.pop("areas"), tables.pop("pages")
        if list(tables) != list(areas):
            raise ValueError(
                f"{path.name}: rows in {list(tables)}, areas {list(areas)}: name both in one order"
            )
        rows = [
            _row(f"{area}.{name}", row)
            for area, table in tables.items()
            for name, row in table.items()
        ]
        return cls(areas, pages, {row.id: row for row in rows})

    def link(self, source: str) -> str:
        """A source in Markdown: a page of the repository as a link from docs.

        Raises ValueError if it is unknown.
        """
        name, mark, anchor = source.partition("#")
        if path := self.pages.get(name):
            heading = _headings(path).get(anchor)
            if mark and heading is None:
                raise ValueError(f"{source!r}: {path} has no such heading")
            text = f"{name}: {heading}" if heading else name
            return f"[{text}]({os.path.relpath(ROOT / path, PAGE.parent)}{mark}{anchor})"
        if not STANDARD.fullmatch(source):
            raise ValueError(
                f"{source!r} is no page of [pages], no standard, and no section of the design"
            )
        return source


@cache
def _headings(path: str) -> dict[str, str]:
    """The headings of a page by their anchors."""
    text = re.sub(
        r"^```.*?^```$", "", (ROOT / path).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)  # and no comment in a program
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): heading for heading in found
    }


def _row(name: str, row: Mapping[str, Any]) -> Behaviour:
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is no id: area.some-words")
    if set(row) != {"promise", "source"} or not row["source"]:
        raise ValueError(f"{name} must have a promise and a source, and nothing else")
    if not re.fullmatch(r"[A-Z`0-9].*\.", row["promise"]):
        raise ValueError(f"{name}: its promise is no sentence")
    return Behaviour(name, row["promise"], tuple(row["source"]))


# --- What the tests name ---------------------------------------------------------------------


@dataclass(eq=False)
class Collected:
    """A plugin of pytest that notes what is collected, and runs nothing."""

    named: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def told(self) -> Named:
        """The rows that each test names."""
        return {test: sorted(rows) for test, rows in sorted(self.named.items())}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Notes a test."""
        self.note(item)

    def note(self, item: pytest.Item) -> None:
        """Notes the rows that the test, its class, a base of it or its module names."""
        rows = self.named[item.nodeid.partition("[")[0].removeprefix("tests/")]
        for mark in item.iter_markers("behaviour"):
            rows.update(mark.args)


def collect() -> Named:
    """Collects the rows that each test names; SystemExit if a module cannot be collected.

    Not to be called inside pytest.
    """
    found = Collected()
    options = [
        "--collect-only",
        "-q",
        "--rootdir",
        str(TESTS.parent),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    with redirect_stdout(sys.stderr):
        code = pytest.main([*options, str(TESTS)], plugins=[found])
    if code:
        raise SystemExit(f"the tests cannot be collected: {code!r}")
    return found.told()


COLLECTED: pytest.StashKey[Collected] = pytest.StashKey()
"""What a run has collected, whether it selects it or not."""


def held_by(named: Named) -> dict[str, list[str]]:
    """The tests that name each row."""
    found: dict[str, list[str]] = defaultdict(list)
    for test, rows in named.items():
        for row in rows:
            found[row].append(test)
    return found


def unnamed(named: Named) -> list[str]:
    """The tests that would have to name a row and name none."""
    return [test for test, rows in named.items() if not rows and test.partition("/")[0] in NAMING]


# --- The page --------------------------------------------------------------------------------

HEAD = """\
# Behaviours

What you may rely on: {count} promises, each with its source and the number of tests that hold it. \
A test that names no
promise, a promise without a test, and a page that is not this one fail `make test`.

A source is a page of this repository, a standard, a section of the design from which \
Soorma Core is built (*design 7*:
where only the design says it, the row is the rule), or the issue that asked for it.

This page is made from `sdk/python/tests/behaviours.toml`; see [how to add a
promise](../CONTRIBUTING.md#how-to-add-things). To find the tests of one, look for its id in \
`sdk/python/tests`.
"""


def page(manifest: Manifest, named: Named) -> str:
    """docs/BEHAVIOURS.md."""
    tests = held_by(named)
    parts = [HEAD.format(count=len(manifest.behaviours))]
    for area, title in manifest.areas.items():
        rows = [row for row in manifest.behaviours.values() if row.id.startswith(area + ".")]
        lines = [_line(manifest, row, len(tests[row.id])) for row in rows]
        parts.append(
            "\n".join(
                [
                    f"## {title}",
                    "",
                    "| Id | Promise | Source | Tests |",
                    "|---|---|---|---|",
                    *lines,
                    "",
                ]
            )
        )
    return "\n".join(parts)


def _line(manifest: Manifest, row: Behaviour, count: int) -> str:
    sources = ", ".join(map(manifest.link, row.source))
    return f"| `{row.id}` | {row.promise.replace('|', chr(92) + '|')} | {sources} | {count} |"


if __name__ == "__main__":
    told = collect()
    print(  # noqa: T201
        json.dumps(told) if sys.argv[1:] == ["--named"] else page(Manifest.read(), told), end=""
    )
