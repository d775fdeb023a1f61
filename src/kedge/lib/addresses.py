"""Addresses of IPv6 and of IPv4: what to listen on, how one stands before a port, what peers have.

Standard library only.
"""

from __future__ import annotations

import socket

IPV4, IPV6 = "IPv4", "IPv6"
"""What Kubernetes calls the families."""
_MAPPED = "::ffff:"


def any_address() -> str:
    """What a listener binds to be reached at every address: of IPv6 and IPv4, where the machine has
    both; else of IPv4. A socket for `::` is to have its option `IPV6_V6ONLY` off."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def make_bound(address: str, port: int) -> socket.socket:
    """A TCP socket that does not listen yet; `::` is every address of IPv4, too.

    Raises:
        OSError: somebody has the port, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Naming TCP makes asyncio send small answers at once (uvloop always does).
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            # Otherwise the machine decides (net.ipv6.bindv6only).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def join(host: str, port: int | str) -> str:
    """`HOST:PORT`; an address of IPv6 stands in brackets."""
    return f"{bracket(host)}:{port}"


def bracket(host: str) -> str:
    """A host as it stands in a URL: an address of IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def has_port(target: str) -> bool:
    """Whether a `HOST` or `HOST:PORT` has a port; a bare address of IPv6 has none."""
    if target.startswith("["):
        return "]:" in target
    return target.count(":") == 1


def canonical(address: str) -> str:
    """An address as it is mostly written; anything else as it is."""
    if ":" not in address:
        return address
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
    except OSError:
        return address


def plain(address: str) -> str:
    """A peer's address: of IPv4, where it came by IPv4 to a socket of both."""
    return address[len(_MAPPED) :] if address.startswith(_MAPPED) and "." in address else address
