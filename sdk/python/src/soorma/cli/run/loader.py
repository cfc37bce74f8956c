"""The loader of an agent from a module; its errors are one sentence with the place."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from soorma.agents import Agent, loops
from soorma.cli.run.targets import Target

_OURS = str(Path(__file__).parents[2])
_OTHERS = tuple(
    {
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        _OURS,
    }
)


class Broken(Exception):
    """A mistake in the author's module; the text says what is wrong, and where."""


def load(target: Target) -> Agent:
    """Returns the agent that the target names; Broken if it cannot be loaded."""
    loops.importing = True  # or a program that runs its agent itself would never come back
    try:
        module = _from_file(target) if target.is_file else _from_name(target)
    finally:
        loops.importing = False
    return _named(module, target) if target.attribute else _only(module, target)


def _from_name(target: Target) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        with _told_where():
            return importlib.import_module(target.place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{target.place}.".startswith(f"{error.name}."):
            raise
        raise Broken(_no_module(target.place)) from error


def _from_file(target: Target) -> ModuleType:
    """Returns the module of a file, under its name in its package.

    With this name, its relative imports work.
    """
    file = Path(os.path.abspath(target.place))  # noqa: PTH100 - no symlink followed: its neighbours are here
    if not file.is_file():
        raise Broken(f"there is no file {target.place}")
    root, names = file.parent, [] if file.stem == "__init__" else [file.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    name = ".".join(names)
    with _told_where():
        if len(names) > 1:
            importlib.import_module(name.rpartition(".")[0])
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise Broken(f"{target.place} is no Python file")
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


class _told_where:  # noqa: N801 - reads as a function
    """A context that turns the error of an import into Broken, with the author's line."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, Broken):
            return
        if isinstance(error, ModuleNotFoundError) and not list(_lines(error)):
            return  # the module itself is missing, and nothing of the author's has run
        if os.environ.get("SOORMA_LOG_LEVEL", "").lower() == "debug":
            traceback.print_exception(error)
        raise Broken(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_place(error.filename, error.lineno)}: {type(error).__name__}: {error.msg}"
    where = next((_place(file, line) for file, line in reversed(list(_lines(error)))), "")
    if isinstance(error, SystemExit):
        said = f" ({error.code})" if error.code is not None else ""
        text = (
            f"it ends the program when it is imported{said}; keep that behind `if __name__ == "
            '"__main__":`'
        )
    else:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    return " ".join(f"{where}: {text}".lstrip(": ").split())


def _lines(error: BaseException) -> Iterator[tuple[str, int | None]]:
    """Yields the author's lines that the error came through, the innermost last."""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(("<", *_OTHERS)):
            yield frame.filename, frame.lineno


def _place(file: str, line: int | None) -> str:
    here = f"{Path.cwd()}{os.sep}"
    return f"{file.removeprefix(here)}, line {line}"


def _no_module(name: str) -> str:
    said = f"there is no module {name!r} in {Path.cwd()}, and none is installed under that name"
    parent, dot, last = name.rpartition(".")
    folder = Path.cwd().joinpath(*parent.split("."))
    there = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    nearest = get_close_matches(last, sorted(there), 1)
    return f"{said}; is {parent}{dot}{nearest[0]} meant?" if nearest else said


def _named(module: ModuleType, target: Target) -> Agent:
    found: object = module
    for name in target.attribute.split("."):
        if not hasattr(found, name):
            raise Broken(f"{_file(module)} has no {target.attribute!r}; {_held(module, target)}")
        found = getattr(found, name)
    if isinstance(found, Agent):
        return found
    if isinstance(found, type) and issubclass(found, Agent):
        raise Broken(
            f"{_file(module)}: {target.attribute!r} is a class of agents; make an agent of it, and "
            "name that"
        )
    kind = type(found).__name__
    raise Broken(
        f"{_file(module)}: {target.attribute!r} is no agent but a {kind}; {_held(module, target)}"
    )


def _only(module: ModuleType, target: Target) -> Agent:
    agents = {id(agent): agent for agent in _agents(module).values()}
    if len(agents) != 1:
        raise Broken(f"{_file(module)} holds {len(agents) or 'no'} agents; {_held(module, target)}")
    return next(iter(agents.values()))


def _held(module: ModuleType, target: Target) -> str:
    names = [f"{target.place}:{name}" for name in _agents(module)]
    if names:
        return f"run {' or '.join(names)}"
    return 'make one at its top level, as worker = Worker(name="worker")'


def _agents(module: ModuleType) -> dict[str, Agent]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Agent)}


def _file(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return module.__name__ if file is None else file.removeprefix(f"{Path.cwd()}{os.sep}")
