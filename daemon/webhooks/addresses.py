"""Which addresses an event may be sent to: whoever can have Dropframe call an address must not reach what it can reach.

It is the address that a name resolves to that is looked at, and that is then connected to, so neither an odd spelling
nor a name that resolves to something else a moment later gets past.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",  # link-local, and the metadata of most clouds
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/128",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
            # What a translator in between may make an IPv4 address of: the local prefix, and the "translated" form.
            "64:ff9b:1::/48",
            "::ffff:0:0:0/96",
            # Documentation and segment routing, which this Python may take for public.
            "3fff::/20",
            "5f00::/16",
            # Metadata at addresses of other kinds: Alibaba, Oracle, Azure, AWS and Google over IPv6.
            "100.100.100.200/32",
            "192.0.0.192/32",
            "168.63.129.16/32",
            "fd00:ec2::/32",
            "fd20:ce::254/128",
        ),
    )
)
"""Never told of anything: link-local, metadata of clouds, multicast, and what is not an address of anybody."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
"""IPv4 addresses in IPv6 as they were written once; ``::`` and ``::1`` are not of these."""


class Target(NamedTuple):
    """An address of a socket."""

    family: int
    sockaddr: tuple[Any, ...]


Resolve = Callable[[str, int], list[Target]]


def resolve(host: str, port: int) -> list[Target]:
    """Return the addresses of a host.

    Raises:
        OSError: it has none, or that cannot be found out just now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:  # a part of the name is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, "not a name of a host") from error
    return [Target(family, sockaddr) for family, _, _, _, sockaddr in found]


def refusal(address: str, allow_private: bool) -> str | None:
    """Say why an event may not be sent to an address, as the end of a sentence; None if it may.

    Args:
        address: In numbers, as a socket has it.
        allow_private: Whether it may be on this machine or in a private network.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    for meant in (ip, *_within(ip)):
        if any(meant in network for network in NEVER):
            return "which is link-local, a cloud's metadata service or no host at all"
        mapped = meant.version == 6 and meant.ipv4_mapped is not None  # the address within says what it is
        if not (meant.is_global or mapped or allow_private):
            return "which is not public; set allow_private if it is meant"
    return None


def _within(ip: Address) -> list[Address]:
    """Return the IPv4 addresses that packets to an IPv6 address end at, as far as it says so."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found: list[Address | None] = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
    return [address for address in found if address is not None]
