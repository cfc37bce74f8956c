"""RESULTS.md and the terminal's table of a run."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import apsw
from measuring import Figure, Report, Table
from plots import svg

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "overlay")
LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "aiohttp", "websockets", "apsw")
COLUMNS = ("figure", "measured", "floor, same run", "ratio", "target", "verdict", "durability")


def write(
    report: Report, folder: Path, *, size: str, about: str, seconds: float, load: tuple[str, str]
) -> Path:
    """Writes RESULTS.md and its plots into `folder`; `load` is the machine's, before and after."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plots").mkdir(exist_ok=True)
    for plot in report.plots:
        (folder / "plots" / f"{plot.name}.svg").write_text(svg(plot), "utf-8")
    target = folder / "RESULTS.md"
    target.write_text("\n".join(_document(report, size, about, seconds, load)), "utf-8")
    return target


def summary(report: Report) -> str:
    """The figures for a terminal."""
    return "\n".join(
        f"{_verdict(figure):8} {figure.what}: {figure.measured}"
        f"{f' = {figure.ratio}' if figure.ratio else ''} (target {figure.target}; {figure.floor})"
        for figure in report.figures
    )


def machine(folder: Path) -> list[str]:
    """The machine, versions and file system of the run."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return [
        (
            f"{os.cpu_count()} × {_processor()}, {_memory_gib():.0f} GiB, Linux "
            f"{platform.release().split('-')[0]}"
        ),
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}; {libraries}",
        f"databases on {file_system(folder)}; all traffic on loopback",
    ]


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, with a warning where it keeps nothing."""
    best, kind = "", "an unknown file system"
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        _, point, found, *_ = line.split()
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, found
    return (
        f"{kind} (in memory: durable figures mean nothing here)"
        if kind in MEMORY_FILE_SYSTEMS[:2]
        else kind
    )


def _document(
    report: Report, size: str, about: str, seconds: float, load: tuple[str, str]
) -> list[str]:
    missed = [figure for figure in report.figures if figure.verdict is False]
    kind = "A full run" if size == "full" else f"A **{size}** run: too short for figures to rely on"
    how = (
        f"{kind}, {datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.1f} minutes. Product and floors "
        "were measured side by "
        "side in the same run, in turns. A figure is the median of its rounds, a ratio the median "
        "of the rounds' "
        "ratios. Others may have used the machine meanwhile, which moves absolute times by much "
        "and ratios by little: "
        "compare ratios."
    )
    lines = [
        "# Results of `make bench`",
        "",
        how,
        "",
        *(f"- {line}" for line in machine(Path(about))),
        f"- load average before the run {load[0]}, after it {load[1]}",
        "",
        "## Figures and targets",
        "",
        *_rows(COLUMNS, [_cells(figure) for figure in report.figures]),
        "",
    ]
    if missed:
        lines += [
            "**Missed:**",
            "",
            *(f"- {figure.what}: {_told(figure)}" for figure in missed),
            "",
        ]
    else:
        lines += ["Nothing was missed.", ""]
    lines += [f"- {note}" for note in report.notes]
    for table in report.tables:
        lines += ["", *_section(table)]
    return [*lines, ""]


def _section(table: Table) -> list[str]:
    picture = [f"![{table.title}](plots/{table.plot}.svg)", ""] if table.plot else []
    return [f"## {table.title}", "", table.about, "", *picture, *_rows(table.columns, table.rows)]


def _rows(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _cells(figure: Figure) -> tuple[str, ...]:
    shown = (
        figure.what,
        figure.measured,
        figure.floor,
        figure.ratio,
        figure.target,
        _verdict(figure),
    )
    return (*shown, figure.durability or "–")


def _verdict(figure: Figure) -> str:
    return {True: "met", False: "MISSED", None: "–"}[figure.verdict]


def _told(figure: Figure) -> str:
    found = figure.ratio if figure.target.endswith("×") else figure.measured
    return f"{found}, target {figure.target}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
