"""Tasks of a handler that change a plan side by side: a refused change leaves the others intact."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soorma import HandlerContext, Worker, WorkflowState
from soorma.errors import LimitExceeded, WrongType
from soorma.testing import LocalPlatform
from soorma_common.operations import Append, Increment

FACTS = "business-facts"
TOO_LARGE = "x" * 2_000_000

GOOD: dict[str, Any] = {
    "increment": lambda state, n: state.increment(f"n{n}"),
    "blind": lambda state, n: state.increment(f"n{n}", blind=True),
    "append": lambda state, n: state.append("list", n),
    "set": lambda state, n: state.set(f"s{n}", n),
    "update": lambda state, n: state.update({f"u{n}": n, f"v{n}": n}),
    "delete": lambda state, n: state.delete(f"old{n}"),
    "action": lambda state, n: state.record_action(f"a{n}"),
    "join": lambda state, n: state.join("join", expect=99, arrival=f"a{n}"),
    "read": lambda state, n: state.get(f"old{n}"),
}
BAD: dict[str, Any] = {
    "too large": lambda state, n: state.update({f"bad{n}": 1, f"bad'{n}": TOO_LARGE}),
    "wrong type": lambda state, n: state.memory.apply(
        "p",
        [Append(f"bad{n}", b"1"), Increment(f"old{n}")],  # type: ignore[arg-type]
    ),
    "blind wrong type": lambda state, n: state.memory.apply(
        "p",
        [Increment(f"bad{n}"), Increment(f"old{n}", blind=True), Append(f"old{n}", b"1")],  # type: ignore[arg-type]
    ),
}
changes = st.lists(st.sampled_from([*GOOD, *BAD]), min_size=2, max_size=8)


async def _refused(call: Any) -> None:
    with pytest.raises((LimitExceeded, WrongType)):
        await call


@pytest.mark.behaviour("handlers.side-by-side")
@pytest.mark.parametrize(
    "large", [False, True], ids=["a plan that comes along", "a plan that is read"]
)
@given(kinds=changes)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_what_is_refused_undoes_its_own_changes_only(large: bool, kinds: list[str]) -> None:
    worker = Worker("worker")

    @worker.on_event("go")
    async def go(event: Any, context: HandlerContext) -> None:
        state = WorkflowState(context.memory, "p")
        await asyncio.gather(
            *(
                GOOD[kind](state, n) if kind in GOOD else _refused(BAD[kind](state, n))
                for n, kind in enumerate(kinds)
            )
        )

    async with LocalPlatform() as platform:
        for plan in ("p", "one by one"):
            state = platform.state(plan)
            await state.update({f"old{n}": "text" for n in range(8)})
            if large:
                await state.update({f"k{n}": "v" * 200 for n in range(150)})
        await platform.run(worker)
        await platform.publish("go", FACTS, plan_id="p")
        await platform.settle()
        expected = platform.state("one by one")
        for n, kind in enumerate(kinds):
            if kind in GOOD:
                await GOOD[kind](expected, n)
        found, wanted = [
            await one.get_many(await one.keys()) for one in (platform.state("p"), expected)
        ]
        assert _in_any_order(found) == _in_any_order(wanted)
        actions = [
            sorted(await one.get_action_history()) for one in (platform.state("p"), expected)
        ]
        assert actions[0] == actions[1]
        assert await platform.dead_letters() == []


def _in_any_order(values: dict[str, Any]) -> dict[str, Any]:
    found = {**values, "list": sorted(values.get("list", []))}
    if "join" in found:
        found["join"] = sorted(found["join"]["arrived"])
    return found
