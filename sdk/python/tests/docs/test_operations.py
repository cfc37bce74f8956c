"""The page for operators: its settings, exit codes and metrics are those of the platform."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest
from doc_pages import ROOT, Page, pages
from platform_process import PlatformProcess

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
