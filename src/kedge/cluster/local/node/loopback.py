"""Makes a network this machine's own, as 127/8 is: one address with its prefix on `lo`.

An API server refuses loopback addresses as endpoints, whoever can reach them. What it takes need
not be on a wire: `ip address add 198.18.7.1/24 dev lo` has every address of that network answered
by this machine. It is asked of the kernel over netlink, and needs CAP_NET_ADMIN; where that is
missing, somebody who has it can do it once.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

from kedge.cluster.local.node.addresses import port_is_free
from kedge.lib.errors import KedgeError

_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE, _NLM_F_EXCL = 0x1, 0x4, 0x400, 0x200
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_HOST = 254


class NetworkRefused(KedgeError):
    """The pods' network cannot be made this machine's own."""

    reason = "PodNetworkRefused"


class PodNetwork:
    """The network of one node's pods, while it is open.

    Attributes:
        node: the address that is the machine's own in it.
    """

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        self.network = network
        self.node = str(network.network_address + 1)
        self._is_ours = False

    def open(self) -> None:
        """Have the machine answer to all its addresses; one that it has already is as good.

        Raises:
            NetworkRefused: it may not be changed.
        """
        try:
            self._is_ours = add(self.node, self.network.prefixlen)
        except OSError as error:
            if not self._answers():
                raise NetworkRefused(
                    f"The pods' network {self.network} cannot be put on `lo`: {error.strerror}.",
                    fix="Run as root, or have root say once:"
                    f" ip address add {self.node}/{self.network.prefixlen} dev lo",
                ) from error

    def close(self) -> None:
        """Take back what `open` made."""
        if self._is_ours:
            self._is_ours = False
            remove(self.node, self.network.prefixlen)

    def _answers(self) -> bool:
        """Whether its first and last pods could listen."""
        return all(
            port_is_free(str(address), 0)
            for address in (self.network.network_address + 2, self.network.broadcast_address - 1)
        )


def add(address: str, prefix: int) -> bool:
    """Put an address on `lo`; False where it is there already. Raises OSError."""
    try:
        _change(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, address, prefix)
    except FileExistsError:
        return False
    return True


def may_change() -> bool:
    """Whether this process may put addresses on `lo`, as far as trying tells."""
    try:
        add("127.0.0.1", 8)
    except OSError:
        return False
    return True


def remove(address: str, prefix: int) -> None:
    """Take it away; raises OSError."""
    _change(_RTM_DELADDR, 0, address, prefix)


def _change(kind: int, flags: int, address: str, prefix: int) -> None:
    """Add or remove an address of `lo`; raises OSError."""
    raw = socket.inet_aton(address)
    message = struct.pack(
        "=BBBBI", socket.AF_INET, prefix, 0, _SCOPE_HOST, socket.if_nametoindex("lo")
    )
    for name in (_IFA_LOCAL, _IFA_ADDRESS):
        message += struct.pack("=HH", 4 + len(raw), name) + raw
    flags |= _NLM_F_REQUEST | _NLM_F_ACK
    header = struct.pack("=IHHII", 16 + len(message), kind, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + message)
        answer = kernel.recv(4096)
    (code,) = struct.unpack_from("=i", answer, 16)
    if code:
        raise OSError(-code, os.strerror(-code))
