"""Requirements for semaphores in a store: their places, and the line of those who wait."""

from __future__ import annotations

from typing import Any

import pytest
from record import ALICE, MISSING, Record, part, put

from soorma_common.errors import InvalidName, InvalidRequest
from soorma_common.operations import Acquire, Cleanup, Release

LEASE = 10.0


def acquire(holder: str, ticket: str | None = None, **more: Any) -> Acquire:
    """Returns an operation that takes one of two places, or waits for it."""
    how = {"places": 2, "ttl": 30.0, "lease": LEASE, "wait": True, **more}
    return Acquire(key="k", holder=holder, ticket=ticket, **how)


def release(holder: str, ticket: str | None = None) -> Release:
    """Returns an operation that gives up a place or a ticket."""
    return Release(key="k", holder=holder, places=2, ticket=ticket)


def renew(holder: str, ticket: str | None = None, **more: Any) -> Acquire:
    """Returns an operation that keeps what the holder has."""
    return acquire(holder, ticket, renew=True, **{"ttl": None, **more})


async def do(record: Record, *operations: Any) -> Any:
    """Does these operations in one commit; returns the result of the last."""
    return (await record.do("p", *operations))[-1]


async def holders(record: Record) -> dict[str, str]:
    """Returns the holders of places and the holders of tickets, in order."""
    return {key: value["holder"] for key, value in sorted((await record.state("p")).items())}


async def line(record: Record) -> list[str]:
    """Returns those who wait, in order."""
    return [holder for key, holder in (await holders(record)).items() if "/waiting/" in key]


async def taken(record: Record) -> dict[str, str]:
    """Returns the holder of each place."""
    return {
        key: holder for key, holder in (await holders(record)).items() if "/waiting/" not in key
    }


