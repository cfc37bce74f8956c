"""The benchmarks still run: their harness, with sizes too small for figures to mean anything."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from platform_process import clean_environment

ROOT = Path(__file__).parents[4]
RUN = ROOT / "benchmarks" / "run.py"
FIGURES = [
    "server CPU per request: GET of a key, 32 connections",
    "server CPU per request: durable PUT of a key, 32 connections",
    "SDK `get`, one at a time, p50",
    "SDK `set`, one at a time, p50",
    "publish → handler, each when the one before was handled, p50",
    "publish → handler, one every 4 ms, p50",
    "events handled by one agent, published singly, 32 in flight",
    "events handled by one agent, published in batches of 100",
    "events lost",
    "example 05, one goal, p50",
    "example 05, 50 goals in flight",
    "a handler of 6 writes, 2 reads and 1 publish, p50",
    "a handler of 6 writes, 2 reads and 1 publish, 50 in flight",
    "platform, start to first answers of all services, new database",
    "platform, resident memory after start",
    "platform, resident memory with 100 plans of 10 keys",
]
UNJUDGED = ("a handler of", "3-step workflow, one at a time")
OTHERS = [
    "3-step workflow, one at a time, p50",
    "3-step workflow, 50 in flight",
    "one more step of a workflow of 20 steps, p50",
    "a workflow of 20 steps, taken up by a new process: from its imports to the next step's end",
]
"""Only where `make bench` has made the environment that they need: the tests install nothing."""
TABLES = {
    "Latency at a given rate (open loop)": 3,
    "Size of a value": 2,
    "Keys of a plan": 2,
    "Revisions of a plan": 2,
    "Writers on one key": 2,
}
PLOTS = {"open-loop", "payloads", "plan-size", "history", "contention"}


def rows_of(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.behaviour("costs.bench")
def test_a_run_measures_everything(tmp_path: Path) -> None:
    output, temporary = tmp_path / "output", tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, RUN, "--size", "tiny", "--output", output],
        env=clean_environment(TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []

    results = (output / "RESULTS.md").read_text("utf-8")
    assert "A **tiny** run" in results
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", results, re.MULTILINE | re.DOTALL))
    elsewhere = sections.pop("The same workflow elsewhere", "")
    figures = rows_of(sections.pop("Figures and targets"))
    if (ROOT / ".venv-others").exists():
        at = FIGURES.index("platform, start to first answers of all services, new database")
        expected = [*FIGURES[:at], *OTHERS, *FIGURES[at:]]
        assert [row[0].split()[0] for row in rows_of(elsewhere)] == ["Soorma", "DBOS", "LangGraph"]
    else:
        expected = FIGURES
        assert "was not measured" in results
    assert [row[0] for row in figures] == expected
    for row in figures:
        what, measured, floor, _, target, verdict, _ = row
        assert measured, what
        assert floor, what
        assert target, what
        assert (verdict in {"met", "MISSED"}) != what.startswith(UNJUDGED), what
    assert figures[expected.index("events lost")][5] == "met"
    assert {title: len(rows_of(section)) for title, section in sections.items()} == TABLES

    plots = {path.stem: ET.parse(path).getroot() for path in (output / "plots").iterdir()}
    assert plots.keys() == PLOTS
    for name, plot in plots.items():
        assert plot.findall("{*}polyline"), name
        assert f"](plots/{name}.svg)" in results
