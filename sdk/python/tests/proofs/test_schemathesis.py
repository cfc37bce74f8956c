"""Every OpenAPI document against its service: schemathesis with all its checks and phases.

It makes requests that fit the document and requests that do not, follows the links between
operations, and compares each response with the document. Its settings, and the reason for each
exclusion, are in schemathesis.toml and schemathesis_hooks.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from depth import at_depth, dice
from platform_process import PlatformProcess
from running import platform_in

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
SERVICES = ("gateway", "registry", "events", "memory", "identity")
LINKED = at_depth(("memory",), SERVICES)
SAMPLE = 2
"""The number of operations of a document that a sample tries."""
KEY = "/v1/memory/working/{plan_id}/{key}"
FETCHED = "GET /openapi.json"
"""The operation that schemathesis requests by itself, to begin with."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("schemathesis")) as platform:
        yield platform


@pytest.mark.behaviour("api.exact")
@pytest.mark.parametrize("service", SERVICES)
def test_each_operation_is_what_its_document_says(
    running: PlatformProcess, tmp_path: Path, service: str
) -> None:
    url = str(getattr(running, f"{service}_url"))
    known = operations(url)
    chosen = dict(
        dice(f"operations of {service}").sample(sorted(known.items()), at_depth(SAMPLE, len(known)))
    )
    done = run(service, url, tmp_path, ("examples", "coverage", "fuzzing"), at_depth(3, 40), chosen)
    assert done.labels == set(chosen.values())


@pytest.mark.behaviour("api.exact")
@pytest.mark.parametrize("service", LINKED)
def test_what_the_links_lead_to_is_what_the_document_says(
    running: PlatformProcess, tmp_path: Path, service: str
) -> None:
    url = str(getattr(running, f"{service}_url"))
    done = run(service, url, tmp_path, ("stateful",), at_depth(3, 40), operations(url))
    assert done.labels == {"Stateful tests"}


@pytest.mark.behaviour("api.exact")
@pytest.mark.parametrize(
    ("operation", "place", "slip", "finding"),
    [
        (
            "memory_health",
            "components schemas Health properties version",
            {"type": "integer"},
            "violates schema",
        ),
        (
            "memory_put",
            "components schemas PutBody properties ttl",
            {},
            "Schema-valid request rejected",
        ),
        (
            "memory_get",
            f"paths {KEY} get responses",
            {"500": {"description": "A fault."}},
            "Undocumented",
        ),
    ],
    ids=["an answer", "a body", "the ways to end"],
)
def test_a_slip_in_a_document_is_found(
    running: PlatformProcess, tmp_path: Path, operation: str, place: str, slip: Any, finding: str
) -> None:
    with urllib.request.urlopen(f"{running.memory_url}/openapi.json") as answer:
        document = json.load(answer)
    *path, last = place.split()
    reduce(getitem, path, document)[last] = slip
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document), "utf-8")
    said = schemathesis(
        *(str(file), "--url", running.memory_url, "--include-operation-id", operation),
        *("--phases", "examples,coverage", "--seed", "1"),
    )
    assert said.returncode == 1, f"{said.stdout}\n{said.stderr}"
    assert finding in said.stdout


def operations(url: str) -> dict[str, str]:
    """The operations of a document by their ids."""
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    found = {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    return {key: label for key, label in found.items() if label != FETCHED}


class Done(NamedTuple):
    """The work of schemathesis: the phases that ended well, and the operations it tried."""

    phases: set[str]
    labels: set[str]


def run(
    service: str,
    url: str,
    folder: Path,
    phases: Iterable[str],
    examples: int,
    chosen: Iterable[str],
) -> Done:
    """Fails with the output of schemathesis unless it finished these phases and found nothing."""
    report = folder / "report.ndjson"
    said = schemathesis(
        *(f"{url}/openapi.json", "--phases", ",".join(phases), "--max-examples", str(examples)),
        *("--seed", str(dice(f"schemathesis {service}").getrandbits(32))),
        *("--report", "ndjson", "--report-ndjson-path", str(report)),
        *(part for name in chosen for part in ("--include-operation-id", name)),
    )
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
    done = done_in(report)
    assert done.phases >= set(phases)
    return done


def schemathesis(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "schemathesis.cli",
        "--config-file",
        "schemathesis.toml",
        "run",
    )
    always = ("--checks", "all", "--no-color", "--generation-database", "none")
    return subprocess.run(
        [*command, *always, *arguments], cwd=HERE, capture_output=True, text=True, check=False
    )


def done_in(report: Path) -> Done:
    done = Done(set(), set())
    for line in report.read_text("utf-8").splitlines():
        ((kind, event),) = json.loads(line).items()
        if kind == "ScenarioFinished":
            done.labels.add(event["recorder"]["label"])
        elif kind == "PhaseFinished" and event["status"] in {
            "success",
            "skip",
        }:  # skip: nothing here to try in it
            done.phases.add(event["phase"]["name"])
    return done
