"""The tests that docs/TESTING.md shows. The page quotes this file."""
# It is written as its readers would write it.
# ruff: noqa: ANN001, ANN201, PT009

import unittest
from datetime import timedelta

import pytest
from greeter import worker

from soorma import EventClient
from soorma.errors import Unavailable
from soorma.testing import LocalPlatform

pytestmark = pytest.mark.behaviour("testing.guide")


@pytest.mark.asyncio
async def test_everybody_is_greeted(soorma_platform):
    await soorma_platform.run(worker)

    await soorma_platform.publish(
        "person.arrived", "business-facts", {"name": "Ada"}, plan_id="party"
    )
    await soorma_platform.settle()

    (greeting,) = soorma_platform.published("person.greeted")
    assert greeting.data == {"name": "Ada", "number": 1}
    assert await soorma_platform.state("party").get("greeted") == 1


class GreeterTest(unittest.IsolatedAsyncioTestCase):
    async def test_everybody_is_greeted(self):
        async with LocalPlatform() as platform:
            await platform.run(worker)
            await platform.publish(
                "person.arrived", "business-facts", {"name": "Ada"}, plan_id="party"
            )
            await platform.settle()
            self.assertEqual(len(platform.published("person.greeted")), 1)


async def test_other_ways_in(soorma_platform):
    await soorma_platform.run(worker)
    state = soorma_platform.state("party")
    await state.set("greeted", 41)

    client = soorma_platform.client("door")
    await client.publish("person.arrived", "business-facts", {"name": "Ada"}, plan_id="party")
    await soorma_platform.settle()

    assert await state.get("greeted") == 42
    assert [change.op for change in await state.history("greeted")] == ["set", "increment"]

    page = EventClient("page")
    soorma_platform.use(page)
    heard = []
    page.on_all_events(heard.append)
    await page.connect(["business-facts"])
    await page.publish("person.arrived", "business-facts", {"name": "Bob"}, plan_id="party")
    await soorma_platform.settle()

    assert [event.type for event in heard] == ["person.arrived", "person.greeted"]


async def test_a_retry(soorma_platform):
    await soorma_platform.run(worker)
    await soorma_platform.publish("person.arrived", "business-facts", {}, plan_id="party")
    await soorma_platform.settle()

    (one,) = soorma_platform.waiting()
    assert (one.group, one.attempts, one.reason, one.failed) == (
        "greeter",
        1,
        "retry",
        "KeyError: 'name'",
    )
    assert one.due - soorma_platform.now < timedelta(seconds=1)

    await soorma_platform.advance(60)

    assert soorma_platform.waiting() == []
    (letter,) = await soorma_platform.dead_letters()
    assert (letter.group, letter.attempts, letter.reason) == ("greeter", 5, "KeyError: 'name'")


async def test_expiry(soorma_platform):
    state = soorma_platform.state("party")
    await state.set("code", "1234", ttl=3600)

    await soorma_platform.advance(3599)
    assert await state.has("code")
    await soorma_platform.advance(1)
    assert not await state.has("code")


async def test_a_jump_of_the_clock(soorma_platform):
    state = soorma_platform.state("party")
    await state.set("code", "1234", ttl=3600)

    await soorma_platform.jump(7200)
    assert not await state.has("code")
    await soorma_platform.jump(-7200)
    assert await state.has("code"), "removed once the clock was right for ten minutes"


async def test_a_lost_answer(soorma_platform):
    state = soorma_platform.state("party")

    failure = soorma_platform.fail_next(2, service="memory", path="/v1/memory/commit", lost=True)
    assert await state.increment("greeted") == 1

    assert failure.happened == 2
    assert await state.get("greeted") == 1


async def test_no_patience():
    async with LocalPlatform(retry_seconds=0) as platform:
        platform.fail_next()
        with pytest.raises(Unavailable):
            await platform.state("party").get("greeted")


async def test_a_death(soorma_platform):
    await soorma_platform.run(worker)
    crash = soorma_platform.crash(worker, at_await=2)
    await soorma_platform.publish(
        "person.arrived", "business-facts", {"name": "Ada"}, plan_id="party"
    )
    await soorma_platform.settle()

    assert crash.happened
    assert crash.awaits == ["increment 'greeted'", "publish 'person.greeted'"]
    assert not await soorma_platform.state("party").has("greeted")

    await soorma_platform.run(worker)
    await soorma_platform.settle()

    assert await soorma_platform.state("party").get("greeted") == 1


async def test_death_at_every_await():
    at_await, happened = 1, True
    while happened:
        async with LocalPlatform() as platform:
            await platform.run(worker)
            crash = platform.crash(worker, at_await, restart=True)
            await platform.publish(
                "person.arrived", "business-facts", {"name": "Ada"}, plan_id="party"
            )
            await platform.settle()

            assert await platform.state("party").get("greeted") == 1
            assert len(platform.published("person.greeted")) == 1
        at_await, happened = at_await + 1, crash.happened
    assert len(crash.awaits) == 4


async def test_a_frozen_agent(soorma_platform):
    await soorma_platform.run(worker)
    with soorma_platform.frozen(worker):
        await soorma_platform.publish(
            "person.arrived", "business-facts", {"name": "Ada"}, plan_id="party"
        )
        await soorma_platform.settle()
        assert soorma_platform.published("person.greeted") == []
    await soorma_platform.settle()
    assert len(soorma_platform.published("person.greeted")) == 1
