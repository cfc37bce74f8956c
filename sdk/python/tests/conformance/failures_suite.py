"""Requirements for failed attempts in a store: backoff, dead letters, parking, replay."""

from __future__ import annotations

import msgspec
import pytest
from record import (
    ALICE,
    BOB,
    LEASE,
    ONCE,
    PARKING,
    STRANGER,
    Record,
    event,
    ids,
    increment,
    part,
    seen,
)

from soorma_common.delivery import Subscription
from soorma_common.errors import Fenced
from soorma_common.events import DEAD_LETTERED
from soorma_common.json_text import decode
from soorma_common.names import All
from soorma_common.retry import RetryPolicy

EVER = 9_999


class FailuresSuite:
    """Deliveries that fail."""

    @pytest.mark.behaviour("retries.backoff")
    async def test_a_failed_attempt_comes_back_after_the_backoff(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p", id="1")
        for attempt, wait in enumerate([0.5, 1.0, 2.0, 4.0], 1):
            (one,) = await record.claim(member)
            assert one.attempt == attempt
            await record.fail(one, f"reason {attempt}")
            assert await record.store.deliveries.next_ready(list(member.all)) == pytest.approx(wait)
            record.clock.advance(wait - 0.001)
            assert await record.claim(member) == []
            record.clock.advance(0.001)
        (last,) = await record.claim(member)
        assert last.attempt == 5
        await record.fail(last, "the end")
        record.clock.advance(EVER)
        assert await record.claim(member) == []

    @pytest.mark.behaviour("retries.lane-waits")
    async def test_a_lane_waits_while_its_head_backs_off_and_nothing_else_does(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", "e")
        for id_, plan in (("1", "p"), ("2", "p"), ("3", "q")):
            await record.publish("e", plan, id=id_)
        first, other = await record.claim(member)
        await record.fail(first)
        await record.settle(other)
        await record.publish("e", "p", id="4")
        assert await record.claim(member) == []
        record.clock.advance(1)
        assert await record.work_off(member) == ["1", "2", "4"]

    @pytest.mark.behaviour("leases.fence")
    async def test_a_failed_attempts_fence_is_over(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one)
        with pytest.raises(Fenced):
            await record.settle(one, part("p", increment("n")))
        with pytest.raises(Fenced):
            await record.fail(one)
        assert await record.revision("p") == 0

    @pytest.mark.behaviour("retries.after")
    @pytest.mark.parametrize(("after", "wait"), [(0.0, 0.0), (120.0, 120.0), (-1.0, 0.0)])
    async def test_a_handler_may_say_when(self, record: Record, after: float, wait: float) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one, after=after)
        record.clock.advance(wait)
        (again,) = await record.claim(member)
        assert again.attempt == 2

    @pytest.mark.behaviour("retries.policy")
    async def test_a_handlers_own_policy(self, record: Record) -> None:
        policy = RetryPolicy(max_attempts=3, first_delay=10, factor=3, longest_delay=20)
        member = await record.subscribe("g", Subscription("e", retry=policy))
        await record.publish("e", "p")
        for wait in (10, 20):
            (one,) = await record.claim(member)
            await record.fail(one)
            assert await record.store.deliveries.next_ready(list(member.all)) == pytest.approx(wait)
            record.clock.advance(wait)
        (one,) = await record.claim(member)
        await record.fail(one)
        assert len(await record.dead_letters(All.TENANTS, None, 0, 9)) == 1

    @pytest.mark.behaviour("deadletters.kept")
    async def test_the_end_is_a_dead_letter_and_an_event_in_one_transaction(
        self, record: Record
    ) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        watching = await record.subscribe("watcher", DEAD_LETTERED)
        await record.publish(
            "e", "p", id="1", correlation_id="goal", session_id="s", trace_id="t", data={"x": 1}
        )
        (one,) = await record.claim(member)
        record.notices.clear()
        await record.fail(one, "no luck", notice="told")
        (notice,) = record.notices
        assert [entry.type for entry in notice.entries] == [DEAD_LETTERED]
        assert notice.groups == {watching.group_id}, "there is nothing new for the other"
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert (letter.group, letter.event_id, letter.type, letter.topic) == (
            "g",
            "1",
            "e",
            "business-facts",
        )
        assert (letter.tenant_id, letter.user_id, letter.plan_id) == ("acme", "alice", "p")
        assert (letter.attempts, letter.failures, letter.deaths) == (1, 1, 0)
        assert (letter.reason, letter.parked) == ("no luck", False)
        assert decode(bytes(letter.event))["data"] == {"x": 1}
        (told,) = await record.claim(watching)
        found = seen(told)
        assert (found.id, found.type, found.topic) == ("told", DEAD_LETTERED, "system-events")
        assert (found.correlation_id, found.session_id, found.trace_id) == ("goal", "s", "t")
        assert (found.plan_id, found.parent_event_id) == ("p", "1")
        assert found.data == {
            "event_id": "1", "type": "e", "topic": "business-facts", "group": "g",
            "attempts": 1, "failures": 1, "deaths": 0, "reason": "no luck",
        }  # fmt: skip

    @pytest.mark.behaviour("deadletters.reject")
    async def test_a_rejected_event_is_given_up_at_once(self, record: Record) -> None:
        member = await record.subscribe("g", "e")
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one, "nonsense", reject=True)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert (letter.attempts, letter.reason) == (1, "nonsense")

    @pytest.mark.behaviour("deadletters.lane-goes-on")
    async def test_a_lane_goes_on_after_a_dead_letter(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        (one,) = await record.claim(member)
        await record.fail(one)
        assert await record.work_off(member) == ["1", "2"]

    @pytest.mark.behaviour("deadletters.no-loop")
    async def test_dead_letters_do_not_feed_themselves(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("*", retry=ONCE))
        await record.publish("e", "p")
        for _ in range(2):
            (one,) = await record.claim(member)
            await record.fail(one)
        assert await record.claim(member) == []
        letters = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert [letter.type for letter in letters] == ["e", DEAD_LETTERED]
        assert len(await record.log()) == 2

    @pytest.mark.behaviour("deadletters.reason")
    async def test_a_long_reason_is_cut(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one, "x" * 1_000_000)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert 1_000 <= len(letter.reason) < 10_000

    @pytest.mark.behaviour("deadletters.listed")
    async def test_dead_letters_are_listed_by_tenant_group_and_page(self, record: Record) -> None:
        first = await record.subscribe("first", Subscription("e", retry=ONCE))
        other = await record.subscribe("other", Subscription("e", retry=ONCE))
        for scope in (ALICE, BOB, STRANGER):
            await record.publish("e", scope=scope)
        for member in (first, other):
            for one in await record.claim(member):
                await record.fail(one)
        everything = await record.dead_letters(All.TENANTS, None, 0, 99)
        assert [letter.id for letter in everything] == sorted(letter.id for letter in everything)
        assert len(everything) == 6
        assert {
            letter.tenant_id for letter in await record.dead_letters("umbrella", None, 0, 9)
        } == {"umbrella"}
        assert {
            letter.group for letter in await record.dead_letters(All.TENANTS, "other", 0, 9)
        } == {"other"}
        assert await record.dead_letters(All.TENANTS, None, everything[1].id, 2) == everything[2:4]

    # replay

    @pytest.mark.behaviour("deadletters.replayed")
    async def test_a_replayed_dead_letter_is_delivered_anew(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=RetryPolicy(max_attempts=2)))
        await record.publish("e", "p", id="1")
        for _ in range(2):
            (one,) = await record.claim(member)
            await record.fail(one)
            record.clock.advance(1)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        record.notices.clear()
        assert await record.replay(All.TENANTS, letter.id)
        assert {group for notice in record.notices for group in notice.groups} == {member.group_id}
        assert await record.dead_letters(All.TENANTS, None, 0, 9) == []
        (again,) = await record.claim(member)
        assert (again.attempt, seen(again).id, again.plan_id) == (1, "1", "p")
        await record.settle(again, part("p", increment("n")))
        assert await record.get("p", "n") == 1

    @pytest.mark.behaviour("deadletters.replayed")
    async def test_a_replayed_dead_letter_takes_its_place_in_line(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        (one,) = await record.claim(member)
        await record.fail(one)
        (second,) = await record.claim(member)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert await record.replay("acme", letter.id)
        assert await record.claim(member) == [], "one at a time"
        await record.settle(second)
        assert await record.work_off(member) == ["0", "2"]

    @pytest.mark.behaviour("deadletters.replayed")
    async def test_what_is_no_dead_letter_is_not_replayed(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert not await record.replay(All.TENANTS, letter.id + 1)
        assert not await record.replay("umbrella", letter.id)
        assert await record.replay("acme", letter.id)
        assert not await record.replay("acme", letter.id), "twice"
        assert len(await record.claim(member)) == 1

    @pytest.mark.behaviour("deadletters.replayed")
    async def test_a_replay_that_is_sent_again_happens_once(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.publish("e")
        (one,) = await record.claim(member)
        await record.fail(one)
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert await record.replay(All.TENANTS, letter.id, "key")
        (again,) = await record.claim(member)
        assert await record.replay(All.TENANTS, letter.id, "key"), (
            "the answer to the first was lost"
        )
        await record.settle(again)
        assert await record.claim(member) == []
        assert not await record.replay(All.TENANTS, letter.id, "another key")

    @pytest.mark.behaviour("events.kept")
    async def test_a_dead_letters_event_is_never_swept(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.publish("e", "p", id="1")
        (one,) = await record.claim(member)
        await record.fail(one)
        record.clock.advance(30 * 86_400)
        await record.store.groups.seen(list(member.all))
        await record.sweep()
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert await record.replay(All.TENANTS, letter.id)
        assert ids(await record.claim(member)) == ["1"]

    # parking

    @pytest.mark.behaviour("deadletters.park")
    async def test_a_parked_lane_waits_for_its_replay(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=PARKING))
        for number in range(3):
            await record.publish("e", "p", id=str(number))
        await record.publish("e", "q", id="elsewhere")
        (one, _) = await record.claim(member)
        await record.fail(one, "no luck")
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert (letter.parked, letter.reason) == (True, "no luck")
        assert [entry.type for entry in await record.log()].count(DEAD_LETTERED) == 1
        record.clock.advance(EVER)
        assert [
            event_id for event_id in ids(await record.claim(member)) if event_id != "elsewhere"
        ] == []
        await record.publish("e", "p", id="3")
        assert await record.replay(All.TENANTS, letter.id)
        record.clock.advance(LEASE)
        handled = await record.work_off(member)
        assert [event_id for event_id in handled if event_id != "elsewhere"] == ["0", "1", "2", "3"]
        assert await record.dead_letters(All.TENANTS, None, 0, 9) == []

    @pytest.mark.behaviour("deadletters.park")
    async def test_a_parked_events_old_fence_is_over(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=PARKING))
        await record.publish("e", "p")
        (one,) = await record.claim(member)
        await record.fail(one)
        for attempt in (record.settle(one), record.fail(one)):
            with pytest.raises(Fenced):
                await attempt
        assert await record.store.deliveries.renew("r1", [one.fence], LEASE) == []
        assert await record.store.deliveries.resume([one.fence], LEASE, "r1") == []

    @pytest.mark.behaviour("deadletters.reason")
    async def test_a_dead_letters_notice_fits_whatever_the_reason(self, record: Record) -> None:
        member = await record.subscribe("g", Subscription("e", retry=ONCE))
        await record.commit(events=[event("e", "p", id="1", data={"plan_id": "another"})])
        (one,) = await record.claim(member)
        await record.fail(one, '"quotes" \u2028 {braces} ünïcode')
        told = msgspec.json.decode((await record.log())[-1].envelope)
        assert told["data"]["reason"] == '"quotes" \u2028 {braces} ünïcode'
