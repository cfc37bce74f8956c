"""Keys and what they permit: scopes, roles, and the events that an agent may take and send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from soorma_common.errors import InvalidRequest
from soorma_common.names import Name, check_name
from soorma_common.topics import check_topic

SCOPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "memory:read": "read what plans and memories hold",
        "memory:write": "change plans and memories",
        "memory:manage": "forget, and put into quarantine, for all users of a tenant",
        "events:read": "follow events; look at timers, groups and dead letters",
        "events:write": "publish events, set and cancel timers",
        "events:manage": "replay dead letters, end subscriptions",
        "registry:read": "look at agents and event types",
        "registry:write": "define event types",
        "identity:read": "look at keys, and at the audit of who has done what",
        "identity:manage": "create, rotate and revoke keys",
        "platform:read": "read metrics, and the health of each part",
        "deliveries:take": "be an agent: take deliveries, and act for the user of each while it "
        "is in hand",
    }
)
"""All scopes, and what each permits. The key's tenant and user say for whom."""

DELIVERIES: Final = "deliveries:take"

Role = Literal["app", "agent", "viewer", "operator"]
ROLES: Final[Mapping[Role, frozenset[str]]] = MappingProxyType(
    {
        "app": frozenset(
            {
                "memory:read",
                "memory:write",
                "events:read",
                "events:write",
                "registry:read",
                "registry:write",
            }
        ),
        "agent": frozenset({DELIVERIES}),
        "viewer": frozenset({"memory:read", "events:read", "registry:read", "platform:read"}),
        "operator": frozenset(SCOPES) - {DELIVERIES},
    }
)
"""Named sets of scopes."""

ANY = "*"
"""In a grant: any agent, event type or topic."""
MOST_GRANTS = 1_000
"""Maximum agents, subscriptions, or events to publish, that a key names."""
LONGEST_LIFE = 10 * 366 * 86_400.0
LONGEST_OVERLAP = 30 * 86_400.0
MOST_KEYS = 1_000
"""Keys that a tenant may have at a time, and as many for all tenants."""

AuditAction: TypeAlias = Literal[
    "key.created",
    "key.rotated",
    "key.revoked",
    "block.created",
    "block.lifted",
    "deadletter.replayed",
    "plan.deleted",
    "memories.forgotten",
    "quarantine.begun",
    "quarantine.ended",
    "subscription.ended",
]
AUDIT_ACTIONS: Final[tuple[AuditAction, ...]] = get_args(AuditAction)
"""What the audit has rows of."""

Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class EventGrant(msgspec.Struct, frozen=True, order=True):
    """Events that an agent may take, or publish: of a type and a topic, ANY for each."""

    type: str
    topic: str = ANY

    def permits(self, event_type: str, topic: str) -> bool:
        """Returns whether events of a type and topic are meant; ANY only by ANY."""
        return self.type in (ANY, event_type) and self.topic in (ANY, topic)

    def __str__(self) -> str:
        return self.type if self.topic == ANY else f"{self.type}@{self.topic}"


