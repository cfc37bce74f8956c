"""`soorma doctor`: a report on this machine, the installation and the platform, with advice."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.doctor.finding import Finding, State
from soorma.cli.exits import Exit
from soorma.cli.parameters import Json
from soorma_common import __version__
from soorma_common.terminal import plain

app = command_group()

COLOURS = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}
SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key|_key$", re.IGNORECASE)
NO_SECRETS = {"SOORMA_MEMORY_SECRETS", "SOORMA_MEMORY_SECRET_PATTERNS"}
"""Variables that have such a name, and hold none: their values are words that a report uses."""
SHORTEST_SECRET = 4
INDENT = " " * 24


@app.command(
    help=f"Find out what is wrong with this machine, installation or platform, and what to do.\n\n"
    f"Nothing is changed. Ends with {Exit.PROBLEMS.value} if there is a problem; warnings alone "
    "end with 0.",
    epilog="Exit codes are listed by: soorma dev --help",
)
def doctor(
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read the whole database, however long that takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    from soorma.cli.doctor.examination import examine  # noqa: PLC0415 - --help does without
    from soorma.cli.doctor.scene import Scene  # noqa: PLC0415

    found = [
        (group, _without_secrets(finding, os.environ))
        for group, finding in examine(Scene.here(thorough=thorough))
    ]
    counts = Counter(finding.state for _, finding in found)
    if as_json:
        output.say_json_facts(_document(found, counts))
    else:
        _tell(found)
        output.say(_summary(counts))
    if counts[State.PROBLEM]:
        raise typer.Exit(Exit.PROBLEMS)


def _document(found: list[tuple[str, Finding]], counts: Mapping[State, int]) -> dict[str, object]:
    return {
        "version": __version__,
        "counts": {state.value: counts.get(state, 0) for state in State},
        "checks": [
            {
                "group": group,
                "check": one.check,
                "state": one.state.value,
                "found": one.found,
                "next": one.advice or None,
            }
            for group, one in found
        ],
    }


def _tell(found: list[tuple[str, Finding]]) -> None:
    last = ""
    for group, finding in found:
        if group != last:
            output.say(_styled(group.capitalize(), bold=True))
        last = group
        state = _styled(f"{finding.state.value:<8}", fg=COLOURS[finding.state])
        output.say(f"  {state} {finding.check:<13}{_folded(plain(finding.found))}")
        if finding.advice:
            output.say(f"{INDENT}-> {_folded(plain(finding.advice), more=3)}")


def _summary(counts: Mapping[State, int]) -> str:
    problems, warnings = counts.get(State.PROBLEM, 0), counts.get(State.WARNING, 0)
    if not problems and not warnings:
        return "\nNothing is wrong here."
    return f"\nProblems: {problems}, warnings: {warnings}. The lines with -> say what to do."


def _folded(text: str, more: int = 0) -> str:
    """Wraps the text below its own column on a terminal."""
    if not sys.stdout.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - len(INDENT) - more, 30)
    return textwrap.fill(text, width, break_on_hyphens=False).replace(
        "\n", "\n" + INDENT + " " * more
    )


def _styled(text: str, **style: object) -> str:
    colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return typer.style(text, **style) if colourful else text  # type: ignore[arg-type]


def _without_secrets(finding: Finding, environment: Mapping[str, str]) -> Finding:
    """Hides the values of secret variables everywhere in a finding: reports are shown around."""
    found, advice = finding.found, finding.advice
    for name, value in environment.items():
        is_secret = SECRET.search(name) and name not in NO_SECRETS
        if is_secret and len(value) >= SHORTEST_SECRET:
            found, advice = found.replace(value, f"(${name})"), advice.replace(value, f"(${name})")
    return finding._replace(found=found, advice=advice)
