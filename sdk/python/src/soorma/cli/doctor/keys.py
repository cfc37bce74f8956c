"""Checks of keys: that the platform takes the one that is used here, and that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from soorma.cli.doctor.agents import asked, duration
from soorma.cli.doctor.finding import Finding, ok, problem, warning
from soorma.cli.doctor.scene import Scene
from soorma_common.terminal import plain

SOON = timedelta(days=14)
LONG = timedelta(days=90)
MOST_KEYS = 1_000
MOST_NAMED = 5
MANY = 100
"""Requests without a valid credential that say nothing yet."""


def own_key(scene: Scene) -> Iterator[Finding]:
    """Finds out whether the platform is closed, and what the key that is used here permits."""
    who = yield from asked(scene, "identity", "key", "/v1/identity/whoami")
    if who is None:
        return
    if who.get("is_open"):
        yield ok("key", "the platform is open: it believes what it is told, and asks for none")
        return
    key = who.get("key") or {}
    told = plain(f"{key.get('name')} ({key.get('role') or ', '.join(who['scopes'])})")
    if "platform:read" in who["scopes"]:
        yield ok("key", told)
    else:
        yield warning(
            "key",
            f"{told} may not read metrics and details, so that some checks see less",
            "set SOORMA_API_KEY to a key of role operator or viewer",
        )


def kept_keys(scene: Scene) -> Iterator[Finding]:
    """Finds keys that expire soon, and those that nobody has used for long."""
    who = yield from asked(scene, "identity", "keys", "/v1/identity/whoami")
    if who is None or who.get("is_open") or "identity:read" not in who["scopes"]:
        return
    found = yield from asked(scene, "identity", "keys", "/v1/identity/keys", limit=MOST_KEYS)
    if found is None:
        return
    now = datetime.now(UTC)
    valid = [key for key in found["keys"] if _is_valid(key, now)]
    expiring = [key for key in valid if _time(key, "expires_at", now + LONG) - now < SOON]
    unused = [key for key in valid if now - _last_seen(key, now) > LONG]
    if expiring:
        yield warning(
            "keys",
            f"{_named(expiring)} will expire within {SOON.days} days",
            "soorma keys rotate prolongs none: create new ones with soorma keys create",
        )
    if unused:
        yield warning(
            "keys",
            f"{_named(unused)} was not used for {LONG.days} days",
            "revoke what nobody needs: soorma keys revoke KEY",
        )
    if not expiring and not unused:
        yield ok("keys", f"{len(valid)} valid")


def _is_valid(key: Mapping[str, Any], now: datetime) -> bool:
    return key.get("revoked_at") is None and _time(key, "expires_at", now + LONG) > now


def _last_seen(key: Mapping[str, Any], now: datetime) -> datetime:
    return _time(key, "last_used_at", _time(key, "created_at", now))


def _time(key: Mapping[str, Any], field: str, otherwise: datetime) -> datetime:
    text = key.get(field)
    return otherwise if text is None else datetime.fromisoformat(text)


def _named(keys: list[Mapping[str, Any]]) -> str:
    names = ", ".join(f"{key['name']} ({key['id']})" for key in keys[:MOST_NAMED])
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return plain(f"{names}{more}")


def issuer(scene: Scene) -> Iterator[Finding]:
    """Finds out whether the keys of the issuer of tokens can be fetched."""
    known = scene.metric("soorma_issuer_keys").get("", 0.0)
    seconds = scene.metric("soorma_issuer_failing_seconds").get("", 0.0)
    if not known and not seconds:
        return  # there is no issuer
    if not seconds:
        yield ok("issuer", f"{known:.0f} keys of the issuer are known")
        return
    advice = "see the platform's log, `keys of the issuer not fetched`, and SOORMA_OIDC_ISSUER"
    if known:
        told = f"its keys cannot be fetched since {duration(seconds)}; {known:.0f} are known"
        yield warning("issuer", told, advice)
    else:
        told = f"no key of it is known, as none can be fetched since {duration(seconds)}"
        yield problem("issuer", f"{told}: no token is accepted", advice)


def refusals(scene: Scene) -> Iterator[Finding]:
    """Reports which quotas were used up, and whether many come without a valid credential."""
    used_up = {
        limit: count
        for limit, count in scene.metric("soorma_too_many_requests_total").items()
        if count
    }
    for limit, count in used_up.items():
        yield warning(
            "quotas",
            f"the quota of {limit} of a tenant was used up {count:,.0f} times since the start",
            f"if that is wanted, nothing; else raise SOORMA_QUOTA_{limit.upper()}",
        )
    refused = scene.metric("soorma_unauthorized_total").get("", 0.0)
    admitted = sum(scene.metric("soorma_credentials_used_total").values())
    if refused > MANY and refused > admitted:
        yield warning(
            "attempts",
            f"{refused:,.0f} requests came without a valid credential since the start, and "
            f"{admitted:,.0f} with one",
            "the platform's log names the address that most came from, once a minute",
        )


CHECKS = (own_key, kept_keys, issuer, refusals)
