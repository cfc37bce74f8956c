"""What an agent and the event service say to each other over the agent's WebSocket.

Agent: `hello` (what it handles, what it is still running), then `step` for each recorded result and
`commit`, `fail` or `release` for each delivery, `drain` before it stops. Service: `welcome`,
`deliver`, `cancel` where a plan was cancelled, an `answer` to each numbered frame, and `goodbye`
with the reason where it ends the connection.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from soorma_common.limits import Limits
from soorma_common.memory import Commit
from soorma_common.names import All, Owner, PlanStatus
from soorma_common.retry import RetryPolicy

LEASE_SECONDS = 30.0
"""How long a delivery stays with an agent that is not heard of; agents renew three times as
often."""

LARGEST_FRAME = 32 * 1024 * 1024
"""Bytes of the largest message on an agent's connection, either way."""


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events a handler takes: a type and a topic, `*` for any; `ordered` keeps a plan's events in line.

    `ended_plans` takes events of plans that have ended, too.
    """

    type: str
    topic: str = "*"
    ordered: bool = True
    retry: RetryPolicy = RetryPolicy()
    ended_plans: bool = False


class Hello(msgspec.Struct, tag_field="frame", tag="hello", forbid_unknown_fields=True):
    """Opens a connection; `running` names the fences the agent is still working on.

    `process` is a name that no other process has, now or later. Agents of one process die together.
    One that comes back under its `process` and `instance` has not died, and has received no
    delivery that `running` does not name. Its `connection` counts: the hello of an earlier one that
    comes late is refused. `protocol` is the version that the agent speaks (`protocol.PROTOCOL`);
    without it, it is of before there were any.
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
        """Whose events it takes: those of its tenant, or of all."""
        return All.TENANTS if self.tenant_id is None else self.tenant_id


class CommitFrame(msgspec.Struct, tag_field="frame", tag="commit", forbid_unknown_fields=True):
    """The handler returned: its commit, with the delivery's fence in it, in the scope of its event."""

    number: int
    tenant_id: str
    user_id: str
    commit: Commit


class FailFrame(msgspec.Struct, tag_field="frame", tag="fail", forbid_unknown_fields=True):
    """The handler failed; `after` in seconds overrides the backoff, `reject` gives up at once.

    `defer` puts the event off for `after` seconds without costing an attempt. `fail_plan` ends the
    event's plan as failed with it, where it is given up.
    """

    number: int
    fence: str
    reason: str
    after: float | None = None
    reject: bool = False
    defer: bool = False
    fail_plan: bool = False


class StepFrame(msgspec.Struct, tag_field="frame", tag="step", forbid_unknown_fields=True):
    """A step of a handler has a result, the `occurrence`-th (from 1) of its name: it is kept for later attempts."""

    number: int
    fence: str
    name: str
    occurrence: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    result: msgspec.Raw


class ReleaseFrame(msgspec.Struct, tag_field="frame", tag="release", forbid_unknown_fields=True):
    """The agent gives deliveries back untried; that costs them no attempt."""

    number: int
    fences: list[str]


class DrainFrame(msgspec.Struct, tag_field="frame", tag="drain", forbid_unknown_fields=True):
    """The agent is about to stop: it takes no further deliveries."""


AgentFrame = Hello | CommitFrame | FailFrame | StepFrame | ReleaseFrame | DrainFrame


class Welcome(msgspec.Struct, tag_field="frame", tag="welcome"):
    """The agent is subscribed; `kept` are the fences of its `running` that still stand.

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
    """A key as of a delivery; times in ms."""

    revision: int
    updated_at: int
    expires_at: int | None
    value: msgspec.Raw


class PlanSnapshot(msgspec.Struct):
    """The whole small state of a plan, by key. What is not in it is missing.

    `status` is how far its life has come, `missing` where nothing of it is there.
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
    """shorter than Welcome's, where a process that had this event gave no sign of life"""


class Answer(msgspec.Struct, tag_field="frame", tag="answer", omit_defaults=True):
    """What came of frame `number`: `body`, or the problem document of an error."""

    number: int
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    problem: dict[str, Any] | None = None


class CancelFrame(msgspec.Struct, tag_field="frame", tag="cancel"):
    """The plans of these deliveries were cancelled: their handlers need not go on, their commits are refused."""

    fences: list[str]


class Goodbye(msgspec.Struct, tag_field="frame", tag="goodbye"):
    """The service closes the connection; `problem` tells why the agent must not come back as it is."""

    problem: dict[str, Any] | None = None
    protocol: int = 0


ServiceFrame = Welcome | Deliver | Answer | CancelFrame | Goodbye
