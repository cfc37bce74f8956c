"""The event service's responses about groups: their replicas, backlog and dead letters."""

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

    `served` is false if replicas of the group are connected but none has a handler for it: its
    waiting events are then set aside.
    """

    type: str
    topic: str
    ordered: bool
    seen_at: datetime
    served: bool
    set_aside: int


class GroupInfo(msgspec.Struct):
    """A consumer group: its events that wait or are being handled, and the time of the oldest."""

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
    """An event that a group will not retry any more."""

    id: int
    group: str
    event_id: str
    type: str
    topic: str
    tenant_id: str
    user_id: str
    plan_id: str | None
    attempts: int
    """attempts begun, without those given back"""
    failures: int
    deaths: int
    """deaths of processes that were handling it"""
    reason: str
    at: datetime
    parked: bool
    event: msgspec.Raw
