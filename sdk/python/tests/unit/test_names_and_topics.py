"""Valid names, and the eight topics."""

from __future__ import annotations

import pytest

from soorma import Topic
from soorma_common.entry_ids import entry_id
from soorma_common.errors import InvalidName
from soorma_common.names import Scope, check_name, check_scope
from soorma_common.topics import check_topic

TOPICS = [
    "business-facts", "action-requests", "action-results", "billing-events", "notification-events",
    "system-events", "plan-events", "task-events",
]  # fmt: skip


@pytest.mark.behaviour("topics.names")
@pytest.mark.parametrize(
    "name", ["a", "...", " ", "/", "%2F", "ä" * 255, "🎉" * 255, "a\nb", "\x7f", "\ufeff"]
)
def test_names(name: str) -> None:
    assert check_name("key", name) is name


@pytest.mark.behaviour("topics.names")
@pytest.mark.parametrize(
    "name", ["", ".", "..", "\0", "a\0", "\ud800", "x\udfff", "x" * 256, None, 5, b"a", ["a"]]
)
def test_no_names(name: object) -> None:
    with pytest.raises(InvalidName) as error:
        check_name("the key", name)
    assert "the key" in str(error.value)
    assert error.value.details["name"] == "the key"
    str(error.value).encode()


@pytest.mark.behaviour("topics.names")
def test_a_scope_is_two_names() -> None:
    assert check_scope("t", "u") == Scope("t", "u")
    for tenant, user in (("", "u"), ("t", "..")):
        with pytest.raises(InvalidName):
            check_scope(tenant, user)


@pytest.mark.behaviour("topics.eight")
def test_the_topics() -> None:
    assert [topic.value for topic in Topic] == TOPICS
    for topic in Topic:
        assert check_topic(topic) == check_topic(topic.value) == topic.value
        assert type(check_topic(topic)) is str


@pytest.mark.behaviour("topics.eight")
@pytest.mark.parametrize(
    "topic", ["", "business_facts", "Business-Facts", "BUSINESS_FACTS", "plans", "*", None, 1, []]
)
def test_any_other_topic_is_refused_and_told_which_there_are(topic: object) -> None:
    with pytest.raises(InvalidName) as error:
        check_topic(topic)
    assert all(name in str(error.value) for name in TOPICS)


def test_an_entrys_id_is_that_of_its_place() -> None:
    places = [("t", "u", "p", "k"), ("t2", "u", "p", "k"), ("t", "u2", "p", "k"),
              ("t", "u", "p2", "k"), ("t", "u", "p", "k2"), ("t", "u", "pk", ""),
              ("tu", "", "p", "k")]  # fmt: skip
    ids = [entry_id(Scope(tenant, user), plan, key) for tenant, user, plan, key in places]
    assert len(set(ids)) == len(ids)
    assert entry_id(Scope("t", "u"), "p", "k") == ids[0]
