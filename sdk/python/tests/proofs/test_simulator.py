"""Agents and platform in a world made from a seed: whatever goes wrong, nothing is lost or doubled.

In `make prove` 10,000 schedules, in `make test` a sample. A failure names its schedule, and the
command that repeats it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pytest
from depth import at_depth, seed
from simulator.faults import WEIGHTS
from simulator.plants import PLANTS, Plant
from simulator.schedule import Outcome, run
from simulator.workloads import WORKLOADS

pytestmark = [pytest.mark.proof, pytest.mark.behaviour("proofs.simulator")]

ONE = os.environ.get("SOORMA_SCHEDULE")
SHARDS, SCHEDULES = (1, 1) if ONE else at_depth((2, 25), (20, 500))
TRIES = 150
UNPLANTED = at_depth(2, 5)
"""The number of schedules that are repeated without the planted fault."""
FOCUS = {
    "answer_before_commit": "counters",
    "compensations_forwards": "sagas",
    "fencing_off": "sagas",
    "stored_responses_forgotten": "counters",
    "idle_reported_again": "memories",
    "lease_never_renewed": "payments",
    "forgotten_parts_stay": "memories",
    "remember_at_once": "memories",
    "step_not_fenced": "payments",
    "steps_not_brought_along": "payments",
    "suspects_never_tested": "payments",
    "timer_left": "timers",
    "timer_removed_first": "timers",
    "turn_kept": "counters",
}
"""Workloads in which some mistakes show soonest; others show in any."""
DIGEST = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_simulator import digest
for number in sys.argv[3:]:
    print(digest(int(number)))
"""


def numbers(shard: int) -> list[int]:
    """The schedules of a shard: others for each seed, or only the one of SOORMA_SCHEDULE."""
    if ONE:
        return [int(ONE)]
    first = (seed() * SHARDS + shard) * SCHEDULES
    return list(range(first, first + SCHEDULES))


def digest(number: int) -> str:
    """A digest of the whole outcome of a schedule."""
    outcome = run(number)
    about = (outcome.names, outcome.steps, outcome.seconds, outcome.caused, outcome.wrong)
    return blake2b(repr(about).encode() + outcome.record, digest_size=16).hexdigest()


@pytest.mark.parametrize("shard", range(SHARDS))
def test_schedules(shard: int) -> None:
    caused: Counter[str] = Counter()
    for number in numbers(shard):
        outcome = run(number)
        assert not outcome.wrong, outcome.told()
        caused += outcome.caused
    sys.stdout.write(f"\n{SCHEDULES} schedules from {numbers(shard)[0]}: {dict(caused)}\n")


def test_all_kinds_of_faults_happen() -> None:
    caused, kinds = Counter[str](), set[str]()
    for number in range(60):
        outcome = run(number)
        caused += outcome.caused
        kinds.update(outcome.names)
        if caused.keys() == WEIGHTS.keys() and len(kinds) == len(WORKLOADS):
            break
    assert caused.keys() == WEIGHTS.keys()
    assert kinds == {load.name for load in WORKLOADS}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within some schedules, the same in each run; without the fault, these schedules pass."""
    tried = []
    with monkeypatch.context() as patch:
        plant(patch)
        for number in range(TRIES):
            tried.append(outcome := _run(number, plant))
            if outcome.wrong:
                break
    found = tried[-1]
    assert found.wrong, f"{plant.__doc__} Not found in {TRIES} schedules"
    sys.stdout.write(f"\n{plant.__doc__} Found by schedule {found.seed}: {found.wrong[0]}\n")
    for outcome in tried[-UNPLANTED:]:
        unplanted = _run(outcome.seed, plant)
        assert not unplanted.wrong, unplanted.told()


def _run(number: int, plant: Plant) -> Outcome:
    return run(number, tuple(load for load in WORKLOADS if load.name == FOCUS.get(plant.__name__)))


def test_a_schedule_repeats_itself_in_another_process() -> None:
    here = Path(__file__).parent
    tried = numbers(0)[:10]
    command = [sys.executable, "-c", DIGEST, str(here), str(here.parent), *map(str, tried)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}  # another order of sets than here
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    assert answer.stdout.split() == [digest(number) for number in tried]


def test_a_failure_tells_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = next(plant for plant in PLANTS if plant.__name__ == "no_read_check")
    plant(monkeypatch)
    outcome = next(outcome for number in range(TRIES) if (outcome := run(number)).wrong)
    told = outcome.told()
    assert (
        f"SOORMA_SCHEDULE={outcome.seed} sh tools/run prove tests/proofs/test_simulator.py -k "
        "schedules" in told
    )
    assert outcome.wrong[0] in told
    assert len(outcome.trace) > 10
    assert " sends " in told
