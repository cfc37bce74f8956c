"""Type checkers on the code of agents.

They find each mistake of `mistakes.py`, and nothing in `correct.py` and in the examples.

The examples' handlers are not annotated. They are checked as a newcomer would, without `--strict`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
MISTAKES, CORRECT = HERE / "mistakes.py", HERE / "correct.py"
EXAMPLES = sorted((PROJECT.parents[1] / "examples").rglob("*.py"))
IMPORTED = [
    PROJECT.parents[1] / "examples" / "04-memory-semantic" / "model.py",
    PROJECT.parents[1] / "examples" / "06-memory-episodic" / "chat.py",
]
MARK = re.compile(r"#.* mypy\[(?P<mypy>[\w, -]+)\] pyright\[(?P<pyright>\w[\w, ]*)\]")
MYPY_LINE = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]")

Findings = dict[int, set[str]]


def marks(checker: str) -> Findings:
    """The findings that the marked lines of `mistakes.py` expect."""
    found: Findings = {}
    for number, line in enumerate(MISTAKES.read_text().splitlines(), 1):
        if mark := MARK.search(line):
            found[number] = set(mark[checker].split(", "))
    return found


def mypy(*arguments: str | Path, cache: str) -> dict[str, Findings]:
    """Returns the findings of mypy by file and line.

    Its cache stays, so that only the first run reads the libraries. It may name a file as it was
    called when the cache was written, so that its folder says nothing.
    """
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file=",
        f"--cache-dir={PROJECT / '.mypy_cache' / cache}",
    ]
    done = subprocess.run(
        [
            *command,
            "--no-error-summary",
            "--no-pretty",
            "--hide-error-context",
            *map(str, arguments),
        ],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, Findings] = defaultdict(lambda: defaultdict(set))
    for line in done.stdout.splitlines():
        if match := MYPY_LINE.fullmatch(line):
            found[Path(match["file"]).name][int(match["line"])].add(match["code"])
        else:
            assert ": note: " in line, line
    return found


def pyright(*files: Path) -> dict[str, Findings]:
    """Returns the findings of basedpyright by file and line, which are those of pyright."""
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        *map(str, files),
    ]
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told = json.loads(done.stdout)
    found: dict[str, Findings] = defaultdict(lambda: defaultdict(set))
    for one in told["generalDiagnostics"]:
        if one["severity"] in ("error", "warning"):
            found[Path(one["file"]).name][one["range"]["start"]["line"] + 1].add(
                one.get("rule", one["message"])
            )
    assert told["summary"]["filesAnalyzed"] == len(files)
    return found


@pytest.mark.behaviour("api.types")
def test_thirty_mistakes_at_least_are_planted() -> None:
    assert len(marks("mypy")) >= 29
    assert marks("mypy").keys() == marks("pyright").keys()
    assert EXAMPLES


@pytest.mark.behaviour("api.types")
def test_mypy_finds_each_mistake_and_nothing_else() -> None:
    assert mypy("--strict", MISTAKES, CORRECT, cache="strict") == {MISTAKES.name: marks("mypy")}


@pytest.mark.behaviour("api.types")
def test_mypy_takes_the_unannotated_examples(tmp_path: Path) -> None:
    """Each under a name of its own: many are called `worker`."""
    for file in EXAMPLES:
        shutil.copy(file, tmp_path / f"example_{file.parent.name[:2]}_{file.name}")
    for file in IMPORTED:  # by others
        shutil.copy(file, tmp_path / file.name)
    assert mypy("--check-untyped-defs", *tmp_path.glob("*.py"), cache="loose") == {}


@pytest.mark.behaviour("api.types")
def test_pyright_finds_each_mistake_and_nothing_else() -> None:
    assert pyright(MISTAKES, CORRECT, *EXAMPLES) == {MISTAKES.name: marks("pyright")}
