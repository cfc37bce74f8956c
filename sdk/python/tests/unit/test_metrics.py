"""Metrics: the counters, and groups put together for a scrape."""

from __future__ import annotations

import pytest

from soorma_common.topics import Topic
from soorma_platform.http.scrape import by_name
from soorma_platform.metrics import Counter, Distribution, Metrics
from soorma_platform.stores.ports.health import GroupStanding


def test_a_counter_has_a_number_for_each_combination_of_labels() -> None:
    counter = Counter("c", "about", "a", "b")
    for labels in (("x", "y"), ("x", "z"), ("x", "y")):
        counter.add(*labels)
    assert counter.values() == {("x", "y"): 2, ("x", "z"): 1}


def test_a_counter_that_was_begun_keeps_what_it_has() -> None:
    counter = Counter("c", "about", "a", known=[("x",)])
    counter.add("x")
    counter.begin("x")
    counter.begin("y")
    assert counter.values() == {("x",): 1, ("y",): 0}
    counter.forget("x")
    counter.forget("z")
    assert counter.values() == {("y",): 0}


def test_what_was_read_of_a_counter_stays_as_it_was() -> None:
    counter = Counter("c", "about", known=[()])
    before = counter.values()
    counter.add()
    assert (before, counter.values()) == ({(): 0}, {(): 1})


@pytest.mark.parametrize(("value", "place"), [(0, 0), (1, 0), (1.001, 1), (2, 1), (4, 2), (4.1, 3)])
def test_a_value_belongs_to_the_first_bound_that_it_is_not_above(value: float, place: int) -> None:
    spread = Distribution((1, 2, 4))
    spread.note(value)
    assert spread.counts == [int(index == place) for index in range(4)]
    assert spread.total == value


def test_what_is_known_begins_at_zero() -> None:
    metrics = Metrics()
    assert metrics.commits.made.values() == {("http",): 0, ("handler",): 0}
    assert metrics.commits.fenced.values() == {(): 0}
    assert set(metrics.commits.published.values()) == {(topic.value,) for topic in Topic}


def test_a_route_has_one_meter() -> None:
    metrics = Metrics()
    meter = metrics.route("memory", "GET", "/health")
    meter.note(200, 0.1)
    meter.note(503, 0.1)
    assert metrics.route("memory", "GET", "/health") is meter
    assert meter.statuses == [0, 0, 1, 0, 0, 1]
    assert sum(meter.seconds.counts) == 2


def test_groups_of_one_name_are_added_up_and_the_oldest_counts() -> None:
    one = GroupStanding(1, "g", 1, 2, 3, 4, 5, 6, 7, None)
    two = GroupStanding(1, "g", 10, 20, 30, 40, 50, 60, 70, 1.5)
    three = GroupStanding(1, "g", 0, 0, 0, 0, 0, 0, 0, 0.5)
    other = GroupStanding(1, "h", 1, 1, 1, 1, 1, 1, 1, None)
    assert by_name([one, two, three, other]) == {
        "g": GroupStanding(1, "g", 11, 22, 33, 44, 55, 66, 77, 1.5),
        "h": other,
    }