class SemaphoresSuite:
    """Places, tickets, and who gets which when."""

    @pytest.mark.behaviour("claims.semaphore", "claims.first-come")
    async def test_places_go_to_those_who_wait_in_order(self, record: Record) -> None:
        assert await do(record, acquire("a")) == {"place": "k", "revision": 1}
        assert await do(record, acquire("b")) == {"place": "k/2", "revision": 2}
        tickets = {holder: (await do(record, acquire(holder)))["ticket"] for holder in "cdef"}
        assert list(tickets.values()) == sorted(tickets.values())
        assert await line(record) == list("cdef")
        for gone, heir in (("b", "c"), ("a", "d"), ("d", "e"), ("c", "f")):
            before = await record.revision("p")
            assert await do(record, release(gone)) is True
            assert heir in (await taken(record)).values()
            assert await record.revision("p") == before + 1, (
                "given up and handed over in one commit"
            )
        assert await line(record) == []
        assert await do(record, release("e")) is True
        assert await do(record, release("e")) is False
        assert await do(record, release("f")) is True
        assert await record.state("p") == {}

    @pytest.mark.behaviour("claims.first-come")
    async def test_a_newcomer_overtakes_nobody(self, record: Record) -> None:
        await do(record, acquire("a", places=1))
        first = await do(record, acquire("b", places=1))
        assert await do(record, acquire("c", places=1, wait=False)) is None
        assert await line(record) == ["b"]
        record.clock.advance(LEASE / 2)
        await do(record, renew("b", first["ticket"], places=1))
        record.clock.advance(LEASE / 2)  # a's place has expired, and nobody has seen to it yet
        assert await do(record, acquire("d", places=1, wait=False)) is None
        assert await taken(record) == {"k": "b"}

    @pytest.mark.behaviour("claims.first-come")
    async def test_who_gives_up_waiting_leaves_the_line(self, record: Record) -> None:
        await do(record, acquire("a"), acquire("b"))
        tickets = {holder: (await do(record, acquire(holder)))["ticket"] for holder in "cd"}
        assert await do(record, release("c", tickets["c"])) is False
        assert await line(record) == ["d"]
        assert await do(record, release("d", "k/waiting/of nobody")) is False
        assert await do(record, release("d", tickets["c"])) is False
        assert await line(record) == ["d"], "a ticket is given up by its own holder"
        await do(record, release("a"))
        assert await taken(record) == {"k": "d", "k/2": "b"}

    @pytest.mark.behaviour("claims.dead-holder")
    async def test_what_nobody_renews_is_free(self, record: Record) -> None:
        await do(record, acquire("dead"), acquire("alive"))
        tickets = {
            holder: (await do(record, acquire(holder)))["ticket"]
            for holder in ("dead too", "next", "last")
        }
        for _ in range(2):
            record.clock.advance(LEASE * 0.4)
            await do(
                record, renew("alive"), *(renew(one, tickets[one]) for one in ("next", "last"))
            )
            assert await taken(record) == {"k": "dead", "k/2": "alive"}
        record.clock.advance(LEASE * 0.2)
        found = await do(
            record, renew("alive"), renew("last", tickets["last"]), renew("next", tickets["next"])
        )
        assert found["place"] == "k"
        assert await holders(record) == {"k": "next", "k/2": "alive", tickets["last"]: "last"}

    @pytest.mark.behaviour("claims.dead-holder")
    async def test_who_gets_a_place_and_is_dead_by_then_loses_it_as_soon(
        self, record: Record
    ) -> None:
        await do(record, acquire("a", places=1))
        await do(record, acquire("dead", places=1))
        last = await do(record, acquire("last", places=1))
        await do(record, Release(key="k", holder="a"))
        assert await taken(record) == {"k": "dead"}
        record.clock.advance(LEASE * 0.9)
        await do(record, renew("last", last["ticket"], places=1))
        record.clock.advance(LEASE * 0.1)
        assert (await do(record, renew("last", last["ticket"], places=1)))["place"] == "k"

    @pytest.mark.behaviour("claims.one-holder", "claims.prolonged-unseen")
    async def test_a_place_is_held_for_its_time_however_often_it_is_prolonged(
        self, record: Record
    ) -> None:
        first = await do(record, acquire("a", ttl=25.0))
        for _ in range(3):
            record.clock.advance(8)
            assert await do(record, renew("a")) == first
        record.clock.advance(1)
        assert await do(record, renew("a")) is None
        assert await taken(record) == {}

    @pytest.mark.behaviour("claims.one-holder")
    async def test_a_place_is_renewed_for_another_time(self, record: Record) -> None:
        first = await do(record, acquire("a", ttl=5.0))
        record.clock.advance(4)
        again = await do(record, renew("a", ttl=20.0))
        assert (again["place"], again["revision"] > first["revision"]) == (first["place"], True)
        record.clock.advance(9)
        assert await do(record, renew("a")) == again
        record.clock.advance(9)
        assert await do(record, renew("a")) == again
        record.clock.advance(2)
        assert await do(record, renew("a", ttl=20.0)) is None, "what was lost is not taken again"

    @pytest.mark.behaviour("claims.prolonged-unseen")
    async def test_prolonging_is_seen_by_nobody(self, record: Record) -> None:
        await do(record, acquire("a", places=1))
        ticket = (await do(record, acquire("b", places=1)))["ticket"]
        before = await record.changes("p", 0)
        for _ in range(5):
            record.clock.advance(LEASE / 2)
            await do(record, renew("a", places=1), renew("b", ticket, places=1))
        assert await record.changes("p", 0) == before
        assert (await record.store.plans.get(ALICE, "p", {"k"})).entries["k"].revision == 1
        await record.commit(part("p", reads={"k": 1}))

    @pytest.mark.behaviour("claims.one-holder")
    @pytest.mark.parametrize("holder", ['"', "\\", "ä", "\u2028", "a b"], ids=ascii)
    async def test_a_holder_has_any_name(self, record: Record, holder: str) -> None:
        first = await do(record, acquire(holder, places=1))
        ticket = (await do(record, acquire(f"{holder}2", places=1)))["ticket"]
        assert await do(record, renew(holder, places=1)) == first
        assert await do(record, renew(f"{holder}2", ticket, places=1)) == {"ticket": ticket}
        assert await do(record, release(holder)) is True
        assert await taken(record) == {"k": f"{holder}2"}

    @pytest.mark.behaviour("claims.first-come")
    async def test_many_wait_and_few_are_looked_at(self, record: Record) -> None:
        await do(record, acquire("a"), acquire("b"))
        names = [f"w{number:03}" for number in range(200)]
        await record.do("p", *(acquire(name) for name in names))
        assert await line(record) == names
        assert await do(record, release("a"), release("b")) is True
        assert set((await taken(record)).values()) == {"w000", "w001"}
        assert await line(record) == names[2:]

    @pytest.mark.behaviour("claims.first-come")
    async def test_a_cleanup_ends_the_line(self, record: Record) -> None:
        await do(record, acquire("a", places=1))
        ticket = (await do(record, acquire("b", places=1)))["ticket"]
        await do(record, Cleanup())
        assert await do(record, renew("b", ticket, places=1)) is None
        assert await do(record, acquire("b", places=1)) == {
            "place": "k",
            "revision": await record.revision("p"),
        }

    @pytest.mark.behaviour("claims.one-holder")
    async def test_another_value_at_a_place_is_left_alone(self, record: Record) -> None:
        """Programs of earlier versions stored claims there by compare-and-set."""
        await record.do("p", put("k", {"holder": "old"}, ttl=5), put("k/2", "a text that names a"))
        assert "ticket" in await do(record, acquire("a"))
        record.clock.advance(5)
        assert (await do(record, acquire("b", wait=False))) is None
        assert await taken_by(record, "k") == "a"
        assert await record.get("p", "k/2") == "a text that names a"

    @pytest.mark.behaviour("claims.first-come")
    @pytest.mark.parametrize(
        "odd",
        [
            1,
            "a b",
            {"holder": "b"},
            {"holder": "b", "ttl": 1e308, "lease": -1},
            {"holder": 1},
            None,
        ],
        ids=str,
    )
    async def test_what_others_have_put_into_a_line_waits_for_nothing(
        self, record: Record, odd: Any
    ) -> None:
        await record.do("p", put("k/waiting/!", odd), put("k/waiting/~", odd))
        await do(record, acquire("a", places=1))
        await do(record, acquire("b", places=1))
        await do(record, release("a"))
        assert await taken_by(record, "k") == "b"
        assert await do(record, renew("b", "k/waiting/!", places=1)) == {
            "place": "k",
            "revision": 4,
        }
        assert await record.get("p", "k/waiting/!") == odd

    @pytest.mark.behaviour("claims.one-holder")
    @pytest.mark.parametrize(
        "until", [{}, {"until": "late"}, {"until": -1}, {"until": 1e30}], ids=str
    )
    async def test_what_others_have_put_at_a_place_is_no_fault(
        self, record: Record, until: dict[str, Any]
    ) -> None:
        await record.do("p", put("k", {"holder": "a", **until}, ttl=5))
        await do(record, renew("a", places=1))
        await do(record, release("a"))
        await do(record, acquire("b", places=1))
        record.clock.advance(LEASE)
        assert (await do(record, acquire("c", places=1)))["place"] == "k"

    @pytest.mark.behaviour("claims.refused")
    @pytest.mark.parametrize(
        "given",
        [
            {"places": 0},
            {"places": 1001},
            {"ttl": 0.0},
            {"ttl": None},
            {"lease": -1.0},
            {"holder": ""},
            {"key": "k" * 250},
            {"ticket": "another key"},
        ],
        ids=str,
    )
    async def test_what_is_no_semaphore(self, record: Record, given: dict[str, Any]) -> None:
        how: dict[str, Any] = {"key": "k", "holder": "a", "ttl": 1.0, "lease": 1.0, **given}
        with pytest.raises((InvalidRequest, InvalidName)):
            await record.do("p", Acquire(**how))
        assert await record.get("p", "k") is MISSING

    @pytest.mark.behaviour("claims.refused")
    async def test_a_commit_looks_at_so_many_places_only(self, record: Record) -> None:
        await record.do("p", *(acquire(f"h{number}", places=1000) for number in range(5)))
        with pytest.raises(InvalidRequest, match="5000 places"):
            await record.do(
                "p", *(renew(f"h{number}", places=1000) for number in range(5)), release("h1")
            )
        assert len(await taken(record)) == 5


async def taken_by(record: Record, key: str) -> Any:
    """Returns the holder of a place."""
    return (await record.get("p", key))["holder"]
