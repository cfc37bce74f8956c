"""The eight topics. They are fixed, so that what flows where can be read without asking anybody."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

from soorma_common.errors import InvalidName


class Topic(StrEnum):
    """Where an event is published; any other name is refused."""

    BUSINESS_FACTS = "business-facts"
    ACTION_REQUESTS = "action-requests"
    ACTION_RESULTS = "action-results"
    BILLING_EVENTS = "billing-events"
    NOTIFICATION_EVENTS = "notification-events"
    SYSTEM_EVENTS = "system-events"
    PLAN_EVENTS = "plan-events"
    TASK_EVENTS = "task-events"


TopicText: TypeAlias = Literal[
    "business-facts",
    "action-requests",
    "action-results",
    "billing-events",
    "notification-events",
    "system-events",
    "plan-events",
    "task-events",
]
TopicLike: TypeAlias = Topic | TopicText
"""A topic as authors write it, so that a type checker finds one that is misspelt."""

_TEXTS: dict[str, TopicText] = {text: text for text in get_args(TopicText)}

TopicName: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"enum": [topic.value for topic in Topic]})
]
"""A topic in a message. It is checked by `check_topic`, which says more than a decoder."""


def check_topic(topic: object) -> TopicText:
    """`topic` as a plain string; InvalidName, with the eight names, if it is none of them."""
    text = _TEXTS.get(topic) if isinstance(topic, str) else None
    if text is None:
        raise InvalidName(
            f"there is no topic {topic!r}; the topics are {', '.join(sorted(_TEXTS))}", name="topic"
        )
    return text
