"""The door of a platform for many: it admits who shows a valid credential, as far as that goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

import msgspec

from soorma_common.errors import Fenced, Forbidden, InvalidRequest, Unauthorized, Unavailable
from soorma_common.identity import SCOPES
from soorma_common.names import All, Scope
from soorma_platform.identity.authenticator import CredentialCheck
from soorma_platform.identity.credentials import Credential
from soorma_platform.identity.door import (
    ANYBODY,
    AUTHORIZATION,
    COOKIES,
    FENCE,
    TENANT,
    TENANT_HEADER,
    USER,
    USER_HEADER,
    Access,
    Entrance,
    Principal,
    fence_of,
    name_in,
)
from soorma_platform.identity.sessions import BrowserSessions, token_in

_IDENTIFYING = (AUTHORIZATION, TENANT, USER, FENCE)
CACHE_SECONDS = 60.0
MOST_KNOWN = 4_096
"""Principals kept, by the headers that name them: to check all anew is a quarter of a read."""


class _Admitted(msgspec.Struct):
    """The principal of certain headers, and the epoch as of which its credential was valid."""

    epoch: int
    credential: Credential
    principal: Principal


class InHandOf(Protocol):
    """A delivery in hand: the user it is for, and the key family of the agent that holds it."""

    @property
    def scope(self) -> Scope: ...

    @property
    def family(self) -> str | None: ...


class FenceHolders(Protocol):
    """Who holds a fence."""

    async def held(self, fence: str) -> InHandOf | None:
        """Returns the delivery in hand under a fence; None if none is."""
        ...


class ClosedDoor:
    """A door that admits principals with a credential.

    The headers that name a tenant and a user are requests: they are granted if the credential
    covers them. A key that takes deliveries grants nothing else by itself; with the fence of a
    delivery in hand it acts for the user of its event.
    """

    is_open = False

    def __init__(
        self, check: CredentialCheck, holders: FenceHolders, sessions: BrowserSessions
    ) -> None:
        self._check = check
        self._sessions = sessions
        self._holders = holders
        self._known: dict[tuple[bytes | None, ...], _Admitted] = {}
        self._forget_at = 0.0

    async def admit(self, entrance: Entrance, headers: Mapping[bytes, bytes]) -> Principal:
        """Returns the principal of a request.

        Raises Unauthorized without a valid credential, Forbidden if it does not permit this,
        InvalidRequest if a user or tenant has to be named, Fenced if a fence is not in its hands.
        """
        access = entrance.access
        if AUTHORIZATION not in headers:
            if entrance.by_cookie and (person := self._person(headers)) is not None:
                return _granted(entrance, person)
            if Access.PUBLIC in access:
                return ANYBODY
        try:
            principal = await self._requested(headers)
        except (Unauthorized, Unavailable):
            if Access.PUBLIC not in access:
                raise
            return ANYBODY
        credential = principal.credential
        assert credential is not None  # noqa: S101 - it was made of one
        if entrance.lasts:
            self._check.admit(credential)
        if credential.takes_deliveries:
            if principal.fence is not None and Access.DELIVERY in access:
                return await self._in_delivery(credential, principal)
            if Access.AGENT in access:
                return principal
        return _granted(entrance, principal)

    def _person(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Returns the principal of a browser's session; None if there is none that is valid."""
        token = token_in(headers.get(COOKIES))
        credential = None if token is None else self._sessions.credential(token)
        return None if credential is None else _requested(credential, {})

    async def _requested(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Returns the principal that the headers name, of a credential that is valid.

        What was found is kept for a minute. Each time that the credentials were looked through
        meanwhile, for a revocation or an expiry, it is asked once more whether its own is valid.
        """
        epoch = self._check.epoch
        named = (*map(headers.get, _IDENTIFYING),)
        known = self._known.get(named)
        if known is not None:
            if known.epoch == epoch:
                return known.principal
            if self._check.is_valid(known.credential) and time.monotonic() < self._forget_at:
                known.epoch = epoch
                return known.principal
        shown = headers.get(AUTHORIZATION)
        credential = await self._check.credential(
            None if shown is None else shown.decode("latin-1")
        )
        principal = _requested(credential, headers)
        self._keep(named, _Admitted(epoch, credential, principal))
        return principal

    def _keep(self, named: tuple[bytes | None, ...], known: _Admitted) -> None:
        now = time.monotonic()
        if now >= self._forget_at:
            self._known.clear()
            self._forget_at = now + CACHE_SECONDS
        if len(self._known) < MOST_KNOWN or named in self._known:
            self._known[named] = known

    async def _in_delivery(self, credential: Credential, requested: Principal) -> Principal:
        """Returns the principal of a handler: it acts for the user of its event."""
        assert requested.fence is not None  # noqa: S101 - whoever calls this has seen to it
        held = await self._holders.held(requested.fence)
        if held is None or held.family != credential.family:
            # The same for a fence of others as for one that never was.
            raise Fenced("this delivery is not in the hands of this agent, or not any more")
        scope = held.scope
        _check_agrees(credential, TENANT_HEADER, requested.owner, scope.tenant_id)
        _check_agrees(credential, USER_HEADER, requested.user, scope.user_id)
        return Principal(scope.tenant_id, scope.user_id, scope, requested.fence, credential)


def _granted(entrance: Entrance, principal: Principal) -> Principal:
    """Returns the principal if its credential permits what is entered; else raises the error."""
    credential = principal.credential
    assert credential is not None  # noqa: S101 - it was made of one
    if entrance.scope is None:
        return principal
    if entrance.scope not in credential.scopes:
        raise _lacking(credential, entrance)
    _check_reach(credential, principal, entrance.access)
    return principal


def _requested(credential: Credential, headers: Mapping[bytes, bytes]) -> Principal:
    """Returns the principal that the headers name, within what the credential is for."""
    named = headers.get(TENANT)
    owner = credential.owner if named is None else name_in(TENANT_HEADER, named)
    if credential.owner is not All.TENANTS and owner != credential.owner:
        raise _beyond(credential, TENANT_HEADER, owner)
    named = headers.get(USER)
    user = credential.user_id if named is None else name_in(USER_HEADER, named)
    if credential.user_id is not None and user != credential.user_id:
        raise _beyond(credential, USER_HEADER, user)
    scope = None if owner is All.TENANTS or user is None else Scope(owner, user)
    fence = headers.get(FENCE)
    return Principal(owner, user, scope, None if fence is None else fence_of(fence), credential)


def _check_agrees(credential: Credential, header: str, named: object, held: str) -> None:
    if named not in (None, All.TENANTS, held):
        raise Forbidden(
            f"the header {header} names another than the event whose delivery is in hand; leave it "
            "out",
            key=credential.id,
        )


def _check_reach(credential: Credential, principal: Principal, access: frozenset[Access]) -> None:
    """Raises an error unless the principal acts for as few, or as many, as is admitted."""
    if principal.scope is not None and Access.USER in access:
        return
    if credential.user_id is not None:
        raise Forbidden(
            f"{credential} is for one user; this is for all users of a tenant", key=credential.id
        )
    if principal.owner is not All.TENANTS and Access.TENANT in access:
        return
    if credential.owner is All.TENANTS and Access.OPERATOR in access:
        return
    missing = []
    if principal.owner is All.TENANTS:
        missing.append(TENANT_HEADER)
    if principal.user is None and Access.TENANT not in access:
        missing.append(USER_HEADER)
    if Access.USER in access or Access.TENANT in access:
        raise InvalidRequest(
            f"say whose data is meant: send {' and '.join(missing)}, as {credential} is for more",
            missing=missing,
        )
    raise Forbidden(f"{credential} is for one tenant; this is for all", key=credential.id)


def _lacking(credential: Credential, entrance: Entrance) -> Forbidden:
    what = f"{entrance.scope} ({SCOPES[entrance.scope or '']})"
    if credential.takes_deliveries:
        how = (
            "by itself it permits to take deliveries only: use the context that a handler is "
            "called with"
            if Access.DELIVERY in entrance.access
            else "it is for agents"
        )
        return Forbidden(f"{credential} does not permit {what}; {how}", key=credential.id)
    return Forbidden(
        f"{credential} does not permit {what}; use a key of another role", key=credential.id
    )


def _beyond(credential: Credential, header: str, named: object) -> Forbidden:
    return Forbidden(
        f"{credential} is not for {header}: {named}; leave the header out, or use another key",
        key=credential.id,
    )
