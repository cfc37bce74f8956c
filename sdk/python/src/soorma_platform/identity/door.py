"""The door, which determines the principal of each request and each socket.

Nothing else reads what a client says of itself. Each endpoint and socket declares whom it admits,
as a set of `Access`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

import msgspec

from soorma_common.errors import Forbidden, InvalidRequest
from soorma_common.names import All, Owner, Scope, check_name
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER, mismatch
from soorma_platform.engine.rows.audit_log import NOBODY_KNOWN, Author
from soorma_platform.identity.credentials import Credential
from soorma_platform.percent import BLANKS, decoded

TENANT_HEADER, USER_HEADER = "X-Tenant-ID", "X-User-ID"
FENCE_HEADER = "X-Soorma-Fence"
FENCE_PATTERN = "^[0-9a-f]{32}$"
TENANT, USER, FENCE = (name.lower().encode() for name in (TENANT_HEADER, USER_HEADER, FENCE_HEADER))
AUTHORIZATION, COOKIES = b"authorization", b"cookie"
_PROTOCOL, _SPOKEN = PROTOCOL_HEADER.lower().encode(), str(PROTOCOL).encode()
_IS_FENCE = re.compile(FENCE_PATTERN.strip("^$")).fullmatch
SAID_ONCE = (TENANT, USER, FENCE, AUTHORIZATION)
"""Headers to send once: of two, one reader would believe the first, another the last."""


class Access(StrEnum):
    """The principals that an endpoint or a socket admits."""

    PUBLIC = "public"
    """anybody"""
    USER = "user"
    """acts for one user of one tenant"""
    TENANT = "tenant"
    """acts for a whole tenant"""
    OPERATOR = "operator"
    """acts for all tenants"""
    AGENT = "agent"
    """takes deliveries, and announces itself"""
    DELIVERY = "delivery"
    """holds the fence of a delivery, and acts for the user of its event while it does"""


class Principal(msgspec.Struct, frozen=True):
    """The identity behind a request.

    `user` is None if it acts for all users of its tenant, or of all tenants.
    """

    owner: Owner
    user: str | None
    scope: Scope | None
    """set if it acts for one user"""
    fence: str | None = None
    """of the delivery whose handler makes the request"""
    credential: Credential | None = None
    """None if the platform is open, and believes what it is told"""

    @property
    def author(self) -> Author:
        """Who it is, for the audit."""
        credential = self.credential
        return NOBODY_KNOWN if credential is None else Author(credential.id, credential.name)

    def owner_among(self, what: str, requested: str | None) -> Owner:
        """Returns the owner whose data is meant: the `requested` tenant, else its own.

        Raises InvalidRequest, which calls the request `what`, if it acts for another tenant, and
        Forbidden if its credential is for another.
        """
        if requested is None or self.owner in (All.TENANTS, requested):
            return self.owner if requested is None else requested
        if self.credential is not None and self.credential.owner is not All.TENANTS:
            raise _not_for(self.credential, what, requested)
        raise _differ(what, requested, TENANT_HEADER, self.owner)

    def user_among(self, what: str, requested: str | None) -> str | None:
        """Returns the user whose data is meant, None for all: the `requested` one, else its own.

        Raises InvalidRequest, which calls the request `what`, if it acts for another user, and
        Forbidden if its credential is for another.
        """
        if requested is None or self.user in (None, requested):
            return self.user if requested is None else requested
        if self.credential is not None and self.credential.user_id is not None:
            raise _not_for(self.credential, what, requested)
        raise _differ(what, requested, USER_HEADER, self.user)


ANYBODY = Principal(All.TENANTS, None, None)


def check_protocol(headers: Mapping[bytes, bytes]) -> None:
    """Raises ProtocolMismatch if a client speaks another version than the platform.

    A client that names no version is accepted: plain HTTP need not know of them. As this runs for
    each request, the version is compared, never parsed.
    """
    if headers.get(_PROTOCOL, _SPOKEN) != _SPOKEN:
        raise mismatch(sdk=headers[_PROTOCOL][:20].decode("latin-1"), platform=PROTOCOL)


class Entrance(NamedTuple):
    """What an endpoint or a socket declares: whom it admits, and the scope that a key has to have.

    Without a scope, any key will do, or none if it is public. What `lasts`, as a stream or a
    socket, is ended when its key is revoked; anything else is over by itself.
    """

    access: frozenset[Access]
    scope: str | None = None
    lasts: bool = False
    by_cookie: bool = False
    """true if a browser's session opens it, too: it only shows something"""


