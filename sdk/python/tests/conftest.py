"""The depth and the seed of a run, printed at its start; each failure says how to repeat it."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from random import SystemRandom

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from depth import …` in the tests

from behaviours import COLLECTED, Collected
from depth import DEPTH, at_depth, seed

# The tests start thousands of processes. Each would compile all of our modules anew if the shell
# said that nothing compiled is kept, as those of containers do. That takes a third of their time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

WHOLE_SECONDS = 900
"""The time one test may take at full depth; a sample has the limit of pyproject.toml."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Sets one seed for the order of tests (pytest-randomly), for Hypothesis and our own dice."""
    _let_children_hear_signals()
    given = getattr(config.option, "randomly_seed", None)
    if "SOORMA_SEED" not in os.environ:  # the workers of pytest-xdist inherit it
        os.environ["SOORMA_SEED"] = str(
            given if isinstance(given, int) else SystemRandom().getrandbits(32)
        )
    config.option.randomly_seed = seed()
    config.option.hypothesis_seed = str(seed())
    if getattr(config.option, "timeout", None) is None:
        config.option.timeout = at_depth(None, WHOLE_SECONDS)


def _let_children_hear_signals() -> None:
    """Makes the programs that tests start heed SIGHUP, SIGINT and SIGQUIT.

    Under `nohup`, or in the background of a script, a signal is ignored, and programs inherit that.
    A shell cannot even trap a signal that was ignored when it started. A handler is not inherited:
    this process still ignores the signal, and what it starts finds it as in a terminal.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempts the tests themselves from garbage collection.

    There are so many that a full collection takes a tenth of a second, and there is one in many a
    test: that was half of the time of those that start no process.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Notes the rows of behaviours.toml that a test names, even if it is deselected later."""
    item.config.stash.setdefault(COLLECTED, Collected()).note(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out of a sample what is a proof in whole runs only."""
    left_out = at_depth([one for one in items if one.get_closest_marker("whole")], [])
    if left_out and not _are_named(config):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [one for one in items if one not in left_out]


def _are_named(config: pytest.Config) -> bool:
    """True if single tests are asked for by their ids: then all of them run."""
    return any("::" in argument for argument in config.args)


def pytest_report_header() -> str:
    return f"depth: {DEPTH}, seed: {seed()} (SOORMA_SEED={seed()} repeats it)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        task = at_depth("test", "prove")
        again = f"SOORMA_SEED={seed()} sh tools/run {task} {shlex.quote(item.nodeid)}"
        report.sections.append(("to repeat", again))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what tests have noted of how far this machine lets them go (`record_property`)."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "ran":
                terminalreporter.write_line(f"RAN {report.nodeid.rpartition('::')[2]}: {text}")
