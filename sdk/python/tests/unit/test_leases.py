"""A fence without a renewal for the time of its lease is confirmed before an effect."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from soorma.runtime.leases import LeaseKeeper
from soorma_common.errors import Fenced, Unavailable


class Platform:
    """The part of a transport that a LeaseKeeper uses; it records the requests."""

    def __init__(self) -> None:
        self.kept = {"a", "b"}
        self.asked: list[list[str]] = []
        self.outages = 0

    async def request(
        self, service: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("not now")
        fences = json.loads(body)["fences"]
        self.asked.append(fences)
        return 200, json.dumps({"kept": [fence for fence in fences if fence in self.kept]}).encode()


class Keeper(LeaseKeeper):
    """A LeaseKeeper that renews when the test calls it, with a clock that the test sets."""

    def __init__(self, platform: Platform) -> None:
        self.lost: list[str] = []
        self.time = 100.0
        self.platform = platform
        transport: Any = platform
        super().__init__(transport, self.lost.extend)
        self.start("replica", 30)

    def _begin(self) -> None:
        pass

    def now(self) -> float:
        return self.time

    async def renew(self) -> None:
        began, fences = self.now(), self._named()
        status, answer = await self.platform.request(
            "events", "POST", "/renew", {}, self._body(fences)
        )
        assert status == 200
        self._renewed(began, fences, answer)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def keeper(platform: Platform) -> Keeper:
    return Keeper(platform)


async def test_within_a_lease_nobody_is_asked(keeper: Keeper, platform: Platform) -> None:
    keeper.hold("a")
    keeper.time += 29
    await keeper.confirm("a")
    await keeper.renew()
    keeper.time += 29
    await keeper.confirm("a")
    assert platform.asked == [["a"]]


async def test_after_a_lease_it_is_asked_once(keeper: Keeper, platform: Platform) -> None:
    keeper.hold("a")
    keeper.time += 31
    await keeper.confirm("a")
    await keeper.confirm("a")
    assert platform.asked == [["a"]]


@pytest.mark.parametrize("outages", [0, 2])
async def test_what_is_not_ours_is_fenced(
    keeper: Keeper, platform: Platform, monkeypatch: pytest.MonkeyPatch, outages: int
) -> None:
    monkeypatch.setattr("soorma.runtime.leases.ASK_AGAIN_SECONDS", 0)
    platform.outages = outages
    keeper.hold("z")
    keeper.time += 31
    with pytest.raises(Fenced):
        await keeper.confirm("z")
    assert keeper.lost == ["z"]
    with pytest.raises(Fenced):
        await keeper.confirm("z")
    assert platform.asked == [["z"]]


async def test_what_a_renewal_has_found_lost_is_fenced_without_a_question(
    keeper: Keeper, platform: Platform
) -> None:
    keeper.hold("z")
    await keeper.renew()
    with pytest.raises(Fenced):
        await keeper.confirm("z")
    assert len(platform.asked) == 1


async def test_what_lay_in_the_socket_while_the_process_was_frozen_is_asked_for(
    keeper: Keeper, platform: Platform
) -> None:
    """The renewing thread may wake first: its late renewal names none of what is still unread."""
    keeper.time += 100
    await keeper.renew()
    keeper.hold("z")
    with pytest.raises(Fenced):
        await keeper.confirm("z")
    await keeper.renew()
    keeper.hold("a")
    await keeper.confirm("a")
    assert platform.asked == [[], ["z"], []]


@pytest.mark.behaviour("handlers.turns-end")
def test_a_reservation_has_leases_renewed_sooner(platform: Platform) -> None:
    keeper = Keeper(platform)
    keeper.hold("a")
    keeper.hold("b")
    assert keeper._interval == 10
    keeper.reserve("a", 5)
    keeper.reserve("of nobody", 1)
    assert keeper._interval == pytest.approx(5 / 3)
    keeper.drop("a")
    assert keeper._interval == 10


@pytest.mark.behaviour("leases.shorter-after-silence")
async def test_a_short_lease_is_renewed_as_much_more_often(
    keeper: Keeper, platform: Platform
) -> None:
    keeper.hold("a")
    keeper.hold("b", 6)
    assert keeper._interval == 2
    keeper.time += 7
    await keeper.confirm("a")
    await keeper.confirm("b")
    assert platform.asked == [["b"]], "a short lease may have run out by now"
    keeper.drop("b")
    assert keeper._interval == 10
    keeper.hold("z", 6)
    await keeper.renew()
    assert keeper._interval == 10, "it is another's"


class Sleepy(Keeper):
    """A Keeper that sleeps longer than it should."""

    def __init__(self, platform: Platform, late: float) -> None:
        super().__init__(platform)
        self.late = late
        sooner: Any = self
        self._sooner = sooner

    def wait(self, seconds: float) -> None:
        self.time += seconds + self.late

    def clear(self) -> None:
        pass


@pytest.mark.behaviour("leases.late-told")
@pytest.mark.parametrize("late", [0, 9, 11, 42])
def test_a_late_renewal_says_what_may_have_held_it_up(
    platform: Platform, late: float, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Sleepy(platform, late)
    assert keeper._waits(keeper.now())
    told = [record.getMessage() for record in caplog.records]
    if late < 10:  # the next renewal is not late by that
        assert told == []
    else:
        assert len(told) == 1
        assert told[0].startswith(f"leases are renewed {late}.0 s late: ")
        assert (
            "without a renewal for 30 s goes to another process; run such a call in a process of "
            "its own" in told[0]
        )


@pytest.mark.behaviour("handlers.turns-end")
def test_a_reservation_brings_the_next_renewal_forward_and_never_puts_it_off(
    platform: Platform,
) -> None:
    """The real thread and clock: with a lease of an hour, only a reservation leads to a renewal."""
    renewed = threading.Event()

    class Transport:
        def request_blocking(self, *_: Any) -> bytes:
            renewed.set()
            return b'{"kept": ["a"]}'

    transport: Any = Transport()
    keeper = LeaseKeeper(transport, lambda _: None)
    keeper.start("replica", 3600)
    keeper.hold("a")
    assert not renewed.wait(0.05)
    deadline = time.monotonic() + 20
    while not renewed.is_set() and time.monotonic() < deadline:
        keeper.reserve("a", 0.3)  # again and again, as where many fight for a key
        time.sleep(0.01)
    keeper.stop()
    assert renewed.is_set()
