"""Where a platform may listen, and what it needs for it.

Whoever reaches an open platform is believed, so it listens on loopback. Keys must not be read on
the way to a closed one, so elsewhere it serves TLS or is behind a proxy that does, and it is told
the names by which it is called.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Protocol

from soorma_common.errors import InvalidRequest

CERT_SETTING, KEY_SETTING = "SOORMA_TLS_CERT", "SOORMA_TLS_KEY"
PROXIES_SETTING = "SOORMA_TRUSTED_PROXIES"
HOSTS_SETTING = "SOORMA_PUBLIC_HOSTS"


class Listening(Protocol):
    """The settings that say where a platform listens, and how."""

    @property
    def host(self) -> str: ...
    @property
    def access(self) -> str: ...
    @property
    def tls_cert(self) -> Path | None: ...
    @property
    def tls_key(self) -> Path | None: ...
    @property
    def trusted_proxies(self) -> tuple[str, ...]: ...
    @property
    def public_hosts(self) -> tuple[str, ...]: ...


def is_loopback(host: str) -> bool:
    """Returns True if whoever listens there is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_at(settings: Listening, port: int) -> str:
    """Returns the base address of a port.

    If TLS is served off loopback, it has the first public name, for which the certificate is.
    """
    host = settings.host
    if settings.tls_cert is not None and settings.public_hosts and not is_loopback(host):
        from soorma_platform.http.hosts import PublicHosts  # noqa: PLC0415 - as below

        host = PublicHosts(settings.public_hosts).hosts[0].name
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_listening(settings: Listening) -> None:
    """Raises InvalidRequest, which names the setting, if a platform may not listen like this."""
    if settings.trusted_proxies or settings.public_hosts:
        # Imported only with these: the command reads the settings too, and needs no HTTP for it.
        from soorma_platform.http.hosts import PublicHosts  # noqa: PLC0415
        from soorma_platform.http.peers import TrustedProxies  # noqa: PLC0415

        TrustedProxies(settings.trusted_proxies)
        PublicHosts(settings.public_hosts)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing = CERT_SETTING if settings.tls_cert is None else KEY_SETTING
        raise InvalidRequest(f"{CERT_SETTING} and {KEY_SETTING} go together: {missing} is missing")
    if is_loopback(settings.host):
        return
    if settings.access == "open":
        raise InvalidRequest(
            f"an open platform listens on loopback only, not on {settings.host!r}, as it takes "
            "everybody at their word; use 127.0.0.1, ::1 or localhost, or start it closed, with "
            "keys: soorma serve"
        )
    _check_elsewhere(settings)


def _check_elsewhere(settings: Listening) -> None:
    try:
        ipaddress.ip_address(settings.host)
    except ValueError:
        raise InvalidRequest(
            f"SOORMA_HOST must be localhost or an address to listen on, such as 0.0.0.0, not "
            f"{settings.host!r}"
        ) from None
    missing = []
    if settings.tls_cert is None and not settings.trusted_proxies:
        missing.append(
            f"{CERT_SETTING} and {KEY_SETTING} (PEM files), or {PROXIES_SETTING} (the proxies that "
            "serve TLS for it)"
        )
    if not settings.public_hosts:
        missing.append(f"{HOSTS_SETTING} (the names by which it is called)")
    if missing:
        raise InvalidRequest(
            f"to listen on {settings.host!r}, off loopback, set {'; and '.join(missing)}"
        )
