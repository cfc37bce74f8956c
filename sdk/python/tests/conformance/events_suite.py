"""Requirements for events in a store: the log, who gets them, and what a late group finds."""

from __future__ import annotations

import copy

import pytest
from record import ALICE, ALL, BOB, STRANGER, Record, event, ids, part, put, seen

from soorma_common.delivery import Subscription
from soorma_common.errors import EventIdConflict, Forbidden, HistoryGone
from soorma_common.events import Event
from soorma_common.memory import Commit
from soorma_common.names import All
from soorma_platform.engine.commands import Decision, Snapshot
from soorma_platform.engine.commits import ApplyCommit, CommitOutcome
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.rows.events import LogEntry

DAY = 86_400.0


def seen_plans(entries: list[LogEntry]) -> list[str | None]:
    """Returns the plans of events as their readers see them."""
    return [Event.from_json(entry.envelope).plan_id for entry in entries]


class EventsSuite:
    """Events, up to their deliveries."""

    @pytest.mark.behaviour("events.round-trip", "ids.correlation")
    async def test_an_event_is_in_the_log_with_its_ids_filled_in(self, record: Record) -> None:
        await record.publish("goal.received", "p", id="1", data={"goal": "ä"}, source="me")
        (entry,) = await record.log()
        assert (entry.tenant_id, entry.user_id) == (ALICE.tenant_id, ALICE.user_id)
        assert (entry.topic, entry.type, entry.correlation_id) == (
            "business-facts",
            "goal.received",
            "1",
        )
        found = await record.store.log.event("acme", "1")
        assert found == entry
        assert await record.store.log.event("umbrella", "1") is None
        assert await record.store.log.event("acme", "2") is None

    @pytest.mark.behaviour("events.in-order")
    async def test_positions_rise_in_the_order_of_commits(self, record: Record) -> None:
        for number in range(3):
            await record.commit(events=[event("e", id=f"{number}.{index}") for index in range(3)])
        log = await record.log()
        positions = [entry.position for entry in log]
        assert positions == sorted(set(positions))
        assert await record.store.log.end() == positions[-1]
        published = [record_ for notice in record.notices for record_ in notice.entries]
        assert published == log
        assert await record.log_page(positions[3], 2) == log[4:6]
        assert await record.log_page(positions[-1], ALL) == []

    @pytest.mark.behaviour("events.in-order")
    async def test_an_empty_log(self, record: Record) -> None:
        assert await record.log() == []
        assert await record.store.log.end() == 0

    @pytest.mark.behaviour("events.id-once")
    async def test_the_same_event_again_does_nothing(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        for second in range(2):
            record.clock.advance(second)
            assert await record.publish("e", "p", id="1", data=[1]) == "1"
        await record.commit(
            events=[event("e", "p", id="1", data=[1]), event("e", "p", id="1", data=[1])]
        )
        assert len(await record.log()) == 1
        assert await record.work_off(member) == ["1"]
        await record.publish("e", "p", id="1", data=[1])
        assert await record.claim(member) == []

    @pytest.mark.behaviour("events.id-conflict")
    @pytest.mark.parametrize(
        "other", [{"data": [2]}, {"plan": "q"}, {"kind": "f"}, {"subject": "s"}]
    )
    async def test_other_content_under_the_same_id_is_refused(
        self, record: Record, other: dict[str, object]
    ) -> None:
        given: dict[str, object] = {"kind": "e", "plan": "p", "data": [1]}
        await record.commit(events=[event(id="1", **given)])  # type: ignore[arg-type]
        with pytest.raises(EventIdConflict) as error:
            await record.commit(
                part("p", put("k", 1)), events=[event("n"), event(id="1", **{**given, **other})]
            )  # type: ignore[arg-type]
        assert error.value.details["event_id"] == "1"
        assert len(await record.log()) == 1
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("tenants.event-ids")
    async def test_ids_are_free_in_another_tenant_only(self, record: Record) -> None:
        await record.publish("e", id="1", data=[1])
        await record.publish("e", id="1", data=[2], scope=STRANGER)
        with pytest.raises(EventIdConflict):
            await record.publish("e", id="1", data=[1], scope=BOB)

    @pytest.mark.behaviour("events.id-once")
    async def test_deciding_twice_publishes_the_same_event(self, record: Record) -> None:
        """A store may call `decide` again on a newer snapshot; that must not show in its writes."""

        class Twice(ApplyCommit):
            def decide(self, found: Snapshot) -> Decision[CommitOutcome]:
                super().decide(copy.deepcopy(found))
                return super().decide(found)

        command = Twice(
            ALICE, Commit(events=[event("e", "p", id="1")]), "body", limits=record.limits
        )
        command.prepare(lambda: "another")
        await record.store.transact(command)
        assert await record.publish("e", "p", id="1") == "1"
        assert len(await record.log()) == 1

    @pytest.mark.behaviour("tenants.publish-for-another")
    async def test_an_event_of_another_tenant_or_user_is_refused(self, record: Record) -> None:
        for claim in ({"tenant_id": "umbrella"}, {"user_id": "bob"}):
            with pytest.raises(Forbidden):
                await record.publish("e", **claim)
        assert await record.log() == []

    @pytest.mark.behaviour("ids.plan-of-an-event")
    async def test_an_events_plan(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.commit(
            events=[
                event("e", "own", id="1", data={"plan_id": "in data"}),
                event("e", id="2", data={"plan_id": "in data"}),
                event("e", id="3", data={"plan_id": 7}),
                event("e", id="4", data={"deeper": {"plan_id": "p"}}),
                event("e", id="5", data=["plan_id"]),
            ]
        )
        plans = {str(seen(one).id): one.plan_id for one in await record.claim(member)}
        assert plans == {"1": "own", "2": "in data", "3": None, "4": None, "5": None}
        assert seen_plans(await record.log()) == ["own", "in data", None, None, None]

    @pytest.mark.behaviour("readers.stream")
    async def test_events_of_a_correlation_id(self, record: Record) -> None:
        await record.publish("e", id="1", correlation_id="c")
        await record.publish("f", id="2", correlation_id="d")
        await record.publish("g", id="3", correlation_id="c")
        await record.publish("g", id="4", correlation_id="c", scope=BOB)
        found = await record.store.log.correlated(ALICE, "c", 0, ALL)
        assert [entry.type for entry in found] == ["e", "g"]
        assert await record.store.log.correlated(ALICE, "c", found[0].position, ALL) == found[1:]
        assert await record.store.log.correlated(ALICE, "c", 0, 1) == found[:1]

    @pytest.mark.behaviour("readers.horizon", "events.kept")
    async def test_the_logs_horizon(self, record: Record) -> None:
        for number in range(3):
            await record.publish("old", id=f"old {number}")
        record.clock.advance(DAY)
        await record.publish("new", id="new")
        end = await record.store.log.end()
        await record.sweep(Retention(events=DAY - 1))
        with pytest.raises(HistoryGone) as gone:
            await record.log(0)
        horizon = gone.value.details["horizon"]
        assert [entry.type for entry in await record.log(horizon)] == ["new"]
        record.clock.advance(DAY)
        await record.sweep(Retention(events=DAY - 1))
        assert await record.store.log.end() == end, "positions are not given twice"
        with pytest.raises(HistoryGone):
            await record.log(horizon)
        await record.publish("newest")
        assert [entry.position for entry in await record.log(end)] == [end + 1]

    @pytest.mark.behaviour("events.kept")
    async def test_what_waits_for_a_group_is_never_swept(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        for number in range(3):
            await record.publish("e", "p", id=str(number))
            await record.publish("unheard", "p")
        record.clock.advance(30 * DAY)
        await record.store.groups.seen(list(member.all))
        await record.sweep()
        assert await record.work_off(member) == ["0", "1", "2"]

    # groups

    @pytest.mark.behaviour("groups.copy-and-share")
    async def test_each_group_gets_its_own_copy_and_replicas_share_one(
        self, record: Record
    ) -> None:
        first, other = await record.subscribe("first", "e"), await record.subscribe("other", "e")
        again = await record.subscribe("first", "e")
        assert (again.group_id, set(again.own)) == (first.group_id, set(first.own))
        await record.publish("e", id="1")
        assert ids(await record.claim(first)) == ["1"]
        assert ids(await record.claim(again)) == []
        assert ids(await record.claim(other)) == ["1"]

    @pytest.mark.behaviour("groups.handler")
    @pytest.mark.parametrize(
        ("wanted", "winner"),
        [
            (
                [("e", "business-facts"), ("e", "*"), ("*", "business-facts"), ("*", "*")],
                ("e", "business-facts"),
            ),
            ([("e", "*"), ("*", "business-facts"), ("*", "*")], ("e", "*")),
            ([("*", "business-facts"), ("*", "*")], ("*", "business-facts")),
            ([("e", "plan-events"), ("f", "*"), ("*", "*")], ("*", "*")),
        ],
    )
    @pytest.mark.parametrize("late", [False, True])
    async def test_the_most_specific_subscription_gets_the_event_once(
        self, record: Record, wanted: list[tuple[str, str]], winner: tuple[str, str], late: bool
    ) -> None:
        if late:
            await record.publish("e", id="1")
        subscriptions = [Subscription(kind, topic) for kind, topic in reversed(wanted)]
        member = await record.subscribe("g", *subscriptions)
        if not late:
            await record.publish("e", id="1")
        (claimed,) = await record.claim(member)
        assert member.all[claimed.subscription_id] == winner

    @pytest.mark.behaviour("groups.nobody-else")
    async def test_an_event_goes_to_nobody_who_did_not_ask(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", "plan-events"), "f")
        await record.publish("e")
        await record.publish("ff")
        assert await record.claim(member) == []

    @pytest.mark.behaviour("tenants.confined")
    async def test_a_group_of_a_tenant_gets_that_tenants_events_only(self, record: Record) -> None:
        confined = await record.subscribe("g", "e", tenant="acme")
        everybody = await record.subscribe("g", "e")
        assert confined.group_id != everybody.group_id
        await record.publish("e", id="ours")
        await record.publish("e", id="theirs", scope=STRANGER)
        assert ids(await record.claim(confined)) == ["ours"]
        assert set(ids(await record.claim(everybody))) == {"ours", "theirs"}

    @pytest.mark.behaviour("groups.wait")
    async def test_a_group_waits_for_its_agents(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.commit(events=[event("e", "p", id=str(number)) for number in range(1_000)])
        record.clock.advance(3 * DAY)
        assert await record.work_off(member) == [str(number) for number in range(1_000)]

    @pytest.mark.behaviour("groups.looked-at", "security.renewing")
    async def test_groups_can_be_looked_at(self, record: Record) -> None:
        member = await record.subscribe("g", "e", Subscription("f", "plan-events", ordered=False))
        await record.subscribe("confined", "e", tenant="umbrella")
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        await record.claim(member, 1)
        await record.join(member.group_id, "r1", "host-1", 4)
        await record.join(member.group_id, "r2", "host-1", 4)
        (told,) = await record.groups("acme")
        assert (told.name, told.tenant_id, told.waiting, told.in_hand, told.ready) == (
            "g",
            None,
            2,
            1,
            0,
        )
        assert [(one.type, one.topic, one.ordered) for one in told.subscriptions] == [
            ("e", "*", True),
            ("f", "plan-events", False),
        ]
        assert [(one.instance, one.max_concurrency) for one in told.replicas] == 2 * [("host-1", 4)]
        assert len({one.id for one in told.replicas} - {"r1", "r2"}) == 2, (
            "whoever knows the name renews its leases"
        )
        assert told.oldest_at is not None
        assert {group.name for group in await record.groups(All.TENANTS)} == {"g", "confined"}
        assert {group.name for group in await record.groups("umbrella")} == {"g", "confined"}
        patterns = await record.store.groups.patterns(member.group_id)
        assert {one.id: (one.type, one.topic) for one in patterns} == member.all

    # untaken events

    @pytest.mark.behaviour("groups.start-order")
    async def test_events_nobody_took_go_to_the_first_that_subscribes_once(
        self, record: Record
    ) -> None:
        for number in range(5):
            await record.publish("e", "p", id=str(number))
        first = await record.subscribe("first", "e")
        second = await record.subscribe("second", "e")
        again = await record.subscribe("first", "e")
        assert await record.work_off(first) == [str(number) for number in range(5)]
        assert await record.work_off(second) == []
        assert await record.work_off(again) == []

    @pytest.mark.behaviour("groups.start-order")
    async def test_untaken_events_are_given_for_ten_minutes(self, record: Record) -> None:
        await record.publish("e", id="old")
        record.clock.advance(1)
        await record.publish("e", id="young")
        record.clock.advance(600)
        assert await record.work_off(await record.subscribe("g", "e")) == ["young"]

    @pytest.mark.behaviour("groups.start-order")
    @pytest.mark.parametrize("order", [["a", "b"], ["b", "a"], ["b", "*"], ["*", "b"]])
    async def test_untaken_events_of_a_lane_come_in_order_whatever_handler_takes_them(
        self, record: Record, order: list[str]
    ) -> None:
        kinds = "abbaab"
        for number, kind in enumerate(kinds):
            await record.publish(kind, "p", id=str(number))
        member = await record.subscribe("g", *order)
        assert await record.work_off(member) == [str(number) for number in range(len(kinds))]

    @pytest.mark.behaviour("lanes.unordered", "groups.start-order")
    async def test_untaken_events_of_an_unordered_handler_come_side_by_side(
        self, record: Record
    ) -> None:
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        member = await record.subscribe("g", Subscription("e", ordered=False))
        assert len(await record.claim(member)) == 3

    @pytest.mark.behaviour("tenants.confined")
    async def test_a_tenants_group_takes_no_other_tenants_events(self, record: Record) -> None:
        await record.publish("e", id="theirs", scope=STRANGER)
        confined = await record.subscribe("g", "e", tenant="acme")
        assert await record.work_off(confined) == []
        assert await record.work_off(await record.subscribe("all", "e")) == ["theirs"]

    @pytest.mark.behaviour("groups.start-order")
    async def test_new_events_queue_behind_untaken_ones(self, record: Record) -> None:
        await record.publish("e", "p", id="0")
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        assert ids(await record.claim(member)) == ["0"]
