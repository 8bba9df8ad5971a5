"""Which addresses a webhook may have: public addresses, so no tenant reaches our own network.

The name of a host may stand for another address each time. So the address is checked where the
connection is made, on the address that is connected to.
"""

import ipaddress
import socket
from typing import Any, Final
from urllib.parse import urlsplit

_NEVER: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
    )
)
"""Addresses of IPv6 that count as not public. Some contain an address of IPv4, which may be a
private address. The others are for use inside a site."""


class AddressRefused(OSError):
    """The address is not public."""


class UrlRefused(ValueError):
    """A webhook cannot have this URL. The message says why."""


def is_public(host: str) -> bool:
    """Whether an IP address is one of the public internet."""
    address = ipaddress.ip_address(host)
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _NEVER)
    )


def require_url(url: str, *, private: bool) -> None:
    """Raises UrlRefused. With `private` the URL may use http and lead to any address."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UrlRefused("The URL cannot be read.") from None
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise UrlRefused("The URL must begin with https://")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise UrlRefused("The URL must name a host, and have no user, password or fragment.")
    try:
        public = is_public(host)
    except ValueError:
        return  # a name: its addresses are checked when they are connected to
    if not (public or private):
        raise UrlRefused("The URL must lead to a public address.")


def public_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for a connection to this address. Raises AddressRefused."""
    family, kind, protocol, _, (host, *_) = address
    if not is_public(host):
        raise AddressRefused("the address is not public")
    return socket.socket(family, kind, protocol)
