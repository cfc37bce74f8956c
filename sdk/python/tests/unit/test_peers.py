"""The client behind proxies: the header X-Forwarded-For, read only as far as it can be believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.errors import InvalidRequest
from soorma_platform.http.peers import TrustedProxies, address_of

pytestmark = pytest.mark.behaviour("security.proxies")

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"])


def client(peer: str, *forwarded_for: str) -> str:
    address = address_of(peer)
    assert address is not None
    return str(PROXIES.client_of(address, forwarded_for))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "found"),
    [
        # without a proxy the header means nothing
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("2001:db8:2::1", ["198.51.100.1"], "2001:db8:2::1"),
        # one proxy
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.7", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.8", ["203.0.113.9"], "192.0.2.8"),
        # what its client has invented stands left
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["127.0.0.1, 10.0.0.9, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["unknown, 203.0.113.9"], "203.0.113.9"),
        # several proxies
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2,192.0.2.7"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", "10.0.0.2", "192.0.2.7"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # IPv6, and both families on one socket
        ("2001:db8:1::5", ["2001:DB8:2:0::9"], "2001:db8:2::9"),
        ("2001:db8:1::5", ["203.0.113.9, 2001:db8:1:ffff::"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        # with ports and brackets, as some proxies write it
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:2::9]:4711"], "2001:db8:2::9"),
        ("10.0.0.1", ["[2001:db8:2::9]"], "2001:db8:2::9"),
        ("10.0.0.1", ["\t203.0.113.9 "], "203.0.113.9"),
        # malformed: it is the proxy that passes it on, and nothing left of it counts
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.256"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, 010.0.0.2"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8:2::9"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8:2::9]x"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:port"], "10.0.0.1"),
        ("10.0.0.1", ["for=203.0.113.9"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9;10.0.0.2"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_no_proxy(
    peer: str, forwarded_for: list[str], found: str
) -> None:
    assert client(peer, *forwarded_for) == found


ADDRESSES = st.one_of(st.ip_addresses(), st.just(ipaddress.ip_address("10.0.0.2")))


@given(st.lists(ADDRESSES | st.text(max_size=20)), ADDRESSES)
def test_a_client_cannot_choose_its_address(
    invented: list[object], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    seen = address_of(str(address))
    if PROXIES.include(seen):
        return
    appended = ", ".join([*map(str, invented), str(address)])
    assert client("10.0.0.1", appended) == str(seen)
    assert client("10.0.0.1", appended, "10.9.9.9") == str(seen)


def test_many_hops_take_no_time() -> None:
    assert client("10.0.0.1", ",".join(["10.0.0.2"] * 8000)) == "10.0.0.2"


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize(
    "text", ["", "proxy", "10.0.0.1/8", "10.0.0.0/33", "*", "0.0.0.0/0", "::/0", "10.0.0.1:80"]
)
def test_what_names_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="SOORMA_TRUSTED_PROXIES"):
        TrustedProxies(["192.0.2.7", text])
