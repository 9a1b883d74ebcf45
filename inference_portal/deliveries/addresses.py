"""Which addresses the courier may call: public ones, and those of the networks that the operator has allowed.

A name is resolved once for each try, every address that it has is checked, and the connection goes to an address that
was checked: a DNS answer that changes in between changes nothing.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from requests_hardened.ip_filter import EXTRA_BLOCKED_NET_RANGES

from inference_portal.deliveries.models.endpoint import MAX_URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Whatever hides an IPv4 address in an IPv6 one; the ranges of the library cover NAT64 and 6to4.
_HIDING = tuple(ipaddress.ip_network(each) for each in ("::/96", "2001::/32", "fec0::/10"))
# Looks public, and is what a machine in Azure asks about itself.
_METADATA = ipaddress.ip_network("168.63.129.16/32")


class Forbidden(ValueError):
    """The courier may not call this address; the text says why."""


def check_url(url: str) -> None:
    """Raise Forbidden for what is no address of a receiver, without asking any DNS. Names are checked at each call."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or not 1 <= len(url) <= MAX_URL:
        raise Forbidden(f"expected a URL of at most {MAX_URL:,} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Forbidden(f"expected a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Forbidden("expected http:// or https:// and a host")
    if "@" in parts.netloc:
        raise Forbidden("a URL with a user name or a password isn't called")
    if parts.fragment:
        raise Forbidden("leave out the part behind #, it is never sent")
    try:
        literal = socket.getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except UnicodeError as error:
        raise Forbidden("the host is no name that a DNS could know") from error
    except OSError as error:
        if ":" in parts.hostname:
            raise Forbidden("the host can't be read") from error
        # A name.
        return
    check_addresses(str(found[4][0]) for found in literal)


def check_addresses(texts: Iterable[str]) -> list[str]:
    """Return them. Raises Forbidden if there is none, or one that is neither public nor in an allowed network."""
    addresses = [_plain(text) for text in texts]
    if not addresses:
        raise Forbidden("the host has no address")
    for address in addresses:
        if not (_is_allowed(address) or is_public(address)):
            raise Forbidden(f"{address} isn't a public address")
    return list(dict.fromkeys(map(str, addresses)))


def is_public(address: Address) -> bool:
    """Tell whether an address is reached through the Internet, and means one host there."""
    special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
    blocked = (*EXTRA_BLOCKED_NET_RANGES, *_HIDING, _METADATA)
    return not special and not any(address in network for network in blocked if network.version == address.version)


def _plain(text: str) -> Address:
    """Read an address; an IPv4 one that was mapped into IPv6 is what it hides."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_allowed(address: Address) -> bool:
    networks = [ipaddress.ip_network(text.strip(), strict=False) for text in settings.WEBHOOK_ALLOWED_NETWORKS]
    return any(address in network for network in networks if network.version == address.version)
