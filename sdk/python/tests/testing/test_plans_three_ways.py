"""The rules of a plan, three ways: in a handler, in a client's transaction, on the platform."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import pytest
from depth import at_depth
from drawn_steps import (
    NARROW,
    SHORT,
    Change,
    Look,
    Step,
    beginnings,
    counted_early,
    named,
    raw,
    set_once,
    steps,
)
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from soorma import HandlerContext, Worker, WorkflowState
from soorma.errors import (
    Conflict,
    KeyMissing,
    LimitExceeded,
    NotFound,
    SoormaError,
)
from soorma.testing import LocalPlatform
from soorma_common.limits import Limits
from soorma_common.operations import (
    Acquire,
    Append,
    Cleanup,
    Complete,
    Delete,
    Ending,
    Fail,
    Fork,
    Increment,
    Join,
    RecordAction,
    Set,
)

Outcome: TypeAlias = Any
"""The result of a call, or (type, message, details) of its error."""


class Difference(NamedTuple):
    """An intended difference: the last step's outcome in a transaction and on the platform."""

    why: str
    before: list[Any]
    steps: list[Step]
    in_a_transaction: Any
    on_the_platform: Any


HELD = Set("z", raw("held"))
BY_DESIGN = [
    Difference(
        "what is not committed yet has revision 0",
        [],
        [Change([HELD]), Change([Set("z", raw(1))], "stale")],
        "key 'z' of plan 'p' is at revision 0, not 7 (0: not committed yet)",
        "key 'z' of plan 'p' is at revision 1, not 8",
    ),
    Difference(
        "an end of the same transaction is not final yet, and is told apart",
        [],
        [Change([Complete()]), Change([Fail()])],
        "plan 'p' was ended before in this transaction, it is completed: fail too late",
        "plan 'p' has ended before, it is completed: fail too late",
    ),
    Difference(
        "a blind operation reads nothing: where it does not fit, a later read or the commit says "
        "so",
        [HELD],
        [Change([Append("z", raw(1), blind=True)])],
        [None],
        "append needs a list, but 'z' holds a string; it was left as it is",
    ),
    Difference(
        "a place in a queue is seen after the commit only",
        [],
        [Change([Acquire(key="z", holder="h", lease=SHORT, ttl=SHORT)])],
        "the place at 'z' would be seen after the commit only: take it outside of it",
        [{"place": "z", "revision": 1}],
    ),
    Difference(
        "whether a plan was used before is seen at the commit, and so whether it may begin as a "
        "fork",
        [HELD],
        [Change([Fork("source")])],
        [3],
        "plan 'p' is in use, or was used before: fork into a new one, or clean it up first",
    ),
    Difference(
        "whether anything is left of a plan is seen at the commit",
        [HELD],
        [Change([Delete("z")]), Look("info")],
        "active",
        "there is no plan 'p', or nothing is left of it",
    ),
]
"""More differences need many or large operations.

Limits are the platform's and known only in a handler; those of a plan that was not read whole, of
its actions and of a commit's work are checked at the commit. What a later `set` supersedes is not
committed: a plan at its limits may then be refused for what did fit on the way. What blind
operations and joins add to a plan is counted at the commit. A commit relies on no more keys than a
plan may have."""


async def outcome_of(state: WorkflowState, step: Step) -> Outcome:
    try:
        if isinstance(step, Look):
            return await looked(state, step)
        return await applied(state, expecting(step, await revision_of(state, step)))
    except SoormaError as error:
        return told_of(error)


async def applied(state: WorkflowState, operations: list[Any]) -> Outcome:
    return await state.memory.apply(state.plan_id, operations, state.tenant_id, state.user_id)


def told_of(error: SoormaError) -> Outcome:
    return type(error), str(error), error.details


def expecting(step: Change, known: int) -> list[Any]:
    """Returns copies of a step's operations, because applying them may change them."""
    wanted = copy.deepcopy(step.operations)
    if step.expects:
        wanted[0].expected_revision = known if step.expects == "known" else known + 7
    return wanted


async def revision_of(state: WorkflowState, step: Step) -> int:
    """Returns the revision of the step's key; 0 if it is missing, or the step expects none."""
    if isinstance(step, Look) or not step.expects:
        return 0
    try:
        return (await state.get_entry(step.operations[0].key)).revision
    except KeyMissing:
        return 0


