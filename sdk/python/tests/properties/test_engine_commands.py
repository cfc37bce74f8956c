"""Commands by themselves, without a store: their decisions for whatever is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.causes import NOBODY
from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict, DefinitionConflict, LimitExceeded, PlanEnded
from soorma_common.limits import Limits
from soorma_common.names import All, Scope
from soorma_common.registry import (
    MOST_AGENTS,
    MOST_DEFINITIONS,
    MOST_INSTANCES,
    Announcement,
    EventDefinition,
)
from soorma_platform.engine.commands import Snapshot
from soorma_platform.engine.dead_letters import ReplayDeadLetter
from soorma_platform.engine.groups import STEP_BYTES, JoinGroup
from soorma_platform.engine.history import rebuild
from soorma_platform.engine.moments import Moment
from soorma_platform.engine.publishing import one_per_group
from soorma_platform.engine.registry import AnnounceAgent, DefineEvent
from soorma_platform.engine.retention import Fate, Retention, TrimHistory, fate, warn_before
from soorma_platform.engine.rows.dead_letters import LetterFound, LetterReplayed, LetterRow
from soorma_platform.engine.rows.events import SubscriptionRow
from soorma_platform.engine.rows.groups import (
    GroupFound,
    Joined,
    KnownSubscription,
    Taken,
    UntakenFound,
    UntakenRow,
)
from soorma_platform.engine.rows.history import OldestFound, TrimmedHistory
from soorma_platform.engine.rows.idempotency import KeySeen, SeenKey
from soorma_platform.engine.rows.plans import HistoryRow, KeyPast, PlanRow
from soorma_platform.engine.rows.registry import (
    AgentFound,
    AgentRow,
    Announced,
    DefinitionFound,
    DefinitionRow,
)

NOW = Moment(wall=2_000, uptime=1_000, steady=3_000)
KINDS, TOPICS, LANES, TENANTS = (
    ("a", "b"),
    ("business-facts", "plan-events"),
    (None, "p", "q"),
    ("acme", "umbrella"),
)

PATTERNS = st.tuples(st.sampled_from((*KINDS, "*")), st.sampled_from((*TOPICS, "*")))


def found(*parts: Any) -> Snapshot:
    """Returns a snapshot as a store would have loaded it."""
    made = Snapshot(NOW)
    for part in parts:
        made._parts[type(part)] = part
    return made


# groups


@st.composite
def untaken(draw: st.DrawFn) -> list[UntakenRow]:
    """Draws events that nobody took, in the order of the log."""
    count = draw(st.integers(0, 12))
    return [
        UntakenRow(
            at=draw(st.integers(0, 5)) + 10 * number,
            position=number + 1,
            lane=draw(st.sampled_from(LANES)),
            type=draw(st.sampled_from(KINDS)),
            topic=draw(st.sampled_from(TOPICS)),
            tenant_id=draw(st.sampled_from(TENANTS)),
            size=draw(st.sampled_from((1, STEP_BYTES // 3, STEP_BYTES))),
        )
        for number in range(count)
    ]


@pytest.mark.behaviour("store.bounded-joining", "groups.start-order")
@given(
    untaken(),
    st.dictionaries(PATTERNS, st.booleans(), min_size=1),
    st.sets(PATTERNS),
    st.sampled_from((All.TENANTS, *TENANTS)),
)
def test_who_joins_takes_what_nobody_took_as_if_it_was_published_now(
    events: list[UntakenRow],
    wanted: dict[tuple[str, str], bool],
    old: set[tuple[str, str]],
    owner: Any,
) -> None:
    """Each event is taken once, in the log's order, in any steps; the eldest of a lane leads it."""
    subscriptions = [
        Subscription(kind, topic, ordered=ordered) for (kind, topic), ordered in wanted.items()
    ]
    known = [
        KnownSubscription(number, *pattern, joining=False)
        for number, pattern in enumerate(sorted(old))
    ]
    new = {pattern: number for number, pattern in enumerate(wanted) if pattern not in old}
    rows = [
        SubscriptionRow(number, 1, "g", *pattern, ordered=True) for pattern, number in new.items()
    ]
    taken: list[Taken] = []
    busy: set[str] = set()
    left, after, is_over = list(events), None, False
    while not is_over:
        part = UntakenFound(left, is_all=True, busy=set(busy))
        decision = JoinGroup(owner, "g", subscriptions, after).decide(
            found(GroupFound(1, known), part)
        )
        taken += [row for row in decision.writes if isinstance(row, Taken)]
        busy = {row.lane for row in taken if row.lane is not None}
        is_over = decision.outcome.following is None
        assert is_over or decision.outcome.following > (after or (0, 0)), "each step goes on"
        after = decision.outcome.following
        left = [row for row in events if after is not None and row.cursor > after]
        joined = [
            one for row in decision.writes if isinstance(row, Joined) for one in row.subscriptions
        ]
        assert bool(joined) is (is_over and bool(new)), (
            "it takes part in what is published once it has taken all"
        )
    expected: dict[int, int] = {}
    for event in events:
        if owner in (All.TENANTS, event.tenant_id):
            fits = [
                one
                for one in rows
                if one.type in (event.type, "*") and one.topic in (event.topic, "*")
            ]
            expected.update((event.position, best.id) for best in one_per_group(fits))
    assert {row.position: new[row.by.type, row.by.topic] for row in taken} == expected
    assert [row.position for row in taken] == sorted(expected), "once each, in the order of the log"
    lanes: set[str] = set()
    for row in taken:
        assert (row.ready_at is None) is (row.lane in lanes)
        lanes |= {row.lane} if row.lane is not None else set()


