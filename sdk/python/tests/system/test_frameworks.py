"""Room for other frameworks: this distribution holds none of them back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from depth import at_depth
from frameworks import NAMES, PYTHONS, RECORD, Unresolved, misfits, ranges, resolved

IN_EACH = [(framework, python) for framework in NAMES for python in PYTHONS]
TURNED_DOWN = [
    ("crewai", "rich>=15,<16", "rich"),
    ("google-adk", "websockets>=17", "websockets"),
    ("prefect", "uvicorn<0.30", "uvicorn"),
    ("pydantic-ai", "starlette<1", "starlette"),
]
"""Ranges with which a framework would be held back to an earlier release."""


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return tomllib.loads(RECORD.read_text("utf-8"))


@pytest.mark.behaviour("install.beside-frameworks")
def test_all_are_recorded(record: dict[str, Any]) -> None:
    assert {(name, python) for name in NAMES for python in record[name]} == set(IN_EACH)
    assert record.keys() == {"resolved", *NAMES}


@pytest.mark.behaviour("install.beside-frameworks")
@pytest.mark.proof
@pytest.mark.timeout(900)  # two resolutions, whose time is up to the package index
@pytest.mark.parametrize(("framework", "python"), IN_EACH)
def test_a_framework_is_not_held_back(record: dict[str, Any], framework: str, python: str) -> None:
    """By the record, offline; in `make prove` also by the package index, if that responds."""
    pins = record[framework][python]
    assert pins[framework]
    assert list(misfits(ranges(), pins, python)) == []
    if at_depth(sample=False, whole=True):
        try:
            alone = resolved(python, framework)
        except Unresolved as error:
            pytest.skip(f"{framework} alone was not resolved anew, the record holds: {error}")
        assert resolved(python, framework, *ranges())[framework] == alone[framework]


@pytest.mark.behaviour("install.beside-frameworks")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("framework", "narrow", "name"), TURNED_DOWN)
def test_a_range_that_is_too_narrow_is_found(
    record: dict[str, Any], framework: str, narrow: str, name: str, python: str
) -> None:
    assert any(
        f"wants {name}" in misfit for misfit in misfits([narrow], record[framework][python], python)
    )