async def looked(state: WorkflowState, step: Look) -> Outcome:
    match step.at:
        case "get":
            return await state.get(step.key, "missing")
        case "keys":
            return await state.keys()
        case "actions":
            return [(action.number, action.name) for action in await state.actions()]
        case "info":
            return (await state.info()).status
    try:
        info = await state.info()
    except NotFound:
        return "active", None, None
    return info.status, info.result, info.reason


async def told(state: WorkflowState) -> Any:
    """Returns all that is left of a plan in the end."""
    values = await state.get_many(await state.keys())
    return values, *[await looked(state, Look(at)) for at in ("actions", "status")]


class Ways:
    """A platform with an agent that does given steps."""

    def __init__(self, platform: LocalPlatform, limits: Limits) -> None:
        self.platform = platform
        self.limits = limits
        self.given: dict[str, list[Step]] = {}
        self.found: dict[str, list[Outcome]] = {}
        self.runs = count()

    async def begin(self, way: str, run: int, beginning: list[Any]) -> WorkflowState:
        """Begins one way's plan, in a tenant of its own, so that names and messages are equal."""
        tenant = f"{way}-{run}"
        source, state = [
            self.platform.state(plan, tenant_id=tenant, user_id="u") for plan in ("source", "p")
        ]
        for operation in (Set("n", raw(1)), Set("l", raw([1])), Increment("n")):
            await applied(source, [operation])
        for operation in beginning:
            await outcome_of(state, Change([operation]))
        return state

    async def in_a_handler(self, state: WorkflowState, wanted: list[Step]) -> list[Outcome]:
        self.given[state.tenant_id] = wanted
        await self.platform.publish(
            "go", "action-requests", tenant_id=state.tenant_id, user_id="u", plan_id="p"
        )
        await self.platform.settle()
        return self.found[state.tenant_id]


async def one_by_one(state: WorkflowState, wanted: list[Step]) -> list[Outcome]:
    return [await outcome_of(state, step) for step in wanted]


async def in_a_transaction(state: WorkflowState, wanted: list[Step]) -> list[Outcome]:
    """Returns the outcomes of the steps, and last that of the commit."""
    found: list[Outcome] = []
    try:
        async with state.transaction() as tx:
            found += [await outcome_of(tx, step) for step in wanted]
    except SoormaError as error:
        return [*found, told_of(error)]
    return [*found, None]


@pytest.fixture(params=[Limits(), NARROW], ids=["wide", "narrow"])
async def ways(request: pytest.FixtureRequest) -> AsyncIterator[Ways]:
    worker = Worker("worker")
    async with LocalPlatform(limits=request.param) as platform:
        made = Ways(platform, request.param)

        @worker.on_event("go", ended_plans=True)
        async def go(event: Any, context: HandlerContext) -> None:
            state = WorkflowState(context.memory, "p")
            assert event.tenant_id not in made.found, "it runs once"
            made.found[event.tenant_id] = await one_by_one(state, made.given[event.tenant_id])

        await platform.run(worker)
        yield made


def is_error(outcome: Outcome) -> bool:
    return isinstance(outcome, tuple) and isinstance(outcome[0], type)


def comparable(wanted: list[Step], outcomes: list[Outcome]) -> list[Outcome]:
    """Returns the outcomes that have to be equal, without the differences in BY_DESIGN."""
    made: list[Outcome] = []
    own: set[str] = set()
    for step, outcome in zip(wanted, outcomes, strict=True):
        made.append(_comparable(outcome, own))
        own |= named(step)
    return made


def _comparable(outcome: Outcome, own: set[str]) -> Outcome:
    if not is_error(outcome):
        return outcome
    kind, message, details = outcome
    if kind is Conflict and details["key"] in own:
        return kind, details["plan_id"], details["key"]
    return (
        kind,
        message.replace("was ended before in this transaction", "has ended before"),
        details,
    )


def up_to_limit(wanted: list[Step], outcomes: list[Outcome]) -> int:
    """Returns the number of steps up to and with the first that a limit refuses."""
    refused = (
        place
        for place, outcome in enumerate(outcomes, 1)
        if is_error(outcome) and outcome[0] is LimitExceeded
    )
    return next(refused, len(wanted))