# dead letters


@pytest.mark.behaviour("deadletters.replayed")
@given(
    st.sampled_from((None, "key")),
    st.booleans(),
    st.sampled_from(("active", "completed", "cancelled")),
    st.booleans(),
    st.sampled_from((None, 7)),
)
def test_a_dead_letter_is_replayed_once_where_somebody_takes_it(
    key: str | None, is_seen: bool, status: str, ended_plans: bool, subscription: int | None
) -> None:
    plan = PlanRow(
        "p",
        0,
        0,
        id=1,
        revision=3,
        live=True,
        status=status,
        past_position=9 * (status == "cancelled"),
    )
    letter = LetterRow(4, 1, 5, "lane", False, Scope("acme", "u"), "p", "e", False, ended_plans)
    parts = (KeySeen(is_seen=is_seen and key is not None), LetterFound(letter, plan, subscription))
    command = ReplayDeadLetter("acme", 4, key)
    if is_seen and key is not None:
        assert command.decide(found(*parts)).writes == []
    elif status == "cancelled" or (status == "completed" and not ended_plans):
        with pytest.raises(PlanEnded):
            command.decide(found(*parts))
    elif subscription is None:
        with pytest.raises(Conflict):
            command.decide(found(*parts))
    else:
        decision = command.decide(found(*parts))
        assert decision.outcome is True
        assert [row for row in decision.writes if isinstance(row, LetterReplayed)] == [
            LetterReplayed(letter, 7, NOW.uptime)
        ]
        assert any(isinstance(row, SeenKey) for row in decision.writes) is (key is not None)
    assert command.decide(found(KeySeen(), LetterFound())).outcome is False, "there is none"


# the registry


@pytest.mark.behaviour("registry.refused", "registry.latest")
@given(
    st.booleans(),
    st.integers(0, MOST_AGENTS + 1),
    st.integers(0, MOST_INSTANCES + 1),
    st.booleans(),
)
def test_an_agent_is_announced_as_far_as_there_is_room(
    is_known: bool, agents: int, others: int, is_same: bool
) -> None:
    told = Announcement(description="one")
    before = (
        AgentRow(1, "acme", "a", 0, told if is_same else Announcement(description="other"))
        if is_known
        else None
    )
    command = AnnounceAgent("acme", "a", "i", told)
    parts = found(AgentFound(before, agents, others))
    if (others >= MOST_INSTANCES) if is_known else (agents >= MOST_AGENTS):
        with pytest.raises(LimitExceeded):
            command.decide(parts)
        return
    (row,) = command.decide(parts).writes
    assert isinstance(row, Announced)
    assert row.is_new is not (is_known and is_same)
    assert (row.at, row.expires_at, row.ttl) == (NOW.wall, NOW.uptime + 30_000, 30_000)


