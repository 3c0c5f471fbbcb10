import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.address import AddressPolicy, embedded_v4, parse_network, port_refusal
from openwit.schemas.common.errors import OpenWITError

POLICY = AddressPolicy()


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::5"])
def test_global_unicast_is_allowed(address: str) -> None:
    assert POLICY.refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "64:ff9b:1::1",
        "fec0::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "not an address",
        "",
    ],
)
def test_everything_else_is_refused(address: str) -> None:
    assert POLICY.refusal(address)


def test_forms_that_embed_a_global_address_are_allowed() -> None:
    for form in ("::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"):
        assert POLICY.refusal(form) is None


def test_allowed_networks_cover_embedded_forms_and_nothing_more() -> None:
    policy = AddressPolicy(["127.0.0.0/8"])
    assert policy.allows("127.0.0.1")
    assert policy.allows("::ffff:127.0.0.1")
    assert not policy.allows("10.0.0.1")
    assert not policy.allows("::1")
    assert AddressPolicy(["::1"]).allows("::1")


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(OpenWITError, match="'127.0.0/8x' is not a network"):
        AddressPolicy(["127.0.0/8x"])


@given(st.integers(0, 2**32 - 1))
def test_mapped_form_is_judged_as_what_it_embeds(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    assert embedded_v4(mapped) == plain
    assert POLICY.allows(str(plain)) == POLICY.allows(str(mapped))


@given(st.integers(0, 2**32 - 1))
def test_nothing_that_the_standard_library_calls_private_is_allowed(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    if POLICY.allows(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.integers(0, 2**128 - 1))
def test_allowed_ipv6_is_global_unicast(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if POLICY.allows(str(address)) and embedded_v4(address) is None:
        assert address in ipaddress.IPv6Network("2000::/3")


def test_ports_of_other_protocols_are_refused() -> None:
    assert port_refusal(25)
    assert port_refusal(6379) is None
    assert port_refusal(80) is None
    assert port_refusal(8443) is None


def test_a_bare_address_is_a_network_of_one() -> None:
    assert parse_network("10.0.0.1").num_addresses == 1
