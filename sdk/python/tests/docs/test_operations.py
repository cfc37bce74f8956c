"""The page for operators: its settings, exit codes, metrics and unit are those of the platform."""

from __future__ import annotations

import asyncio
import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT, Page, pages
from platform_process import BLOCK, PlatformProcess, PortReservation, answer_of, clean_environment
from running import eventually

from soorma.cli.exits import Exit
from soorma.config import ClientConfig
from soorma_platform.settings import Settings

PAGE = ROOT / "docs" / "OPERATIONS.md"
REFERENCE = ROOT / "sdk" / "python" / "README.md"
SETTING = re.compile(r"^\| `(SOORMA_\w+)` \| (.*?) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path_factory.mktemp("operations")) as platform:
        yield platform


def page() -> Page:
    return pages()[PAGE]


@pytest.mark.behaviour("docs.tables")
def test_every_setting_has_its_default() -> None:
    """The reference is held against the code by a test of its own, so that all three agree."""
    table = dict(SETTING.findall(page().section("Every setting")))
    assert table == dict(SETTING.findall(pages()[REFERENCE].section("Environment variables")))
    told = {name: text.strip("`") for name, text in table.items() if text != "none"}
    assert Settings.from_env(told) == Settings.from_env({})
    assert ClientConfig.from_env(told) == ClientConfig.from_env({})


@pytest.mark.behaviour("docs.tables")
def test_every_setting_that_the_page_names_exists() -> None:
    text = PAGE.read_text("utf-8")
    assert set(re.findall(r"SOORMA_[A-Z_]*[A-Z]", text)) == set(dict(SETTING.findall(text)))


@pytest.mark.behaviour("docs.tables")
def test_every_exit_code_is_told() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (.+) \|$", page().section("Start and stop"), flags=re.MULTILINE
    )
    assert rows == [(str(code.value), code.meaning) for code in Exit]


@pytest.mark.behaviour("docs.tables")
def test_every_metric_is_told(running: PlatformProcess) -> None:
    with urllib.request.urlopen(f"{running.memory_url}/metrics", timeout=10) as answer:
        families = set(
            re.findall(r"^# TYPE (soorma_\w+) ", answer.read().decode(), flags=re.MULTILINE)
        )
    section = page().section("Metrics")
    first_cells = re.findall(r"^\| (`soorma_.+?) \|", section, flags=re.MULTILINE)
    assert set(re.findall(r"`(soorma_\w+)`", " ".join(first_cells))) == families
    ends = ("", "_bucket", "_sum", "_count")
    assert set(re.findall(r"\bsoorma_\w+", section)) <= {
        name + end for name in families for end in ends
    }


# --- The unit -----------------------------------------------------------------------------------


@pytest.fixture
def unit() -> configparser.SectionProxy:
    (block,) = (block for block in page().blocks if block.code.startswith("[Unit]"))
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.code)
    return parser["Service"]


@pytest.mark.behaviour("docs.commands-run")
async def test_the_unit_starts_a_platform_and_stops_it_in_time(
    unit: configparser.SectionProxy, tmp_path: Path
) -> None:
    (tmp_path / "soorma").mkdir()
    command = unit["ExecStart"].replace("/var/lib", str(tmp_path))
    assert command.startswith("/opt/soorma/bin/soorma ")
    words = [sys.executable, "-m", "soorma.cli", *shlex.split(command)[1:]]
    assert unit["WorkingDirectory"] == "/var/lib/" + unit["StateDirectory"]
    name, _, value = unit["Environment"].partition("=")
    ports = PortReservation()
    folder = Path(unit["WorkingDirectory"].replace("/var/lib", str(tmp_path)))

    def serve(**env: str) -> subprocess.Popen[bytes]:
        environment = clean_environment(SOORMA_PORT_OFFSET=str(ports.offset), **env)
        with (tmp_path / "log").open("ab") as log:
            return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)

    made = [*words[:3], "keys", "create", "ops", "--role", "operator"]
    made += ["--database", str(folder / "soorma.db")]
    await asyncio.to_thread(subprocess.run, made, check=True, timeout=60)
    serving = serve(**{name: value})
    try:
        await eventually(lambda: answer_of(f"http://127.0.0.1:{BLOCK[3] + ports.offset}"), 30)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(float(unit["TimeoutStopSec"])) == 0
        assert (folder / "soorma.db").exists()
        for broken in ({"SOORMA_LEASE_SECONDS": "long"}, {}):
            if not broken:
                make_older(folder / "soorma.db")
            serving = serve(**{name: value, **broken})
            assert str(serving.wait(30)) in unit["RestartPreventExitStatus"].split()
    finally:
        serving.kill()
        serving.wait()
        ports.close()


def make_older(database: Path) -> None:
    """Makes a record as a Soorma with one migration less leaves it, as far as a start can see."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA "
        "user_version = 1')"
    )
    subprocess.run([sys.executable, "-c", program, os.fspath(database)], check=True, timeout=30)
