"""The claims of a token, which say for whom it is, how long, and what it permits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from soorma_common.errors import InvalidName, Unauthorized
from soorma_common.identity import DELIVERIES, ROLES, SCOPES
from soorma_common.names import check_name
from soorma_platform.identity.oidc import ClaimTable, OidcSettings

LEEWAY = 30
"""Seconds by which the issuer's clock may be ahead, for `nbf` and `iat`.

There is none for `exp`: the streams of a token end at that second, and so does its use.
"""
_LATEST = 1e11
"""Seconds since 1970 beyond which a time is a mistake, such as one in milliseconds."""
_TOKEN_ROLES: dict[str, frozenset[str]] = {
    name: scopes for name, scopes in ROLES.items() if DELIVERIES not in scopes
}
_TOKEN_SCOPES = frozenset(SCOPES) - {DELIVERIES}
MANAGER = "operator"
"""The role whose tokens are for all users of their tenant."""


class Identity(NamedTuple):
    """What a token says: for whom it is, until when (in ms), and what it permits."""

    tenant_id: str
    subject: str
    is_manager: bool
    scopes: frozenset[str]
    expires_at: int
    jti: str | None


def identity_in(claims: Mapping[str, Any], settings: OidcSettings, now: int) -> Identity:
    """Returns what the claims of a token say; `now` is in ms.

    Raises Unauthorized if it is of another issuer, for another audience, not valid at this time, or
    names no tenant or no user.
    """
    if claims.get("iss") != settings.issuer:
        raise refused("is of another issuer")
    audience = claims.get("aud")
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        raise refused("is for another audience")
    expires_at = _period_of(claims, settings.issuer, now / 1000)
    jti, table = claims.get("jti"), settings.claims
    roles = _roles_in(claims, table)
    return Identity(
        _name_at(claims, "tenant", table.tenant),
        _name_at(claims, "user", table.user),
        MANAGER in roles,
        _scopes_in(claims, table, roles),
        math.floor(expires_at * 1000),
        None if jti is None else _name("jti", jti),
    )


def refused(why: str) -> Unauthorized:
    """Returns the error of a token that is not accepted."""
    return Unauthorized(f"the token {why}; get one that this platform accepts from its issuer")


def _period_of(claims: Mapping[str, Any], issuer: str, now: float) -> float:
    expires_at = _time_at(claims, "exp")
    if expires_at is None:
        raise refused("never expires: it has no exp")
    if expires_at <= now:
        raise Unauthorized(f"the token has expired; get a new one from {issuer}")
    for name in ("nbf", "iat"):
        begins_at = _time_at(claims, name)
        if begins_at is not None and begins_at > now + LEEWAY:
            raise refused(f"is not valid yet: its {name} is {begins_at - now:.0f} s ahead")
    return expires_at


def _time_at(claims: Mapping[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None and name not in claims:
        return None
    # bool is an int, and every comparison with NaN is false.
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= _LATEST:
        raise refused(f"has an {name} that is no time in seconds")
    return found


def _name_at(claims: Mapping[str, Any], what: str, place: str) -> str:
    found = claim_at(claims, place)
    if found is None:
        # Never taken as all tenants, or all users.
        raise refused(f"names no {what}: it has no claim {place}")
    return _name(place, found)


def _name(place: str, found: Any) -> str:
    try:
        return check_name(place, found)
    except InvalidName as error:
        raise refused(f"names nobody: {error.message}") from None


def claim_at(claims: Mapping[str, Any], place: str) -> Any:
    """Returns a claim by its name, or by a JSON Pointer (RFC 6901); None if it is not there."""
    if not place.startswith("/"):
        return claims.get(place)
    found: Any = claims
    for part in place[1:].split("/"):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part.replace("~1", "/").replace("~0", "~"))
    return found


def _roles_in(claims: Mapping[str, Any], table: ClaimTable) -> set[str]:
    """Returns the roles that a token may have. Others are for other applications."""
    found = claim_at(claims, table.role)
    names = found if isinstance(found, list) else [found]
    return {name for name in names if isinstance(name, str) and name in _TOKEN_ROLES}


def _scopes_in(claims: Mapping[str, Any], table: ClaimTable, roles: set[str]) -> frozenset[str]:
    """Returns what a token permits: its scopes, within its roles if it has any.

    A user delegates with a scope no more than his role permits. Scopes of others, such as `openid`,
    are ignored: they neither permit nor narrow anything.
    """
    found = claim_at(claims, table.scope)
    names = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    scopes = frozenset(name for name in names if isinstance(name, str)) & _TOKEN_SCOPES
    if not roles:
        return scopes
    permitted = frozenset[str]().union(*(_TOKEN_ROLES[name] for name in roles))
    return permitted & scopes if scopes else permitted