class Door(Protocol):
    """Determines the principal of each request.

    An open one believes what it is told.
    """

    is_open: bool

    async def admit(self, entrance: Entrance, headers: Mapping[bytes, bytes]) -> Principal:
        """Returns the principal of a request; raises the error of one that is not admitted."""
        ...


class OpenDoor:
    """A door that believes every client, for a laptop.

    A client that names no tenant acts for all. What an endpoint needs to know must be sent
    nevertheless.
    """

    is_open = True

    async def admit(self, entrance: Entrance, headers: Mapping[bytes, bytes]) -> Principal:
        """Returns the principal of a request; InvalidRequest names the headers it is missing."""
        access = entrance.access
        if Access.PUBLIC in access:
            return ANYBODY
        needed = _needed(access)
        if missing := [name for name, key in needed if not headers.get(key)]:
            raise _missing(missing, of_user=len(needed) > 1)
        fence = headers.get(FENCE) if Access.DELIVERY in access else None
        return _believed(headers.get(TENANT), headers.get(USER), fence)


_SAYS_NOTHING = frozenset({Access.OPERATOR, Access.AGENT})
"""An open door requires no headers if one of these is admitted."""


def headers_of(access: frozenset[Access]) -> dict[str, bool]:
    """Returns the headers that tell an open door the identity, and whether each is required."""
    if Access.PUBLIC in access:
        return {}
    is_free, of_tenant = bool(access & _SAYS_NOTHING), Access.TENANT in access
    said = {TENANT_HEADER: not is_free}
    if Access.USER in access or not (is_free or of_tenant):
        said[USER_HEADER] = not (is_free or of_tenant)
    return said


@cache
def _needed(access: frozenset[Access]) -> list[tuple[str, bytes]]:
    """Returns the required headers, each with its form in a request."""
    return [
        (name, name.lower().encode()) for name, is_needed in headers_of(access).items() if is_needed
    ]


@lru_cache(maxsize=4096)
def _believed(tenant: bytes | None, user: bytes | None, fence: bytes | None) -> Principal:
    of_tenant = All.TENANTS if tenant is None else name_in(TENANT_HEADER, tenant)
    of_user = None if user is None else name_in(USER_HEADER, user)
    scope = None if of_tenant is All.TENANTS or of_user is None else Scope(of_tenant, of_user)
    return Principal(of_tenant, of_user, scope, None if fence is None else fence_of(fence))


def name_in(header: str, value: bytes) -> str:
    """Returns the name that a header holds; raises InvalidName if it can be none."""
    return check_name(
        f"the header {header}",
        decoded(f"the header {header}", value.decode("latin-1").strip(BLANKS)),
    )


def fence_of(value: bytes) -> str:
    """Returns the fence that a header holds; raises InvalidRequest if it can be none."""
    # A malformed fence is refused here: a repeated request gets its first response before any
    # fence is looked up.
    fence = value.decode("latin-1").strip(BLANKS)
    if not _IS_FENCE(fence):
        raise InvalidRequest(
            f"the header {FENCE_HEADER} must be the fence of a delivery, 32 digits of 0-9 and a-f, "
            f"not {fence[:40]!r}"
        )
    return fence


def _missing(headers: list[str], *, of_user: bool) -> InvalidRequest:
    if not of_user:
        return InvalidRequest(
            f"say which tenant is meant: send the header {TENANT_HEADER}", missing=headers
        )
    return InvalidRequest(
        f"say whose data is meant: send the headers {TENANT_HEADER} and {USER_HEADER} "
        "(soorma dev believes them; anywhere else they must agree with the credential)",
        missing=headers,
    )


def _not_for(credential: Credential, what: str, requested: str) -> Forbidden:
    return Forbidden(
        f"{credential} is not for {what} {requested!r}; leave it out, or use another key",
        key=credential.id,
    )


def _differ(what: str, requested: str, header: str, said: object) -> InvalidRequest:
    return InvalidRequest(
        f"{what} is {requested!r}, and the header {header} is {said!r}; send one of the two"
    )
