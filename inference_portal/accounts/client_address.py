"""Where a request comes from, as far as that can be believed."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# Whoever has one IPv6 address has all those of its network, and would be a new client with each.
IPV6_NETWORK_BITS = 64
# Over a socket in the file system there is no address.
NOWHERE = "::"


def client_address(request: HttpRequest) -> str:
    """Return the address of the connection, or the one that a proxy of TRUSTED_PROXIES reports; of IPv6 the network.

    X-Forwarded-For is read from its end, where the trusted proxies have written: what stands before that comes from
    the client, who may write what he likes.
    """
    trusted = [ip_network(text) for text in settings.TRUSTED_PROXIES]
    reported = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    found: IPv4Address | IPv6Address | None = None
    for text in (request.META.get("REMOTE_ADDR", ""), *reversed(reported)):
        address = _address(text)
        if address is None:
            break
        found = address
        if not any(address in network for network in trusted):
            break
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), IPV6_NETWORK_BITS), strict=False).network_address)
    return NOWHERE if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
