"""What the event service tells of groups: who they are, what waits for them, and what they gave up."""

from __future__ import annotations

from datetime import datetime

import msgspec


class ReplicaInfo(msgspec.Struct):
    """A connected agent process of a group."""

    id: str
    instance: str
    max_concurrency: int
    connected_at: datetime


class SubscriptionInfo(msgspec.Struct):
    """A group's subscription, and when a replica with it was last connected.

    `served` unless replicas of the group are connected and none of them has a handler for it: then
    what waits for it is set aside.
    """

    type: str
    topic: str
    ordered: bool
    seen_at: datetime
    served: bool
    set_aside: int


class GroupInfo(msgspec.Struct):
    """A consumer group: how much waits for it, how much is in hand, how old the oldest of it is."""

    name: str
    tenant_id: str | None
    created_at: datetime
    waiting: int
    ready: int
    in_hand: int
    oldest_at: datetime | None
    subscriptions: list[SubscriptionInfo]
    replicas: list[ReplicaInfo]


class DeadLetterInfo(msgspec.Struct):
    """An event that a group gave up."""

    id: int
    group: str
    event_id: str
    type: str
    topic: str
    tenant_id: str
    user_id: str
    plan_id: str | None
    attempts: int
    """begun and not given back"""
    failures: int
    deaths: int
    """of processes that had it in hand"""
    reason: str
    at: datetime
    parked: bool
    event: msgspec.Raw
