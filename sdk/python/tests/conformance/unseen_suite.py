"""Requirements for groups that nobody has seen for long."""

from __future__ import annotations

from typing import Any

import pytest
from record import ONCE, PARKING, Record, event, ids, seen

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced
from soorma_common.logs import fields_of
from soorma_common.names import All

DAY = 86_400.0


async def _forget_first_type(record: Record) -> Any:
    """Lets seven days pass in which the group's handler of type b was seen, but not that of a."""
    member = await record.subscribe("g", "b")
    record.clock.advance(7 * DAY + 1)
    await record.store.groups.seen(list(member.own))
    await record.sweep()
    return await record.subscribe("g", "b")


class UnseenSuite:
    """Groups and subscriptions that are not seen."""

    @pytest.mark.behaviour("groups.unseen")
    async def test_a_group_unseen_for_seven_days_is_removed(self, record: Record) -> None:
        gone = await record.subscribe("gone", "e")
        stays = await record.subscribe("stays", "e")
        await record.publish("e", "p", id="1")
        record.clock.advance(7 * DAY - 1)
        await record.sweep()
        assert {group.name for group in await record.groups(All.TENANTS)} == {"gone", "stays"}
        await record.store.groups.seen(list(stays.all))
        record.clock.advance(2)
        await record.sweep()
        assert {group.name for group in await record.groups(All.TENANTS)} == {"stays"}
        assert await record.claim(gone) == []
        assert await record.work_off(stays) == ["1"]

    @pytest.mark.behaviour("groups.unseen")
    async def test_time_without_a_platform_makes_no_group_older(self, record: Record) -> None:
        await record.subscribe("g", "e")
        await record.publish("e", "p", id="waits")
        record.clock.advance(3 * DAY)
        await record.publish("other")
        for _ in range(2):
            await record.close()
            record.clock.advance(30 * DAY)
            await record.open()
            await record.sweep()
            assert {group.name for group in await record.groups(All.TENANTS)} == {"g"}
        assert await record.work_off(await record.subscribe("g", "e")) == ["waits"]
        record.clock.advance(7 * DAY + 1)
        await record.sweep()
        assert await record.groups(All.TENANTS) == []

    @pytest.mark.behaviour("groups.unseen")
    async def test_a_restart_lets_no_unused_group_live_on(self, record: Record) -> None:
        await record.subscribe("unused", "e")
        record.clock.advance(6 * DAY)
        await record.subscribe("used", "e")
        await record.reopen()
        record.clock.advance(1 * DAY + 1)
        await record.sweep()
        assert {group.name for group in await record.groups(All.TENANTS)} == {"used"}

    @pytest.mark.behaviour("groups.unseen-warning")
    async def test_a_group_is_warned_of_before_it_is_removed(
        self, record: Record, caplog: pytest.LogCaptureFixture
    ) -> None:
        await record.subscribe("forgotten", "e")

        def told() -> list[str]:
            return [
                one.getMessage()
                for one in caplog.records
                if fields_of(one).get("group") == "forgotten"
            ]

        record.clock.advance(5 * DAY)
        await record.sweep()
        assert told() == []
        record.clock.advance(1.5 * DAY)
        for _ in range(2):
            await record.sweep()
        assert told() == ["subscription unused, soon to be removed"], "once, half a day before"
        assert {group.name for group in await record.groups(All.TENANTS)} == {"forgotten"}
        record.clock.advance(DAY)
        await record.sweep()
        assert told()[1:] == ["subscription removed, with all that waited for it"]

    @pytest.mark.behaviour("groups.unseen")
    async def test_subscribing_counts_as_seen(self, record: Record) -> None:
        await record.subscribe("g", "e")
        for _ in range(3):
            record.clock.advance(6 * DAY)
            member = await record.subscribe("g", "e")
            await record.sweep()
        await record.publish("e", id="1")
        assert await record.work_off(member) == ["1"]

    @pytest.mark.behaviour("groups.unseen")
    @pytest.mark.parametrize("kinds", ["ab", "aab", "aaab", "abab", "aabaab"])
    async def test_lanes_go_on_without_a_removed_subscription(
        self, record: Record, kinds: str
    ) -> None:
        await record.subscribe("g", "a")
        await record.subscribe("g", "b")
        for number, kind in enumerate(kinds):
            await record.publish(kind, "p", id=str(number))
        member = await _forget_first_type(record)
        expected = [str(number) for number, kind in enumerate(kinds) if kind == "b"]
        assert await record.work_off(member) == expected

    @pytest.mark.behaviour("groups.unseen")
    async def test_lanes_go_on_without_what_a_removed_subscription_had_parked(
        self, record: Record
    ) -> None:
        parking = await record.subscribe("g", Subscription("a", retry=PARKING))
        await record.subscribe("g", "b")
        await record.publish("a", "p", id="0")
        await record.publish("b", "p", id="1")
        (one,) = await record.claim(parking)
        await record.fail(one)
        assert await record.work_off(await _forget_first_type(record)) == ["1"]

    @pytest.mark.behaviour("groups.unseen")
    @pytest.mark.parametrize("plan", ["p", None], ids=["in a lane", "without a lane"])
    async def test_what_a_removed_subscription_had_parked_keeps_no_event(
        self, record: Record, plan: str | None
    ) -> None:
        parking = await record.subscribe("gone", Subscription("a", retry=PARKING))
        for number in range(3):
            await record.publish("a", plan, id=str(number))
        for one in await record.claim(parking):
            await record.fail(one)
        record.clock.advance(60 * DAY)
        await record.sweep()
        assert await record.groups(All.TENANTS) == []
        record.clock.advance(60 * DAY)
        await record.sweep()
        for number in range(3):  # EventIdConflict, if any of them is still there
            await record.publish("something else", id=str(number))

    @pytest.mark.behaviour("groups.unseen")
    async def test_what_a_removed_subscription_had_in_hand_is_over(self, record: Record) -> None:
        old = await record.subscribe("g", "a")
        await record.subscribe("g", "b")
        await record.publish("a", "p", id="0")
        await record.publish("b", "p", id="1")
        (one,) = await record.claim(old)
        member = await _forget_first_type(record)
        with pytest.raises(Fenced):
            await record.settle(one)
        assert await record.work_off(member) == ["1"]

    @pytest.mark.behaviour("groups.unseen")
    async def test_many_waiting_deliveries_of_a_removed_group_go_in_steps(
        self, record: Record
    ) -> None:
        await record.subscribe("gone", "e")
        for part in range(2):
            await record.commit(
                events=[event("e", f"p{part}", id=f"{part}.{n}") for n in range(900)]
            )
        record.clock.advance(7 * DAY + 1)
        assert await record.sweep() >= 3
        assert await record.groups(All.TENANTS) == []

    @pytest.mark.behaviour("groups.unseen")
    async def test_a_new_group_inherits_nothing_from_a_removed_one(self, record: Record) -> None:
        gone = await record.subscribe("gone", Subscription("e", retry=ONCE), tenant="acme")
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(gone)
        await record.fail(one)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        record.clock.advance(7 * DAY + 1)
        await record.sweep()
        assert await record.groups(All.TENANTS) == []
        new = await record.subscribe("new", "other", tenant="umbrella")
        assert await record.dead_letters(All.TENANTS, "new", 0, 9) == []
        await record.replay(All.TENANTS, letter.id)
        assert ids(await record.claim(new)) == []

    @pytest.mark.behaviour("groups.unseen")
    async def test_replaying_a_dead_letter_of_a_removed_subscription_blocks_no_lane(
        self, record: Record
    ) -> None:
        old = await record.subscribe("g", Subscription("a", retry=ONCE))
        await record.subscribe("g", "b")
        await record.publish("a", "p", id="0")
        (one,) = await record.claim(old)
        await record.fail(one)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        member = await _forget_first_type(record)
        replayed = await record.replay(All.TENANTS, letter.id)
        await record.publish("b", "p", id="1")
        assert await record.work_off(member) == (["0", "1"] if replayed else ["1"])

    @pytest.mark.behaviour("groups.unseen")
    async def test_what_a_group_missed_while_removed_is_not_its_own(self, record: Record) -> None:
        await record.subscribe("g", "e")
        await record.publish("e", id="1")
        record.clock.advance(7 * DAY + 1)
        await record.sweep()
        await record.publish("e", id="2")
        (claimed,) = await record.claim(await record.subscribe("g", "e"))
        assert seen(claimed).id == "2"
