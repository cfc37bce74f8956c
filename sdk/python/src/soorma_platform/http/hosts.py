"""Names of hosts: in the header Host, in Origin, and in the settings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from soorma_common.errors import InvalidRequest
from soorma_platform.listening import HOSTS_SETTING

LONGEST_HOST = 300
"""More than any name with its port has: a name of DNS has at most 253 characters."""
DEFAULT_PORTS = {"http": 80, "https": 443}
HIGHEST_PORT = 65_535

_FORM = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?))"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]+)")


class HostName(NamedTuple):
    """A host: its name in lower case, or its address without brackets; its port, if one is named.

    Names are compared as they are: `a.example` and `a.example.` differ.
    """

    name: str
    port: int | None = None

    def port_for(self, scheme: str) -> int:
        """Returns its port, else that of the scheme, http or https."""
        return DEFAULT_PORTS[scheme] if self.port is None else self.port

    @property
    def is_loopback(self) -> bool:
        """True for `localhost` and the addresses of loopback."""
        if self.name == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.name).is_loopback
        except ValueError:
            return False


def host_of(text: str) -> HostName | None:
    """Returns the host that a text such as `a.example:8443` or `[::1]` names; None if none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and port > HIGHEST_PORT:
        return None
    if found["v6"] is None:
        return HostName(found["name"].lower(), port)
    try:
        return HostName(str(ipaddress.IPv6Address(found["v6"])), port)
    except ValueError:
        return None


def is_origin(text: str, scheme: str, host: HostName) -> bool:
    """Returns True if an Origin is that of a host, called by the scheme http or https."""
    found = _ORIGIN.fullmatch(text)
    if found is None or found["scheme"] != scheme:
        return False
    origin = host_of(found["host"])
    return origin is not None and (origin.name, origin.port_for(scheme)) == (
        host.name,
        host.port_for(scheme),
    )


class PublicHosts:
    """The names by which others call the platform; one without a port is meant with any.

    Raises InvalidRequest, which names the setting, if one is no name of a host.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.hosts = tuple(_public(text) for text in texts)

    def include(self, host: HostName, scheme: str) -> bool:
        """Returns True if a host, called by the scheme http or https, is one of these."""
        return host.name in self._with_any_port or (
            HostName(host.name, host.port_for(scheme)) in self._with_port
        )

    @cached_property
    def _with_any_port(self) -> frozenset[str]:
        return frozenset(host.name for host in self.hosts if host.port is None)

    @cached_property
    def _with_port(self) -> frozenset[HostName]:
        return frozenset(host for host in self.hosts if host.port is not None)


def _public(text: str) -> HostName:
    host = host_of(text)
    if host is None:
        raise InvalidRequest(
            f"{HOSTS_SETTING} lists names such as soorma.example.com or soorma.example.com:8443, "
            f"separated by commas, not {text[:80]!r}"
        )
    return host
