"""The time of a response does not tell what is another tenant's from what is not there."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from closed_platform import closed_in
from platform_process import PlatformProcess
from running import WAIT

PAIRS = 2_000
MOST = 0.55
"""The share that may be told right: half would be by chance, and of so many pairs this is three
standard errors more."""
TRIES = 5
"""Runs of which one has to hold: where others use the machine, its noise comes in waves."""


class Pair(NamedTuple):
    """Two requests: of what is there but another's, and of what is not there."""

    service: str
    path: str
    theirs: dict[str, str]
    nothing: dict[str, str]
    their_path: str = ""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlatformProcess, Any]]:
    many = str(10 * PAIRS)
    with closed_in(tmp_path_factory.mktemp("closed"), SOORMA_FAILED_ATTEMPTS=many) as closed:
        theirs = closed.key("app", tenant_id="umbrella")
        own = closed.key("operator", tenant_id="acme")
        memory = closed.raw("memory", theirs.credential, X_User_ID="eve")
        memory("PUT", "/v1/memory/working/their-plan/k", {"value": "x" * 1_000})
        bearer = {"Authorization": f"Bearer {own.credential}", "X-User-ID": "ann"}
        wrong = "_".join((*theirs.credential.split("_")[:2], "0" * 64))
        unknown = f"soorma_{'0' * 16}_{'0' * 64}"
        yield closed.platform, {
            "a key of another tenant": Pair(
                "identity", f"/v1/identity/keys/{'0' * 16}", bearer, bearer,
                f"/v1/identity/keys/{theirs.id}",
            ),
            "a plan of another tenant": Pair(
                "memory", "/v1/memory/working/no-plan-xx/k", bearer, bearer,
                "/v1/memory/working/their-plan/k",
            ),
            "a wrong secret of a key that is there": Pair(
                "memory", "/v1/memory/working", {"Authorization": f"Bearer {wrong}"},
                {"Authorization": f"Bearer {unknown}"},
            ),
        }  # fmt: skip


def times(platform: PlatformProcess, pair: Pair) -> tuple[list[float], list[float]]:
    """Returns the times of both kinds of requests, made by turns on one connection."""
    found: tuple[list[float], list[float]] = ([], [])
    address = urlsplit(getattr(platform, f"{pair.service}_url")).netloc
    with closing(http.client.HTTPConnection(address, timeout=WAIT)) as connection:
        kinds = ((pair.their_path or pair.path, pair.theirs), (pair.path, pair.nothing))
        bodies = set()
        for number in range(PAIRS + 50):
            for which, (path, headers) in enumerate(kinds if number % 2 else kinds[::-1]):
                kind = which if number % 2 else 1 - which
                began = time.perf_counter()
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                length = len(answer.read())
                took = time.perf_counter() - began
                bodies.add((answer.status, length))
                if number >= 50:  # the first ones warm up
                    found[kind].append(took)
    assert len(bodies) == 1, f"they differ in status or length: {bodies}"
    return found


def told_right(theirs: list[float], nothing: list[float]) -> float:
    """Returns the share that the best threshold of one half tells right of the other half."""
    half = len(theirs) // 2
    cut = (median(theirs[:half]) + median(nothing[:half])) / 2
    is_slower: Callable[[float], bool] = lambda took: took > cut  # noqa: E731 - one of two
    if median(theirs[:half]) < median(nothing[:half]):
        is_slower = lambda took: took <= cut  # noqa: E731 - the other
    right = sum(map(is_slower, theirs[half:])) + sum(not is_slower(one) for one in nothing[half:])
    return right / (2 * (len(theirs) - half))


@pytest.mark.behaviour("identity.timing")
@pytest.mark.parametrize(
    "what",
    [
        "a key of another tenant",
        "a plan of another tenant",
        "a wrong secret of a key that is there",
    ],
)
def test_the_time_tells_nothing(pairs: tuple[PlatformProcess, Any], what: str) -> None:
    platform, known = pairs
    shares = []
    for _ in range(TRIES):
        shares.append(told_right(*times(platform, known[what])))
        if shares[-1] <= MOST:
            return
    pytest.fail(f"told right by time: {', '.join(f'{share:.1%}' for share in shares)}")
