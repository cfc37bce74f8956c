"""`soorma init NAME`: creates a project whose test passes at once, as a starting point."""

from __future__ import annotations

import keyword
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.exits import CommandError, Exit
from soorma.cli.parameters import Json
from soorma_common.terminal import plain

app = command_group()

LONGEST_NAME = 60
NAME = re.compile(r"[a-z]([a-z0-9]|[-_.](?=[a-z0-9]))*")
OURS = {"soorma", "soorma_common", "soorma_platform"}
OTHERS = {"pytest", "tests"}
"""Modules that the project's own commands need, and its package must not hide."""

SUFFIX = ".template"
PACKAGE = "package"
DOTTED = {"gitignore"}
"""Files that get a leading dot only in the project: here, this package's tools would use them."""


class Kind(StrEnum):
    """The kinds of projects."""

    WORKER = "worker"
    WORKFLOW = "workflow"


DESCRIPTIONS = {
    Kind.WORKER: "Counts the words of texts",
    Kind.WORKFLOW: "Splits goals into tasks, and carries them out",
}
STARTS = {
    Kind.WORKER: "soorma run {package}.worker",
    Kind.WORKFLOW: "soorma run {package}.planner {package}.worker {package}.coordinator",
}

_HELP = """Make a project in a new folder: agents, a test that passes, and the next steps.

\b
Examples:
  soorma init word-counter                 one worker with state, a client
  soorma init blog-writer --type workflow  planner, worker, coordinator
"""


@app.command(help=_HELP, epilog="Exit codes are listed by: soorma dev --help")
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the project and its folder, as word-counter.")
    ],
    kind: Annotated[Kind, typer.Option("--type", help="What it begins with.")] = Kind.WORKER,
    as_json: Json = False,
) -> None:
    package = package_of(name)
    folder = Path.cwd() / name
    words = {"name": name, "package": package, "description": DESCRIPTIONS[kind]}
    content = dict(rendered(kind, words))
    _make(folder, content)
    if as_json:
        output.say_json_facts(
            {**words, "type": kind.value, "folder": str(folder), "files": sorted(content)}
        )
        return
    output.say(f"Made {folder}: {len(content)} files, its README says what is where.\n\nNext:")
    steps = [
        f"cd {name}",
        "python -m pytest",
        "soorma dev --build",
        STARTS[kind].format(package=package),
    ]
    if find_spec("pytest") is None:
        steps.insert(1, "pip install pytest")
    output.say("\n".join(f"  {step}" for step in steps))


def package_of(name: str) -> str:
    """Returns the name of the project's package; CommandError for a name that would not work."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise _unfit(
            name,
            "begin with a small letter, go on with small letters and digits, with single - _ . "
            f"between, up to {LONGEST_NAME} of them",
        )
    package = re.sub(r"[-.]", "_", name)
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise _unfit(name, f"choose another: {package} is a word of Python's")
    if package in sys.stdlib_module_names | OURS | OTHERS:
        raise _unfit(name, f"choose another: it would hide the module {package}")
    return package


def rendered(kind: Kind, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields each file of the project: its path in the folder, and its text."""
    root = files("soorma.cli") / "templates"
    for part in ("shared", kind.value):
        for path, file in _templates(root / part):
            yield _target(path, words), Template(file.read_text("utf-8")).substitute(words)


def _templates(folder: Traversable, *above: str) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    """Yields each template below the folder, with the parts of its path."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, *above, entry.name)
        elif entry.name.endswith(SUFFIX):
            yield (*above, entry.name.removesuffix(SUFFIX)), entry


def _target(path: tuple[str, ...], words: Mapping[str, str]) -> str:
    names = [words["package"] if name == PACKAGE else name for name in path]
    return "/".join(f".{name}" if name in DOTTED else name for name in names)


def _make(folder: Path, content: Mapping[str, str]) -> None:
    """Writes the project under another name, then renames it, so that nobody finds half of it."""
    _refuse_if_used(folder)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for path, text in content.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_text(text, "utf-8")
        draft.rename(folder)
    except OSError as error:
        _refuse_if_used(folder)  # somebody else was quicker
        raise CommandError(
            Exit.UNWRITABLE, f"{folder} cannot be made: {error.strerror}; nothing is left of it"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _refuse_if_used(folder: Path) -> None:
    with suppress(NotADirectoryError, FileNotFoundError):
        if not any(folder.iterdir()):
            return
    if os.path.lexists(folder):
        what = "is a folder with something in it" if folder.is_dir() else "is there, and no folder"
        raise CommandError(Exit.USAGE, f"{folder} {what}; choose another name, or move it away")


def _unfit(name: str, why: str) -> CommandError:
    return CommandError(Exit.USAGE, plain(f"{name!r} cannot be a project's name: {why}"))