def left_out(step: Step, results: Outcome) -> bool:
    """True if an end with `if_active` came too late: then it is not committed."""
    ends = zip(step.operations, results, strict=True) if isinstance(step, Change) else ()
    return any(isinstance(one, Ending) and result is False for one, result in ends)


async def in_one_commit(
    state: WorkflowState, wanted: list[Step], outcomes: list[Outcome], known: list[int]
) -> None:
    """Checks that all steps together, as one commit, have the same results.

    A refused step is refused in the same way along with those before it.
    """
    operations: list[Any] = []
    results: list[Any] = []
    own: set[str] = set()
    new = await state.revision() + 1
    for step, outcome, revision in zip(wanted, outcomes, known, strict=True):
        if isinstance(step, Look):
            continue
        is_new = revision > 0 and not own.isdisjoint(named(step))
        more = expecting(step, new if is_new else revision)
        if is_error(outcome):
            with pytest.raises(SoormaError) as raised:
                await applied(state, copy.deepcopy([*operations, *more]))
            assert _comparable(told_of(raised.value), own) == _comparable(outcome, own)
            continue
        operations += more
        results += outcome
        own |= named(step)
    if operations:
        assert await applied(state, operations) == results


@pytest.mark.behaviour("transactions.same-rules")
@example([], [Change([RecordAction("first")]), Change([Cleanup()]), Look("actions")], 0.0)
@example(
    [], [Change([Join("blind-j", "a", 2, blind=True)]), Change([Join("blind-j", "b", 2)])], 0.0
)
@given(beginning=beginnings, wanted=steps, passed=st.sampled_from([0.0, 0.0, 2 * SHORT]))
@settings(
    max_examples=at_depth(60, 600),
    deadline=None,
    phases=at_depth([Phase.explicit, Phase.generate], list(Phase)),  # shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_a_plan_is_the_same_three_ways(
    ways: Ways, beginning: list[Any], wanted: list[Step], passed: float
) -> None:
    if isinstance(wanted[0], Change) and isinstance(wanted[0].operations[0], Fork):
        beginning = []
    run, is_narrow = next(ways.runs), ways.limits == NARROW
    one, handler, client, commit = [
        await ways.begin(way, run, beginning)
        for way in ("one by one", "handler", "transaction", "commit")
    ]
    await ways.platform.advance(passed)
    wanted = counted_early(beginning, set_once(wanted)) if is_narrow else wanted
    known, outcomes = [], []
    for step in wanted:
        known.append(await revision_of(one, step))
        outcomes.append(await outcome_of(one, step))
    expected, at_the_end = comparable(wanted, outcomes), await told(one)
    assert comparable(wanted, await ways.in_a_handler(handler, wanted)) == expected
    assert await told(handler) == at_the_end
    done = up_to_limit(wanted, outcomes)
    *found, committed = await in_a_transaction(client, wanted[:done])
    refusal = outcomes[done - 1] if done else None
    if is_error(refusal) and refusal[0] is LimitExceeded:
        assert comparable(wanted[: done - 1], found[:-1]) == expected[: done - 1]
        is_left_out = is_error(found[-1]) or left_out(wanted[done - 1], found[-1])
        assert committed in ([refusal, None] if is_left_out else [refusal])
    else:
        assert (comparable(wanted, found), committed) == (expected, None)
        assert await told(client) == at_the_end
    await in_one_commit(commit, wanted, outcomes, known)


@pytest.mark.behaviour("transactions.same-rules")
@pytest.mark.parametrize("difference", BY_DESIGN, ids=lambda difference: difference.why)
@pytest.mark.parametrize("ways", [Limits()], ids=[""], indirect=True)
async def test_what_differs_by_design(ways: Ways, difference: Difference) -> None:
    plans = [
        await ways.begin(way, 0, difference.before)
        for way in ("handler", "transaction", "one by one")
    ]
    inside = await ways.in_a_handler(plans[0], difference.steps)
    *found, _ = await in_a_transaction(plans[1], difference.steps)
    outside = await one_by_one(plans[2], difference.steps)
    last = [
        outcome[-1][1] if is_error(outcome[-1]) else outcome[-1]
        for outcome in (inside, found, outside)
    ]
    assert last == [
        difference.in_a_transaction,
        difference.in_a_transaction,
        difference.on_the_platform,
    ]
