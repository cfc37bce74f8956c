"""The checker itself, on histories made by hand or by a model, and against trying all orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from math import inf
from random import Random

import pytest
from depth import at_depth, dice
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from linearizability import Call, NotLinearizable, linearize
from register import Key, Request, run, step

pytestmark = pytest.mark.behaviour("proofs.checker-finds")

MOST_LASTING = 4
GET, DELETE, INCREMENT = Request("get"), Request("delete"), Request("increment", 1)


def call(client: str, request: Request, invoked: float, returned: float, *result: object) -> Call:
    return Call(client, request, invoked, returned, result)


def lost(client: str, request: Request, invoked: float, until: float = inf) -> Call:
    return Call(client, request, invoked, until, answered=False)


def is_linearizable(calls: Sequence[Call]) -> bool:
    try:
        linearize(calls, Key(), step)
    except NotLinearizable:
        return False
    return True


# by hand

PUT = call("a", Request("put", 5), 0, 10, "done", 5, 1)
LINEARIZABLE = {
    "nothing": [],
    "a read while it is written sees it": [PUT, call("b", GET, 5, 6, "value", 5, 1)],
    "a read while it is written does not yet see it": [PUT, call("b", GET, 5, 6, "missing")],
    "an older write comes last": [
        call("a", Request("put", 5), 0, 10, "done", 5, 2),
        call("b", Request("put", 6), 5, 6, "done", 6, 1),
        call("b", GET, 11, 12, "value", 5, 2),
    ],
    "one of two compare-and-sets wins": [
        call("a", Request("put", 5, 0), 0, 10, "conflict", 1),
        call("b", Request("put", 6, 0), 0, 10, "done", 6, 1),
    ],
    "increments at the same time": [
        call("a", INCREMENT, 0, 10, "done", 2, 2),
        call("b", INCREMENT, 0, 10, "done", 1, 1),
    ],
    "a lost write that is seen late": [
        lost("a", Request("put", 5), 0),
        call("b", GET, 10, 11, "missing"),
        call("b", GET, 12, 13, "value", 5, 1),
    ],
    "a lost write that is never seen": [
        lost("a", Request("put", 5), 0),
        call("b", GET, 10, 11, "missing"),
    ],
    "a delete of nothing changes nothing": [
        call("a", DELETE, 0, 1, "deleted", False, 0),
        call("a", INCREMENT, 2, 3, "done", 1, 1),
        call("a", DELETE, 4, 5, "deleted", True, 2),
        call("a", GET, 6, 7, "missing"),
    ],
    "an old server dies with what it was asked": [
        lost("a", Request("put", 5), 0, 10),
        call("b", GET, 11, 12, "value", 5, 1),
        lost("a", Request("put", 6), 20, 30),
        call("b", GET, 31, 32, "value", 5, 1),
    ],
}
NOT_LINEARIZABLE = {
    "a write is not seen": [PUT, call("b", GET, 11, 12, "missing")],
    "a value nobody wrote": [PUT, call("b", GET, 11, 12, "value", 6, 1)],
    "an update is lost": [
        call("a", INCREMENT, 0, 10, "done", 1, 1),
        call("b", INCREMENT, 0, 10, "done", 1, 2),
    ],
    "a revision is given twice": [
        call("a", INCREMENT, 0, 10, "done", 1, 1),
        call("b", INCREMENT, 0, 10, "done", 2, 1),
    ],
    "reads go back in time": [
        PUT,
        call("b", GET, 2, 3, "value", 5, 1),
        call("c", GET, 4, 5, "missing"),
    ],
    "both of two compare-and-sets win": [
        call("a", Request("put", 5, 0), 0, 10, "done", 5, 1),
        call("b", Request("put", 6, 0), 0, 10, "done", 6, 2),
    ],
    "a compare-and-set loses against nobody": [
        call("a", Request("put", 5, 0), 0, 10, "conflict", 1)
    ],
    "a write is taken back": [
        PUT,
        call("b", GET, 11, 12, "value", 5, 1),
        call("b", GET, 13, 14, "missing"),
    ],
    "a lost write is seen before it was sent": [
        lost("a", Request("put", 5), 10),
        call("b", GET, 1, 2, "value", 5, 1),
    ],
    "a lost write happens after its server died": [
        lost("a", Request("put", 5), 0, 10),
        call("b", GET, 11, 12, "missing"),
        call("b", GET, 13, 14, "value", 5, 1),
    ],
    "a lost increment happens twice": [
        lost("a", INCREMENT, 0),
        call("b", GET, 10, 11, "value", 2, 2),
    ],
}


@pytest.mark.parametrize("calls", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_it_accepts(calls: list[Call]) -> None:
    check_order(calls, linearize(calls, Key(), step))


@pytest.mark.parametrize("calls", NOT_LINEARIZABLE.values(), ids=NOT_LINEARIZABLE)
def test_it_refuses(calls: list[Call]) -> None:
    with pytest.raises(NotLinearizable):
        linearize(calls, Key(), step)


def test_it_names_the_call_that_no_order_explains() -> None:
    wrong = call("b", GET, 11, 12, "missing")
    with pytest.raises(NotLinearizable, match=r"b: .*get.*'missing'") as refused:
        linearize([PUT, wrong, call("c", GET, 11, 13, "value", 5, 1)], Key(), step)
    assert refused.value.call is wrong


def check_order(calls: Sequence[Call], order: Sequence[Call]) -> None:
    """Checks that the order has all calls with responses, fits real time, explains all results."""
    assert {id(one) for one in calls if one.answered} <= {id(one) for one in order}
    assert explains(order)


def explains(order: Sequence[Call]) -> bool:
    key = Key()
    for index, one in enumerate(order):
        if any(later.returned < one.invoked for later in order[index:]):
            return False
        key, result = run(key, one.request)
        if one.answered and result != one.result:
            return False
    return True


# against a model


def made(dice: Random, count: int, clients: int, losses: float = 0.15) -> list[Call]:
    """A history that is linearizable: each call happens at a moment of its own, within its time."""
    key, calls, free, lasting = Key(), [], [0.0] * clients, 0
    for moment in range(10, 10 * count + 10, 10):
        client = dice.randrange(clients)
        request = any_request(dice, key)
        invoked = max(free[client], moment - dice.uniform(1, 60))
        if invoked >= moment:
            continue  # this client is still busy
        free[client] = returned = moment + dice.uniform(1, 60)
        is_lost = dice.random() < losses
        result: object = None
        if not is_lost or dice.random() < 0.5:
            key, result = run(key, request)
        if is_lost:
            lasting += 1
            returned = returned if lasting > MOST_LASTING else dice.choice([returned, inf])
            calls.append(lost(str(client), request, invoked, returned))
        else:
            calls.append(Call(str(client), request, invoked, returned, result))
    dice.shuffle(calls)
    return calls


def any_request(dice: Random, key: Key) -> Request:
    expected = dice.choice([None, None, key.revision, dice.randint(0, 3)])
    return dice.choice(
        [
            GET,
            INCREMENT,
            Request("put", dice.randint(0, 9), expected),
            DELETE._replace(expected=expected),
        ]
    )


@pytest.mark.proof
@pytest.mark.parametrize("run_number", range(at_depth(20, 400)))
def test_it_accepts_what_a_model_did(run_number: int) -> None:
    calls = made(dice(f"model {run_number}"), count=at_depth(200, 1000), clients=8)
    check_order(calls, linearize(calls, Key(), step))


# against every order


def tiny(dice: Random) -> list[Call]:
    """Up to six calls of a model, up to two of them changed: linearizable or not."""
    calls = made(dice, count=dice.randint(2, 6), clients=4, losses=0.3)
    for _ in range(dice.randint(0, 2)):
        index = dice.randrange(len(calls))
        calls[index] = dice.choice(list(mutants(calls, index)))
    return calls


TINY = st.builds(tiny, st.builds(Random, st.integers(0, 2**32)))


def mutants(calls: list[Call], index: int) -> Iterator[Call]:
    """The alternatives to the call at this index."""
    one = calls[index]
    yield replace(one, invoked=one.invoked - 35)
    for other in calls:
        yield replace(one, result=other.result)
    if one.result and one.result[0] == "done":
        yield replace(one, result=("done", one.result[1] + 1, one.result[2]))
        yield replace(one, result=("done", one.result[1], one.result[2] + 1))
    if one.answered:
        yield replace(one, answered=False, result=None)
        yield replace(one, returned=one.invoked + 1)


def can_be_explained(calls: Sequence[Call]) -> bool:
    """Tries every order of every set of calls that may have happened."""
    answered = [one for one in calls if one.answered]
    unanswered = [one for one in calls if not one.answered]
    return any(
        explains(order)
        for size in range(len(unanswered) + 1)
        for happened in combinations(unanswered, size)
        for order in permutations([*answered, *happened])
    )


@pytest.mark.proof
@settings(max_examples=at_depth(300, 10_000), database=None)
@given(TINY)
def test_it_agrees_with_trying_every_order(calls: list[Call]) -> None:
    assert is_linearizable(calls) == can_be_explained(calls)


def test_of_the_tiny_histories_many_are_linearizable_and_many_are_not() -> None:
    verdicts = Counter[bool]()

    @settings(max_examples=300, database=None, phases=[Phase.generate])
    @given(TINY)
    def count(calls: list[Call]) -> None:
        verdicts[is_linearizable(calls)] += 1

    count()
    # there are about 70, give or take 8 by the seed
    assert min(verdicts[True], verdicts[False]) > 20


@pytest.mark.proof
def test_it_refuses_a_stale_read_in_a_long_history() -> None:
    chance, tried = dice("stale reads"), 0
    while tried < at_depth(100, 2000):
        calls = made(chance, count=60, clients=8)
        stale = [
            (index, result)
            for index, one in enumerate(calls)
            for result in stale_results(calls, one)
        ]
        for index, result in chance.sample(stale, min(3, len(stale))):
            assert not is_linearizable(
                [*calls[:index], replace(calls[index], result=result), *calls[index + 1 :]]
            )
            tried += 1


def stale_results(calls: list[Call], read: Call) -> list[object]:
    """Results of earlier reads that were overwritten, as somebody knew, before this read began."""
    if not read.answered or read.request != GET:
        return []
    before = [one for one in calls if one.answered and one.returned < read.invoked]
    known = max([one.result[2] for one in before if one.result[0] == "done"], default=0)
    return [one.result for one in before if one.result[0] == "value" and one.result[2] < known]


def test_what_it_costs_follows_the_length_of_the_history() -> None:
    """Ten times the calls, about ten times the steps."""
    steps = Counter[int]()

    def check(count: int) -> int:
        def counted(key: Key, one: Call) -> Key | None:
            steps[count] += 1
            return step(key, one)

        linearize(made(Random(1), count, clients=8, losses=0), Key(), counted)
        return steps[count]

    assert check(2000) < 15 * check(200)
