"""The manifest of behaviours and the tests name each other, both ways, and the page shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from behaviours import (
    COLLECTED,
    NAMING,
    PAGE,
    TESTS,
    Manifest,
    Named,
    held_by,
    page,
    unnamed,
)

COMMAND = "python tests/behaviours.py > ../../docs/BEHAVIOURS.md"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.read()


@pytest.fixture(scope="module")
def named(request: pytest.FixtureRequest) -> Named:
    """Returns the names in all tests, from another process if this run has collected only some."""
    if {Path(argument).resolve() for argument in request.config.args} == {TESTS}:
        return request.config.stash[COLLECTED].told()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, str(TESTS / "behaviours.py"), "--named"],
        cwd=TESTS.parent,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Named = json.loads(done.stdout)
    return found


def test_rows_and_tests_name_each_other(manifest: Manifest, named: Named) -> None:
    tests = held_by(named)
    unknown = {row: tests[row] for row in tests.keys() - manifest.behaviours.keys()}
    assert not unknown, f"tests name rows that behaviours.toml does not have: {unknown}"
    untested = sorted(manifest.behaviours.keys() - tests.keys())
    assert not untested, f"no test names these rows of behaviours.toml: {untested}"
    undecided = {test.partition("/")[0] for test in named} - {*NAMING, "unit"}
    assert not undecided, (
        f"behaviours.py does not say whether tests in these directories name rows: {undecided}"
    )
    without = unnamed(named)
    assert not without, (
        f"tests that name no row: {without}. Add @pytest.mark.behaviour(id), and a row if there is "
        "none"
    )


def test_the_page_shows_the_manifest(manifest: Manifest, named: Named) -> None:
    shown = PAGE.read_text("utf-8") if PAGE.exists() else ""
    assert shown.splitlines() == page(manifest, named).splitlines(), f"in sdk/python: {COMMAND}"


def test_sources_are_pages_or_standards(manifest: Manifest) -> None:
    for row in manifest.behaviours.values():
        for source in row.source:
            assert manifest.link(source)
    for wrong in (
        "nothing",
        "nothing#at-all",
        "RFC",
        "design",
        "example 99",
        "reference#nothing",
        "readme#",
    ):
        with pytest.raises(ValueError, match=r"no standard|no such heading"):
            manifest.link(wrong)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('[a.Loud]\npromise = "It is."\nsource = ["RFC 1"]', "no id"),
        ('[a.b]\npromise = "it is"\nsource = ["RFC 1"]', "no sentence"),
        ('[a.b]\npromise = "It is."\nsource = []', "a promise and a source"),
        ('[a.b]\npromise = "It is."', "a promise and a source"),
        ('[b.c]\npromise = "It is."\nsource = ["RFC 1"]', "areas"),
    ],
)
def test_a_row_has_one_form(tmp_path: Path, row: str, complaint: str) -> None:
    file = tmp_path / "behaviours.toml"
    file.write_text(f'[areas]\na = "A"\n[pages]\n{row}\n', "utf-8")
    with pytest.raises(ValueError, match=complaint):
        Manifest.read(file)


def test_both_ways_can_fail() -> None:
    named: Named = {
        "unit/a.py::test_a": [],
        "system/b.py::test_b": [],
        "system/c.py::test_c": ["x.y"],
    }
    assert held_by(named) == {"x.y": ["system/c.py::test_c"]}
    assert unnamed(named) == ["system/b.py::test_b"]
