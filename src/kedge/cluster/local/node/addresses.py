"""One loopback address per pod.

All of 127/8 is the machine itself, so every pod can have its own address and listen on the ports
it likes. The second octet comes from the data directory, so that two Kedges on one machine seldom
meet; the rest is free.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
from pathlib import Path


class Addresses:
    """Hands out the addresses of one node."""

    def __init__(self, data_dir: Path) -> None:
        digest = hashlib.sha256(os.fsencode(data_dir.absolute())).digest()
        # 127.0 is in common use (127.0.0.1, resolvers at 127.0.0.53 and 127.0.1.1).
        base = int(ipaddress.IPv4Address("127.0.0.0")) + (16 + digest[0] % 224) * 65536
        self._base = base
        self._next = int.from_bytes(digest[1:3]) % 65000
        self._taken: dict[str, str] = {}

    def keep(self, uid: str, address: str) -> str:
        """Go on with the address that a pod has."""
        self._taken[address] = uid
        return address

    def take(self, uid: str) -> str:
        """A free address."""
        while True:
            self._next = (self._next + 1) % 65000
            address = str(ipaddress.IPv4Address(self._base + 256 + self._next))
            if address not in self._taken:
                return self.keep(uid, address)

    def release(self, uid: str) -> None:
        for address in [a for a, owner in self._taken.items() if owner == uid]:
            del self._taken[address]


def port_is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
