"""Peers: the address at the other end of a connection, and the client behind proxies.

A proxy appends the address that it was called from to the header X-Forwarded-For. Whatever stands
left of that was sent by its caller, who may have invented it. So the header is read from the right,
and only as far as it was written by proxies that the settings name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from soorma_common.errors import InvalidRequest
from soorma_platform.listening import PROXIES_SETTING

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HOP = re.compile(
    r"\[(?P<bracketed>[^\[\]]+)\](?::[0-9]{1,5})?|(?P<v4>[0-9.]+)(?::[0-9]{1,5})?|(?P<bare>[^\[\]]+)"
)


def address_of(text: str) -> Address | None:
    """Returns the address that a text is, None if it is none; each address has one spelling.

    A socket for both families shows IPv4 as `::ffff:192.0.2.1`. A zone, as in `fe80::1%eth0`, is
    left out.
    """
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


class TrustedProxies:
    """The addresses and networks of proxies whose headers are believed.

    Raises InvalidRequest, which names the setting, if one is neither, or would be everybody.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._networks = tuple(_network(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def include(self, peer: Address | None) -> bool:
        """Returns True if the peer is one of these."""
        return peer is not None and any(peer in network for network in self._networks)

    def client_of(self, peer: Address, forwarded_for: Iterable[str]) -> Address:
        """Returns the client of a request, from the values of its headers X-Forwarded-For in order.

        It is the right-most hop that is not one of these proxies, the peer included; if all are,
        the left-most. An entry that is no address says nothing, and nothing left of it counts: then
        it is the proxy that has passed it on.
        """
        hops = [hop for value in forwarded_for for hop in value.split(",")]
        client = peer
        while hops and self.include(client):
            found = _address_of_hop(hops.pop().strip(" \t"))
            if found is None:
                break
            client = found
        return client


def _address_of_hop(hop: str) -> Address | None:
    """Returns the address of an entry; some proxies add the port."""
    found = _HOP.fullmatch(hop)
    return None if found is None else address_of(found[found.lastgroup or ""])


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{PROXIES_SETTING} lists addresses and networks such as 192.0.2.7 or 10.0.0.0/8, "
            f"separated by commas, not {text[:80]!r}: {error}"
        ) from None
    if not network.prefixlen:
        raise InvalidRequest(
            f"{PROXIES_SETTING} must not be everybody ({text}), as who is trusted may claim any "
            "address; name the proxies"
        )
    return network
