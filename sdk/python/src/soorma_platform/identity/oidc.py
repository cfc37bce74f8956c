"""The settings of an OpenID Connect issuer, whose tokens are credentials of this platform."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import msgspec

from soorma_common.errors import InvalidRequest

PREFIX = "SOORMA_OIDC_"
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519", "Ed448",
)  # fmt: skip
"""The algorithms of signatures that may be allowed (RFC 7518, RFC 9864).

Each of them verifies with a public key. `none` verifies nothing, and who can verify with HS256 can
sign with it.
"""


class ClaimTable(msgspec.Struct, frozen=True):
    """The claims that say for whom a token is, and what it permits.

    One that begins with `/` is a JSON Pointer (RFC 6901) into nested claims.
    """

    tenant: str = "tenant_id"
    user: str = "sub"
    role: str = "role"
    scope: str = "scope"


class OidcSettings(msgspec.Struct, frozen=True):
    """An issuer, and which of its tokens are accepted.

    Without `jwks_url`, the issuer's discovery document says where its keys are.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwks_url: str = ""
    claims: ClaimTable = ClaimTable()

    def __post_init__(self) -> None:
        """Refuses what is missing or unsafe; the error names the variable."""
        for name in ("issuer", "audience"):
            if not getattr(self, name):
                raise InvalidRequest(
                    f"{PREFIX}{name.upper()} is missing: tokens are accepted of one issuer, for "
                    "one audience"
                )
        if check_url(f"{PREFIX}ISSUER", self.issuer).query:
            raise InvalidRequest(f"{PREFIX}ISSUER is an address without a query")
        if self.jwks_url:
            check_url(f"{PREFIX}JWKS_URL", self.jwks_url)
        if not self.algorithms:
            raise InvalidRequest(f"{PREFIX}ALGORITHMS must name one algorithm at least")
        for algorithm in self.algorithms:
            if algorithm not in ALGORITHMS:
                raise InvalidRequest(
                    f"{PREFIX}ALGORITHMS may name {', '.join(ALGORITHMS)}, which verify with a "
                    f"public key, not {algorithm[:40]!r}"
                )
        for name in self.claims.__struct_fields__:
            if not getattr(self.claims, name):
                raise InvalidRequest(f"{PREFIX}CLAIM_{name.upper()} must name a claim")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> OidcSettings | None:
        """Reads SOORMA_OIDC_… variables; returns None if they name no issuer, audience or keys.

        Raises InvalidRequest, which names the variable, if one is invalid or missing.
        """
        found = {
            name: text
            for name in ("issuer", "audience", "jwks_url", "algorithms")
            if (text := env.get(f"{PREFIX}{name.upper()}", "").strip())
        }
        claims = {
            name: text
            for name in ClaimTable.__struct_fields__
            if (text := env.get(f"{PREFIX}CLAIM_{name.upper()}", "").strip())
        }
        if not found.keys() - {"algorithms"}:
            return None
        algorithms = tuple(name.strip() for name in found.pop("algorithms", "").split(","))
        return cls(
            found.get("issuer", ""),
            found.get("audience", ""),
            algorithms if any(algorithms) else cls.__struct_defaults__[0],
            found.get("jwks_url", ""),
            ClaimTable(**claims),
        )


def check_url(setting: str, url: str) -> SplitResult:
    """Returns the parts of an address; raises InvalidRequest if no key may be fetched from it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _no_address(setting) from None
    if host is None or not url.isprintable() or " " in url:
        raise _no_address(setting)
    if parts.username or parts.password or parts.fragment:
        raise InvalidRequest(f"{setting} holds no user, password or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidRequest(
            f"{setting} must be https off loopback: who can change the keys on the way can sign "
            "tokens"
        )
    return parts


def _no_address(setting: str) -> InvalidRequest:
    return InvalidRequest(f"{setting} must be an address such as https://host/path")


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine by its name alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
