"""Whom an address stands for, where somebody's tries are counted."""

from ipaddress import IPv6Address, IPv6Network, ip_address


def network_of(text: str) -> str | None:
    """The address; of an IPv6 address only its network, as a household has 2^64 addresses to try from. None when it is
    no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address), 64), strict=False).network_address)
    return str(address)
