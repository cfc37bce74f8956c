"""Frameworks whose agents run on this platform, resolved alone and beside this distribution.

`python tests/system/frameworks.py > tests/frameworks.toml` records, with uv, what each of them
resolves to alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
RECORD = PROJECT / "tests" / "frameworks.toml"
NAMES = (
    "crewai",
    "google-adk",
    "langgraph",
    "litellm",
    "llama-index",
    "openai-agents",
    "prefect",
    "pydantic-ai",
)
PYTHONS = ("3.11", "3.13")
SECONDS = 300


class Unresolved(RuntimeError):
    """The error when uv finds no solution, or no index."""


def ranges() -> list[str]:
    """The requirements of this distribution."""
    found: list[str] = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"][
        "dependencies"
    ]
    return found


def resolved(python: str, *wanted: str) -> dict[str, str]:
    """The newest versions that uv chooses for these requirements, from the package index."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.in")
        requirements.write_text("\n".join(wanted), "utf-8")
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--no-annotate",
        ]
        options = ["--no-python-downloads", "--python-version", python, str(requirements)]
        done = subprocess.run(
            [*command, *options],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    if done.returncode:
        raise Unresolved(done.stderr)
    pins = (
        line.partition(" ;")[0].partition("==") for line in done.stdout.splitlines() if "==" in line
    )
    return {canonicalize_name(name.partition("[")[0]): pinned.strip() for name, _, pinned in pins}


def misfits(wanted: list[str], pins: Mapping[str, str], python: str) -> Iterator[str]:
    """The requirements that cannot hold beside these pins.

    Without any, there is a resolution that changes no pin. The pins were chosen together. So it is
    enough that they lie in our ranges, and in those of the libraries that only we bring, which are
    taken here in the versions that are installed.
    """
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "extra": "",
    }
    waiting, seen = [(line, "this distribution") for line in wanted], set[str]()
    while waiting:
        line, of = waiting.pop()
        needed = Requirement(line)
        name = canonicalize_name(needed.name)
        if needed.marker and not needed.marker.evaluate(environment):
            continue
        have = pins.get(name) or version(name)
        if not needed.specifier.contains(have, prereleases=True):
            yield f"{of} wants {needed}, and {have} was chosen"
        if name not in pins and name not in seen:
            seen.add(name)
            waiting += [(more, name) for more in requires(name) or []]


def _shared(pins: Mapping[str, str], ours: Mapping[str, str], framework: str) -> dict[str, str]:
    return {name: pins[name] for name in sorted(pins) if name in ours or name == framework}


def main() -> None:
    """Writes the record."""
    lines: list[str] = [
        (
            "# What each framework resolves to alone, newest first: its own version, and those of "
            "what we use too."
        ),
        "# Made by: python tests/system/frameworks.py > tests/frameworks.toml",
        f"resolved = {datetime.now(UTC):%Y-%m-%d}",
    ]
    for python in PYTHONS:
        ours = resolved(python, *ranges())
        for framework in NAMES:
            lines += ["", f'[{framework}."{python}"]']
            pins: dict[str, Any] = _shared(resolved(python, framework), ours, framework)
            lines += [f"{name} = {json.dumps(pinned)}" for name, pinned in pins.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
