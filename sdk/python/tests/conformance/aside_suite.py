"""Requirements for events that no connected replica of their group handles."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from crew import Worker, standing
from record import Record, event, ids

from soorma_common.delivery import Subscription
from soorma_common.errors import Conflict
from soorma_common.names import All
from soorma_platform.services.groups import Membership


class Version:
    """Replicas of a group that handle some of its types."""

    def __init__(self, record: Record, member: Membership, *kinds: str) -> None:
        self._record = record
        self._kinds = kinds
        self._member = member
        self.worker = Worker(record, member, 8)
        ids_of = {kind: id_ for id_, (kind, _) in member.all.items()}
        self.worker.prefetch.subscription_ids = [ids_of[kind] for kind in kinds]

    async def start(self) -> Version:
        await self.worker.start()
        await self.look()
        return self

    async def look(self) -> None:
        while (await self._record.store.groups.survey(self._member.group_id)).more:
            pass

    async def stop(self) -> None:
        await self.worker.drain()
        await self.worker.die()
        await self.look()

    async def work(self) -> list[str]:
        """Handles one event after the other; returns their ids in that order."""
        handled: list[str] = []
        for _ in range(200):
            if not (taken := await self.worker.take()):
                return handled
            handled += taken
            await self.worker.settle()
        raise AssertionError("there is no end")


async def publish(record: Record, text: str, plan: str | None = "p") -> None:
    """Publishes an event for each word: its type is the first letter, its id the whole."""
    for word in text.split():
        await record.commit(events=[event(word[0], plan, id=word)])


async def subscribe(record: Record, *kinds: str) -> Membership:
    return await record.subscribe("g", *kinds)


class AsideSuite:
    """Subscriptions that nobody serves."""

    @pytest.mark.behaviour("groups.unserved-aside")
    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_what_nobody_serves_does_not_stand_in_the_way(
        self, record: Record, when: str
    ) -> None:
        member = await subscribe(record, "a", "b")
        if when == "before":
            await publish(record, "b1 a2 b3 b4 a5")
        version = await Version(record, member, "a").start()
        with standing(version.worker):
            if when == "after":
                await publish(record, "b1 a2 b3 b4 a5")
            assert await version.work() == ["a2", "a5"]
            await publish(record, "a6")
            assert await version.work() == ["a6"]

    @pytest.mark.behaviour("groups.unserved-back")
    async def test_when_it_is_served_again_it_goes_on_in_order(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        await publish(record, "b1 a2 b3 a4 b5")
        old = await Version(record, member, "a").start()
        assert await old.work() == ["a2", "a4"]
        await publish(record, "b6")
        await publish(record, "b7", plan=None)
        await old.stop()
        await publish(record, "a8 b9")
        new = await Version(record, member, "a", "b").start()
        with standing(new.worker):
            handled = await new.work()
        assert [id_ for id_ in handled if id_ != "b7"] == ["b1", "b3", "b5", "b6", "a8", "b9"]
        assert "b7" in handled

    @pytest.mark.behaviour("groups.unserved-back")
    async def test_what_is_in_hand_then_is_finished_first(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        await publish(record, "b1 a2 a3")
        old = await Version(record, member, "a").start()
        assert await old.worker.take() == ["a2"]
        new = await Version(record, member, "b").start()
        with standing(old.worker, new.worker):
            assert await new.worker.take() == [], "one at a time"
            await old.worker.settle()
            assert await old.worker.take() == []
            assert await new.work() == ["b1"]
            assert await old.work() == ["a3"]

    @pytest.mark.behaviour("groups.unserved-aside")
    async def test_nothing_is_set_aside_while_all_are_away(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        await publish(record, "b1 a2")
        only = await Version(record, member, "a", "b").start()
        await only.stop()
        await publish(record, "a3 b4")
        (group,) = await record.groups(All.TENANTS)
        assert [(one.served, one.set_aside) for one in group.subscriptions] == [
            (True, 0),
            (True, 0),
        ]
        again = await Version(record, member, "a", "b").start()
        with standing(again.worker):
            assert await again.work() == ["b1", "a2", "a3", "b4"]

    @pytest.mark.behaviour("groups.unserved-aside")
    async def test_a_canary_and_the_old_version_serve_together(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        old, canary = [
            await Version(record, member, *kinds).start() for kinds in (("a",), ("a", "b"))
        ]
        with ExitStack() as stack:
            stack.enter_context(standing(old.worker, canary.worker))
            await publish(record, "b1 a2 b3")
            handled: list[str] = []
            while len(handled) < 3:
                handled += await canary.work() + await old.work()
            assert handled == ["b1", "a2", "b3"]
            await canary.stop()
            await publish(record, "b4 a5")
            assert await old.work() == ["a5"]

    @pytest.mark.behaviour("groups.unserved-aside", "retries.suspects-alone")
    async def test_a_suspect_that_nobody_serves_is_set_aside_and_comes_back_as_one(
        self, record: Record
    ) -> None:
        member = await subscribe(record, "a", "b")
        await publish(record, "b1 a2")
        for _ in range(2):
            dying = Version(record, member, "b").worker
            assert await (await dying.start()).take() == ["b1"]
            await dying.die()
            record.clock.advance(10)
        old = await Version(record, member, "a").start()
        assert await old.work() == ["a2"]
        await old.stop()
        await publish(record, "a3", plan="q")
        new = await Version(record, member, "a", "b").start()
        with standing(new.worker):
            assert await new.worker.take() == ["b1"], "alone"
            assert await new.worker.take() == []

    @pytest.mark.behaviour("groups.unserved-told")
    async def test_it_is_told(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        version = await Version(record, member, "a").start()
        with standing(version.worker):
            await publish(record, "b1 a2 b3")
            await publish(record, "b4", plan=None)
            assert await version.work() == ["a2"]
            survey = await record.store.groups.survey(member.group_id)
            assert [(one.type, one.topic, one.waiting) for one in survey.unserved] == [
                ("b", "*", 3)
            ]
            (group,) = await record.groups(All.TENANTS)
            assert [(one.type, one.served, one.set_aside) for one in group.subscriptions] == [
                ("a", True, 0),
                ("b", False, 3),
            ]
            assert (group.waiting, group.ready) == (3, 0)

    @pytest.mark.behaviour("groups.unserved-aside")
    async def test_many_are_set_aside_in_steps(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        for start in range(0, 1400, 700):
            await record.commit(
                events=[event("b", "p", id=f"b{start + number}") for number in range(700)]
            )
        await publish(record, "a0")
        version = await Version(record, member, "a").start()
        with standing(version.worker):
            assert await version.work() == ["a0"]
        await version.stop()
        both = await Version(record, member, "a", "b").start()
        with standing(both.worker):
            assert await both.worker.take() == ["b0"]

    @pytest.mark.behaviour("groups.unsubscribed")
    async def test_a_subscription_that_is_served_is_not_ended(self, record: Record) -> None:
        member = await subscribe(record, "a", "b")
        version = await Version(record, member, "a").start()
        with standing(version.worker):
            with pytest.raises(Conflict, match="is connected that handles 'a'"):
                await record.unsubscribe(All.TENANTS, "g", "a", "*", drop=False)
            assert await record.unsubscribe(All.TENANTS, "g", "b", "*", drop=False) == 0
            assert await record.unsubscribe(All.TENANTS, "g", "b", "*", drop=False) is None
            await publish(record, "b1 a2")
            assert await version.work() == ["a2"]

    @pytest.mark.behaviour("groups.unsubscribed")
    @pytest.mark.parametrize("drop", [True, False])
    async def test_what_waits_for_an_ended_subscription(self, record: Record, drop: bool) -> None:
        member = await subscribe(record, "a", "b")
        await record.commit(events=[event("b", "p", id=f"b{number}") for number in range(900)])
        await publish(record, "a0")
        assert await record.unsubscribe(All.TENANTS, "g", "b", "*", drop=drop) == 900
        left = await record.dead_letters(All.TENANTS, None, 0, 1000)
        assert len(left) == (0 if drop else 900)
        version = await Version(record, member, "a").start()
        with standing(version.worker):
            assert await version.work() == ["a0"]

    @pytest.mark.behaviour("groups.unsubscribed")
    async def test_dead_letters_outlive_their_subscription(self, record: Record) -> None:
        await subscribe(record, "b")
        await publish(record, "b1")
        assert await record.unsubscribe(All.TENANTS, "g", "b", "*", drop=False) == 1
        (letter,) = await record.dead_letters(All.TENANTS, None, 0, 9)
        assert letter.reason == "the subscription was ended by hand"
        with pytest.raises(Conflict, match="no subscription to 'b' any more"):
            await record.replay(All.TENANTS, letter.id)
        again = await record.subscribe("g", Subscription("*"))
        assert await record.replay(All.TENANTS, letter.id)
        assert ids(await record.claim(again)) == ["b1"]