class NewKey(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A key to create: its role, or its scopes.

    Without `tenant_id` it is for all tenants, without `user_id` for all users. `agents`,
    `subscribe` and `publish` are for agents: the names that one may have, and the events that it
    may take and publish, as `type` or `type@topic`; `*` is any. It expires after `expires_in`
    seconds.
    """

    name: Name
    role: Role | None = None
    scopes: list[str] = []
    tenant_id: Name | None = None
    user_id: Name | None = None
    agents: list[Name] = []
    subscribe: list[Name] = []
    publish: list[Name] = []
    expires_in: Seconds | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The rotation of a key, which stays valid for `overlap` seconds beside its successor."""

    overlap: Seconds = 86_400.0


class KeyInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A key as it is listed: everything but its secret.

    `family` is the first key that it was rotated from. `last_used_at` is accurate to some minutes.
    """

    id: str
    family: str
    name: str
    scopes: list[str]
    created_at: datetime
    role: Role | None = None
    tenant_id: str | None = None
    user_id: str | None = None
    agents: list[str] = []
    subscribe: list[str] = []
    publish: list[str] = []
    created_by: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class CreatedKey(msgspec.Struct, kw_only=True):
    """A new key, with the credential that is shown this once."""

    key: KeyInfo
    credential: str

    def __repr__(self) -> str:
        return f"CreatedKey(key={self.key!r})"


class ApiKeys(msgspec.Struct):
    """Keys, those changed last at the end; there are more after `next`."""

    keys: list[KeyInfo]
    next: int | None = None


class TokenInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A token of the issuer: who it is of, and until when; `jti` is its id."""

    issuer: str
    subject: str
    expires_at: datetime
    jti: str | None = None


class Whoami(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The identity behind a request; without a key, the platform believes what it is told."""

    scopes: list[str]
    tenant_id: str | None = None
    user_id: str | None = None
    key: KeyInfo | None = None
    token: TokenInfo | None = None
    is_open: bool = False


class AuditEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An action that people may have to account for: who did it, when, and to which thing.

    `by` is the id of the key, `by_name` its name, or those of a token's user; there is none on an
    open platform, and for keys that were made beside the store. Without `tenant_id` it concerns all
    tenants, without `user_id` no single user. `subject` is an id or a name, `detail` has numbers
    and further names; neither holds content or a secret.
    """

    id: int
    at: datetime
    action: AuditAction
    tenant_id: str | None = None
    user_id: str | None = None
    by: str | None = None
    by_name: str | None = None
    subject: str | None = None
    detail: dict[str, str | int] = {}


class AuditPage(msgspec.Struct):
    """Rows of the audit, the last first; there are older ones before `next`."""

    entries: list[AuditEntry]
    next: int | None = None


def check_new_key(body: NewKey) -> None:
    """Raises InvalidRequest, which names the field, if a key cannot be as it is described."""
    check_name("name", body.name)
    for name in ("tenant_id", "user_id"):
        if getattr(body, name) is not None:
            check_name(name, getattr(body, name))
    if body.user_id is not None and body.tenant_id is None:
        raise InvalidRequest("a key of one user names its tenant_id, too")
    if (body.role is None) == (not body.scopes):
        raise InvalidRequest(
            f"a key has either a role ({', '.join(ROLES)}) or scopes: give one of them"
        )
    scopes_of(body)
    _check_grants(body)
    if body.expires_in is not None and not 0 < body.expires_in <= LONGEST_LIFE:
        raise InvalidRequest(
            f"expires_in must be more than 0 and at most {LONGEST_LIFE:.0f} seconds, not "
            f"{body.expires_in:g}"
        )


def scopes_of(body: NewKey) -> frozenset[str]:
    """Returns the scopes of a key; raises InvalidRequest, which names one that does not exist."""
    scopes = frozenset(body.scopes) if body.role is None else ROLES[body.role]
    if unknown := scopes - SCOPES.keys():
        raise InvalidRequest(
            f"there is no scope {min(unknown)[:80]!r}; there are {', '.join(SCOPES)}"
        )
    return scopes


def _check_grants(body: NewKey) -> None:
    given = {name: getattr(body, name) for name in ("agents", "subscribe", "publish")}
    for name, grants in given.items():
        if len(grants) > MOST_GRANTS:
            raise InvalidRequest(f"{name} has at most {MOST_GRANTS} entries, not {len(grants)}")
    for agent in body.agents:
        check_name("agents", agent)
    event_grants("subscribe", body.subscribe)
    event_grants("publish", body.publish)
    if DELIVERIES in scopes_of(body):
        if missing := [name for name in ("agents", "subscribe") if not given[name]]:
            raise InvalidRequest(
                f"a key that takes deliveries names its {' and its '.join(missing)}; * is any"
            )
        if body.user_id is not None:
            raise InvalidRequest(
                "a key that takes deliveries serves the users of its events, and so has no user_id"
            )
    elif any(given.values()):
        raise InvalidRequest(
            f"agents, subscribe and publish are for keys that take deliveries: of role agent, or "
            f"with the scope {DELIVERIES}"
        )


def event_grants(what: str, texts: Iterable[str]) -> tuple[EventGrant, ...]:
    """Returns the grants that texts such as `order.paid@business-facts` name.

    Raises InvalidRequest for anything else; `what` names their place.
    """
    return tuple(_event_grant(what, text) for text in texts)


def _event_grant(what: str, text: str) -> EventGrant:
    # From the right: a type may hold any character, a topic is one of a few words.
    event_type, _, topic = text.rpartition("@")
    if not event_type:
        event_type, topic = text, ANY
    check_name(what, event_type)
    return EventGrant(event_type, topic if topic == ANY else check_topic(topic))
