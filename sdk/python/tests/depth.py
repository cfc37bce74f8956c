"""The depth of the proofs in this run, and the seed of all its randomness.

SOORMA_PROOF=sample (as `make test` runs) or whole (as `make prove` does); SOORMA_SEED repeats an
earlier run. The seed decides what is tried and in which order. What the machine does meanwhile
cannot be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

DEPTH = os.environ.get("SOORMA_PROOF", "sample")
if DEPTH not in {"sample", "whole"}:
    raise ValueError(f"SOORMA_PROOF must be sample or whole, not {DEPTH!r}")


def at_depth(sample: T, whole: T) -> T:
    """Returns the value for the depth of this run."""
    return whole if DEPTH == "whole" else sample


@cache  # tests change the environment
def seed() -> int:
    """The seed of this run, the same in all its worker processes."""
    return int(os.environ["SOORMA_SEED"])


def dice(what: str) -> Random:
    """The dice of one test: the same in each run of the same seed, whatever ran before."""
    return Random(f"{seed()} {what}")


def drawn(what: str, values: Sequence[T], sample: int) -> list[Any]:
    """The parameters of a proof that takes `sample` of these values in a sample, else all."""
    chosen = at_depth(dice(what).sample(range(len(values)), sample), range(len(values)))
    return [pytest.param(values[at], marks=pytest.mark.proof) for at in sorted(chosen)]
