"""The eight topics. They are fixed, so that everyone can know what flows where."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

from soorma_common.errors import InvalidName


class Topic(StrEnum):
    """A topic on which events are published; any other name is refused."""

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
"""A topic in source code: a type checker finds a misspelt one."""

_TEXTS: dict[str, TopicText] = {text: text for text in get_args(TopicText)}

TopicName: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"enum": [topic.value for topic in Topic]})
]
"""A topic in a message. `check_topic` checks it, as its errors say more than a decoder's."""


def check_topic(topic: object) -> TopicText:
    """Returns `topic` as a plain string; raises InvalidName, with the eight names, for others."""
    text = _TEXTS.get(topic) if isinstance(topic, str) else None
    if text is None:
        raise InvalidName(
            f"there is no topic {topic!r}; the topics are {', '.join(sorted(_TEXTS))}", name="topic"
        )
    return text
