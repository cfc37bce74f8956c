"""The frames that an agent and the event service exchange over the agent's WebSocket.

Agent: `hello` (what it handles, what it is still running), then `step` for each recorded result and
`commit`, `fail` or `release` for each delivery, `drain` before it stops. Service: `welcome`,
`deliver`, `cancel` if a plan was cancelled, an `answer` to each numbered frame, and `goodbye` with
the reason if it closes the connection.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from soorma_common.limits import Limits
from soorma_common.memory import Commit
from soorma_common.names import All, Owner, PlanStatus
from soorma_common.retry import RetryPolicy

LEASE_SECONDS = 30.0
"""Seconds for which an agent keeps a delivery without being heard of.

Agents renew their leases three times as often.
"""

LARGEST_FRAME = 32 * 1024 * 1024
"""Maximum bytes of a message on an agent's connection, in either direction."""


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events that a handler takes: a type and a topic, `*` for any.

    `ordered` keeps a plan's events in order. `ended_plans` takes events of plans that have ended,
    too.
    """

    type: str
    topic: str = "*"
    ordered: bool = True
    retry: RetryPolicy = RetryPolicy()
    ended_plans: bool = False


class Hello(msgspec.Struct, tag_field="frame", tag="hello", forbid_unknown_fields=True):
    """Opens a connection; `running` lists the fences that the agent is still working on.

    `process` is a name that no other process has, now or later. Agents of one process die together.
    One that comes back under its `process` and `instance` has not died, and has received no
    delivery that `running` does not list. Its `connection` counts up: a late hello of an earlier
    connection is refused. `protocol` is the version that the agent speaks (`protocol.PROTOCOL`);
    without it, the agent predates versions.
    """

    agent: str
    instance: str
    subscriptions: list[Subscription]
    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32
    tenant_id: str | None = None
    running: list[str] = []
    process: str = ""
    connection: Annotated[int, msgspec.Meta(ge=0)] = 0
    protocol: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def owner(self) -> Owner:
        """The owner of the events that it takes: its tenant, or all."""
        return All.TENANTS if self.tenant_id is None else self.tenant_id


class CommitFrame(msgspec.Struct, tag_field="frame", tag="commit", forbid_unknown_fields=True):
    """The commit of a handler that returned, with its delivery's fence, in its event's scope."""

    number: int
    tenant_id: str
    user_id: str
    commit: Commit


class FailFrame(msgspec.Struct, tag_field="frame", tag="fail", forbid_unknown_fields=True):
    """The failure of a handler; `after` (seconds) overrides the backoff, `reject` gives up at once.

    `defer` postpones the event for `after` seconds without using up an attempt. `fail_plan` also
    ends the event's plan as failed if the event is given up.
    """

    number: int
    fence: str
    reason: str
    after: float | None = None
    reject: bool = False
    defer: bool = False
    fail_plan: bool = False


class StepFrame(msgspec.Struct, tag_field="frame", tag="step", forbid_unknown_fields=True):
    """The result of a handler's step, to be recorded for later attempts.

    The step is the `occurrence`-th (from 1) of its name.
    """

    number: int
    fence: str
    name: str
    occurrence: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    result: msgspec.Raw


class ReleaseFrame(msgspec.Struct, tag_field="frame", tag="release", forbid_unknown_fields=True):
    """The return of untried deliveries; it costs them no attempt."""

    number: int
    fences: list[str]


class DrainFrame(msgspec.Struct, tag_field="frame", tag="drain", forbid_unknown_fields=True):
    """The notice that the agent is about to stop: it takes no further deliveries."""


AgentFrame = Hello | CommitFrame | FailFrame | StepFrame | ReleaseFrame | DrainFrame


class Welcome(msgspec.Struct, tag_field="frame", tag="welcome"):
    """The agent is subscribed; `kept` are the fences of its `running` that are still valid.

    `unserved` has a line for each subscription of its group that no connected agent handles, and
    for which events wait.
    """

    replica: str
    kept: list[str]
    lease_seconds: float = LEASE_SECONDS
    limits: Limits = Limits()
    unserved: list[str] = []
    protocol: int = 0


class SnapshotEntry(msgspec.Struct, array_like=True):
    """A key at the time of a delivery; times in ms."""

    revision: int
    updated_at: int
    expires_at: int | None
    value: msgspec.Raw


class PlanSnapshot(msgspec.Struct):
    """The whole state of a small plan, by key; a key that is not in it is missing.

    `status` is the status of the plan, `missing` if nothing of it exists.
    """

    plan_id: str
    revision: int
    entries: dict[str, SnapshotEntry]
    status: PlanStatus = "missing"


class RecordedStep(msgspec.Struct, array_like=True):
    """The result of a step that an earlier attempt has recorded."""

    name: str
    occurrence: int
    result: msgspec.Raw


class Deliver(msgspec.Struct, tag_field="frame", tag="deliver", omit_defaults=True):
    """An event to handle, for the `attempt`-th time, under a fence.

    Attempts that were given back do not count.
    """

    fence: str
    attempt: int
    handler: Subscription
    event: msgspec.Raw
    plan: PlanSnapshot | None = None
    steps: list[RecordedStep] = []
    lease_seconds: float | None = None
    """shorter than Welcome's if an earlier process fell silent while it had this event"""


class Answer(msgspec.Struct, tag_field="frame", tag="answer", omit_defaults=True):
    """The response to frame `number`: `body`, or the problem document of an error."""

    number: int
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    problem: dict[str, Any] | None = None


class CancelFrame(msgspec.Struct, tag_field="frame", tag="cancel"):
    """The deliveries whose plans were cancelled.

    Their handlers need not continue, and their commits are rejected.
    """

    fences: list[str]


class Goodbye(msgspec.Struct, tag_field="frame", tag="goodbye"):
    """The service closes the connection; `problem` says why the agent must not return as it is."""

    problem: dict[str, Any] | None = None
    protocol: int = 0


ServiceFrame = Welcome | Deliver | Answer | CancelFrame | Goodbye
