"""Which network addresses a provider's name may lead to: none that reaches back into our own networks."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

# Beyond what `is_global` refuses: translation prefixes that carry any IPv4 address inside, and the metadata services.
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_METADATA: Final = (
    ip_network("fd00:ec2::254/128"),  # Amazon's; the IPv4 ones are link-local
    ip_network("168.63.129.16/32"),  # Azure's, a public address
)
_REFUSED: Final = (
    ip_network("100.64.0.0/10"),  # carrier-grade NAT, where several clouds keep theirs
    ip_network("192.88.99.0/24"),  # 6to4 relays
    ip_network("fec0::/10"),  # site-local, old
)


def allowed(address: str, *, allow_insecure: bool = False) -> bool:
    """Say whether a resolved address may be connected to.

    Public unicast only; with `allow_insecure` (an operator's word for this origin) loopback and private too, but never
    link-local or metadata addresses (where clouds answer with credentials), multicast, broadcast or unspecified.
    What is no address is not allowed.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    ip = _unwrapped(ip)
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or str(ip) == "255.255.255.255":
        return False
    if any(ip in network for network in _METADATA):
        return False
    if allow_insecure:
        return True
    return ip.is_global and not ip.is_reserved and not any(ip in network for network in _REFUSED)


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
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
