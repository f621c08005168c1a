"""Which network addresses may be connected to: public ones, private ones with an operator's consent, some never.

One policy for both places that judge an address: keys, when an operator writes a base URL, and the edge, each time a
name resolves. An IPv6 address that carries an IPv4 address is judged as that one.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Class = Literal["public", "private", "forbidden"]
"""`private` is all that is not public unicast; `forbidden` is never connected to, with or without consent."""

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""RFC 6052 and RFC 8215: the last 32 bits are an IPv4 address, which a translator connects to."""
_METADATA: Final = (
    ip_network("fd00:ec2::254/128"),  # Amazon's; the IPv4 ones are link-local
    ip_network("168.63.129.16/32"),  # Azure's, a public address
)
_PRIVATE: Final = (
    ip_network("100.64.0.0/10"),  # RFC 6598: carrier-grade NAT, where several clouds keep internal services
    ip_network("192.88.99.0/24"),  # RFC 7526: 6to4 relays, deprecated
    ip_network("fec0::/10"),  # RFC 3879: site-local, deprecated
)
"""What `ipaddress` counts as global, or did in some Python version, though it may lead inside."""
_BROADCAST: Final = IPv4Address("255.255.255.255")


def classify(address: IPv4Address | IPv6Address) -> Class:
    """Return what may be done with an address. Link-local, multicast, broadcast, unspecified and the clouds' metadata
    addresses are `forbidden`: a metadata service answers with credentials."""
    ip = unwrapped(address)
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip == _BROADCAST:
        return "forbidden"
    if any(ip in network for network in _METADATA):
        return "forbidden"
    if not ip.is_global or ip.is_reserved or any(ip in network for network in _PRIVATE):
        return "private"
    return "public"


def allowed(text: str, *, allow_insecure: bool = False) -> bool:
    """Return whether a resolved address may be connected to. `allow_insecure` is an operator's consent to private ones.
    A text that is no address is not allowed."""
    try:
        found = classify(ip_address(text))
    except ValueError:
        return False
    return found == "public" or (allow_insecure and found == "private")


def unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address carries, if it does: mapped (RFC 4291), 6to4 (RFC 3056), Teredo
    (RFC 4380) or NAT64."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if any(ip in network for network in _NAT64):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
