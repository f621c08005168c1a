"""Which addresses may be connected to, and that keys and the edge judge them alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.keys.core.base_url import base_url
from keyforge.net.addresses import allowed


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert allowed(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe", "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "192.0.2.1", "203.0.113.9", "240.0.0.1", "2001:db8::1", "fec0::1", "192.88.99.1",
    ],
)  # fmt: skip
def test_what_leads_inside_needs_the_operators_word(address: str) -> None:
    assert not allowed(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "::ffff:127.0.0.1"])
def test_with_the_operators_word_private_addresses_are_allowed(address: str) -> None:
    assert allowed(address, allow_insecure=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:5601:5601", "2001:0:4136:e378:8000:63bf:57c0:7eef",
        "168.63.129.16", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
        "255.255.255.255", "", "localhost", "127.1", "0x7f000001", "2130706433", "1.1.1.1 ", "1.1.1.1:443",
    ],
)  # fmt: skip
def test_never(address: str) -> None:
    assert not allowed(address)
    assert not allowed(address, allow_insecure=True)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_judged_as_itself(address) -> None:  # type: ignore[no-untyped-def]
    assert allowed(f"::ffff:{address}") == allowed(str(address))


@given(st.text(max_size=50), st.booleans())
def test_any_text_has_an_answer(text: str, word: bool) -> None:
    assert allowed(text, allow_insecure=word) in (True, False)


@given(st.ip_addresses())
def test_a_base_url_and_a_connection_are_judged_alike(address) -> None:  # type: ignore[no-untyped-def]
    """What keys takes from an operator is what an edge will dial, and nothing else."""
    host = f"[{address}]" if address.version == 6 else str(address)
    for consent in (False, True):
        kept = base_url(f"https://{host}", allow_insecure=consent)
        assert isinstance(kept, str) == allowed(str(address), allow_insecure=consent)