@pytest.mark.behaviour("schemas.versions")
@given(
    st.none() | st.sampled_from(("topic", "description", "schema", "mode", "")),
    st.integers(MOST_DEFINITIONS - 2, MOST_DEFINITIONS + 1),
    st.sampled_from((All.TENANTS, "acme")),
)
def test_a_version_is_defined_once_and_never_changed(
    differs: str | None, count: int, owner: Any
) -> None:
    wanted = EventDefinition("e", "business-facts", 2, "about", {"type": "object"}, "warn")
    tenant = "" if owner is All.TENANTS else owner
    before = DefinitionRow(
        "e", 2, tenant, "business-facts", "about", '{"type":"object"}', "warn", 77
    )
    if differs:
        setattr(before, differs, "enforce" if differs == "mode" else "other")
    parts = found(DefinitionFound(None if differs is None else before, count))
    command = DefineEvent(owner, wanted)
    if differs is None and count >= MOST_DEFINITIONS:
        with pytest.raises(LimitExceeded):
            command.decide(parts)
    elif differs:
        with pytest.raises(DefinitionConflict):
            command.decide(parts)
    else:
        decision = command.decide(parts)
        assert decision.outcome.defined_at == (NOW.wall if differs is None else 77)
        assert decision.writes == ([decision.outcome] if differs is None else []), (
            "the same again changes nothing"
        )


# retention


@pytest.mark.behaviour("history.kept")
@given(
    st.lists(
        st.tuples(st.sampled_from("kl"), st.sampled_from(("set", "append", "delete"))), max_size=30
    ),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(0, 2_000),
)
def test_a_trimmed_history_still_leads_to_each_value_that_it_keeps(
    changes: list[tuple[str, str]], of_each: int, kept: int, most_bytes: int
) -> None:
    texts = {"set": "[1]", "append": "2", "delete": None}
    rows = [
        HistoryRow(1 + number // of_each, number % of_each, op, key, texts[op], 0, NOBODY)
        for number, (key, op) in enumerate(changes)
    ]
    revision = rows[-1].revision if rows else 0
    size = sum(100 + len(row.argument or "") for row in rows)
    plan = PlanRow("p", 0, 0, id=1, revision=revision, incarnation=3, history_size=size)
    limits = Limits(history_revisions=kept, history_bytes=most_bytes)
    command = TrimHistory(1, 3, limits=limits)
    decision = command.decide(found(OldestFound(plan, rows)))
    if decision.outcome:
        assert decision.writes == []
        assert revision <= kept or not rows or size <= most_bytes or rows[0].revision > 0
        return
    (trimmed,) = decision.writes
    assert isinstance(trimmed, TrimmedHistory)
    assert 0 < trimmed.until <= revision
    gone = [row for row in rows if row.revision <= trimmed.until]
    assert trimmed.freed == sum(100 + len(row.argument or "") for row in gone)
    for key in "kl":
        whole = [row for row in rows if row.key == key]
        left = [row for row in whole if row.revision > trimmed.until]
        base = trimmed.values.get(key)
        assert rebuild(KeyPast(key, left[::-1], base)) == rebuild(KeyPast(key, whole[::-1]))
    is_excess = revision - trimmed.until >= kept or size > most_bytes
    assert is_excess, "no more is taken than is too much"
    of_another = PlanRow("p", 0, 0, id=1, revision=revision, incarnation=4, history_size=size)
    assert command.decide(found(OldestFound(of_another, rows))).outcome is True, (
        "it was cleaned up since"
    )


@pytest.mark.behaviour("groups.unseen", "groups.unseen-warning")
@given(st.integers(0, 10**7), st.integers(0, 10**7), st.floats(1, 5_000))
def test_a_subscription_is_warned_of_before_it_is_removed(
    seen: int, now: int, groups: float
) -> None:
    retention = Retention(groups=groups)
    became = fate(seen, retention, now)
    assert (became is Fate.KEPT) is (seen >= warn_before(retention, now))
    assert (became is Fate.REMOVED) is (now - seen > round(groups * 1000))
    later = fate(seen, retention, now + 1)
    order = [Fate.KEPT, Fate.WARNED_OF, Fate.REMOVED]
    assert order.index(later) >= order.index(became), "time goes one way"
