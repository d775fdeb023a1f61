"""One address of this machine per pod.

All of 127/8 is the machine itself, so every pod can have its own address and listen on the ports
it likes. The second octet comes from the data directory, so that two Kedges on one machine seldom
meet; the rest is free. A Kubernetes API server takes no such address for an endpoint: there, pods
get theirs from a network that `loopback` has made the machine's own.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from pathlib import Path

NETWORKS = ipaddress.IPv4Network("198.18.0.0/15")
"""Reserved for tests of networks, so that nothing that matters is there."""
_PREFIX = 24
_RESERVED = 2
"""The network's own address, and the node's."""


class Addresses:
    """Hands out the addresses of one node.

    Args:
        network: where they are from; None for some of 127/8.
    """

    def __init__(self, data_dir: Path, network: ipaddress.IPv4Network | None = None) -> None:
        digest = _digest(data_dir)
        if network is not None:
            self._first = int(network.network_address) + _RESERVED
            self._count = network.num_addresses - _RESERVED - 1
        else:
            # 127.0 is in common use (127.0.0.1, resolvers at 127.0.0.53 and 127.0.1.1).
            self._first = int(ipaddress.IPv4Address("127.0.0.0")) + (16 + digest[0] % 224) * 65536
            self._first += 256
            self._count = 65000
        self._next = int.from_bytes(digest[1:3]) % self._count
        self._taken: dict[str, str] = {}

    def keep(self, uid: str, address: str) -> str:
        """Go on with the address that a pod has."""
        self._taken[address] = uid
        return address

    def take(self, uid: str) -> str:
        """A free address."""
        while True:
            self._next = (self._next + 1) % self._count
            address = str(ipaddress.IPv4Address(self._first + self._next))
            if address not in self._taken:
                return self.keep(uid, address)

    def release(self, uid: str) -> None:
        for address in [a for a, owner in self._taken.items() if owner == uid]:
            del self._taken[address]


def choose_network(data_dir: Path) -> ipaddress.IPv4Network:
    """A network for the pods of a node: two nodes on one machine seldom choose the same."""
    number = int.from_bytes(_digest(data_dir)[3:5]) % (1 << (_PREFIX - NETWORKS.prefixlen))
    start = int(NETWORKS.network_address) + (number << (32 - _PREFIX))
    return ipaddress.IPv4Network((start, _PREFIX))


def room(network: ipaddress.IPv4Network) -> int:
    """How many pods find an address there."""
    return network.num_addresses - _RESERVED - 1


def _digest(data_dir: Path) -> bytes:
    return hashlib.sha256(os.fsencode(data_dir.absolute())).digest()


def port_is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
