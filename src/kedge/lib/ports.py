"""Ports of this machine: one that nobody takes by accident, one kept for later, who holds one.

A port that was free a moment ago may be gone when it is listened on. Mostly the thief is no server:
the kernel gives every outgoing connection a port of its own, from the same range as those that
`bind` to port 0 answers with. So ports are chosen below that range, and held until they are used.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ANYWHERE = ("0.0.0.0", "::")
_LISTEN, _TIME_WAIT = "0A", "06"


def outgoing_ports() -> range:
    """The ports that the kernel gives to outgoing connections; empty when it does not tell."""
    try:
        first, last = _RANGE.read_text().split()
    except (OSError, ValueError):
        return range(0)
    return range(int(first), int(last) + 1)


def hold(host: str, port: int) -> socket.socket:
    """A port for one who listens later: as long as the socket is open, no outgoing connection and
    no request for just any port is given it; a listener with SO_REUSEADDR is.

    Raises:
        OSError: somebody has it.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


def hold_any(host: str, among: Iterable[int]) -> socket.socket:
    """A free port, held: of those `among` that outgoing connections are not given, in any order;
    where there is none, whichever the kernel gives."""
    outgoing = outgoing_ports()
    choice = [port for port in among if port not in outgoing]
    for port in random.sample(choice, len(choice)) if outgoing else ():
        with contextlib.suppress(OSError), socket.socket() as probe:
            # Without SO_REUSEADDR: not even one that is held, or has just been used.
            probe.bind((host, port))
            probe.close()
            return hold(host, port)
    return hold(host, 0)


def holder(host: str, port: int) -> str:
    """Who has that port of an address, for people: ` (held by pid 12, nginx)`; empty when it cannot
    be told."""
    users = list(_users(host, port))
    for state, inode, owner in sorted(users, key=lambda user: user[0] != _LISTEN):
        if state == _TIME_WAIT:
            return " (a connection that has just ended has it for up to a minute)"
        use = "held" if state == _LISTEN else "used for a connection of its own"
        return f" ({use} by {_process(inode) or f'a process of user {owner}'})"
    return ""


def _users(host: str, port: int) -> Iterable[tuple[str, str, str]]:
    """State, inode and user of every TCP socket at that port of that address."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if int(number, 16) != port:
                continue
            if host in _ANYWHERE or _address(address) in (*_ANYWHERE, host):
                yield fields[3], fields[9], fields[7]


def _address(text: str) -> str:
    """An address of /proc/net: words of four bytes, each in the machine's order."""
    packed = bytes.fromhex(text)
    if sys.byteorder == "little":
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _process(inode: str) -> str:
    link = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(fd) == link:
                        return f"pid {process.name}, {(process / 'comm').read_text().strip()}"
    return ""
