"""A checker of linearizability: could a history come from an object that serves one call at a time?

A history is linearizable if each call can be given a moment between its invocation and its return
so that, taken in the order of these moments, all results are those of the sequential object
(Herlihy, Wing: Linearizability: a correctness condition for concurrent objects, TOPLAS 1990). Wing
and Gong (Testing and verifying concurrent objects, JPDC 1993) search the orders. Lowe (Testing for
linearizability, Concurrency and Computation 2017) remembers which sets of calls led to which state,
and takes a call no sooner than a return asks for it. That is what is done here, breadth first: the
frontier holds every state the object can be in, with those of the pending calls that led there. A
call that has returned, and so is in all of them, is forgotten. So the cost follows the number of
calls at one time, not the length of the history, which falls into windows by itself. Keys are
checked one by one, which is as good as together (Horn, Kroening: Faster linearizability checking
via P-compositionality, FORTE 2015).

Calls that were not answered and may happen at any time later stay pending to the end, and each can
double the frontier: a history should have few of them. One that can be given a bound, as its server
has died, costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Any, TypeAlias, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True)
class Call:
    """One call as its client saw it; times are of a clock that all clients share.

    Without a response, `answered` is False, `returned` is the latest time at which it could happen
    (inf: it still may), and it may have happened or not.
    """

    client: str
    request: Any
    invoked: float
    returned: float = inf
    result: Any = None
    answered: bool = True

    def __str__(self) -> str:
        told = f"-> {self.result}" if self.answered else "without an answer"
        return f"{self.client}: {self.request} {told} [{self.invoked} .. {self.returned}]"


Step: TypeAlias = Callable[[State, Call], State | None]
"""The sequential object: its state after the call, None if its result would be another."""

# a state, and a bit for each pending call that has led to it
_Config: TypeAlias = tuple[State, int]
_Chain: TypeAlias = Any  # the order that led to a config: None, or (chain before, call)
_Frontier: TypeAlias = dict[_Config[State], _Chain]


class NotLinearizable(AssertionError):
    """No order explains the history up to the return of `call`."""

    def __init__(self, call: Call, pending: Sequence[Call], states: Sequence[Any]) -> None:
        self.call = call
        told = [
            f"no order of the calls explains {call}",
            "states before it:",
            *map(str, states[:8]),
        ]
        super().__init__("\n  ".join([*told, "calls at the same time:", *map(str, pending)]))


def linearize(calls: Sequence[Call], start: State, step: Step[State]) -> list[Call]:
    """An order of the calls that explains all results; those that never happened are left out."""
    frontier: _Frontier[State] = {(start, 0): None}
    pending: dict[int, Call] = {}
    places: dict[int, int] = {}
    for number, begins in _moments(calls):
        call = calls[number]
        if begins:
            place = places[number] = next(free for free in count() if free not in pending)
            pending[place] = call
            continue
        place = places.pop(number)
        after = _settle(frontier, pending, place, step)
        if not after:
            states = list(dict.fromkeys(state for state, _ in frontier))
            raise NotLinearizable(
                call, [one for one in pending.values() if one is not call], states
            )
        frontier = after
        del pending[place]
    return list(_unwound(next(iter(frontier.values()))))


def _moments(calls: Sequence[Call]) -> Iterator[tuple[int, bool]]:
    """Invocations (True) and returns in order of time; calls that touch are taken as concurrent."""
    begins = [(call.invoked, 0, number) for number, call in enumerate(calls)]
    ends = [(call.returned, 1, number) for number, call in enumerate(calls) if call.returned < inf]
    for _, is_end, number in sorted(begins + ends):
        yield number, not is_end


def _settle(
    frontier: _Frontier[State], pending: dict[int, Call], place: int, step: Step[State]
) -> _Frontier[State]:
    """The frontier after the end of a pending call.

    It has happened by then or, if it got no response, never will.
    """
    bit = 1 << place
    settled: _Frontier[State] = {}
    if not pending[place].answered:
        settled.update((config, chain) for config, chain in frontier.items() if not config[1] & bit)
    seen, left = dict(frontier), list(frontier.items())
    while left:
        (state, done), chain = left.pop()
        if done & bit:
            settled.setdefault((state, done ^ bit), chain)
            continue
        for other, call in pending.items():
            after = None if done >> other & 1 else step(state, call)
            # as good as if it had not happened
            if after is None or (after == state and not call.answered):
                continue
            if (config := (after, done | 1 << other)) not in seen:
                seen[config] = (chain, call)
                left.append((config, seen[config]))
    return settled


def _unwound(chain: _Chain) -> Iterator[Call]:
    order = []
    while chain is not None:
        chain, call = chain
        order.append(call)
    return reversed(order)
